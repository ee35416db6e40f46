"""Who asks Kubernetes' API server, and where it is: a pod's service account, or a kubeconfig file.

Tokens are read anew for each request: those of a pod live for an hour, and the kubelet renews the file. Of the ways in
a kubeconfig, tokens, client certificates and credential plugins (`exec`, as the clouds use them) are understood.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from flows.errors import InputError, ServiceError

POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_EXEC_LIMIT_S = 30.0
_FOLDER = "/folder"
"""Beside what a kubeconfig says of a cluster or a user: where that file lies."""


@dataclass(frozen=True)
class Access:
    """An API server, the namespace to work in, and what proves who asks."""

    server: str
    namespace: str
    tls: ssl.SSLContext | bool
    token: Callable[[], str | None]
    """The bearer token as it is now; None where a client certificate or nothing is asked for."""
    in_cluster: bool
    """Whether cluster IPs can be reached from here."""
    renew: Callable[[], bool] = lambda: False
    """Called when the token was refused; True where the next one may be another."""


def find_access(environment: Mapping[str, str], pod_folder: Path = POD_FOLDER) -> Access:
    """A pod's own service account when there is one and no KUBECONFIG is set, else the kubeconfig.

    TCA_KUBERNETES_CONTEXT chooses a context of the kubeconfig, TCA_KUBERNETES_NAMESPACE the namespace.

    Raises:
        InputError: There is neither, or it cannot be read.
        ServiceError: A credential plugin failed.
    """
    namespace = environment.get("TCA_KUBERNETES_NAMESPACE", "").strip() or None
    files = [Path(one).expanduser() for one in environment.get("KUBECONFIG", "").split(os.pathsep) if one]
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if host and not files:
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        return pod_access(host, port, pod_folder, namespace)
    files = files or [Path("~/.kube/config").expanduser()]
    return kubeconfig_access(files, environment.get("TCA_KUBERNETES_CONTEXT", "").strip() or None, namespace)


def pod_access(host: str, port: str, folder: Path, namespace: str | None = None) -> Access:
    """The service account that is mounted at `folder`. Raises InputError when it is not."""
    token = folder / "token"
    try:
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        namespace = namespace or (folder / "namespace").read_text(encoding="utf-8").strip()
        token.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise InputError(
            f"no service account at {folder}: {error}", "Let the pod mount one: automountServiceAccountToken: true"
        ) from error
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, namespace, tls, lambda: _read_token(token), in_cluster=True)


def kubeconfig_access(files: list[Path], context: str | None = None, namespace: str | None = None) -> Access:
    """A context of a kubeconfig. Of several files, the first that names a thing counts, as for kubectl.

    Raises:
        InputError: A file is missing or not a kubeconfig, or asks for a way in that is not understood.
        ServiceError: A credential plugin failed.
    """
    config = _merged(files)
    chosen = context or config["current-context"]
    if not chosen:
        raise InputError(f"{files[0]} names no current-context", "Choose one: TCA_KUBERNETES_CONTEXT=NAME")
    link = _named(config, "context", chosen, files)
    cluster = _named(config, "cluster", link.get("cluster", ""), files)
    user = _named(config, "user", link["user"], files) if link.get("user") else {}
    # `as` names somebody else to act for: without it more would be allowed than was meant.
    if unknown := sorted(user.keys() & {"auth-provider", "username", "password", "as", "as-groups", "as-uid"}):
        raise InputError(
            f"user {link['user']} of {files[0]} has {', '.join(unknown)}", "Expected a token, certificate or exec"
        )
    plugin = _Plugin(user["exec"], user[_FOLDER]) if user.get("exec") else None
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise InputError(
            f"cluster {link.get('cluster')} of {files[0]} has server {server!r}", "Expected https://HOST:PORT"
        )
    tls = _tls(cluster, user, plugin) if server.startswith("https://") else False
    where = namespace or str(link.get("namespace") or "default")
    if plugin is None:
        return Access(server, where, tls, _user_token(user), in_cluster=False)
    return Access(server, where, tls, plugin.token, in_cluster=False, renew=plugin.forget)


def _merged(files: list[Path]) -> dict[str, Any]:
    merged: dict[str, Any] = {"current-context": "", "contexts": [], "clusters": [], "users": []}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"no kubeconfig at {file}: {error.strerror}", "Name one: KUBECONFIG=FILE") from error
        except yaml.YAMLError as error:
            raise InputError(f"{file} is not YAML: {str(error).splitlines()[0]}") from error
        if not isinstance(content, dict) or content.get("kind", "Config") != "Config":
            raise InputError(f"{file} is not a kubeconfig", "Expected kind: Config")
        merged["current-context"] = merged["current-context"] or content.get("current-context") or ""
        for part in ("contexts", "clusters", "users"):
            merged[part] += [(one, file.parent) for one in content.get(part) or [] if isinstance(one, dict)]
    return merged


def _named(config: dict[str, Any], kind: str, name: str, files: list[Path]) -> dict[str, Any]:
    """The entry of that name, with the folder of its file, which its paths are relative to."""
    entries = config[f"{kind}s"]
    for entry, folder in entries:
        if entry.get("name") == name:
            return {**(entry.get(kind) or {}), _FOLDER: folder}
    known = ", ".join(str(one.get("name")) for one, _ in entries) or "none"
    raise InputError(f"{files[0]} has no {kind} {name!r}", f"Expected one of: {known}")


def _tls(cluster: dict[str, Any], user: dict[str, Any], plugin: _Plugin | None) -> ssl.SSLContext:
    try:
        authority = _content(cluster, "certificate-authority")
        context = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        certificate, key = _content(user, "client-certificate"), _content(user, "client-key")
        if plugin is not None and plugin.certificate() is not None:
            certificate, key = plugin.certificate() or (None, None)
        if certificate and key:
            _load_pair(context, certificate, key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InputError(f"a certificate or key of the kubeconfig cannot be used: {error}") from error
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL takes them from files only: they are there for a moment, for this user's eyes."""
    with tempfile.TemporaryDirectory() as folder:  # made with mode 0700
        paths = [Path(folder, name) for name in ("certificate", "key")]
        for path, content in zip(paths, (certificate, key), strict=True):
            path.write_bytes(content)
        context.load_cert_chain(str(paths[0]), str(paths[1]))


def _content(section: dict[str, Any], name: str) -> bytes | None:
    if section.get(f"{name}-data"):
        return base64.b64decode(section[f"{name}-data"], validate=True)
    if section.get(name):
        return bytes((section[_FOLDER] / str(section[name])).read_bytes())
    return None


def _user_token(user: dict[str, Any]) -> Callable[[], str | None]:
    if user.get("tokenFile"):
        return lambda: _read_token(user[_FOLDER] / user["tokenFile"])
    token = str(user["token"]) if user.get("token") else None
    return lambda: token


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ServiceError(f"the token {path} cannot be read: {error.strerror}") from error


class _Plugin:
    """A command that prints an ExecCredential (client.authentication.k8s.io).

    What it said counts until it expires or is refused.
    """

    def __init__(self, section: dict[str, Any], folder: Path) -> None:
        command = str(section["command"])
        # As for kubectl: a path with a slash is relative to the kubeconfig, a bare name is looked up on PATH.
        self._argv = [str(folder / command) if "/" in command else command, *(section.get("args") or [])]
        self._env = {one["name"]: one["value"] for one in section.get("env") or []}
        self._version = str(section.get("apiVersion", "client.authentication.k8s.io/v1"))
        self._status: dict[str, Any] = {}
        self._expires_s = 0.0

    def token(self) -> str | None:
        """The token as it is now. Raises ServiceError when the command fails."""
        return self._fresh().get("token")

    def certificate(self) -> tuple[bytes, bytes] | None:
        """Certificate and key, PEM. Raises ServiceError when the command fails."""
        status = self._fresh()
        if not status.get("clientCertificateData"):
            return None
        return status["clientCertificateData"].encode(), status["clientKeyData"].encode()

    def forget(self) -> bool:
        """Ask the command again next time: what it said was refused."""
        self._status = {}
        return True

    def _fresh(self) -> dict[str, Any]:
        if not self._status or time.time() >= self._expires_s - 10:
            self._status = self._ask()
            expiry = self._status.get("expirationTimestamp")
            self._expires_s = datetime.fromisoformat(expiry).timestamp() if expiry else float("inf")
        return self._status

    def _ask(self) -> dict[str, Any]:
        asked = {"apiVersion": self._version, "kind": "ExecCredential", "spec": {"interactive": False}}
        env = {**os.environ, **self._env, "KUBERNETES_EXEC_INFO": json.dumps(asked)}
        try:
            done = subprocess.run(
                self._argv,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
                timeout=_EXEC_LIMIT_S,
            )
            return dict(json.loads(done.stdout)["status"])
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            reason = said[-1] if said else type(error).__name__
            raise ServiceError(f"the credential plugin {self._argv[0]} failed: {reason}", "Log in again") from error
