"""Traffic in a Kubernetes cluster: versions as Deployments, behind a gateway, paired by our router.

The gateway (Gateway API) takes the cameras' frames. `paired_percent` of them go through the router of bentos/router,
which keeps cameras together, copies frames to the other arm and records what both said; the gateway splits the rest by
weights. With 100 (the default) the router has all frames and the HTTPRoute is not touched; with 0 there is no router
and nobody who could judge: versions can be served and taken back, and a promotion is refused.

Nothing is remembered here: what runs and what is routed is asked of the cluster and of the router.
"""

from __future__ import annotations

import time
from typing import Any

import httpx

from bentos.router.routing import Backend, Snapshot
from flows.adapters.kubernetes_api import Cluster
from flows.adapters.kubernetes_gateway import GatewayWeights, is_unsettled, unsettled
from flows.adapters.kubernetes_versions import Versions
from flows.adapters.local_traffic import service_name
from flows.adapters.router_admin import RouterAdmin
from flows.adapters.warm_up import warm_up
from flows.errors import Conflict, ServiceError

READY_LIMIT_S = 300.0
"""Pulling an image and starting a pod take longer than starting a process."""
DRAIN_LIMIT_S = 10.0
STOP_WAIT_S = 10.0
ENDPOINTS_LIMIT_S = 10.0
_POLL_S = 0.5


class KubernetesTraffic:
    """Starts, finds and stops versions in one namespace, and routes frames to them.

    Every method may raise ServiceError (the API server, a gateway or the router did not answer or refused) and `route`
    and `ensure_champion` Conflict (a later snapshot counts).

    Args:
        cluster: Where the versions run.
        versions: How they are started, found and stopped.
        router: The router's admin side; None without one.
        gateway: The weights of the HTTPRoute; None when all frames go through the router.
    """

    def __init__(
        self, cluster: Cluster, versions: Versions, router: RouterAdmin | None, gateway: GatewayWeights | None
    ) -> None:
        assert router is not None or gateway is not None, "somebody must route"
        self._cluster, self._versions, self._router, self._gateway = cluster, versions, router, gateway
        self._client = httpx.Client(timeout=10.0, trust_env=False)

    def start(self, version: str, digest: str) -> Backend:
        """Have the version running, and say where."""
        return self._versions.start(version, digest)

    def find(self, version: str, digest: str) -> Backend | None:
        """The running one, if it runs."""
        return self._versions.find(version, digest)

    def is_alive(self, backend: Backend) -> bool:
        """Whether a pod of it runs or may still come to run."""
        return self._versions.is_alive(backend)

    def is_ready(self, backend: Backend) -> bool:
        """Whether all its replicas are available."""
        return self._versions.is_ready(backend)

    def warm_up(self, backend: Backend) -> None:
        """Let it answer some frames, and check that it is the pinned model.

        Pods are available a moment before their Service leads to them, so it is given some seconds.
        """
        name = service_name(backend.version, backend.digest)
        deadline = time.monotonic() + ENDPOINTS_LIMIT_S

        def post(body: bytes, headers: dict[str, str]) -> httpx.Response:
            while True:
                try:
                    reply = self._post(backend, body, headers)
                    if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                        return reply
                except httpx.ConnectError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(_POLL_S)

        warm_up(backend, post, f"See: kubectl logs --namespace {self._cluster.namespace} deployment/{name}")

    def _post(self, backend: Backend, body: bytes, headers: dict[str, str]) -> httpx.Response:
        if self._cluster.in_cluster:
            return self._client.post(f"{backend.url}/v1/detect", content=body, headers=headers)
        name, port = service_name(backend.version, backend.digest), int(backend.url.rpartition(":")[2])
        return self._cluster.proxy(name, port, "POST", "/v1/detect", content=body, headers=headers)

    def stop(self, backend: Backend, grace_s: float) -> None:
        """Delete it; its pods leave rotation, drain and end by themselves, also when nobody waits for them."""
        self._versions.stop(backend, min(grace_s, STOP_WAIT_S))

    def routing(self) -> Snapshot:
        """The snapshot that counts; an unsettled one where router and gateway do not say the same."""
        found = [part.routing() for part in (self._router, self._gateway) if part is not None]
        if all(one == found[0] for one in found):
            return found[0]
        return unsettled(max(found, key=lambda one: one.order))

    def route(self, snapshot: Snapshot) -> None:
        """Make a snapshot count: in the router first, when the challenger gets more; else in the gateway first.

        So an outage of one of them does not keep the other's users with a challenger that is sent away.
        """
        parts = [part for part in (self._router, self._gateway) if part is not None]
        if snapshot.mode != "champion":
            for part in parts:
                part.route(snapshot)
            return
        failed: ServiceError | None = None
        for part in reversed(parts):
            try:
                part.route(snapshot)
            except ServiceError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def observations(self, after: int) -> dict[str, Any]:
        """A page of what each arm answered to the frames that went through the router, since `after`."""
        if self._router is None:
            raise ServiceError(
                "no frame goes through the router, so nobody sees what both versions answer to it",
                "Let some: TCA_KUBERNETES_PAIRED_PERCENT=100 (or less, but not 0)",
            )
        return self._router.observations(after)

    def stats(self) -> dict[str, Any]:
        """Requests in flight by url, as far as they went through the router."""
        return self._router.stats() if self._router is not None else {"in_flight": {}}

    def ensure_champion(self, version: str, digest: str) -> Backend:
        """Have this version running, ready and routed as champion; the one that it replaces is drained and stopped.

        Raises:
            Conflict: A promotion is open, and it is about another champion.
            ServiceError: It does not become ready, or the router does not answer.
        """
        self._require_no_other_promotion(version)
        backend = self.start(version, digest)
        self._wait_ready(backend)
        before = self.routing()
        if before.champion == backend and not is_unsettled(before):
            return backend
        self._require_no_other_promotion(version)
        changes: dict[str, Any] = {"champion": backend, "generation": before.generation + 1}
        if not before.promotion:
            changes |= {"mode": "champion", "candidate": None, "share": 0.0, "promotion": None}
        self.warm_up(backend)
        self.route(before.model_copy(update=changes))
        if before.champion is not None and before.champion.version != version:
            self._drain(before.champion)
            self.stop(before.champion, grace_s=STOP_WAIT_S)
        return backend

    def _require_no_other_promotion(self, version: str) -> None:
        now = self.routing()
        if now.promotion and (now.champion is None or now.champion.version != version):
            number = abs(now.promotion)
            raise Conflict(
                f"promotion {number} is open, so the champion cannot be changed to version {version}",
                f"Wait for it, or give it up: tca promotion abort {number}",
            )

    def _wait_ready(self, backend: Backend) -> None:
        name = service_name(backend.version, backend.digest)
        deadline = time.monotonic() + READY_LIMIT_S
        while not self.is_ready(backend):
            if not self.is_alive(backend):
                raise ServiceError(
                    f"version {backend.version} ended while it started",
                    f"See: kubectl describe pods -l app.kubernetes.io/instance={name}",
                )
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"version {backend.version} is not ready after {READY_LIMIT_S:.0f} s",
                    f"See: kubectl describe deployment {name}",
                )
            time.sleep(_POLL_S)

    def _drain(self, backend: Backend) -> None:
        deadline = time.monotonic() + DRAIN_LIMIT_S
        while self.stats()["in_flight"].get(backend.url, 0) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
