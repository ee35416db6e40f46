from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bentos.router.routing import Backend, Snapshot
from flows.rollout.journal import open_journal
from flows.rollout.leases import Owner
from flows.settings import Project
from flows.standing import read_standing, standing_lines, standing_of
from flows.status import read_status, status_text

AT = "2026-11-21T12:04:10.000+00:00"


def state(name: str, step: int = 0, sentence: str = "because") -> dict[str, Any]:
    return {"kind": "state", "state": name, "step": step, "at": AT, "sentence": sentence}


def verdict(num: int, ln_e: float = 2.0) -> dict[str, Any]:
    figure = {"metric": "latency", "num": num, "value": 0.12, "limit": 0.05, "ln_e": ln_e, "needed_ln_e": 4.60517}
    body = {"decision": "wait", "reasons": ["more frames"], "num": num, "num_needed": 60, "figures": [figure]}
    return {"kind": "verdict", "state": "CANARY", "step": 1, "verdict": body, "at": AT}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("TCA_HOME", raising=False)
    (tmp_path / "reports" / "promotions").mkdir(parents=True)
    return Project(tmp_path)


def routed(project: Project, mode: str, share: float, champion: str = "1", promotion: int = 1) -> None:
    sides = [
        Backend(version=one, digest=one, url=f"http://127.0.0.1:{port}") for one, port in ((champion, 1), ("2", 3))
    ]
    snapshot = Snapshot(
        epoch=1,
        generation=1,
        mode=mode,
        share=share,
        promotion=promotion,
        champion=sides[0],
        candidate=sides[1],  # type: ignore[arg-type]
    )
    folder = project.home / "router"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "routing.json").write_text(snapshot.model_dump_json(indent=1))


def record(project: Project, *lines: dict[str, Any], torn: str = "") -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (project.records / "1.jsonl").write_text(text + torn)


def test_a_canary_says_weight_frames_and_evidence(project: Project) -> None:
    record(project, state("SHADOW"), verdict(120), state("CANARY", 1), verdict(42), torn='{"kind": "ver')
    routed(project, "canary", 0.5)
    found = read_standing(project, 1, "2")
    assert found is not None
    assert (found.state, found.weight, found.num, found.num_needed) == ("CANARY step 2", 0.5, 42, 60)
    assert standing_lines(1, "2", found) == [
        "promotion   1: version 2 CANARY step 2, answers 50% of the cameras, since 12:04:10 UTC",
        "evidence    42 of 60 frames judged: more frames",
        "evidence    latency            0.12 of 42 frames, limit 0.05, e = 7.39, decides at 100",
    ]


def test_the_evidence_of_the_state_before_is_not_that_of_this_one() -> None:
    found = standing_of([state("SHADOW"), verdict(120), state("CANARY")], 0.1)
    assert (found.state, found.num, found.figures) == ("CANARY step 1", None, ())


def test_a_hold_says_where_and_why_and_what_can_be_done() -> None:
    lines = [state("CANARY", 1), verdict(42), state("HOLD", sentence="no traffic since 120 s")]
    found = standing_of(lines, 0.5)
    text = "\n".join(standing_lines(7, "3", found))
    assert found.is_held
    assert "version 3 held in CANARY step 2" in text
    assert "no traffic since 120 s" in text
    assert "tca promotion resume 7" in text
    resumed = standing_of([*lines, state("CANARY", 1, "resumed")], 0.5)
    assert not resumed.is_held


def test_another_controller_in_the_same_state_takes_neither_evidence_nor_reason_away() -> None:
    again = state("CANARY", 1, "controller of epoch 2 takes over") | {"event": "restart", "at": "2026-11-21T13:00:00Z"}
    found = standing_of([state("CANARY", 1), verdict(42), again], 0.5)
    assert (found.since, found.num, found.reason) == (AT, 42, "more frames")
    held = [state("CANARY", 1), verdict(42), state("HOLD", 1, "no traffic since 120 s")]
    assert standing_of([*held, again | {"state": "HOLD"}], 0.5).reason == "no traffic since 120 s"
    elsewhere = standing_of([state("SHADOW"), verdict(42), again], 0.5)
    assert (elsewhere.state, elsewhere.num) == ("CANARY step 2", None)


def test_a_person_is_asked_until_one_answers() -> None:
    asked = [state("SHADOW"), {"kind": "asked", "state": "SHADOW", "gate": "CANARY", "at": AT, "sentence": "may it?"}]
    assert standing_of(asked, 0.0).asks == "CANARY"
    assert "tca promotion approve" in "\n".join(standing_lines(1, "2", standing_of(asked, 0.0)))
    assert standing_of([*asked, {"kind": "approval", "at": AT}], 0.0).asks is None


@pytest.mark.parametrize(
    ("mode", "share", "champion", "promotion", "weight"),
    [
        ("shadow", 0.0, "1", 1, 0.0),
        ("canary", 0.1, "1", 1, 0.1),
        ("champion", 0.0, "2", 1, 1.0),
        ("champion", 0.0, "1", 1, 0.0),
        ("canary", 0.5, "1", 6, None),
    ],
)
def test_the_weight_is_what_the_router_wrote(
    project: Project, mode: str, share: float, champion: str, promotion: int, weight: float | None
) -> None:
    record(project, state("BAKE"))
    routed(project, mode, share, champion, promotion)
    found = read_standing(project, 1, "2")
    assert found is not None
    assert found.weight == weight


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"mode": "canary"}'])
def test_a_snapshot_that_is_none_only_costs_the_weight(project: Project, content: bytes) -> None:
    record(project, state("SHADOW"))
    (project.home / "router").mkdir(parents=True)
    (project.home / "router" / "routing.json").write_bytes(content)
    found = read_standing(project, 1, "2")
    assert found is not None
    assert found.weight is None


def test_without_a_record_the_journal_alone_is_shown(project: Project) -> None:
    with open_journal(project.journal) as journal:
        lease = journal.acquire(Owner("t", os.getpid(), "h"), 0.0, 10.0, 0)
        journal.open_promotion(lease, ("2", "b" * 64), ("1", "a" * 64), "{}", 0.0)
    found = read_status(project)
    assert found["promotions"][0]["standing"] is None
    assert "promotion   1: version 2 IDLE" in status_text(found)
    record(project, state("SHADOW"), verdict(7))
    found = read_status(project)
    assert found["promotions"][0]["standing"]["num"] == 7
    assert "7 of 60 frames judged" in status_text(found)
    json.dumps(found)
