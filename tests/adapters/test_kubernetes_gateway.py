"""Weights of an HTTPRoute, by compare-and-swap against a server that refuses what is stale."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.router.routing import NOTHING_ROUTED, Snapshot
from flows.adapters import kubernetes_gateway
from flows.adapters.kubernetes_gateway import PAIRED, SNAPSHOT, TOTAL, _problem, _with_weights, is_unsettled, weights
from flows.adapters.kubernetes_versions import is_version_name
from flows.errors import Conflict, ServiceError
from tests.adapters.kubernetes_server import Object
from tests.adapters.kubernetes_stage import CHALLENGER, CHAMPION, Stage, snapshot

ROUTER = ("router", 3000)
OLD, NEW = ("detector-1-aaaaaa", 3000), ("detector-2-bbbbbb", 3000)


@pytest.mark.parametrize(
    ("mode", "share", "paired_percent", "expected"),
    [
        ("champion", 0.0, 0, {OLD: 10_000}),
        ("champion", 0.0, 100, {ROUTER: 10_000}),
        ("champion", 0.0, 20, {ROUTER: 2_000, OLD: 8_000}),
        ("shadow", 0.0, 0, {OLD: 10_000}),
        ("shadow", 0.0, 20, {ROUTER: 2_000, OLD: 8_000}),
        ("canary", 0.1, 0, {OLD: 9_000, NEW: 1_000}),
        ("canary", 0.1, 20, {ROUTER: 2_000, OLD: 7_200, NEW: 800}),
        ("canary", 1.0, 20, {ROUTER: 2_000, NEW: 8_000}),
        ("canary", 0.5, 100, {ROUTER: 10_000}),
        ("canary", 0.0, 0, {OLD: 10_000}),
        ("canary", 0.000001, 99, {ROUTER: 9_900, OLD: 99, NEW: 1}),
    ],
)
def test_weights_follow_mode_share_and_what_is_paired(
    mode: str, share: float, paired_percent: int, expected: dict[tuple[str, int], int]
) -> None:
    found = weights(snapshot(mode, share), ROUTER, paired_percent)
    assert found == expected
    assert sum(found.values()) == TOTAL


def test_without_a_champion_the_router_answers_that_there_is_none() -> None:
    assert weights(NOTHING_ROUTED, ROUTER, 0) == {ROUTER: TOTAL}


def test_a_split_is_written_read_back_and_moved_on(stage: Stage) -> None:
    gateway = stage.gateway()
    assert gateway.routing() == NOTHING_ROUTED
    for step, (mode, share) in enumerate([("champion", 0.0), ("shadow", 0.0), ("canary", 0.1), ("canary", 0.5)]):
        wanted = snapshot(mode, share, generation=step + 1)
        gateway.route(wanted)
        assert gateway.routing() == wanted
    assert stage.weights() == {"detector-1-aaaaaa": 5_000, "detector-2-bbbbbb": 5_000}
    gateway.route(snapshot("champion", generation=5, champion=CHALLENGER, candidate=None))
    assert stage.weights() == {"detector-2-bbbbbb": 10_000}


def test_what_is_routed_already_is_not_written_again(stage: Stage) -> None:
    stage.gateway().route(snapshot("canary", 0.1))
    version = stage.api.read("httproutes", "detector")["metadata"]["resourceVersion"]  # type: ignore[index]
    stage.node.close()
    stage.gateway().route(snapshot("canary", 0.1))
    assert stage.api.read("httproutes", "detector")["metadata"]["resourceVersion"] == version  # type: ignore[index]


@pytest.mark.parametrize("order", [(1, 1), (1, 2), (0, 9)])
def test_a_stale_epoch_or_generation_is_refused(stage: Stage, order: tuple[int, int]) -> None:
    stage.gateway().route(snapshot("champion", epoch=1, generation=2))
    before = stage.api.read("httproutes", "detector")
    with pytest.raises(Conflict, match="epoch 1, generation 2"):
        stage.gateway().route(snapshot("canary", 0.5, epoch=order[0], generation=order[1]))
    assert stage.api.read("httproutes", "detector")["spec"] == before["spec"]  # type: ignore[index]


def test_two_controllers_that_write_at_once_leave_the_later_epoch(stage: Stage) -> None:
    """The stale one read before the new one wrote: its compare-and-swap fails, it reads again and sees the fence."""
    stage.gateway().route(snapshot("canary", 0.1, epoch=1))
    newer = snapshot("champion", epoch=2)
    stage.api.plan("update", "httproutes", meanwhile=lambda: stage.gateway().route(newer))
    with pytest.raises(Conflict, match="follows epoch 2"):
        stage.gateway().route(snapshot("canary", 0.5, epoch=1, generation=2))
    assert stage.gateway().routing() == newer


def test_many_writers_lose_nothing(stage: Stage) -> None:
    """Whoever labels the route meanwhile keeps his labels, and the last snapshot counts."""

    def label() -> None:
        for number in range(30):
            stage.api.edit(
                "httproutes",
                "detector",
                lambda one, n=number: one["metadata"].setdefault("labels", {}).update({f"l{n}": "x"}),
            )

    writer = threading.Thread(target=label)
    writer.start()
    for generation in range(1, 11):
        stage.gateway().route(snapshot("canary", generation / 20, generation=generation))
    writer.join()
    route = stage.api.read("httproutes", "detector")
    assert route is not None
    assert len(route["metadata"]["labels"]) >= 30
    assert stage.gateway().routing() == snapshot("canary", 0.5, generation=10)


def test_a_change_by_somebody_else_is_kept_and_the_write_repeated(stage: Stage) -> None:
    def add_header(route: Object) -> None:
        route["spec"]["hostnames"] = ["cameras.example"]

    stage.api.plan("update", "httproutes", meanwhile=lambda: stage.api.edit("httproutes", "detector", add_header))
    stage.gateway().route(snapshot("canary", 0.1))
    assert stage.api.read("httproutes", "detector")["spec"]["hostnames"] == ["cameras.example"]  # type: ignore[index]
    assert stage.gateway().routing() == snapshot("canary", 0.1)


def test_an_answer_that_got_lost_does_not_count_as_somebody_elses_write(stage: Stage) -> None:
    stage.api.plan("update", "httproutes")
    stage.gateway().route(snapshot("canary", 0.1))
    assert stage.gateway().routing() == snapshot("canary", 0.1)


def test_somebody_who_writes_all_the_time_ends_in_a_conflict(stage: Stage) -> None:
    def touch(number: list[int] = [0]) -> None:  # noqa: B006
        number[0] += 1
        stage.api.edit(
            "httproutes", "detector", lambda one: one["metadata"].setdefault("labels", {}).update(n=str(number[0]))
        )

    stage.api.plan("update", "httproutes", times=100, meanwhile=touch)
    with pytest.raises(Conflict, match="by others"):
        stage.gateway().route(snapshot("canary", 0.1))


def test_weights_that_somebody_turned_are_noticed_and_set_right(stage: Stage) -> None:
    stage.gateway().route(snapshot("canary", 0.1))
    stage.api.edit("httproutes", "detector", lambda one: one["spec"]["rules"][0]["backendRefs"][0].update(weight=1))
    found = stage.gateway().routing()
    assert is_unsettled(found)
    assert (found.order, found.mode, found.champion) == ((1, 1), "champion", CHAMPION)
    stage.gateway().route(snapshot("canary", 0.1))
    assert stage.gateway().routing() == snapshot("canary", 0.1)


def foreign(name: str, weight: int | None = None, **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "port": 80,
        "group": "",
        "kind": "Service",
        **({} if weight is None else {"weight": weight}),
        **other,
    }


def test_other_rules_and_other_references_stay_as_they_are(stage: Stage) -> None:
    legacy, bucket = foreign("legacy", 100), foreign("detector-1-aaaaaa", 7, group="storage.example", kind="Bucket")
    elsewhere = foreign("detector-9-aaaaaa", 5, namespace="other")
    page = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": [foreign("page", 1)]}

    def others(route: Object) -> None:
        ours = route["spec"]["rules"][0]["backendRefs"][0] | {"weight": 300}
        route["spec"]["rules"][0]["backendRefs"] = [legacy, ours, bucket, elsewhere]
        route["spec"]["rules"].append(page)

    stage.api.edit("httproutes", "detector", others)
    stage.gateway(20).route(snapshot("canary", 0.1))
    first, *ours, last, other = stage.references()
    assert (first, last, other) == (legacy, bucket, elsewhere)
    assert {one["name"]: one["weight"] for one in ours} == {
        "router": 60,
        "detector-1-aaaaaa": 216,
        "detector-2-bbbbbb": 24,
    }
    assert stage.references(1) == page["backendRefs"]


def test_ours_that_cannot_be_split_beside_others_are_refused(stage: Stage) -> None:
    stage.api.edit(
        "httproutes", "detector", lambda one: one["spec"]["rules"][0]["backendRefs"].append(foreign("legacy", 1))
    )
    with pytest.raises(ServiceError, match="Multiply all weights"):
        stage.gateway().route(snapshot("canary", 0.1))


def test_a_route_that_is_missing_or_not_ours_says_what_to_do(stage: Stage) -> None:
    stage.api.edit("httproutes", "detector", lambda one: one["spec"]["rules"][0].update(backendRefs=[foreign("page")]))
    with pytest.raises(ServiceError, match="refers to service router"):
        stage.gateway().route(snapshot("champion"))
    with stage.api.store.changed:
        stage.api.store.remove(("httproutes", "detector"))
    with pytest.raises(ServiceError, match="no HTTPRoute detector"):
        stage.gateway().routing()


def test_an_annotation_that_is_no_snapshot_is_not_guessed_at(stage: Stage) -> None:
    stage.api.edit("httproutes", "detector", lambda one: one["metadata"].update(annotations={SNAPSHOT: "{}"}))
    with pytest.raises(ServiceError, match="is no snapshot"):
        stage.gateway().routing()


def test_another_paired_share_is_unsettled_until_it_is_written(stage: Stage) -> None:
    stage.gateway(20).route(snapshot("canary", 0.1))
    assert stage.gateway(50).routing() == snapshot("canary", 0.1)
    stage.gateway(50).route(snapshot("canary", 0.1))
    assert stage.weights()["router"] == 5_000
    stage.api.edit("httproutes", "detector", lambda one: one["metadata"]["annotations"].pop(PAIRED))
    assert is_unsettled(stage.gateway(50).routing())


@pytest.mark.parametrize(
    ("accepts", "problem"),
    [(None, "gateway cameras has not taken it"), ("False", "refused by gateway cameras")],
)
def test_a_gateway_that_does_not_take_the_route_is_an_error(
    stage: Stage, accepts: str | None, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_gateway, "_ACKNOWLEDGED_WITHIN_S", 0.5)
    stage.node.accepts = accepts
    with pytest.raises(ServiceError, match=problem):
        stage.gateway().route(snapshot("canary", 0.1))
    assert stage.gateway().routing() == snapshot("canary", 0.1)


def test_of_several_gateways_all_must_take_it_and_one_that_the_route_has_left_has_no_say() -> None:
    def said(name: str, generation: int, **more: str) -> dict[str, Any]:
        conditions = [
            {"type": kind, "status": "True", "observedGeneration": generation} for kind in ("Accepted", "ResolvedRefs")
        ]
        return {"parentRef": {"name": name, **more}, "conditions": conditions}

    def route(*parents: dict[str, Any]) -> dict[str, Any]:
        references = [{"name": "cameras"}, {"name": "inner", "sectionName": "http"}]
        metadata = {"name": "detector", "namespace": "its"}
        return {"metadata": metadata, "spec": {"parentRefs": references}, "status": {"parents": list(parents)}}

    cameras, inner = said("cameras", 2, namespace="its"), said("inner", 2, sectionName="http")
    assert _problem(route(cameras), 2) == "gateway inner has not taken it"
    assert _problem(route(cameras, said("inner", 1, sectionName="http")), 2) == "gateway inner has not taken it yet"
    assert _problem(route(cameras, inner), 2) == ""
    assert _problem(route(said("left", 1), cameras, inner), 2) == ""


names = st.sampled_from(["legacy", "page", "metrics", "old-detector"])
others = st.lists(st.builds(foreign, names, st.integers(0, 1000)), max_size=4)


@given(
    before=others,
    after=others,
    ours=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=3),
    share=st.floats(0, 1),
    paired=st.integers(0, 100),
)
def test_nobody_elses_share_changes_and_ours_are_split_as_told(
    before: list[dict[str, Any]], after: list[dict[str, Any]], ours: list[int], share: float, paired: int
) -> None:
    is_ours = lambda one: one["name"] == "router" or is_version_name(one["name"])  # noqa: E731
    mine = [
        {"name": name, "port": 3000, "weight": weight}
        for name, weight in zip(["router", OLD[0], NEW[0]], ours, strict=False)
    ]
    wanted = weights(snapshot("canary", share), ROUTER, paired)
    total = sum(ours) if any(one["weight"] for one in before + after) else TOTAL
    if len(wanted) > 1 and total < 100:
        return
    found = _with_weights(copy.deepcopy([*before, *mine, *after]), wanted, is_ours)
    assert [one for one in found if not is_ours(one)] == before + after
    split = {(one["name"], one["port"]): one["weight"] for one in found if is_ours(one)}
    assert split.keys() == wanted.keys()
    assert sum(split.values()) == total
    assert all(weight >= 1 for weight in split.values())
    assert all(abs(split[name] / total - part / TOTAL) <= 3 / total for name, part in wanted.items())
    assert _with_weights(found, wanted, is_ours) == found


def test_the_snapshot_in_the_annotation_is_whole(stage: Stage) -> None:
    stage.gateway().route(snapshot("canary", 0.25))
    text = stage.api.read("httproutes", "detector")["metadata"]["annotations"][SNAPSHOT]  # type: ignore[index]
    assert Snapshot.model_validate_json(text).champion == CHAMPION
