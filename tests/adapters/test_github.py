from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.adapters.github import (
    LONGEST_COMMENT,
    Workflow,
    keep_comment,
    propose_file,
    read_reviewers,
    read_workflow,
    write_outputs,
    write_summary,
)
from flows.errors import OutsideError
from tests.adapters.github_server import READS, REPOSITORY, WRITES, GitHub, running_github


@pytest.fixture
def github() -> Iterator[GitHub]:
    with running_github() as running:
        yield running


def workflow(github: GitHub, token: str = WRITES) -> Workflow:
    return Workflow(github.url, REPOSITORY, "77", token, 12)


def test_outside_a_workflow_nothing_is_known_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    assert read_workflow() is None
    write_outputs({"a": "b"})
    assert write_summary("x") is False


@pytest.mark.parametrize(
    ("event", "ref", "number"),
    [
        ('{"pull_request": {"number": 12}}', "refs/pull/99/merge", 12),
        ("{}", "refs/pull/7/merge", 7),
        ("not JSON", "refs/pull/7/merge", 7),
        ("{}", "refs/tags/promote-1", None),
    ],
)
def test_the_pull_request_is_read_from_the_event_or_the_ref(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, event: str, ref: str, number: int | None
) -> None:
    (tmp_path / "event.json").write_text(event)
    for name, value in GitHub(url="http://127.0.0.1:1/").environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    monkeypatch.setenv("GITHUB_REF", ref)
    assert read_workflow() == Workflow("http://127.0.0.1:1", REPOSITORY, "77", WRITES, number)


def test_an_output_never_begins_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    write_outputs({"outcome": "held\ntoken=forged", "promotion": "7"})
    assert (tmp_path / "output").read_text() == "outcome=held token=forged\npromotion=7\n"


def test_a_second_comment_takes_the_place_of_the_first(github: GitHub) -> None:
    github.comments = [{"id": number + 1, "body": f"talk {number}", "html_url": "x"} for number in range(150)]
    keep_comment(workflow(github), 12, "tca-diff", "first")
    keep_comment(workflow(github), 12, "tca-other", "other")
    keep_comment(workflow(github), 12, "tca-diff", "second")
    assert len(github.comments) == 152
    assert github.comments[150]["body"] == "<!-- tca-diff -->\nsecond"
    assert github.comments[151]["body"] == "<!-- tca-other -->\nother"


def test_a_comment_of_a_person_is_left_alone_whatever_it_begins_with(github: GitHub) -> None:
    person = {"id": 1, "body": "<!-- tca-diff -->\nmine", "html_url": "x", "user": {"type": "User"}}
    gone = {"id": 2, "body": "talk", "html_url": "x", "user": None}
    github.comments = [person, gone]
    keep_comment(workflow(github), 12, "tca-diff", "figures")
    assert [one["body"] for one in github.comments] == [person["body"], "talk", "<!-- tca-diff -->\nfigures"]


def test_a_comment_that_is_too_long_is_cut_with_all_folds_closed(github: GitHub) -> None:
    keep_comment(workflow(github), 12, "m", "<details><summary>s</summary>\n\n" + "| a | b |\n" * 20_000 + "</details>")
    body = github.comments[0]["body"]
    assert LONGEST_COMMENT - 200 < len(body) <= LONGEST_COMMENT
    assert body.count("<details>") == body.count("</details>")
    assert "cut here" in body


def test_the_token_of_a_fork_may_not_write_and_the_message_says_why(github: GitHub) -> None:
    with pytest.raises(OutsideError, match="403 to POST.*Resource not accessible.*token of a fork"):
        keep_comment(workflow(github, READS), 12, "m", "x")


def test_a_github_that_does_not_answer_is_a_sentence() -> None:
    with pytest.raises(OutsideError, match="GitHub does not answer"):
        keep_comment(Workflow("http://127.0.0.1:9", REPOSITORY, "77", WRITES, 12), 12, "m", "x")


def test_only_who_approved_counts_as_reviewer(github: GitHub) -> None:
    github.approvals = [
        {"state": "rejected", "user": {"login": "eve"}},
        {"state": "approved", "user": {"login": "ada"}},
    ]
    assert read_reviewers(workflow(github)) == ["ada"]


def test_a_file_is_proposed_once_and_not_when_the_branch_has_it(github: GitHub) -> None:
    github.branches["main"]["champion.json"] = b'{"version": "1"}\n'
    new = b'{"version": "2"}\n'

    def propose(content: bytes) -> str | None:
        return propose_file(workflow(github), "champion.json", content, "throne/version-2", "Version 2 reigns", "why")

    first, second = propose(new), propose(new)
    assert first == second == f"{github.url}/pull/1"
    assert github.branches["throne/version-2-main"]["champion.json"] == new
    assert github.branches["main"]["champion.json"] != new
    assert [(one["head"], one["base"], one["title"]) for one in github.pulls] == [
        ("throne/version-2-main", "main", "Version 2 reigns")
    ]
    assert sum(method == "PUT" for method, _ in github.calls) == 1
    assert propose(b'{"version": "1"}\n') is None


def test_what_an_interrupted_call_has_made_is_used_again(github: GitHub) -> None:
    github.branches["throne/version-2-main"] = {"champion.json": b"half"}
    assert propose_file(workflow(github), "champion.json", b"whole", "throne/version-2", "t", "b") is not None
    assert json.dumps(github.branches["throne/version-2-main"]["champion.json"].decode()) == '"whole"'
