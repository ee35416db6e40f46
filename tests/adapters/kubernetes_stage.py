"""A cluster to play in: the API server, a node, and our parts under the rights of infra/kubernetes/promotion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bentos.router.routing import Backend, Snapshot
from flows.adapters.kubernetes_api import Cluster
from flows.adapters.kubernetes_credentials import Access
from flows.adapters.kubernetes_gateway import GatewayWeights
from flows.adapters.kubernetes_versions import Versions, read_template
from tests.adapters.kubernetes_node import Node
from tests.adapters.kubernetes_server import ADMIN, NAMESPACE, ApiServer, Object

A, B = "a" * 64, "b" * 64
PROMOTION = Path(__file__).resolve().parents[2] / "infra" / "kubernetes" / "promotion"
TEMPLATE = PROMOTION / "version.yaml"
TOKEN = "promotion-token"


def shipped(file: str, kind: str) -> list[Object]:
    """The manifests of a kind in a file of infra/kubernetes/promotion."""
    return [one for one in yaml.safe_load_all((PROMOTION / file).read_text(encoding="utf-8")) if one["kind"] == kind]


class Stage:
    """Everything about one cluster."""

    def __init__(self, folder: Path) -> None:
        self.api = ApiServer()
        self.api.roles[TOKEN] = shipped("access.yaml", "Role")[0]["rules"]
        self.api.make("httproutes", shipped("gateway.yaml", "HTTPRoute")[0])
        self.node = Node(self.api, folder)
        self.cluster = self.cluster_as(TOKEN)
        template = read_template(TEMPLATE, "registry.example/detector:{version}")
        template.deployment["spec"]["replicas"] = 1
        self.template = template
        self.versions = self.another_versions()

    def close(self) -> None:
        self.node.close()
        self.api.close()

    def cluster_as(self, token: str = ADMIN, in_cluster: bool = True) -> Cluster:
        return Cluster(Access(self.api.url, NAMESPACE, False, lambda: token, in_cluster))

    def another_versions(self) -> Versions:
        return Versions(self.cluster_as(TOKEN), self.template)

    def gateway(self, paired_percent: int = 0) -> GatewayWeights:
        return GatewayWeights(self.cluster_as(TOKEN), "detector", ("router", 3000), paired_percent)

    def references(self, rule: int = 0) -> list[dict[str, Any]]:
        route = self.api.read("httproutes", "detector")
        assert route is not None
        return list(route["spec"]["rules"][rule]["backendRefs"])

    def weights(self) -> dict[str, int]:
        return {one["name"]: one["weight"] for one in self.references()}


def backend(version: str, digest: str) -> Backend:
    """A back end that nobody runs."""
    return Backend(version=version, digest=digest, url=f"http://10.0.0.{version}:3000")


CHAMPION, CHALLENGER = backend("1", A), backend("2", B)


def snapshot(mode: str, share: float = 0.0, epoch: int = 1, generation: int = 1, **other: Any) -> Snapshot:
    content = {"champion": CHAMPION, "candidate": CHALLENGER, "promotion": 7} | other
    return Snapshot.model_validate({"epoch": epoch, "generation": generation, "mode": mode, "share": share, **content})
