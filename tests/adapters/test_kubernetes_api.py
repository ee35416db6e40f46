"""The API's client against its rules: rights, lost answers, overload, watches that end, skip and grow too old."""

from __future__ import annotations

import threading

import httpx
import pytest

from flows.adapters.kubernetes_api import DEPLOYMENTS, HTTP_ROUTES, PODS, SERVICES, Resource, StaleObject
from flows.errors import Conflict, ServiceError
from tests.adapters.kubernetes_node import wait_for
from tests.adapters.kubernetes_server import ADMIN
from tests.adapters.kubernetes_stage import A, Stage

CONFIG_MAP = Resource("v1", "configmaps")


def service(**spec: object) -> dict[str, object]:
    content = {"ports": [{"port": 3000}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": content}


def test_what_is_not_there_is_none_and_a_kind_that_is_not_there_an_error(stage: Stage) -> None:
    assert stage.cluster.get(SERVICES, "one") is None
    with pytest.raises(ServiceError, match="404.*Is the Gateway API installed"):
        stage.cluster_as().get(CONFIG_MAP, "one")


def test_rights_that_are_missing_are_named(stage: Stage) -> None:
    with pytest.raises(ServiceError, match=r'403.*cannot list resource "deployments".*access.yaml'):
        stage.cluster.list(DEPLOYMENTS, "a=b")
    with pytest.raises(ServiceError, match="401.*renew the token"):
        stage.cluster_as("unknown").get(SERVICES, "one")


def test_a_renewed_token_counts_from_the_next_request_on(stage: Stage) -> None:
    tokens = iter(["old", ADMIN])
    cluster = stage.cluster_as()
    object.__setattr__(cluster._access, "token", lambda: next(tokens))
    with pytest.raises(ServiceError, match="401"):
        cluster.get(SERVICES, "one")
    assert cluster.get(SERVICES, "one") is None


def test_a_replacement_of_what_was_changed_meanwhile_is_stale(stage: Stage) -> None:
    first = stage.cluster.get(HTTP_ROUTES, "detector")
    assert first is not None
    stage.api.edit("httproutes", "detector", lambda one: one["spec"].update(hostnames=["a.example"]))
    with pytest.raises(StaleObject, match="has been modified"):
        stage.cluster.replace(HTTP_ROUTES, first)
    fresh = stage.cluster.get(HTTP_ROUTES, "detector")
    assert fresh is not None
    fresh["spec"]["hostnames"] = ["b.example"]
    assert stage.cluster.replace(HTTP_ROUTES, fresh)["metadata"]["generation"] == 3


def test_an_apply_of_the_same_changes_nothing_and_of_less_takes_back_what_was_ours(stage: Stage) -> None:
    made = stage.cluster.apply(SERVICES, service(sessionAffinity="ClientIP"))
    assert stage.cluster.apply(SERVICES, service(sessionAffinity="ClientIP")) == made
    less = stage.cluster.apply(SERVICES, service())
    assert "sessionAffinity" not in less["spec"]
    assert less["spec"]["clusterIP"] == made["spec"]["clusterIP"]


def test_an_apply_that_contradicts_another_owner_is_a_conflict(stage: Stage) -> None:
    stage.cluster.apply(SERVICES, service(sessionAffinity="ClientIP"))
    stage.api.edit("services", "one", lambda one: one["spec"].update(sessionAffinity="None"), "kubectl-edit")
    with pytest.raises(Conflict, match="kubectl-edit"):
        stage.cluster.apply(SERVICES, service(sessionAffinity="ClientIP"))
    assert stage.cluster.apply(SERVICES, service(sessionAffinity="None"))


def test_what_breaks_the_schema_is_refused_with_the_servers_words(stage: Stage) -> None:
    with pytest.raises(ServiceError, match="422.*portz"):
        stage.cluster.apply(SERVICES, service(portz=1))


@pytest.mark.parametrize("code", [429, 500, 503])
def test_an_overloaded_server_is_asked_again_a_few_times(stage: Stage, code: int) -> None:
    stage.api.plan("get", "services", code=code, times=2)
    assert stage.cluster.get(SERVICES, "one") is None
    stage.api.plan("get", "services", code=code, times=3)
    with pytest.raises(ServiceError, match=str(code)):
        stage.cluster.get(SERVICES, "one")


def test_a_server_that_says_when_to_come_again_is_left_alone_till_then(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    answers = [httpx.Response(429, headers={"retry-after": after}) for after in ("1", "3600")]
    cluster = stage.cluster
    monkeypatch.setattr("flows.adapters.kubernetes_api.time.sleep", slept.append)
    request = httpx.Request("GET", "http://127.0.0.1")
    answers.append(httpx.Response(200, json={"kind": "Service"}, request=request))
    monkeypatch.setattr(cluster._client, "request", lambda *_, **__: answers.pop(0))
    assert cluster.get(SERVICES, "one") == {"kind": "Service"}
    assert slept == [1.0, 2.0]


@pytest.mark.parametrize("body", ["<html>log in</html>", "[1]"])
def test_an_answer_that_is_no_object_is_nobody_of_kubernetes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    reply = httpx.Response(200, text=body, request=httpx.Request("GET", "http://127.0.0.1/x"))
    monkeypatch.setattr(stage.cluster._client, "request", lambda *_, **__: reply)
    with pytest.raises(ServiceError, match="no API server of Kubernetes answers GET /x"):
        stage.cluster.get(SERVICES, "one")


def test_a_server_that_is_gone_is_named_with_what_to_try(stage: Stage) -> None:
    stage.api.close()
    with pytest.raises(ServiceError, match="does not answer at http://127.0.0.1.*kubectl cluster-info"):
        stage.cluster.get(SERVICES, "one")


def test_a_deletion_means_one_object_and_no_namesake(stage: Stage) -> None:
    stage.node.close()
    stage.versions.start("1", A)
    found = stage.api.read("deployments", "detector-1-aaaaaa")
    assert found is not None
    stage.cluster.delete(DEPLOYMENTS, "detector-1-aaaaaa", "another-uid")
    assert stage.versions.find("1", A) is not None
    stage.cluster.delete(DEPLOYMENTS, "detector-1-aaaaaa", found["metadata"]["uid"])
    assert stage.versions.find("1", A) is None
    stage.cluster.delete(DEPLOYMENTS, "nobody", "uid")


def test_a_list_holds_what_carries_the_labels(stage: Stage) -> None:
    for name, tier in (("a", "x"), ("b", "y")):
        stage.api.make("pods", {"metadata": {"name": name, "labels": {"tier": tier}}, "spec": {}})
    assert [one["metadata"]["name"] for one in stage.cluster.list(PODS, "tier=x")] == ["a"]


def hostnames_are(stage: Stage, wanted: list[str], limit_s: float) -> bool:
    return stage.cluster.wait_for(
        HTTP_ROUTES, "detector", lambda one: one is not None and one["spec"].get("hostnames") == wanted, limit_s
    )


def later(stage: Stage, *hosts: str, forget: bool = False) -> threading.Thread:
    """Change the route's host names, one after the other, once somebody watches it."""

    def act() -> None:
        wait_for(lambda: any(call.verb == "watch" for call in stage.api.calls))
        for host in hosts:
            stage.api.edit("httproutes", "detector", lambda one, h=host: one["spec"].update(hostnames=[h]))
        if forget:
            stage.api.forget()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_a_watch_sees_a_change_and_does_not_ask_for_the_object_again(stage: Stage) -> None:
    thread = later(stage, "a.example", "b.example")
    assert hostnames_are(stage, ["b.example"], 20.0)
    thread.join()
    ours = [call.verb for call in stage.api.calls if call.resource == "httproutes"]
    assert ours[0] == "get"
    assert set(ours[1:]) == {"watch"}


def test_a_watch_ends_after_its_time(stage: Stage) -> None:
    assert not hostnames_are(stage, ["never.example"], 0.3)


@pytest.mark.parametrize("in_stream", [True, False])
def test_a_watch_from_too_long_ago_begins_with_a_look(stage: Stage, in_stream: bool) -> None:
    stage.api.gone_in_stream = in_stream

    def compact() -> None:
        stage.api.edit("httproutes", "detector", lambda one: one["spec"].update(hostnames=["a.example"]))
        stage.api.forget()

    stage.api.plan("watch", "httproutes", meanwhile=compact)
    assert hostnames_are(stage, ["a.example"], 20.0)


@pytest.mark.parametrize("code", [410, 429, 503])
def test_a_watch_that_is_refused_again_and_again_ends_in_time_and_asks_in_peace(stage: Stage, code: int) -> None:
    stage.api.plan("watch", "httproutes", code=code, times=10**9)
    assert not hostnames_are(stage, ["never.example"], 1.0)
    assert len(stage.api.calls) < 20


def test_a_watch_goes_on_after_overload(stage: Stage) -> None:
    stage.api.plan("watch", "httproutes", code=503, times=2)
    thread = later(stage, "a.example")
    assert hostnames_are(stage, ["a.example"], 20.0)
    thread.join()


def test_a_bookmark_keeps_a_quiet_watch_from_growing_too_old(stage: Stage) -> None:
    """Others' writes go on; what was compacted meanwhile lies before the last bookmark."""

    def act() -> None:
        wait_for(lambda: any(call.verb == "watch" for call in stage.api.calls))
        for number in range(20):
            stage.api.make("pods", {"metadata": {"name": f"p{number}"}, "spec": {}})
        stage.api.edit("httproutes", "detector", lambda one: one["spec"].update(hostnames=["a.example"]))

    thread = threading.Thread(target=act)
    thread.start()
    assert hostnames_are(stage, ["a.example"], 20.0)
    thread.join()


def test_a_watch_that_breaks_off_goes_on_where_it_was(stage: Stage) -> None:
    stage.api.plan("watch", "httproutes", times=2)  # the connection breaks
    thread = later(stage, "a.example")
    assert hostnames_are(stage, ["a.example"], 20.0)
    thread.join()


def test_waiting_for_an_object_that_is_not_there_yet_and_for_one_that_goes(stage: Stage) -> None:
    stage.node.close()
    thread = threading.Thread(
        target=lambda: (
            wait_for(lambda: any(call.verb == "watch" for call in stage.api.calls)),
            stage.versions.start("1", A),
        )
    )
    thread.start()
    assert stage.cluster.wait_for(DEPLOYMENTS, "detector-1-aaaaaa", lambda one: one is not None, 20.0)
    thread.join()
    stage.api.calls.clear()

    def remove() -> None:
        wait_for(lambda: any(call.verb == "watch" for call in stage.api.calls))
        with stage.api.store.changed:
            stage.api.store.remove(("deployments", "detector-1-aaaaaa"))

    thread = threading.Thread(target=remove)
    thread.start()
    assert stage.cluster.wait_for(DEPLOYMENTS, "detector-1-aaaaaa", lambda one: one is None, 20.0)
    thread.join()
