from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.ci.telling import promotion_markdown, tell_promotion, tell_pull_request
from flows.rollout.report import EvidenceFigure, Percentiles, PromotionReport, StatePassed
from tests.adapters.github_server import READS, GitHub, running_github


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GitHub]:
    with running_github() as running:
        for name, value in running.environment(GITHUB_REF="refs/pull/12/merge").items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("GITHUB_EVENT_PATH", raising=False)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
        monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
        yield running


def report(**changes: Any) -> dict[str, Any]:
    made = PromotionReport(
        passed=changes.pop("passed", False),
        sentence="version 2 held | in SHADOW",
        outcome="held",
        promotion=7,
        challenger_version="2",
        challenger_digest="b" * 64,
        champion_version="1",
        states=(StatePassed(state="SHADOW", entered_at="2026-11-21T12:00:00+00:00", seconds=61.25, reason="ready"),),
        frames_seen=300,
        frames_judged=120,
        fallbacks=0,
        lost=0,
        latency_ms=Percentiles(p50=9.0, p99=15.0),
        champion_latency_ms=Percentiles(p50=None, p99=None),
        evidence=(EvidenceFigure(metric="latency", num=120, value=None, limit=0.05, e_value=1.5, e_needed=100.0),),
        **changes,
    )
    return made.model_dump(mode="json")


def test_a_pull_request_gets_a_comment(github: GitHub, tmp_path: Path) -> None:
    assert tell_pull_request("### text").startswith(github.url)
    assert github.comments[0]["body"] == "<!-- tca-diff -->\n### text"
    assert not (tmp_path / "summary").exists()


def test_where_that_is_not_allowed_the_page_of_the_run_gets_it(
    github: GitHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", READS)
    assert "on the page of the run only: GitHub answered 403" in tell_pull_request("### text")
    monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
    assert "no pull request" in tell_pull_request("### again")
    assert (tmp_path / "summary").read_text() == "### text\n### again\n"


def test_outside_a_workflow_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert tell_pull_request("### text") == "not in a workflow: nothing was written"


def test_later_jobs_learn_how_a_promotion_ended_and_for_whom_it_waits(github: GitHub, tmp_path: Path) -> None:
    tell_promotion(report(awaits_approval="canary"))
    told = dict(line.split("=") for line in (tmp_path / "output").read_text().splitlines())
    assert told == {"outcome": "held", "promotion": "7", "version": "2", "awaits": "canary"}
    assert (tmp_path / "summary").read_text() == promotion_markdown(report(awaits_approval="canary"))
    assert "| latency | 120 | – | 0.05 | 1.5 | 100 |" in (tmp_path / "summary").read_text()


def test_without_a_question_nobody_is_waited_for(github: GitHub, tmp_path: Path) -> None:
    tell_promotion(report())
    assert "awaits=\n" in (tmp_path / "output").read_text()


def test_what_stands_in_a_table_stays_in_its_cell() -> None:
    text = promotion_markdown(report())
    assert text.startswith("### Promotion 7: version 2 held &#124; in SHADOW")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4, 7}
