"""The rules that our API server keeps; with TCA_TEST_KUBECONFIG set, the same of a real one.

A real one needs a namespace `its` and the definition of HTTPRoute (Gateway API, v1).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.adapters.kubernetes_credentials import Access, kubeconfig_access
from tests.adapters.kubernetes_server import ADMIN, NAMESPACE, ApiServer

ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
MERGE, JSON_PATCH, APPLY = "merge-patch+json", "json-patch+json", "apply-patch+yaml"


class Asker:
    """A client that says what it sends."""

    def __init__(self, access: Access) -> None:
        headers = {"authorization": f"Bearer {access.token()}"}
        self.http = httpx.Client(
            base_url=access.server, verify=access.tls, headers=headers, trust_env=False, timeout=20
        )

    def ask(self, method: str, path: str, body: Any = None, **params: str) -> tuple[int, dict[str, Any]]:
        reply = self.http.request(method, path, json=body, params=params)
        is_json = reply.headers["content-type"].startswith("application/json")
        return reply.status_code, reply.json() if is_json else {"message": reply.text}

    def patch(self, path: str, kind: str, body: Any, **params: str) -> tuple[int, dict[str, Any]]:
        headers = {"content-type": f"application/{kind}"}
        reply = self.http.patch(path, content=json.dumps(body), headers=headers, params=params)
        return reply.status_code, reply.json()

    def watch(self, path: str, num: int, **params: str) -> list[dict[str, Any]]:
        """The first events, at most so many, bookmarks left out."""
        found: list[dict[str, Any]] = []
        with self.http.stream("GET", path, params={"watch": "true", "timeoutSeconds": "3", **params}) as reply:
            for line in reply.iter_lines():
                event = json.loads(line)
                found += [event] if event["type"] != "BOOKMARK" else []
                if len(found) >= num:
                    break
        return found


@pytest.fixture
def api() -> Iterator[Asker]:
    if config := os.environ.get("TCA_TEST_KUBECONFIG"):
        yield Asker(kubeconfig_access([Path(config)]))
        return
    server = ApiServer()
    yield Asker(Access(server.url, NAMESPACE, False, lambda: ADMIN, in_cluster=True))
    server.close()


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:10]}"


def route(name: str, **spec: Any) -> dict[str, Any]:
    content = {"rules": [{"backendRefs": [{"name": "router", "port": 3000}]}], **spec}
    metadata = {"name": name}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": content}


def service(name: str, **spec: Any) -> dict[str, Any]:
    content = {"ports": [{"port": 3000}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": content}


def deployment(name: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "one", "image": "image:1"}]}}
    content = {"selector": {"matchLabels": labels}, "template": pod, "replicas": 0, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": content}


def test_versions_and_generations(api: Asker, name: str) -> None:
    code, made = api.ask("POST", ROUTES, route(name))
    assert (code, made["metadata"]["generation"]) == (201, 1)
    assert made["spec"]["rules"][0]["backendRefs"][0] == {
        **{"group": "", "kind": "Service"},
        **{"name": "router", "port": 3000, "weight": 1},
    }
    assert api.ask("POST", ROUTES, route(name))[0] == 409
    code, same = api.ask("PUT", f"{ROUTES}/{name}", made)
    assert (code, same["metadata"]["resourceVersion"]) == (200, made["metadata"]["resourceVersion"])
    made["metadata"]["labels"] = {"a": "b"}
    _, labelled = api.ask("PUT", f"{ROUTES}/{name}", made)
    assert labelled["metadata"]["generation"] == 1
    labelled["spec"]["hostnames"] = ["a.example"]
    _, changed = api.ask("PUT", f"{ROUTES}/{name}", labelled)
    assert changed["metadata"]["generation"] == 2
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]


def test_a_stale_write_is_a_conflict_and_one_without_a_version_invalid(api: Asker, name: str) -> None:
    _, first = api.ask("POST", ROUTES, route(name))
    _, second = api.ask("PUT", f"{ROUTES}/{name}", {**first, "spec": route(name, hostnames=["a.example"])["spec"]})
    code, said = api.ask("PUT", f"{ROUTES}/{name}", {**first, "spec": route(name, hostnames=["b.example"])["spec"]})
    assert (code, said["reason"]) == (409, "Conflict")
    without = {**second, "metadata": {"name": name}}
    assert api.ask("PUT", f"{ROUTES}/{name}", without)[0] == 422


def test_a_merge_patch_is_guarded_by_the_version_it_carries(api: Asker, name: str) -> None:
    _, first = api.ask("POST", ROUTES, route(name))
    path = f"{ROUTES}/{name}"
    code, second = api.patch(path, MERGE, {"metadata": {"labels": {"a": "b", "c": "d"}}})
    assert code == 200
    assert second["metadata"]["labels"] == {"a": "b", "c": "d"}
    assert api.patch(path, MERGE, {"metadata": {"labels": {"a": None}}})[1]["metadata"]["labels"] == {"c": "d"}
    stale = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"], "labels": {"e": "f"}}}
    code, said = api.patch(path, MERGE, stale)
    assert (code, said["reason"]) == (409, "Conflict")


def test_a_json_patch_whose_test_fails_is_refused_whole(api: Asker, name: str) -> None:
    _, first = api.ask("POST", ROUTES, route(name))
    path, version = f"{ROUTES}/{name}", first["metadata"]["resourceVersion"]
    change = {"op": "add", "path": "/spec/hostnames", "value": ["a.example"]}
    check = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    assert api.patch(path, JSON_PATCH, [check, change])[1]["spec"]["hostnames"] == ["a.example"]
    code, _ = api.patch(path, JSON_PATCH, [check, {**change, "value": ["b.example"]}])
    assert code == 422
    assert api.ask("GET", path)[1]["spec"]["hostnames"] == ["a.example"]


def test_a_patch_of_an_unknown_kind_is_refused(api: Asker, name: str) -> None:
    api.ask("POST", ROUTES, route(name))
    assert api.patch(f"{ROUTES}/{name}", "nonsense", {})[0] == 415


def test_status_and_spec_are_written_apart(api: Asker, name: str) -> None:
    _, made = api.ask("POST", DEPLOYMENTS, deployment(name) | {"status": {"replicas": 7}})
    assert made.get("status", {}).get("replicas", 0) == 0
    made["status"], made["spec"]["replicas"] = {"replicas": 3, "observedGeneration": 1}, 2
    path = f"{DEPLOYMENTS}/{name}"
    made["metadata"].pop("resourceVersion")
    _, after = api.ask("PUT", f"{path}/status", made)
    assert (after["spec"]["replicas"], after["status"]["replicas"], after["metadata"]["generation"]) == (0, 3, 1)
    made["status"] = {"replicas": 9}
    _, after = api.ask("PUT", path, made)
    assert (after["spec"]["replicas"], after["metadata"]["generation"]) == (2, 2)
    assert after["status"].get("replicas", 0) != 9


def test_an_apply_makes_changes_and_takes_back(api: Asker, name: str) -> None:
    path, ours = f"{SERVICES}/{name}", {"fieldManager": "us"}
    code, made = api.patch(path, APPLY, service(name, sessionAffinity="ClientIP"), **ours)
    assert code == 201
    code, same = api.patch(path, APPLY, service(name, sessionAffinity="ClientIP"), **ours)
    assert (code, same["metadata"]["resourceVersion"]) == (200, made["metadata"]["resourceVersion"])
    _, less = api.patch(path, APPLY, service(name), **ours)
    assert less["spec"].get("sessionAffinity", "None") == "None"
    assert less["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert api.patch(path, APPLY, service(name))[0] in (400, 422)  # without saying who applies


def test_an_apply_does_not_take_over_what_somebody_else_set(api: Asker, name: str) -> None:
    path = f"{DEPLOYMENTS}/{name}"
    api.patch(path, APPLY, deployment(name, minReadySeconds=1), fieldManager="us")
    api.patch(path, MERGE, {"spec": {"minReadySeconds": 2}}, fieldManager="them")
    code, said = api.patch(path, APPLY, deployment(name, minReadySeconds=1), fieldManager="us")
    assert (code, said["reason"]) == (409, "Conflict")
    assert '"them"' in said["message"]
    code, kept = api.patch(path, APPLY, deployment(name, minReadySeconds=2), fieldManager="us")
    assert (code, kept["spec"]["minReadySeconds"]) == (200, 2)
    code, forced = api.patch(path, APPLY, deployment(name, minReadySeconds=3), fieldManager="us", force="true")
    assert (code, forced["spec"]["minReadySeconds"]) == (200, 3)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ROUTES, route("x", rules=[{"backendRefs": [{"name": "a", "port": 1, "weight": -1}]}])),
        (ROUTES, route("x", rules=[{"backendRefs": [{"name": "a", "port": 1, "weight": 1_000_001}]}])),
        (ROUTES, route("x", rules=[{"backendRefs": [{"name": "a"}]}])),
        (ROUTES, route("x", rules=[{"backendRefs": [{"name": f"a{n}", "port": 1} for n in range(17)]}])),
        (SERVICES, service("no_name")),
        (DEPLOYMENTS, deployment("x", selector={"matchLabels": {"app": "other"}})),
    ],
    ids=["negative", "too heavy", "no port", "too many", "name", "selector"],
)
def test_what_is_invalid_is_refused(api: Asker, path: str, body: dict[str, Any]) -> None:
    code, said = api.ask("POST", path, body)
    assert (code, said["reason"]) == (422, "Invalid")


def test_what_is_immutable_stays(api: Asker, name: str) -> None:
    _, made = api.ask("POST", DEPLOYMENTS, deployment(name))
    made["metadata"].pop("resourceVersion")
    made["spec"]["selector"]["matchLabels"]["more"] = made["spec"]["template"]["metadata"]["labels"]["more"] = "x"
    assert api.ask("PUT", f"{DEPLOYMENTS}/{name}", made)[0] == 422
    _, one = api.ask("POST", SERVICES, service(name))
    one["spec"] |= {"clusterIP": "10.99.99.99", "clusterIPs": ["10.99.99.99"]}
    assert api.ask("PUT", f"{SERVICES}/{name}", one)[0] == 422


def test_a_deletion_heeds_the_uid_and_is_seen_as_not_found(api: Asker, name: str) -> None:
    _, made = api.ask("POST", ROUTES, route(name))
    path = f"{ROUTES}/{name}"
    assert api.ask("DELETE", path, {"preconditions": {"uid": "another"}})[0] == 409
    assert api.ask("DELETE", path, {"preconditions": {"uid": made["metadata"]["uid"]}})[0] == 200
    code, said = api.ask("GET", path)
    assert (code, said["reason"], said["details"]["name"]) == (404, "NotFound", name)
    assert api.ask("DELETE", path)[0] == 404


def test_a_watch_tells_what_happened_since_a_version_in_order(api: Asker, name: str) -> None:
    _, made = api.ask("POST", ROUTES, route(name))
    path = f"{ROUTES}/{name}"
    api.patch(path, MERGE, {"metadata": {"labels": {"a": "b"}}})
    api.ask("DELETE", path)
    selector = {"fieldSelector": f"metadata.name={name}", "resourceVersion": made["metadata"]["resourceVersion"]}
    events = api.watch(ROUTES, 2, **selector)
    assert [event["type"] for event in events] == ["MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert int(made["metadata"]["resourceVersion"]) < versions[0] < versions[1]


def test_a_watch_from_nowhere_begins_with_what_is_there(api: Asker, name: str) -> None:
    api.ask("POST", ROUTES, route(name))
    events = api.watch(ROUTES, 1, fieldSelector=f"metadata.name={name}")
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [("ADDED", name)]


def test_a_watch_from_too_long_ago_is_expired(tmp_path: Path, name: str) -> None:
    server = ApiServer()
    api = Asker(Access(server.url, NAMESPACE, False, lambda: ADMIN, in_cluster=True))
    _, made = api.ask("POST", ROUTES, route(name))
    api.patch(f"{ROUTES}/{name}", MERGE, {"metadata": {"labels": {"a": "b"}}})
    server.forget()
    events = api.watch(ROUTES, 1, resourceVersion=made["metadata"]["resourceVersion"])
    server.close()
    assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 410)]


def test_who_is_unknown_and_what_is_unknown(api: Asker) -> None:
    unknown = f"/apis/nowhere.example/v1/namespaces/{NAMESPACE}/things/x"
    assert api.ask("GET", unknown) == (404, {"message": "404 page not found\n"})
    api.http.headers["authorization"] = "Bearer nobody"
    assert api.ask("GET", f"{SERVICES}/x")[0] == 401
