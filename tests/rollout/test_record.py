from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.adapters.fake_traffic import Behaviour
from flows.errors import OutsideError, ProjectError
from flows.rollout.record import Record, read_record, replay_record, verify_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "promotions" / "1.jsonl"


def test_no_record(path: Path) -> None:
    with pytest.raises(ProjectError, match=r"no record 1\.jsonl"):
        read_record(path)
    assert not verify_record(path).passed
    Record(path)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert verify_record(path).problem == "the record is empty"


def test_lines_are_chained_over_a_restart(path: Path) -> None:
    for number in range(3):
        Record(path).append("effect", "SHADOW", f"line {number}", 100.0 + number)
    lines = read_record(path)
    assert [line["n"] for line in lines] == [0, 1, 2]
    assert [line["prev"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
    assert lines[0]["at"] == "1970-01-01T00:01:40.000+00:00"


def test_half_a_line_left_by_a_crash_is_cut_off(path: Path) -> None:
    Record(path).append("effect", "SHADOW", "whole", 100.0)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    Record(path).append("effect", "SHADOW", "next", 101.0)
    assert [line["sentence"] for line in read_record(path)] == ["whole", "next"]


def test_a_record_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutsideError, match="cannot be written"):
        Record(tmp_path / "file" / "1.jsonl")
    with pytest.raises(OutsideError, match="No further step was taken"):
        Record(tmp_path).append("effect", "SHADOW", "a folder", 100.0)


@pytest.fixture
def finished(rollout) -> Path:
    one = rollout()
    assert one.run().outcome == "promoted"
    return one.record


def test_the_record_of_a_promotion_holds(finished: Path) -> None:
    found = verify_record(finished)
    assert found.passed, found.problem
    assert found.num_verdicts >= 4
    assert found.num_lines == len(read_record(finished))
    kinds = {line["kind"] for line in read_record(finished)}
    assert kinds == {"opened", "state", "effect", "evidence", "verdict", "closed"}
    assert replay_record(finished).errors.events == 0


def test_every_line_has_what_a_reader_needs(finished: Path) -> None:
    for line in read_record(finished):
        assert line["state"]
        assert line["sentence"]
    last = read_record(finished)[-1]
    assert (last["state"], last["outcome"]) == ("DONE", "promoted")


@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_changed_line_breaks_the_chain(finished: Path, position: int) -> None:
    lines = finished.read_text().splitlines()
    number = range(len(lines))[position]
    lines[number] = lines[number].replace('"sentence":"', '"sentence":"not ', 1)
    finished.write_text("\n".join(lines) + "\n")
    assert verify_record(finished).problem == (
        f"line {number + 1}: the chain is broken here; this line or the one before was changed"
    )


def test_a_removed_line_breaks_the_chain(finished: Path) -> None:
    lines = finished.read_text().splitlines()
    finished.write_text("\n".join(lines[:4] + lines[5:]) + "\n")
    assert verify_record(finished).problem == (
        "line 5: the chain is broken here; this line or the one before was changed"
    )


def forge(path: Path, change) -> None:
    """Change lines and chain them anew, as a careful forger would."""
    lines = read_record(path)
    path.unlink()
    record = Record(path)
    for line in lines:
        change(line)
        content = {
            key: line[key] for key in line if key not in ("n", "prev", "at", "kind", "state", "sentence", "hash")
        }
        record.append(line["kind"], line["state"], line["sentence"], 100.0, **content)


def test_a_forged_verdict_is_found(rollout) -> None:
    one = rollout(Behaviour(latency_ms=300.0))
    assert one.run().outcome == "rolled_back"

    def acquit(line: dict) -> None:
        if line["kind"] == "verdict" and line["verdict"]["decision"] == "rollback":
            line["verdict"]["decision"] = "advance"

    forge(one.record, acquit)
    assert verify_record(one.record).problem.endswith("the verdict says advance, computed anew it is rollback")


def test_forged_evidence_is_found(rollout) -> None:
    one = rollout(Behaviour(latency_ms=300.0))
    one.run()

    def speed_up(line: dict) -> None:
        for row in line.get("samples", []):
            row[3] = 20.0

    forge(one.record, speed_up)
    assert "computed anew" in verify_record(one.record).problem


def test_a_forged_figure_is_found(finished: Path) -> None:
    def embellish(line: dict) -> None:
        if line["kind"] == "verdict":
            line["verdict"]["figures"][-1]["ln_e"] += 0.5

    forge(finished, embellish)
    assert "error certificate: ln e is" in verify_record(finished).problem


@pytest.mark.parametrize(
    "text", ["no json", '["a"]', '{"kind": "evidence"}', '{"kind": "opened", "params": {"alpha": 2}}']
)
def test_a_record_that_is_none(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text + "\n")
    assert not verify_record(path).passed
    with pytest.raises(ProjectError, match=r"1\.jsonl:1"):
        replay_record(path)


def test_a_line_is_plain_json(finished: Path) -> None:
    assert json.loads(finished.read_text().splitlines()[0])["kind"] == "opened"
