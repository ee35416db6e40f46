"""The cluster as the environment describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cluster import kubernetes_traffic, traffic_kind
from flows.errors import InputError, ServiceError
from tests.adapters.kubernetes_server import NAMESPACE, ApiServer

ROOT = Path(__file__).resolve().parents[1]
ROUTER = {
    "metadata": {"name": "router"},
    "spec": {"ports": [{"name": "http", "port": 3000}, {"name": "admin", "port": 3001}]},
}


def environment(folder: Path, url: str, **more: str) -> dict[str, str]:
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "one", "user": "me", "namespace": NAMESPACE}}],
        "clusters": [{"name": "one", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "admin-token"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "token").write_text("secret\n", encoding="ascii")
    given = {"KUBECONFIG": str(folder / "config"), "TCA_KUBERNETES_IMAGE": "detector:{version}"}
    return given | {"TCA_ROUTER_TOKEN_FILE": str(folder / "token")} | more


@pytest.fixture
def api() -> Any:
    server = ApiServer()
    yield server
    server.close()


def test_traffic_is_local_unless_it_is_said_otherwise() -> None:
    assert [traffic_kind({}), traffic_kind({"TCA_TRAFFIC": "local"}), traffic_kind({"TCA_TRAFFIC": "kubernetes"})] == [
        "local",
        "local",
        "kubernetes",
    ]
    with pytest.raises(InputError, match="TCA_TRAFFIC=cloud.*Expected local or kubernetes"):
        traffic_kind({"TCA_TRAFFIC": "cloud"})


@pytest.mark.parametrize("image", ["", "detector:latest"])
def test_an_image_without_a_version_is_refused(tmp_path: Path, image: str) -> None:
    with pytest.raises(InputError, match="TCA_KUBERNETES_IMAGE"):
        kubernetes_traffic(ROOT, {"TCA_KUBERNETES_IMAGE": image}, {})


@pytest.mark.parametrize("percent", ["101", "-1", "half"])
def test_a_share_that_is_none_is_refused(tmp_path: Path, percent: str) -> None:
    with pytest.raises(InputError, match="Expected 0 to 100"):
        kubernetes_traffic(ROOT, environment(tmp_path, "http://127.0.0.1:9", TCA_KUBERNETES_PAIRED_PERCENT=percent), {})


def test_the_router_is_found_by_its_service_and_asked_with_its_token(api: ApiServer, tmp_path: Path) -> None:
    traffic = kubernetes_traffic(ROOT, environment(tmp_path, api.url), {})
    with pytest.raises(ServiceError, match="there is no service router"):
        traffic.routing()
    api.make("services", ROUTER)
    address = api.read("services", "router")["spec"]["clusterIP"]  # type: ignore[index]
    with pytest.raises(ServiceError, match=f"does not answer at http://{address}:3001.*kubectl port-forward"):
        traffic.routing()


def test_an_admin_address_of_ones_own_counts(api: ApiServer, tmp_path: Path) -> None:
    given = environment(tmp_path, api.url, TCA_ROUTER_ADMIN_URL="http://127.0.0.1:9/")
    with pytest.raises(ServiceError, match="does not answer at http://127.0.0.1:9: "):
        kubernetes_traffic(ROOT, given, {}).routing()


def test_without_a_token_it_says_so(api: ApiServer, tmp_path: Path) -> None:
    api.make("services", ROUTER)
    given = environment(tmp_path, api.url, TCA_ROUTER_TOKEN_FILE=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"token cannot be read at .*none.*TCA_ROUTER_TOKEN_FILE"):
        kubernetes_traffic(ROOT, given, {}).routing()


def test_a_share_below_100_needs_the_route(api: ApiServer, tmp_path: Path) -> None:
    given = environment(tmp_path, api.url, TCA_KUBERNETES_PAIRED_PERCENT="0", TCA_KUBERNETES_ROUTE="cameras")
    with pytest.raises(ServiceError, match="no HTTPRoute cameras"):
        kubernetes_traffic(ROOT, given, {}).routing()


def test_a_service_without_the_ports_is_named(api: ApiServer, tmp_path: Path) -> None:
    api.make("services", {"metadata": {"name": "router"}, "spec": {"ports": [{"name": "http", "port": 3000}]}})
    with pytest.raises(ServiceError, match="has no port named admin"):
        kubernetes_traffic(ROOT, environment(tmp_path, api.url), {}).routing()
