"""GitHub as a step of a workflow meets it: what the environment says of the run, and a few calls of the REST API.

None of this is needed on a developer's machine: without the environment of a workflow, the same commands print.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from flows.errors import OutsideError

LONGEST_COMMENT = 65_536  # characters that GitHub takes
_TIMEOUT_S = 20.0
_MAX_PAGES = 50


@dataclass(frozen=True)
class Workflow:
    """The run that a step belongs to. Empty texts and None where the environment does not say."""

    api_url: str
    repository: str
    run_id: str
    token: str
    pull_request: int | None


def read_workflow() -> Workflow | None:
    """The workflow's run from GITHUB_*; None outside one."""
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    if os.environ.get("GITHUB_ACTIONS") != "true" or not repository:
        return None
    return Workflow(
        api_url=os.environ.get("GITHUB_API_URL", "https://api.github.com").rstrip("/"),
        repository=repository,
        run_id=os.environ.get("GITHUB_RUN_ID", ""),
        token=os.environ.get("GITHUB_TOKEN", ""),
        pull_request=_pull_request(),
    )


def write_outputs(values: dict[str, str]) -> None:
    """Hand values to later steps and jobs; nothing outside a workflow. A line break would begin another output."""
    _append("GITHUB_OUTPUT", "".join(f"{name}={' '.join(value.split())}\n" for name, value in values.items()))


def write_summary(markdown: str) -> bool:
    """Add to the page of the workflow's run; False outside a workflow."""
    return _append("GITHUB_STEP_SUMMARY", markdown.rstrip("\n") + "\n")


def keep_comment(run: Workflow, number: int, marker: str, body: str) -> str:
    """Write a comment on a pull request, in place of the one with the same marker, and return its address.

    A person's comment is left alone whatever it begins with: that person could change it afterwards.

    Raises:
        OutsideError: GitHub does not answer or refuses, as it does for the token of a fork.
    """
    text = _fit(f"<!-- {marker} -->\n{body}")
    with _client(run) as client:
        for one in _pages(client, f"/repos/{run.repository}/issues/{number}/comments"):
            is_ours = (one.get("user") or {}).get("type") != "User"
            if is_ours and str(one.get("body", "")).startswith(f"<!-- {marker} -->"):
                path = f"/repos/{run.repository}/issues/comments/{one['id']}"
                return str(_call(client, "PATCH", path, {"body": text})["html_url"])
        path = f"/repos/{run.repository}/issues/{number}/comments"
        return str(_call(client, "POST", path, {"body": text})["html_url"])


def read_reviewers(run: Workflow) -> list[str]:
    """Who let this run into a protected environment, the latest last. Raises OutsideError."""
    with _client(run) as client:
        found = _call(client, "GET", f"/repos/{run.repository}/actions/runs/{run.run_id}/approvals")
    return [str(one["user"]["login"]) for one in found if one.get("state") == "approved"]


def propose_file(run: Workflow, path: str, content: bytes, branch: str, title: str, body: str) -> str | None:
    """Open a pull request that gives a file of the default branch this content, and return its address.

    The new branch is `branch` with the commit that it begins at; what an earlier call has made there is used again.
    None: the default branch has this content already.

    Raises:
        OutsideError: GitHub does not answer or refuses.
    """
    at = f"/repos/{run.repository}"
    with _client(run) as client:
        base = str(_call(client, "GET", at)["default_branch"])
        if _content_at(client, at, path, base)[0] == content:
            return None
        commit = str(_call(client, "GET", f"{at}/git/ref/heads/{base}")["object"]["sha"])
        branch = f"{branch}-{commit[:8]}"
        _call(client, "POST", f"{at}/git/refs", {"ref": f"refs/heads/{branch}", "sha": commit}, expected=422)
        present, blob = _content_at(client, at, path, branch)
        if present != content:
            written = {"message": title, "content": base64.b64encode(content).decode(), "branch": branch}
            _call(client, "PUT", f"{at}/contents/{path}", written | ({"sha": blob} if blob else {}))
        owner = run.repository.partition("/")[0]
        opened = _call(client, "GET", f"{at}/pulls?head={owner}:{branch}&state=open")
        if not opened:
            opened = [
                _call(client, "POST", f"{at}/pulls", {"title": title, "head": branch, "base": base, "body": body})
            ]
        return str(opened[0]["html_url"])


def _content_at(client: httpx.Client, at: str, path: str, branch: str) -> tuple[bytes | None, str | None]:
    found = _call(client, "GET", f"{at}/contents/{path}?ref={branch}", expected=404)
    return (None, None) if found is None else (base64.b64decode(found["content"]), str(found["sha"]))


def _pull_request() -> int | None:
    """The number from the event's file, or from refs/pull/N/merge."""
    try:
        event = json.loads(Path(os.environ.get("GITHUB_EVENT_PATH", "")).read_text(encoding="utf-8"))
        return int(event["pull_request"]["number"])
    except (OSError, ValueError, KeyError, TypeError):
        found = re.fullmatch(r"refs/pull/(\d+)/\w+", os.environ.get("GITHUB_REF", ""))
        return int(found[1]) if found else None


def _append(variable: str, text: str) -> bool:
    path = os.environ.get(variable, "")
    if not path:
        return False
    with Path(path).open("a", encoding="utf-8") as sink:
        sink.write(text)
    return True


def _fit(text: str) -> str:
    if len(text) <= LONGEST_COMMENT:
        return text
    note = "\n\n(cut here: a comment cannot be longer; the rest is in the workflow's artifacts)\n"
    whole = text[: LONGEST_COMMENT - len(note)].rpartition("\n")[0]
    closed = whole.count("<details>") - whole.count("</details>")
    return whole[: LONGEST_COMMENT - len(note) - 20 * closed] + "\n\n</details>" * closed + note


def _client(run: Workflow) -> httpx.Client:
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    if run.token:
        headers["Authorization"] = f"Bearer {run.token}"
    transport = httpx.HTTPTransport(retries=3)
    return httpx.Client(base_url=run.api_url, headers=headers, timeout=_TIMEOUT_S, transport=transport)


def _pages(client: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    for page in range(1, _MAX_PAGES + 1):
        found = _call(client, "GET", f"{path}?per_page=100&page={page}")
        yield from found
        if len(found) < 100:
            return


def _call(client: httpx.Client, method: str, path: str, content: Any = None, expected: int = 0) -> Any:
    """The answer's JSON; None where the status is `expected`: there already, or not there at all."""
    try:
        answer = client.request(method, path, json=content)
    except httpx.HTTPError as error:
        raise OutsideError(f"GitHub does not answer: {type(error).__name__}: {error}") from error
    if answer.is_success:
        return answer.json()
    if answer.status_code == expected:
        return None
    try:
        reason = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        reason = answer.reason_phrase
    remedy = "Check the job's permissions; the token of a fork can only read" if answer.status_code == 403 else None
    raise OutsideError(f"GitHub answered {answer.status_code} to {method} {path.partition('?')[0]}: {reason}", remedy)
