"""Ways into a cluster: a pod's account, and what a kubeconfig may hold; real certificates on a real TLS server."""

from __future__ import annotations

import base64
import datetime
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flows.adapters.kubernetes_api import SERVICES, Cluster
from flows.adapters.kubernetes_credentials import Access, find_access, kubeconfig_access, pod_access
from flows.errors import InputError, ServiceError
from tests.adapters.kubernetes_server import NAMESPACE, ApiServer


class Authority:
    """A certificate authority, and a TLS server that says who asked it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.certificate = self._issue(self._name, self._key.public_key(), is_authority=True)
        self.client = self.pair("someone")

    def pair(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._issue(subject, key.public_key()), private

    def _issue(self, subject: x509.Name, key: Any, is_authority: bool = False) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class WhoAsks(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        peer = self.connection.getpeercert() or {}  # type: ignore[attr-defined]
        names = [value for part in peer.get("subject", ()) for key, value in part if key == "commonName"]
        content = {"metadata": {"certificate": names, "authorization": self.headers.get("authorization")}}
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, content in zip(("cert", "key"), authority.pair("server"), strict=True):
        (authority.folder / name).write_bytes(content)
    context.load_cert_chain(str(authority.folder / "cert"), str(authority.folder / "key"))
    context.load_verify_locations(cadata=authority.certificate.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    one = HTTPServer(("127.0.0.1", 0), WhoAsks)
    one.socket = context.wrap_socket(one.socket, server_side=True)
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{one.server_address[1]}"
    one.shutdown()
    one.server_close()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def write(folder: Path, server: str, user: dict[str, Any], name: str = "config", **cluster: Any) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "one", "user": "me", "namespace": "its"}}],
        "clusters": [{"name": "one", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user}],
    }
    path = folder / name
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def who(access: Access) -> tuple[list[str], str | None]:
    found = Cluster(access).get(SERVICES, "any")
    assert found is not None
    return found["metadata"]["certificate"], found["metadata"]["authorization"]


def test_a_pod_uses_its_account_and_reads_the_token_anew(server: str, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n", encoding="ascii")
    (tmp_path / "namespace").write_text("its\n", encoding="ascii")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    host, port = server.removeprefix("https://").split(":")
    access = find_access({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}, tmp_path)
    assert (access.namespace, access.in_cluster) == ("its", True)
    assert who(access) == ([], "Bearer first")
    (tmp_path / "token").write_text("second\n", encoding="ascii")
    assert who(access) == ([], "Bearer second")
    (tmp_path / "token").unlink()
    with pytest.raises(ServiceError, match="cannot be read"):
        who(access)


def test_an_address_of_version_6_gets_its_brackets(authority: Authority, tmp_path: Path) -> None:
    for name in ("token", "namespace"):
        (tmp_path / name).write_text("x", encoding="ascii")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    assert pod_access("fd00::1", "443", tmp_path).server == "https://[fd00::1]:443"


def test_a_pod_without_an_account_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="automountServiceAccountToken"):
        find_access({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)


def test_a_kubeconfig_with_a_token(server: str, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    path = write(tmp_path, server, {"token": "secret"}, **{"certificate-authority": "ca.pem"})
    access = find_access({"KUBECONFIG": str(path)})
    assert (access.namespace, access.in_cluster) == ("its", False)
    assert who(access) == ([], "Bearer secret")
    assert find_access({"KUBECONFIG": str(path), "TCA_KUBERNETES_NAMESPACE": "other"}).namespace == "other"


def test_a_kubeconfig_with_a_token_file_and_no_check_of_the_server(server: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("kept\n", encoding="ascii")
    path = write(tmp_path, server, {"tokenFile": "token"}, **{"insecure-skip-tls-verify": True})
    assert who(kubeconfig_access([path])) == ([], "Bearer kept")


def test_a_server_of_another_authority_is_not_trusted(server: str, tmp_path: Path) -> None:
    other = base64_of(Authority(tmp_path).certificate)
    path = write(tmp_path, server, {"token": "secret"}, **{"certificate-authority-data": other})
    with pytest.raises(ServiceError, match="ConnectError"):
        who(kubeconfig_access([path]))


def test_a_kubeconfig_with_a_client_certificate(server: str, authority: Authority, tmp_path: Path) -> None:
    certificate, key = map(base64_of, authority.client)
    user = {"client-certificate-data": certificate, "client-key-data": key}
    path = write(tmp_path, server, user, **{"certificate-authority-data": base64_of(authority.certificate)})
    assert who(kubeconfig_access([path])) == (["someone"], None)


PLUGIN = """
import json, os, pathlib, sys
asked = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
count = pathlib.Path(sys.argv[1])
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
status = {"token": f"{os.environ['WHO']}-{number}", "expirationTimestamp": sys.argv[2]}
print(json.dumps({"apiVersion": asked["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


@pytest.mark.parametrize(("expires", "kept"), [("2999-01-01T00:00:00Z", True), ("2001-01-01T00:00:00Z", False)])
def test_a_credential_plugin_is_asked_again_when_its_token_expires(
    server: str, tmp_path: Path, expires: str, kept: bool
) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(tmp_path / "plugin.py"), str(tmp_path / "count"), expires],
        "env": [{"name": "WHO", "value": "me"}],
    }
    path = write(tmp_path, server, {"exec": plugin}, **{"insecure-skip-tls-verify": True})
    access = kubeconfig_access([path])
    assert str(access.token()).startswith("me-")
    assert (access.token() == access.token()) == kept


def test_a_credential_plugin_is_asked_again_when_its_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    plugin = {
        "command": sys.executable,
        "args": [str(tmp_path / "plugin.py"), str(tmp_path / "count"), "2999-01-01T00:00:00Z"],
        "env": [{"name": "WHO", "value": "me"}],
    }
    api = ApiServer()
    api.roles["me-2"] = [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]
    cluster = Cluster(kubeconfig_access([write(tmp_path, api.url, {"exec": plugin})], namespace=NAMESPACE))
    assert cluster.get(SERVICES, "any") is None
    assert (tmp_path / "count").read_text() == "2"
    api.close()


def test_a_credential_plugin_with_a_certificate(server: str, authority: Authority, tmp_path: Path) -> None:
    certificate, key = (one.decode() for one in authority.client)
    status = {"clientCertificateData": certificate, "clientKeyData": key}
    (tmp_path / "said.json").write_text(json.dumps({"status": status}), encoding="utf-8")
    plugin = {"command": "cat", "args": [str(tmp_path / "said.json")]}
    path = write(tmp_path, server, {"exec": plugin}, **{"insecure-skip-tls-verify": True})
    assert who(kubeconfig_access([path])) == (["someone"], None)


@pytest.mark.parametrize("command", ["false", "no-such-plugin", "true"])
def test_a_credential_plugin_that_fails_is_named(tmp_path: Path, command: str) -> None:
    path = write(tmp_path, "https://127.0.0.1:1", {"exec": {"command": command}})
    with pytest.raises(ServiceError, match=f"plugin {command} failed"):
        kubeconfig_access([path])


def test_of_several_files_the_first_counts_and_a_context_can_be_chosen(tmp_path: Path) -> None:
    first = write(tmp_path, "https://127.0.0.1:1", {"token": "a"}, "first")
    second = write(tmp_path, "https://127.0.0.1:2", {"token": "b"}, "second")
    content = yaml.safe_load(second.read_text(encoding="utf-8"))
    content["contexts"].append({"name": "there", "context": {"cluster": "two", "user": "me"}})
    content["clusters"].append({"name": "two", "cluster": {"server": "http://127.0.0.1:3/"}})
    second.write_text(yaml.safe_dump(content), encoding="utf-8")
    both = f"{first}:{second}"
    assert find_access({"KUBECONFIG": both}).server == "https://127.0.0.1:1"
    there = find_access({"KUBECONFIG": both, "TCA_KUBERNETES_CONTEXT": "there"})
    assert (there.server, there.namespace, there.tls, there.token()) == ("http://127.0.0.1:3", "default", False, "a")


def test_paths_are_relative_to_the_file_that_names_them(server: str, authority: Authority, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    content = yaml.safe_load(write(folders[0], "http://127.0.0.1:1", {}).read_text(encoding="utf-8"))
    (folders[0] / "config").write_text(yaml.safe_dump({**content, "users": [], "clusters": []}), encoding="utf-8")
    (folders[1] / "token").write_text("kept\n", encoding="ascii")
    (folders[1] / "ca.pem").write_bytes(authority.certificate)
    write(folders[1], server, {"tokenFile": "token"}, **{"certificate-authority": "ca.pem"})
    assert who(kubeconfig_access([folder / "config" for folder in folders])) == ([], "Bearer kept")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"current-context": ""}, "names no current-context"),
        ({"current-context": "gone"}, "has no context 'gone'.*Expected one of: here"),
        ({"clusters": []}, "has no cluster 'one'"),
        ({"users": [{"name": "me", "user": {"auth-provider": {"name": "oidc"}}}]}, "auth-provider"),
        ({"users": [{"name": "me", "user": {"token": "a", "as": "nobody"}}]}, "user me .* has as.*Expected a token"),
        ({"clusters": [{"name": "one", "cluster": {"server": "tcp://x"}}]}, "Expected https://HOST:PORT"),
        ({"kind": "Secret"}, "is not a kubeconfig"),
        (
            {"users": [{"name": "me", "user": {"client-certificate-data": "AAAA", "client-key-data": "AAAA"}}]},
            "cannot be used",
        ),
        ({"clusters": [{"name": "one", "cluster": {"server": "https://x", "certificate-authority": "no"}}]}, "cannot"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    path = write(tmp_path, "https://127.0.0.1:1", {"token": "a"})
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | change
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        kubeconfig_access([path])


def test_a_kubeconfig_that_is_missing_or_no_yaml_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="KUBECONFIG=FILE"):
        kubeconfig_access([tmp_path / "none"])
    (tmp_path / "bad").write_text("a: [", encoding="utf-8")
    with pytest.raises(InputError, match="is not YAML"):
        kubeconfig_access([tmp_path / "bad"])
