"""Shares of frames as weights of an HTTPRoute (Gateway API), by compare-and-swap.

Only references that are ours are touched: those to the router's Service and to Services of versions. Whatever else the
route holds stays as it is, and what others write meanwhile is never lost: an update carries the resourceVersion that
was read. The snapshot stands in an annotation; its (epoch, generation) is the fence that a controller which slept past
its lease does not pass. Weights and annotation are one object, so they change together or not at all.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from bentos.router.routing import NOTHING_ROUTED, Backend, Snapshot, parse_snapshot
from flows.adapters.kubernetes_api import HTTP_ROUTES, Cluster, Object, StaleObject
from flows.adapters.kubernetes_versions import PREFIX, is_version_name
from flows.adapters.local_traffic import service_name
from flows.errors import Conflict, ServiceError

SNAPSHOT = f"{PREFIX}/routing"
PAIRED = f"{PREFIX}/paired-percent"
TOTAL = 10_000
"""What our weights add up to, where nobody else's stand beside them."""
_LEAST_TOTAL = 100
_ATTEMPTS = 20
_ACKNOWLEDGED_WITHIN_S = 10.0


@dataclass(frozen=True)
class GatewayWeights:
    """The weights of one HTTPRoute.

    Every method raises ServiceError when the API server does not answer or refuses, or the route is not as expected.

    Args:
        route_name: The HTTPRoute.
        router: The router's Service, and its port.
        paired_percent: Share of all frames that goes through the router, which pairs them; the gateway splits the rest.
    """

    cluster: Cluster
    route_name: str
    router: tuple[str, int]
    paired_percent: int

    def routing(self) -> Snapshot:
        """The snapshot that counts; an unsettled one when the weights are not those that it means."""
        found = self._read()
        snapshot = _snapshot(found)
        paired = _paired(found)
        if snapshot is NOTHING_ROUTED or self._holds(found, snapshot, paired):
            return snapshot
        return unsettled(snapshot)

    def route(self, snapshot: Snapshot) -> None:
        """Make a snapshot count, and wait until every gateway of the route has taken it.

        Raises:
            Conflict: A later snapshot counts, or others write all the time.
            ServiceError: No gateway took it in time; it stands in the route all the same.
        """
        for _ in range(_ATTEMPTS):
            found = self._read()
            current = _snapshot(found)
            settled = self._holds(found, current, self.paired_percent) and _paired(found) == self.paired_percent
            if snapshot == current and settled:
                break
            if snapshot != current and current is not NOTHING_ROUTED and snapshot.order <= current.order:
                raise Conflict(
                    f"HTTPRoute {self.route_name} follows epoch {current.epoch}, generation {current.generation}; "
                    f"epoch {snapshot.epoch}, generation {snapshot.generation} does not follow it",
                    "Another controller is ahead",
                )
            try:
                found = self.cluster.replace(HTTP_ROUTES, self._changed(found, snapshot))
            except StaleObject:
                continue
            break
        else:
            raise Conflict(f"HTTPRoute {self.route_name} was changed by others {_ATTEMPTS} times in a row")
        self._wait_acknowledged(found["metadata"]["generation"])

    def _read(self) -> Object:
        found = self.cluster.get(HTTP_ROUTES, self.route_name)
        if found is None:
            raise ServiceError(
                f"there is no HTTPRoute {self.route_name} in namespace {self.cluster.namespace}",
                "Make it: kubectl apply -k infra/kubernetes/promotion; or name yours: TCA_KUBERNETES_ROUTE",
            )
        return found

    def _changed(self, found: Object, snapshot: Snapshot) -> Object:
        route = copy.deepcopy(found)
        wanted = weights(snapshot, self.router, self.paired_percent)
        for rule in self._our_rules(route):
            rule["backendRefs"] = _with_weights(rule["backendRefs"], wanted, self._is_ours)
        annotations = route["metadata"].setdefault("annotations", {})
        annotations[SNAPSHOT] = snapshot.model_dump_json()
        annotations[PAIRED] = str(self.paired_percent)
        return route

    def _holds(self, found: Object, snapshot: Snapshot, paired_percent: int) -> bool:
        wanted = weights(snapshot, self.router, paired_percent)
        return all(
            rule["backendRefs"] == _with_weights(rule["backendRefs"], wanted, self._is_ours)
            for rule in self._our_rules(found)
        )

    def _our_rules(self, route: Object) -> list[dict[str, Any]]:
        rules = [
            rule for rule in route["spec"].get("rules", ()) if any(map(self._is_ours, rule.get("backendRefs", ())))
        ]
        if not rules:
            raise ServiceError(
                f"no rule of HTTPRoute {self.route_name} refers to service {self.router[0]} or to a version",
                f"Let the rule for the detector have the backendRef {{name: {self.router[0]}, port: {self.router[1]}}}",
            )
        return rules

    def _is_ours(self, reference: dict[str, Any]) -> bool:
        is_service = reference.get("kind", "Service") == "Service" and not reference.get("group")
        is_here = reference.get("namespace", self.cluster.namespace) == self.cluster.namespace
        name = reference["name"]
        return is_service and is_here and (name == self.router[0] or is_version_name(name))

    def _wait_acknowledged(self, generation: int) -> None:
        problems = ["no gateway has taken it"]

        def acknowledged(route: Object | None) -> bool:
            problems[0] = _problem(route, generation)
            return not problems[0]

        self.cluster.wait_for(HTTP_ROUTES, self.route_name, acknowledged, _ACKNOWLEDGED_WITHIN_S)
        if problems[0]:
            raise ServiceError(
                f"the weights stand in HTTPRoute {self.route_name}, but {problems[0]}",
                f"See: kubectl describe httproute {self.route_name}; then run the same command again",
            )


def weights(snapshot: Snapshot, router: tuple[str, int], paired_percent: int) -> dict[tuple[str, int], int]:
    """Parts of TOTAL by service and port; a service that gets none is left out.

    `paired_percent` goes through the router. Of the rest the candidate gets the canary's share and the champion what
    remains; a shadow is seen by the router only. Nobody to route to: the router, which says so to whoever asks.
    """
    if snapshot.champion is None:
        return {router: TOTAL}
    through_router = TOTAL * paired_percent // 100
    rest = TOTAL - through_router
    candidate = 0
    if snapshot.mode == "canary" and rest and snapshot.share > 0:
        candidate = min(rest, max(1, round(rest * snapshot.share)))
    found = {router: through_router, _service(snapshot.champion): rest - candidate}
    if snapshot.candidate is not None and candidate:
        found[_service(snapshot.candidate)] = candidate
    return {service: weight for service, weight in found.items() if weight}


def unsettled(snapshot: Snapshot) -> Snapshot:
    """What is said of a routing that is not what `snapshot` means: its fence, and its champion for all frames.

    The promotion is negative (0 for none), so that it equals nothing that anybody wants and is written anew; whoever
    writes it back as it is, under a later epoch, does no harm to users.
    """
    safe: dict[str, Any] = {"mode": "champion", "share": 0.0, "promotion": -(snapshot.promotion or 0)}
    return snapshot.model_copy(update=safe)


def is_unsettled(snapshot: Snapshot) -> bool:
    """Whether it was made by `unsettled`."""
    return snapshot.promotion is not None and snapshot.promotion <= 0


def _service(backend: Backend) -> tuple[str, int]:
    return service_name(backend.version, backend.digest), int(backend.url.rpartition(":")[2])


def _with_weights(
    references: list[dict[str, Any]], wanted: dict[tuple[str, int], int], is_ours: Any
) -> list[dict[str, Any]]:
    """The references of a rule with ours as `wanted`, in the place of the first of them; the others untouched.

    Beside weights of others, ours keep their sum, so that nobody's share changes.
    """
    ours = [one for one in references if is_ours(one)]
    pattern = {key: value for key, value in ours[0].items() if key not in ("name", "port", "weight")}
    total = TOTAL
    if any(one.get("weight", 1) for one in references if not is_ours(one)):
        total = sum(one.get("weight", 1) for one in ours)
        if len(wanted) > 1 and total < _LEAST_TOTAL:
            raise ServiceError(
                f"our backendRefs have {total} as the sum of their weights beside others', which cannot be split",
                f"Multiply all weights of the rule so that ours sum to {_LEAST_TOTAL} at least",
            )
    made = [
        pattern | {"name": name, "port": port, "weight": weight}
        for (name, port), weight in _scaled(wanted, total).items()
    ]
    place = references.index(ours[0])
    others = [one for one in references if not is_ours(one)]
    before = sum(not is_ours(one) for one in references[:place])
    return [*others[:before], *made, *others[before:]]


def _scaled(parts: dict[tuple[str, int], int], total: int) -> dict[tuple[str, int], int]:
    """Parts of TOTAL as parts of `total`: each at least 1, the largest takes what rounding leaves."""
    scaled = {name: max(1, part * total // TOTAL) for name, part in parts.items()}
    largest = max(scaled, key=lambda name: scaled[name])
    scaled[largest] += total - sum(scaled.values())
    return scaled


def _snapshot(route: Object) -> Snapshot:
    text = route["metadata"].get("annotations", {}).get(SNAPSHOT)
    if text is None:
        return NOTHING_ROUTED
    try:
        return parse_snapshot(text.encode())
    except ValueError as error:
        raise ServiceError(
            f"annotation {SNAPSHOT} of HTTPRoute {route['metadata']['name']} is no snapshot: {error}",
            "Remove it while no promotion is open; the next command writes it anew",
        ) from error


def _paired(route: Object) -> int:
    text = route["metadata"].get("annotations", {}).get(PAIRED, "")
    return int(text) if text.isascii() and text.isdecimal() else -1


def _parent(reference: dict[str, Any], route: Object) -> tuple[Any, ...]:
    """What tells one parent of a route from another."""
    namespace = reference.get("namespace") or route["metadata"].get("namespace")
    return reference.get("name"), namespace, reference.get("sectionName"), reference.get("port")


def _problem(route: Object | None, generation: int) -> str:
    """Why the gateways do not route yet as this generation says; "" when they do."""
    if route is None:
        return "it was deleted"
    wanted = [_parent(one, route) for one in route["spec"].get("parentRefs", ())]
    said = {_parent(one.get("parentRef", {}), route): one for one in route.get("status", {}).get("parents", ())}
    if not wanted:
        return "it names no gateway"
    for reference in wanted:  # whoever else has a word there is of a gateway that the route has left
        gateway, parent = reference[0], said.get(reference)
        if parent is None:
            return f"gateway {gateway} has not taken it"
        for kind in ("Accepted", "ResolvedRefs"):
            found = next((one for one in parent.get("conditions", ()) if one["type"] == kind), None)
            if found is None or found.get("observedGeneration", 0) < generation:
                return f"gateway {gateway} has not taken it yet"
            if found["status"] != "True":
                return f"refused by gateway {gateway}: {found.get('reason')}: {found.get('message')}"
    return ""
