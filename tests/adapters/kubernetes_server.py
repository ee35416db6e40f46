"""An HTTP server that keeps the rules of Kubernetes' API, as far as our adapter can come into touch with them.

One resourceVersion counts all writes; a write that carries an old one gets 409. Generations rise with the spec only.
Server-side apply knows owners of fields and refuses to take one over. Watches replay what happened since a version,
send bookmarks, end after their time, and say 410 when that is too long ago. Objects are checked against the API's
schema; names, immutable fields and weights by hand. Rights are those of a Role. Faults can be planned.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import kubernetes_validate

Object = dict[str, Any]
Key = tuple[str, str]
"""Plural and name, in the one namespace."""
Path = tuple[Any, ...]

NAMESPACE = "its"
KINDS = {
    "deployments": ("/apis/apps/v1", "Deployment"),
    "services": ("/api/v1", "Service"),
    "pods": ("/api/v1", "Pod"),
    "httproutes": ("/apis/gateway.networking.k8s.io/v1", "HTTPRoute"),
}
ADMIN = "admin-token"
_ADDRESS = re.compile(r"(/api/v1|/apis/[^/]+/[^/]+)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?(?:/([^/]+)(/.*)?)?")
_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_MERGED_BY = ("name", "uid", "containerPort", "port")


class Refusal(Exception):
    """A Status object with its code."""

    def __init__(self, code: int, reason: str, message: str, name: str | None = None) -> None:
        super().__init__(message)
        details = {"name": name} if name else {}
        self.status = {
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message, "details": details,
        }  # fmt: skip


@dataclass
class Call:
    """One request, as the authorizer sees it."""

    token: str
    verb: str
    group: str
    resource: str
    name: str | None
    path: str
    body: Any


@dataclass
class Fault:
    """What happens to the requests that it fits, so many times."""

    fits: Callable[[Call], bool]
    times: int = 1
    code: int = 0
    """Answer this instead; 0: carry it out and drop the connection before answering."""
    meanwhile: Callable[[], None] | None = None
    """Do this before the request is carried out, and then do carry it out."""


@dataclass
class Store:
    """The objects of the namespace and everything that happened to them."""

    objects: dict[Key, Object] = field(default_factory=dict)
    events: list[tuple[int, Key, str, Object]] = field(default_factory=list)
    owners: dict[Key, dict[str, set[Path]]] = field(default_factory=dict)
    version: int = 1000
    forgotten: int = 0
    """What happened up to this version is no longer known."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    _addresses: int = 0

    def read(self, key: Key) -> Object:
        if key not in self.objects:
            raise Refusal(404, "NotFound", f'{key[0]} "{key[1]}" not found', key[1])
        return copy.deepcopy(self.objects[key])

    def write(self, key: Key, wanted: Object, manager: str, status_only: bool = False) -> Object:
        """Create or update, by the rules of a PUT."""
        before = self.objects.get(key)
        after = self._settled(key, before, copy.deepcopy(wanted), status_only)
        if before is not None:
            given = wanted["metadata"].get("resourceVersion")
            if given is not None and given != before["metadata"]["resourceVersion"]:
                message = f'Operation cannot be fulfilled on {key[0]} "{key[1]}": the object has been modified; please '
                raise Refusal(
                    409, "Conflict", message + "apply your changes to the latest version and try again", key[1]
                )
            if _without_version(before) == _without_version(after):
                return copy.deepcopy(before)  # nothing changed: no new version, no event
        self._own(key, before or {}, after, manager)
        self._keep(key, after, "ADDED" if before is None else "MODIFIED")
        return copy.deepcopy(after)

    def remove(self, key: Key) -> None:
        if key in self.objects:
            gone = self.objects.pop(key)
            self.owners.pop(key, None)
            self._happened(key, "DELETED", gone)

    def apply(self, key: Key, wanted: Object, manager: str, force: bool) -> Object:
        """Server-side apply."""
        before = self.objects.get(key)
        owners = self.owners.setdefault(key, {})
        ours, base = _leaves(wanted), copy.deepcopy(before) if before else {"metadata": {}}
        known = _leaves(base)
        for path, value in ours.items():
            others = [who for who, paths in owners.items() if who != manager and path in paths]
            if others and known.get(path) != value and not force:
                where = ".".join(str(part) for part in path)
                message = f'Apply failed with 1 conflict: conflict with "{others[0]}" using {where}'
                raise Refusal(409, "Conflict", message, key[1])
        for path in owners.get(manager, set()) - set(ours):
            if not any(path in paths for who, paths in owners.items() if who != manager):
                _drop(base, path)
        merged = _merge(base, wanted)
        merged["metadata"].pop("resourceVersion", None)
        result = self.write(key, merged, manager)
        self.owners[key][manager] = set(ours)
        for who, paths in self.owners[key].items():
            if who != manager and force:
                paths.difference_update(ours)
        return result

    def _settled(self, key: Key, before: Object | None, after: Object, status_only: bool) -> Object:
        """With what the server adds and forbids."""
        metadata = after.setdefault("metadata", {})
        metadata["name"], metadata["namespace"] = key[1], NAMESPACE
        if before is None:
            metadata |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
            after.pop("status", None)
        else:
            for name in ("uid", "generation", "creationTimestamp", "deletionTimestamp"):
                metadata.pop(name, None)
                if name in before["metadata"]:
                    metadata[name] = before["metadata"][name]
            if status_only:
                after = copy.deepcopy(before) | {"status": after.get("status", {})}
            else:
                after.pop("status", None)
                after |= {"status": before["status"]} if "status" in before else {}
        after["apiVersion"], after["kind"] = _version_of(key[0]), KINDS[key[0]][1]
        _default_and_check(key, before, after, self._address)
        if before is not None and before.get("spec") != after.get("spec"):
            after["metadata"]["generation"] += 1
        return after

    def _address(self) -> str:
        self._addresses += 1
        return f"127.87.{self._addresses // 250}.{self._addresses % 250 + 1}"

    def _own(self, key: Key, before: Object, after: Object, manager: str) -> None:
        old, new = _leaves(before), _leaves(after)
        changed = {path for path, value in new.items() if old.get(path) != value and path[0] != "status"}
        owners = self.owners.setdefault(key, {})
        for who, paths in owners.items():
            if who != manager:
                paths.difference_update(changed)
        owners[manager] = owners.get(manager, set()) | changed

    def _keep(self, key: Key, after: Object, kind: str) -> None:
        self.objects[key] = after
        self._happened(key, kind, after)

    def _happened(self, key: Key, kind: str, what: Object) -> None:
        self.version += 1
        what["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, key, kind, copy.deepcopy(what)))
        self.changed.notify_all()


class ApiServer:
    """The server on a port of its own. `roles` gives the rules of each token; ADMIN may do all."""

    def __init__(self) -> None:
        self.store = Store()
        self.roles: dict[str, list[dict[str, Any]]] = {}
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.gone_in_stream = True
        self.bookmark_every_s = 0.05
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Handler(self, *given))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        with self.store.changed:
            self.store.forgotten = -1  # watchers leave
            self.store.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def plan(self, verb: str, resource: str, **fault: Any) -> None:
        """Let something happen to the next calls of a kind."""
        self.faults.append(Fault(lambda call: (call.verb, call.resource) == (verb, resource), **fault))

    def edit(self, plural: str, name: str, change: Callable[[Object], None], manager: str = "somebody") -> None:
        """Somebody else changes an object."""
        with self.store.changed:
            found = self.store.read((plural, name))
            change(found)
            self.store.write((plural, name), found, manager)

    def edit_status(self, plural: str, name: str, status: Object) -> None:
        """A controller says how an object does."""
        with self.store.changed:
            found = self.store.read((plural, name))
            self.store.write((plural, name), found | {"status": status}, "controller", status_only=True)

    def make(self, plural: str, body: Object) -> Object:
        """Somebody else makes an object."""
        with self.store.changed:
            return self.store.write((plural, body["metadata"]["name"]), body, "somebody")

    def read(self, plural: str, name: str) -> Object | None:
        with self.store.changed:
            return copy.deepcopy(self.store.objects.get((plural, name)))

    def forget(self) -> None:
        """Compact: what happened up to now can no longer be asked for."""
        with self.store.changed:
            self.store.forgotten = self.store.version

    def allows(self, call: Call) -> bool:
        return call.token == ADMIN or any(_grants(rule, call) for rule in self.roles.get(call.token, ()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, api: ApiServer, *given: Any) -> None:
        self.api = api
        super().__init__(*given)

    def do_GET(self) -> None:
        self._handle()

    do_PUT = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            call, query, rest = self._call(raw)
            if self._meets_fault(call):
                self.close_connection = True
                return
            if rest is not None:
                return self._proxy(call, rest, raw)
            if query.get("watch") == "true":
                return self._watch(call, query)
            with self.api.store.changed:
                content, code = self._do(call, query)
            self._answer(code, content)
        except Refusal as refusal:
            self._answer(refusal.status["code"], refusal.status)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _call(self, raw: bytes) -> tuple[Call, dict[str, str], str | None]:
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        if token != ADMIN and token not in self.api.roles:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        match = _ADDRESS.fullmatch(address.path)
        if match is None or match[3] not in KINDS or KINDS[match[3]][0] != match[1]:
            raise Refusal(404, "", "404 page not found\n")
        root, namespace, plural, name, subresource, rest = match.groups()
        single = query.get("fieldSelector", "").removeprefix("metadata.name=") or None
        verbs = {
            "GET": "get" if name else "list",
            "PUT": "update",
            "POST": "create",
            "PATCH": "patch",
            "DELETE": "delete",
        }
        verb = "watch" if query.get("watch") == "true" else verbs[self.command]
        proxied = subresource == "proxy"
        if proxied:
            verb = {"GET": "get", "POST": "create"}[self.command]
        group = root.removeprefix("/apis/").partition("/")[0] if root != "/api/v1" else ""
        body = None if proxied or not raw else _parsed(raw)
        resource = f"{plural}/{subresource}" if subresource else plural
        call = Call(token, verb, group, resource, name or single, self.path, body)
        self.api.calls.append(call)
        if namespace != NAMESPACE or not self.api.allows(call):
            message = f'{resource}.{group} is forbidden: User "{token}" cannot {verb} resource "{resource}"'
            raise Refusal(
                403, "Forbidden", f'{message} in API group "{group}" in the namespace "{namespace}"', call.name
            )
        return call, query, (rest or "/") if proxied else None

    def _meets_fault(self, call: Call) -> bool:
        """Whether the connection is to be dropped; a refusal is raised."""
        fault = next((one for one in self.api.faults if one.times and one.fits(call)), None)
        if fault is None:
            return False
        fault.times -= 1
        if fault.meanwhile is not None:
            fault.meanwhile()
            return False
        if fault.code:
            raise Refusal(fault.code, "Planned", "as planned")
        if call.verb == "watch":
            return True
        with self.api.store.changed, suppress(Refusal):
            self._do(call, {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()})
        return True

    def _do(self, call: Call, query: dict[str, str]) -> tuple[Object, int]:
        store, plural = self.api.store, call.resource.partition("/")[0]
        key = (plural, call.name or "")
        match call.verb:
            case "get":
                return store.read(key), 200
            case "list":
                wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
                found = [
                    one for (kind, _), one in sorted(store.objects.items()) if kind == plural and _has(one, wanted)
                ]
                return {
                    "kind": "List",
                    "metadata": {"resourceVersion": str(store.version)},
                    "items": copy.deepcopy(found),
                }, 200
            case "create":
                key = (plural, call.body["metadata"]["name"])
                if key in store.objects:
                    raise Refusal(409, "AlreadyExists", f'{plural} "{key[1]}" already exists', key[1])
                return store.write(key, call.body, query.get("fieldManager", "unknown")), 201
            case "update":
                before = store.read(key)
                if plural not in ("services", "deployments") and not call.body["metadata"].get("resourceVersion"):
                    raise Refusal(422, "Invalid", "metadata.resourceVersion: must be specified for an update", key[1])
                if call.body["metadata"].get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
                    raise Refusal(409, "Conflict", "Precondition failed: UID in precondition", key[1])
                status_only = call.resource.endswith("/status")
                return store.write(key, call.body, query.get("fieldManager", "unknown"), status_only), 200
            case "patch":
                if key not in store.objects and not self.api.allows(replace(call, verb="create")):
                    raise Refusal(403, "Forbidden", f'{plural} is forbidden: cannot create resource "{plural}"', key[1])
                return self._patch(key, call.body, query)
            case "delete":
                return self._delete(key, call.body or {})
        raise Refusal(405, "MethodNotAllowed", f"{call.verb} is not allowed")

    def _patch(self, key: Key, body: Object, query: dict[str, str]) -> tuple[Object, int]:
        store, kind = self.api.store, (self.headers.get("content-type") or "").partition(";")[0]
        is_new = key not in store.objects
        if kind == "application/apply-patch+yaml":
            if not query.get("fieldManager"):
                raise Refusal(422, "Invalid", "fieldManager: Required value: is required for apply patch", key[1])
            if (body.get("apiVersion"), body.get("kind")) != (_version_of(key[0]), KINDS[key[0]][1]):
                raise Refusal(400, "BadRequest", "invalid object type", key[1])
            made = store.apply(key, body, query["fieldManager"], query.get("force") == "true")
            return made, 201 if is_new else 200
        if kind == "application/merge-patch+json":
            merged = _merge_patch(store.read(key), body)
            if "resourceVersion" not in body.get("metadata", {}):
                merged["metadata"].pop("resourceVersion")
            return store.write(key, merged, query.get("fieldManager", "unknown")), 200
        if kind == "application/json-patch+json":
            import jsonpatch

            try:
                patched = jsonpatch.apply_patch(store.read(key), body)
            except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
                raise Refusal(
                    422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
                ) from None
            return store.write(key, patched, query.get("fieldManager", "unknown")), 200
        raise Refusal(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - {kind}")

    def _delete(self, key: Key, options: Object) -> tuple[Object, int]:
        store = self.api.store
        found = store.read(key)
        uid = options.get("preconditions", {}).get("uid", found["metadata"]["uid"])
        if uid != found["metadata"]["uid"]:
            raise Refusal(409, "Conflict", f"Precondition failed: UID in precondition: {uid}", key[1])
        if options.get("propagationPolicy") == "Foreground":  # it stays until what it owns is gone
            if "deletionTimestamp" not in found["metadata"]:
                found["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]}
                found["metadata"]["generation"] += 1
                store._keep(key, found, "MODIFIED")
            return found, 200
        store.remove(key)
        return {"kind": "Status", "status": "Success"}, 200

    def _watch(self, call: Call, query: dict[str, str]) -> None:
        deadline = time.monotonic() + float(query.get("timeoutSeconds", "3600"))
        store, since = self.api.store, query.get("resourceVersion", "")
        plural = call.resource
        with store.changed:
            now = [
                one
                for (kind, _), one in store.objects.items()
                if kind == plural and call.name in (None, one["metadata"]["name"])
            ]
            opening = [] if since not in ("", "0") else [("ADDED", copy.deepcopy(one)) for one in now]
            position = int(since) if since not in ("", "0") else store.version
            if position < store.forgotten:
                gone = Refusal(410, "Expired", f"too old resource version: {position} ({store.version})")
                if not self.api.gone_in_stream:
                    raise gone
                opening = [("ERROR", gone.status)]
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self._send_events(opening)
        while not (opening and opening[0][0] == "ERROR"):
            with store.changed:
                fresh = [one for one in store.events if one[0] > position]
                if not fresh:
                    store.changed.wait(min(self.api.bookmark_every_s, max(0.0, deadline - time.monotonic())))
                    fresh = [one for one in store.events if one[0] > position]
                position = store.version
                ended = time.monotonic() >= deadline or store.forgotten < 0
            ours = [(kind, one) for _, key, kind, one in fresh if key[0] == plural and call.name in (None, key[1])]
            if not ours and query.get("allowWatchBookmarks") == "true":
                mark = {"kind": KINDS[plural][1], "metadata": {"resourceVersion": str(position)}}
                ours = [("BOOKMARK", mark)]
            self._send_events(ours)
            if ended:
                break
        self.wfile.write(b"0\r\n\r\n")

    def _send_events(self, events: list[tuple[str, Object]]) -> None:
        for kind, one in events:
            line = json.dumps({"type": kind, "object": one}).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def _proxy(self, call: Call, rest: str, raw: bytes) -> None:
        name, _, port = (call.name or "").partition(":")
        with self.api.store.changed:
            address = self.api.store.read(("services", name))["spec"]["clusterIP"]
        # As the real one does it: the caller's own credentials end here.
        kept = {
            key: value
            for key, value in self.headers.items()
            if key.lower() in ("content-type", "x-api-key", "x-camera-id")
        }
        try:
            reply = httpx.request(
                self.command, f"http://{address}:{port}{rest}", content=raw, headers=kept, trust_env=False
            )
        except httpx.HTTPError as error:
            raise Refusal(503, "ServiceUnavailable", f"error trying to reach service: {error}") from None
        self._answer(reply.status_code, reply.json())

    def _answer(self, code: int, content: Object) -> None:
        is_text = content.get("reason") == ""  # addresses that nobody knows are not worth a Status
        body = content["message"].encode() if is_text else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("content-type", "text/plain; charset=utf-8" if is_text else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise Refusal(400, "BadRequest", "the object provided is unrecognized") from None


def _version_of(plural: str) -> str:
    return KINDS[plural][0].removeprefix("/apis/").removeprefix("/api/")


def _has(one: Object, labels: dict[str, str]) -> bool:
    return labels.items() <= one["metadata"].get("labels", {}).items()


def _grants(rule: dict[str, Any], call: Call) -> bool:
    named = not rule.get("resourceNames") or call.name in rule["resourceNames"]
    return (
        call.verb in rule["verbs"] and call.group in rule["apiGroups"] and call.resource in rule["resources"] and named
    )


def _without_version(one: Object) -> Object:
    metadata = {key: value for key, value in one["metadata"].items() if key != "resourceVersion"}
    return {**one, "metadata": metadata}


def _default_and_check(key: Key, before: Object | None, after: Object, address: Callable[[], str]) -> None:
    plural, name = key
    if not _LABEL.fullmatch(name):
        raise Refusal(422, "Invalid", f'metadata.name: Invalid value: "{name}": must be a DNS label', name)
    spec = after.get("spec", {})
    if plural == "services":
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("clusterIP", before["spec"]["clusterIP"] if before else address())
        if before and before["spec"]["clusterIP"] != spec["clusterIP"]:
            raise Refusal(422, "Invalid", "spec.clusterIP: Invalid value: field is immutable", name)
    if plural == "deployments":
        spec.setdefault("replicas", 1)
        labels = spec["template"].get("metadata", {}).get("labels", {})
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            raise Refusal(422, "Invalid", "`selector` does not match template `labels`", name)
        if before and before["spec"]["selector"] != spec["selector"]:
            raise Refusal(422, "Invalid", "spec.selector: Invalid value: field is immutable", name)
    if plural == "httproutes":
        for reference in (one for rule in spec["rules"] for one in rule.get("backendRefs", ())):
            for field_name, default in (("group", ""), ("kind", "Service"), ("weight", 1)):
                reference.setdefault(field_name, default)
            if not 0 <= reference["weight"] <= 1_000_000 or not isinstance(reference["weight"], int):
                raise Refusal(422, "Invalid", "spec.rules.backendRefs.weight: Invalid value", name)
            if reference["kind"] == "Service" and "port" not in reference:
                raise Refusal(422, "Invalid", "Must have port for Service reference", name)
        if any(len(rule.get("backendRefs", ())) > 16 for rule in spec["rules"]):
            raise Refusal(422, "Invalid", "spec.rules.backendRefs: Too many: must have at most 16 items", name)
    elif plural != "pods":
        try:
            kubernetes_validate.validate(
                {part: after[part] for part in ("apiVersion", "kind", "metadata", "spec")}, "1.31", strict=True
            )
        except kubernetes_validate.ValidationError as error:
            raise Refusal(422, "Invalid", f"{name} is invalid: {error}", name) from None


def _item_key(item: Any) -> Any:
    if isinstance(item, dict):
        return next(((by, item[by]) for by in _MERGED_BY if by in item), None)
    return None


def _leaves(node: Any, path: Path = ()) -> dict[Path, Any]:
    """The values by where they are; items of lists by their key, where they have one."""
    if isinstance(node, dict) and node:
        parts: Iterator[tuple[Any, Any]] = ((key, value) for key, value in node.items())
        skipped = {
            ("metadata", one)
            for one in ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp")
        }
        found = [
            _leaves(value, (*path, key))
            for key, value in parts
            if (*path, key) not in skipped | {("apiVersion",), ("kind",)}
        ]
        return {where: value for one in found for where, value in one.items()}
    if isinstance(node, list) and node and all(_item_key(item) is not None for item in node):
        return {where: value for item in node for where, value in _leaves(item, (*path, _item_key(item))).items()}
    return {path: node} if path else {}


def _merge(base: Any, wanted: Any) -> Any:
    if isinstance(base, dict) and isinstance(wanted, dict):
        return base | {key: _merge(base.get(key), value) for key, value in wanted.items()}
    keyed = isinstance(base, list) and isinstance(wanted, list) and all(_item_key(item) for item in [*base, *wanted])
    if keyed:
        found = {_item_key(item): item for item in base}
        for item in wanted:
            found[_item_key(item)] = _merge(found.get(_item_key(item)), item)
        return list(found.values())
    return copy.deepcopy(wanted)


def _merge_patch(base: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge_patch(merged.get(key), value)
    return merged


def _drop(node: Any, path: Path) -> None:
    *way, last = path
    for part in way:
        if isinstance(node, list):
            node = next((item for item in node if _item_key(item) == part), None)
        else:
            node = node.get(part) if isinstance(node, dict) else None
        if node is None:
            return
    if isinstance(node, dict):
        node.pop(last, None)
    elif isinstance(node, list):
        node[:] = [item for item in node if _item_key(item) != last]
