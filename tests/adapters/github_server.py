"""A GitHub of a few calls over real HTTP: rights by token, pages, 404, 409 and 422 where the real one has them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "city/cameras"
WRITES, READS = "token-that-writes", "token-of-a-fork"


@dataclass
class GitHub:
    """What the repository holds. `calls` are method and path of every request."""

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {}})
    pulls: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def environment(self, token: str = WRITES, **more: str) -> dict[str, str]:
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": self.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "77",
            "GITHUB_TOKEN": token,
            **more,
        }

    def answer(self, method: str, target: str, token: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if token not in (WRITES, READS):
            return 401, {"message": "Bad credentials"}
        if method != "GET" and token == READS:
            return 403, {"message": "Resource not accessible by integration"}
        for known, pattern, act in _ROUTES:
            found = re.fullmatch(f"/repos/{REPOSITORY}{pattern}", parts.path)
            if known == method and found:
                return act(self, found.groups(), query, body)
        return 404, {"message": "Not Found"}

    def list_comments(self, _: Any, query: dict[str, str], __: Any) -> tuple[int, Any]:
        size, page = int(query.get("per_page", "30")), int(query.get("page", "1"))
        return 200, self.comments[size * (page - 1) : size * page]

    def add_comment(self, names: tuple[str, ...], _: Any, body: Any) -> tuple[int, Any]:
        if len(body["body"]) > 65_536:
            return 422, {"message": "Validation Failed: body is too long"}
        self.comments.append(
            {"id": len(self.comments) + 1, "body": body["body"], "html_url": f"{self.url}/c/{names[0]}"}
        )
        return 201, self.comments[-1]

    def edit_comment(self, names: tuple[str, ...], _: Any, body: Any) -> tuple[int, Any]:
        found = next((one for one in self.comments if str(one["id"]) == names[0]), None)
        if found is None:
            return 404, {"message": "Not Found"}
        found["body"] = body["body"]
        return 200, found

    def list_approvals(self, *_: Any) -> tuple[int, Any]:
        return 200, self.approvals

    def describe(self, *_: Any) -> tuple[int, Any]:
        return 200, {"default_branch": "main"}

    def read_ref(self, names: tuple[str, ...], *_: Any) -> tuple[int, Any]:
        return (200, {"object": {"sha": names[0]}}) if names[0] in self.branches else (404, {"message": "Not Found"})

    def make_ref(self, _: Any, __: Any, body: Any) -> tuple[int, Any]:
        name = body["ref"].removeprefix("refs/heads/")
        if name in self.branches:
            return 422, {"message": "Reference already exists"}
        self.branches[name] = dict(self.branches[body["sha"]])
        return 201, {"ref": body["ref"]}

    def read_content(self, names: tuple[str, ...], query: dict[str, str], _: Any) -> tuple[int, Any]:
        content = self.branches.get(query["ref"], {}).get(names[0])
        if content is None:
            return 404, {"message": "Not Found"}
        # GitHub breaks its base64 into lines.
        return 200, {"content": base64.encodebytes(content).decode(), "sha": _sha(content)}

    def write_content(self, names: tuple[str, ...], _: Any, body: Any) -> tuple[int, Any]:
        files = self.branches.get(body["branch"])
        if files is None:
            return 404, {"message": "Branch not found"}
        present = files.get(names[0])
        if present is not None and body.get("sha") != _sha(present):
            return 409, {"message": f"{names[0]} does not match"}
        files[names[0]] = base64.b64decode(body["content"])
        return 200, {"content": {"path": names[0]}}

    def list_pulls(self, _: Any, query: dict[str, str], __: Any) -> tuple[int, Any]:
        return 200, [one for one in self.pulls if f"city:{one['head']}" == query["head"]]

    def open_pull(self, _: Any, __: Any, body: Any) -> tuple[int, Any]:
        if any(one["head"] == body["head"] for one in self.pulls):
            return 422, {"message": "A pull request already exists"}
        self.pulls.append({**body, "html_url": f"{self.url}/pull/{len(self.pulls) + 1}"})
        return 201, self.pulls[-1]


_Act = Callable[[GitHub, tuple[str, ...], dict[str, str], Any], tuple[int, Any]]
_ROUTES: tuple[tuple[str, str, _Act], ...] = (
    ("GET", r"/issues/(\d+)/comments", GitHub.list_comments),
    ("POST", r"/issues/(\d+)/comments", GitHub.add_comment),
    ("PATCH", r"/issues/comments/(\d+)", GitHub.edit_comment),
    ("GET", r"/actions/runs/(\d+)/approvals", GitHub.list_approvals),
    ("GET", "", GitHub.describe),
    ("GET", r"/git/ref/heads/(.+)", GitHub.read_ref),
    ("POST", r"/git/refs", GitHub.make_ref),
    ("GET", r"/contents/(.+)", GitHub.read_content),
    ("PUT", r"/contents/(.+)", GitHub.write_content),
    ("GET", r"/pulls", GitHub.list_pulls),
    ("POST", r"/pulls", GitHub.open_pull),
)


def _sha(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def running_github() -> Iterator[GitHub]:
    """A server on a free port of this machine."""
    state = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            body = json.loads(self.rfile.read(length)) if length else None
            state.calls.append((self.command, self.path))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, content = state.answer(self.command, self.path, token, body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = _any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
