"""Whole promotions in a cluster: API server, pods as processes, a real router behind the gateway, cameras that send."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from bentos.router.routing import Snapshot
from flows.adapters import kubernetes_gateway
from flows.adapters.fake_traffic import FakeRegistry
from flows.adapters.kubernetes_gateway import is_unsettled
from flows.adapters.kubernetes_traffic import KubernetesTraffic
from flows.adapters.processes import ServiceRecord, find_free_port, spawn, stop
from flows.adapters.router_admin import RouterAdmin
from flows.errors import Conflict, ServiceError
from flows.params import PromoteParams
from flows.rollout.controller import run_promotion
from flows.rollout.journal import open_journal
from flows.rollout.record import verify_record
from flows.rollout.report import PromotionReport, RolloutEvent
from flows.rollout.traffic import Contender, Traffic
from tests.adapters.kubernetes_node import wait_for
from tests.adapters.kubernetes_stage import TOKEN, A, B, Stage, shipped

PARAMS = PromoteParams.model_validate(
    {
        **{"alpha": 0.05, "latency_budget_ms": 1000.0, "max_slow_share": 0.05, "max_error_share": 0.05},
        **{"min_agreement": 0.5, "canary_steps": [50], "shadow_frames": 10, "canary_frames": 10, "bake_frames": 10},
        **{"thin_s": 0.0, "state_deadline_s": 30.0, "drain_deadline_s": 5.0},
    }
    | {"approval": "none", "approval_deadline_s": 60.0}
)


class Street:
    """A router process, cameras that send to it, and traffic of the cluster with a share of frames that is paired."""

    def __init__(self, stage: Stage, home: Path) -> None:
        self.stage, self.home = stage, home
        self.port, self.admin_port = find_free_port(), find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.router = self.start_router()
        self.answers: list[int] = []
        self._ended = threading.Event()
        self._cameras = [threading.Thread(target=self._send, args=(number,), daemon=True) for number in range(6)]

    def start_router(self) -> ServiceRecord:
        argv = [sys.executable, "-m", "bentos.router", "--port", str(self.port), "--admin-port", str(self.admin_port)]
        argv += ["--state-dir", str(self.home / "router")]
        record = spawn("router", argv, env=dict(os.environ), log=self.home / "router.log", home=self.home)
        wait_for(self._router_answers)
        return record

    def traffic(self, paired_percent: int = 100, in_cluster: bool = True, token: str = TOKEN) -> KubernetesTraffic:
        admin = RouterAdmin(
            lambda: f"http://127.0.0.1:{self.admin_port}",
            lambda: (self.home / "router" / "token").read_text(encoding="ascii").strip(),
            "Start it",
        )
        gateway = self.stage.gateway(paired_percent) if paired_percent < 100 else None
        router = admin if paired_percent else None
        cluster = self.stage.cluster_as(token, in_cluster)
        return KubernetesTraffic(cluster, self.stage.another_versions(), router, gateway)

    def open(self) -> None:
        for camera in self._cameras:
            camera.start()

    def close(self) -> None:
        self._ended.set()
        for camera in self._cameras:
            with suppress(RuntimeError):  # never opened
                camera.join()
        stop(self.router, grace_s=5.0)

    def _send(self, number: int) -> None:
        with httpx.Client(timeout=10.0, trust_env=False) as client:
            while not self._ended.wait(0.02):
                headers = {"content-type": "image/jpeg", "x-camera-id": f"cam{number}"}
                with suppress(httpx.HTTPError):
                    self.answers.append(client.post(f"{self.url}/v1/detect", content=b"x", headers=headers).status_code)

    def _router_answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/livez", trust_env=False).status_code == 200
        return False

    def promote(self, traffic: Traffic, on_state: dict[str, object] | None = None) -> PromotionReport:
        """Promote version 2 over version 1; `on_state` is called when a state is entered."""
        registry = FakeRegistry()
        registry.set_champion("1", A)
        seen: set[str] = set()

        def watch(event: RolloutEvent) -> None:
            name = event.state.split()[0]
            if name not in seen:
                seen.add(name)
                act = (on_state or {}).get(name)
                if callable(act):
                    act()

        with open_journal(self.home / "rollout.db") as journal:
            report = run_promotion(
                journal, traffic, registry, Contender("2", B), Contender("1", A), PARAMS, self.home / "records", watch
            )
        assert verify_record(self.home / "records" / f"{report.promotion}.jsonl").passed
        return report


@pytest.fixture
def street(stage: Stage, tmp_path: Path) -> Iterator[Street]:
    one = Street(stage, tmp_path / "home")
    yield one
    one.close()


@pytest.mark.deep
def test_a_challenger_that_is_as_good_is_promoted_with_the_rights_that_are_shipped_and_no_frame_lost(
    street: Street,
) -> None:
    traffic = street.traffic()
    traffic.ensure_champion("1", A)
    street.open()
    report = street.promote(traffic)
    assert report.outcome == "promoted", report.sentence
    assert report.lost == 0
    assert set(street.answers) == {200}
    assert traffic.routing().champion == traffic.find("2", B)
    wait_for(lambda: street.stage.api.read("deployments", "detector-1-aaaaaa") is None)


def test_paired_by_the_router_and_split_by_the_gateway_with_exactly_the_rights_that_are_shipped(street: Street) -> None:
    street.stage.node.lag_s, street.stage.node.draining_s = 0.2, 0.3
    traffic = street.traffic(20)
    traffic.ensure_champion("1", A)
    assert street.stage.weights() == {"router": 2_000, "detector-1-aaaaaa": 8_000}
    street.open()
    report = street.promote(traffic)
    assert report.outcome == "promoted", report.sentence
    splits = list(_history(street.stage))
    assert {"router": 2_000, "detector-1-aaaaaa": 4_000, "detector-2-bbbbbb": 4_000} in splits
    assert {sum(split.values()) for split in splits} == {1, 10_000}  # before anybody routed, and ever since
    assert street.stage.weights() == {"router": 2_000, "detector-2-bbbbbb": 8_000}
    assert used_rights(street.stage) == granted_rights()


def used_rights(stage: Stage) -> set[tuple[str, str, str]]:
    used = {(call.group, call.resource, call.verb) for call in stage.api.calls if call.token == TOKEN}
    # An apply that makes something needs the right to create as well.
    return used | {(group, resource, "create") for group, resource, verb in used if verb == "patch"}


def granted_rights() -> set[tuple[str, str, str]]:
    rules = shipped("access.yaml", "Role")[0]["rules"]
    parts = ("apiGroups", "resources", "verbs")
    return {right for rule in rules for right in itertools.product(*(rule[part] for part in parts))}


def _history(stage: Stage) -> Iterator[dict[str, int]]:
    """The weights of the route, as they were written one after the other."""
    for _, key, _, one in stage.api.store.events:
        if key[0] == "httproutes":
            yield {each["name"]: each["weight"] for each in one["spec"]["rules"][0]["backendRefs"]}


@pytest.mark.deep
def test_a_challenger_that_finds_nothing_is_sent_away_and_its_pods_with_it(street: Street) -> None:
    street.stage.node.faults["2"] = "empty"
    traffic = street.traffic(50)
    traffic.ensure_champion("1", A)
    street.open()
    report = street.promote(traffic)
    assert report.outcome == "rolled_back", report.sentence
    assert report.lost == 0
    assert street.stage.weights() == {"router": 5_000, "detector-1-aaaaaa": 5_000}
    wait_for(lambda: street.stage.api.read("deployments", "detector-2-bbbbbb") is None)


@pytest.mark.deep
def test_a_challenger_whose_pod_dies_in_the_canary_is_rolled_back_and_no_frame_lost(street: Street) -> None:
    traffic = street.traffic()
    traffic.ensure_champion("1", A)
    street.open()
    report = street.promote(traffic, {"CANARY": lambda: street.stage.node.kill("detector-2-bbbbbb")})
    assert report.outcome == "rolled_back", report.sentence
    assert report.lost == 0
    assert set(street.answers) == {200}


@pytest.mark.deep
def test_an_image_that_cannot_be_pulled_is_rolled_back_before_any_frame(street: Street) -> None:
    street.stage.node.faults["2"] = "no-image"
    traffic = street.traffic()
    traffic.ensure_champion("1", A)
    report = street.promote(traffic)
    assert report.outcome == "rolled_back"
    assert "ended while it started" in report.sentence


def test_without_pairs_a_promotion_is_refused_before_anything_is_started(street: Street) -> None:
    traffic = street.traffic(0)
    traffic.ensure_champion("1", A)
    with pytest.raises(ServiceError, match="TCA_KUBERNETES_PAIRED_PERCENT"):
        street.promote(traffic)
    assert street.stage.api.read("deployments", "detector-2-bbbbbb") is None
    assert street.stage.weights() == {"detector-1-aaaaaa": 10_000}


@pytest.mark.deep
def test_a_controller_that_breaks_off_between_router_and_gateway_goes_on_when_run_again(street: Street) -> None:
    traffic = street.traffic(50)
    traffic.ensure_champion("1", A)
    street.open()
    fail = {"CANARY": lambda: street.stage.api.plan("update", "httproutes", code=500, times=3)}
    with pytest.raises(ServiceError, match="500"):
        street.promote(traffic, fail)
    assert is_unsettled(traffic.routing())
    assert street.stage.weights() == {"router": 5_000, "detector-1-aaaaaa": 5_000}
    report = street.promote(traffic)
    assert report.outcome == "promoted", report.sentence
    assert report.lost == 0


def test_router_and_gateway_that_disagree_are_unsettled_until_the_next_route(street: Street) -> None:
    """Killed between the two writes: nobody takes it for what he wants, and it is written anew above both.

    A controller that takes over first writes what it finds under its own epoch: that gives the champion all frames.
    """
    traffic = street.traffic(50)
    champion = traffic.ensure_champion("1", A)
    before = traffic.routing()
    ahead = before.model_copy(update={"epoch": 3, "generation": 1, "share": 0.5})
    street.traffic(100).route(ahead)
    found = traffic.routing()
    assert (found.champion, found.order, is_unsettled(found)) == (champion, (3, 1), True)
    traffic.route(found.model_copy(update={"epoch": 4}))
    assert street.stage.weights() == {"router": 5_000, "detector-1-aaaaaa": 5_000}
    settled = before.model_copy(update={"epoch": 4, "generation": 2})
    traffic.route(settled)
    assert traffic.routing() == settled
    assert traffic.routing().champion == champion


def test_going_back_reaches_the_gateway_although_the_router_is_away(street: Street) -> None:
    traffic = street.traffic(50)
    champion, challenger = traffic.ensure_champion("1", A), traffic.start("2", B)
    canary = Snapshot(
        epoch=2, generation=1, mode="canary", share=0.5, promotion=1, champion=champion, candidate=challenger
    )
    traffic.route(canary)
    assert street.stage.weights() == {"router": 5_000, "detector-1-aaaaaa": 2_500, "detector-2-bbbbbb": 2_500}
    stop(street.router, grace_s=5.0)
    back = canary.model_copy(update={"generation": 2, "mode": "champion", "share": 0.0, "candidate": None})
    with pytest.raises(ServiceError, match="the router does not answer"):
        traffic.route(back)
    assert street.stage.weights() == {"router": 5_000, "detector-1-aaaaaa": 5_000}
    street.router = street.start_router()
    assert is_unsettled(traffic.routing())
    traffic.route(back)
    assert traffic.routing() == back


def test_going_back_reaches_the_router_although_no_gateway_takes_it(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = street.traffic(50)
    champion, challenger = traffic.ensure_champion("1", A), traffic.start("2", B)
    canary = Snapshot(
        epoch=2, generation=1, mode="canary", share=0.5, promotion=1, champion=champion, candidate=challenger
    )
    traffic.route(canary)
    monkeypatch.setattr(kubernetes_gateway, "_ACKNOWLEDGED_WITHIN_S", 0.3)
    street.stage.node.accepts = "False"
    back = canary.model_copy(update={"generation": 2, "mode": "champion", "share": 0.0, "candidate": None})
    with pytest.raises(ServiceError, match="refused by gateway cameras"):
        traffic.route(back)
    assert street.traffic(100).routing() == back
    ahead = canary.model_copy(update={"generation": 3})
    with pytest.raises(ServiceError, match="refused by gateway cameras"):
        traffic.route(ahead)  # the router first


def test_a_stale_controller_is_refused_by_router_and_gateway(street: Street) -> None:
    traffic = street.traffic(50)
    traffic.ensure_champion("1", A)
    now = traffic.routing().model_copy(update={"epoch": 5, "generation": 1})
    traffic.route(now)
    for mode in ({}, {"generation": 9}):
        with pytest.raises(Conflict):
            traffic.route(now.model_copy(update={"epoch": 4, **mode}))
    assert traffic.routing() == now


def test_from_outside_the_cluster_it_is_warmed_up_through_the_api_server(street: Street) -> None:
    outside = [
        *shipped("access.yaml", "Role")[0]["rules"],
        {"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["create"]},
    ]
    street.stage.api.roles["outside"] = outside
    street.stage.api.plan("create", "services/proxy", code=503, times=1)
    traffic = street.traffic(in_cluster=False, token="outside")
    backend = traffic.start("1", A)
    wait_for(lambda: traffic.is_ready(backend))
    traffic.warm_up(backend)
    assert any(call.resource == "services/proxy" for call in street.stage.api.calls)
    with pytest.raises(ServiceError, match="403"):
        street.traffic(in_cluster=False).warm_up(backend)


def test_a_service_that_leads_to_no_pod_yet_is_given_a_moment(street: Street) -> None:
    """Pods are available before the cluster's network knows the way to them."""
    traffic = street.traffic()
    street.stage.node.lag_s = 0.3
    backend = traffic.start("1", A)
    traffic.warm_up(backend)  # nobody listens there yet
    assert street.stage.node.processes.keys() == {"detector-1-aaaaaa"}


def test_an_image_that_holds_another_model_is_found_out(street: Street) -> None:
    traffic = street.traffic()
    backend = traffic.start("1", A)
    wait_for(lambda: traffic.is_ready(backend))
    with pytest.raises(ServiceError, match="expected bbbbbbbbbbbb"):
        traffic.warm_up(backend.model_copy(update={"digest": B}))


def test_the_champion_is_changed_in_one_step_and_the_old_one_stopped(street: Street) -> None:
    traffic = street.traffic(0)
    traffic.ensure_champion("1", A)
    traffic.ensure_champion("2", B)
    assert street.stage.weights() == {"detector-2-bbbbbb": 10_000}
    assert traffic.ensure_champion("2", B) == traffic.routing().champion
    assert traffic.find("1", A) is None
