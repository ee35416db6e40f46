from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.adapters.fake_traffic import Behaviour
from flows.errors import OutsideError, ProjectError
from flows.rollout.judge import RULES
from flows.rollout.record import Record, read_record, replay_record, verify_record
from flows.rollout.tokens import Claims, check_token, make_key, new_claims, sign_token


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
    assert replay_record(finished).evidence.errors.events == 0


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


def test_other_ends_of_lines_within_a_sentence(path: Path) -> None:
    Record(path).append("effect", "SHADOW", "one\u2028two\x85three", 100.0)
    Record(path).append("effect", "SHADOW", "four", 101.0)
    assert [line["sentence"] for line in read_record(path)] == ["one\u2028two\x85three", "four"]


def test_a_reader_does_not_mind_a_line_that_is_being_written(finished: Path) -> None:
    whole = finished.read_bytes()
    finished.write_bytes(whole + b'{"n": 12')
    assert verify_record(finished).passed


def test_half_a_line_on_a_full_disk_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(path)
    record.append("effect", "SHADOW", "whole", 100.0)
    whole = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OutsideError, match="No space left"):
        patch.setattr("flows.rollout.chain.os.fsync", full)
        record.append("effect", "SHADOW", "lost", 101.0)
    assert path.read_bytes() == whole
    record.append("effect", "SHADOW", "next", 102.0)
    assert [line["sentence"] for line in read_record(path)] == ["whole", "next"]


FORGERIES = {
    "a state is skipped": (
        {"kind": "state", "state": "CANARY", "step": 0, "event": "advance"},
        {"step": 1},
        "advance leads from SHADOW to CANARY step 1, not to CANARY",
    ),
    "an event that cannot happen": (
        {"kind": "state", "state": "DONE"},
        {"event": "resume"},
        "resume cannot happen in DRAIN_OLD",
    ),
    "more cameras than the step has": (
        {"kind": "effect", "sentence": "route canary 10%, champion 1"},
        {"sentence": "route canary 50%, champion 1"},
        "'route canary 50%, champion 1' does not belong to CANARY step 1",
    ),
    "users before the canary": (
        {"kind": "effect", "sentence": "route shadow, champion 1"},
        {"sentence": "route canary 10%, champion 1"},
        "does not belong to SHADOW",
    ),
    "the throne before the evidence": (
        {"kind": "effect", "sentence": "route canary 50%, champion 1"},
        {"sentence": "enthrone version 2"},
        "'enthrone version 2' does not belong to CANARY step 2",
    ),
    "the old champion stopped early": (
        {"kind": "effect", "sentence": "enthrone version 2"},
        {"sentence": "stop version 1"},
        "'stop version 1' does not belong to PROMOTING",
    ),
    "all users before the canary": (
        {"kind": "effect", "sentence": "route shadow, champion 1"},
        {"sentence": "route champion, champion 2"},
        "'route champion, champion 2' does not belong to SHADOW",
    ),
    "somebody who is no part of it": (
        {"kind": "effect", "sentence": "enthrone version 2"},
        {"sentence": "enthrone version 3"},
        "'enthrone version 3' does not belong to PROMOTING",
    ),
    "held where it is not": (
        {"kind": "effect", "sentence": "route shadow, champion 1"},
        {"kind": "held", "outcome": "held"},
        "it is said to be held, but the promotion is in SHADOW",
    ),
    "a kind that there is not": (
        {"kind": "effect", "sentence": "route shadow, champion 1"},
        {"kind": "effekt"},
        "there are no lines of kind 'effekt'",
    ),
    "the record of another promotion": (
        {"kind": "opened"},
        {"promotion": 7},
        "it is the record of promotion 7, not of 1",
    ),
    "another outcome": (
        {"kind": "closed"},
        {"outcome": "rolled_back"},
        "the outcome is said to be rolled_back, but the promotion is in DONE",
    ),
    "a line out of place": (
        {"kind": "effect", "sentence": "route shadow, champion 1"},
        {"state": "BAKE"},
        "it speaks of BAKE, but the promotion is in SHADOW",
    ),
    "an event that there is not": (
        {"kind": "state", "state": "DONE"},
        {"event": "jump"},
        "'jump' is not a valid Event",
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_steps_that_were_never_made_are_found(finished: Path, forgery: str) -> None:
    wanted, changes, problem = FORGERIES[forgery]
    done = []

    def change(line: dict) -> None:
        if not done and all(line.get(key) == value for key, value in wanted.items()):
            done.append(line.update(changes))

    forge(finished, change)
    assert done
    assert problem in (verify_record(finished).problem or "")


def without(path: Path, is_left_out) -> None:
    """Leave lines out and chain the rest anew."""
    lines = [line for line in read_record(path) if not is_left_out(line)]
    path.unlink()
    record = Record(path)
    for line in lines:
        content = {
            key: line[key] for key in line if key not in ("n", "prev", "at", "kind", "state", "sentence", "hash")
        }
        record.append(line["kind"], line["state"], line["sentence"], 100.0, **content)


def test_an_advance_without_its_verdict_is_found(finished: Path) -> None:
    without(finished, lambda line: line["kind"] == "verdict" and line["state"] == "SHADOW")
    assert "advances from SHADOW without a verdict on all the evidence" in (verify_record(finished).problem or "")


def test_an_advance_without_its_approval_is_found(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="canary"))
    one.run(on_event=lambda event: event.awaits and one.answer("CANARY"))
    assert verify_record(one.record).passed
    without(one.record, lambda line: line["kind"] == "approval")
    assert "it enters CANARY step 1, to which nobody has agreed" in (verify_record(one.record).problem or "")


def test_what_was_cut_off_at_the_end_is_found_with_the_journal(rollout) -> None:
    one = rollout()
    one.run()
    view, lines = one.view(), one.record.read_text().splitlines()
    assert verify_record(one.record, view).unchecked == ()
    number = next(index for index, line in enumerate(lines) if '"event":"advance"' in line and '"BAKE"' in line)
    one.record.write_text("\n".join(lines[:number]) + "\n")
    assert verify_record(one.record).passed, "nothing in the rest says that more was there"
    assert verify_record(one.record).unchecked
    assert verify_record(one.record, view).problem == "the record does not tell all: the journal goes on to BAKE"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE transitions SET reason = 'because' WHERE state = 'BAKE'", "the journal has other transitions"),
        ("UPDATE promotions SET challenger_digest = 'c'", "the journal has other versions"),
        ("UPDATE promotions SET params = replace(params, '0.05', '0.04')", "the journal has other params"),
        ("DELETE FROM effects WHERE name LIKE 'enthrone%'", "the journal knows of no intent to enthrone version 2"),
        ("DELETE FROM transitions WHERE state = 'DONE'", "the journal knows of nothing after DRAIN_OLD"),
        ("DELETE FROM approvals", "the journal knows of no approval by anna"),
        ("UPDATE approvals SET agreed = 0", "it entered CANARY, to which anna did not agree"),
    ],
)
def test_record_and_journal_must_tell_the_same(rollout, make_params, statement: str, problem: str) -> None:
    one = rollout(params=make_params(approval="canary"))
    one.run(on_event=lambda event: event.awaits and one.answer("CANARY"))
    assert verify_record(one.record, one.view()).passed
    with sqlite3.connect(one.journal_path) as db:
        db.execute(statement)
    assert problem in (verify_record(one.record, one.view()).problem or "")


def test_tokens_in_a_record_are_checked_with_the_key(rollout, make_params, tmp_path: Path) -> None:
    one = rollout(params=make_params(approval="canary"))
    make_key(tmp_path / "key")
    token = sign_token(tmp_path / "key", new_claims("ci", "b" * 64, 1, one.clock.now(), 3600.0))
    one.run(on_event=lambda event: event.awaits and one.answer("CANARY", who="ci", token=token))

    def check(token: str, digest: str, promotion: int, at: float) -> Claims:
        return check_token(token, tmp_path / "key.pub", digest, promotion, at)

    assert verify_record(one.record, one.view(), check).passed
    assert "signatures of 1 tokens" in verify_record(one.record, one.view()).unchecked[0]
    make_key(tmp_path / "other")

    def check_otherwise(token: str, digest: str, promotion: int, at: float) -> Claims:
        return check_token(token, tmp_path / "other.pub", digest, promotion, at)

    assert "not signed with this key" in (verify_record(one.record, None, check_otherwise).problem or "")

    def lend(line: dict) -> None:
        if line["kind"] == "approval":
            line["who"] = "anna"

    forge(one.record, lend)
    assert "an agreement of ci, not an answer of anna" in (verify_record(one.record, None, check).problem or "")


def test_params_that_a_later_version_knows(rollout) -> None:
    """A record of before there were approvals holds, and so does one of before it named its promotion."""
    one = rollout()
    one.run()

    def forget(line: dict) -> None:
        if line["kind"] == "opened":
            line["params"] = {key: line["params"][key] for key in line["params"] if not key.startswith("approval")}
            del line["promotion"]

    forge(one.record, forget)
    assert verify_record(one.record, one.view()).passed


def test_the_rules_of_another_version(rollout) -> None:
    one = rollout(num_cameras=0)
    one.run()

    def age(line: dict) -> None:
        if line["kind"] == "opened":
            line["rules"] = 0

    forge(one.record, age)
    assert verify_record(one.record).problem == (
        f"line 1: it was judged by rules 0, this version of tca has rules {RULES}"
    )
    with pytest.raises(ProjectError, match="cannot go on here: it was judged by rules 0"):
        one.run()
    report = one.abort()
    assert report is not None
    assert report.outcome == "aborted"


def test_the_rules_are_those_of_their_number(rollout) -> None:
    """Where this fails though the street is the same, verdicts changed: let RULES rise, then write the new figures."""
    one = rollout(Behaviour(from_answer=26, then=Behaviour(latency_ms=180.0)))
    one.run()
    last = [line["verdict"] for line in read_record(one.record) if line["kind"] == "verdict"][-1]
    figures = {figure["metric"]: (figure["num"], round(figure["ln_e"], 3)) for figure in last["figures"]}
    assert (RULES, last["decision"]) == (2, "rollback")
    assert figures == {
        "errors": (36, -2.702),
        "latency": (36, 5.165),
        "agreement": (36, -2.677),
        "bake errors": (0, 0.0),
        "bake latency": (0, 0.0),
        "error certificate": (36, 3.52),
    }


@pytest.mark.parametrize("changed", [b'"lost":NaN', b'"lost":"\\ud800"', b'"lost":"\xff"'])
def test_what_no_record_holds_is_found(finished: Path, changed: bytes) -> None:
    finished.write_bytes(finished.read_bytes().replace(b'"lost":0', changed, 1))
    assert not verify_record(finished).passed


@pytest.mark.parametrize(("field", "value"), [("num_needed", 1), ("num", 10_000)])
def test_a_forged_count_is_found(finished: Path, field: str, value: int) -> None:
    def embellish(line: dict) -> None:
        if line["kind"] == "verdict":
            line["verdict"][field] = value

    forge(finished, embellish)
    assert "frames, computed anew it is" in (verify_record(finished).problem or "")


def test_a_forged_share_is_found(finished: Path) -> None:
    def embellish(line: dict) -> None:
        if line["kind"] == "verdict":
            line["verdict"]["figures"][2]["value"] = 0.999

    forge(finished, embellish)
    assert "agreement: computed anew it reads" in (verify_record(finished).problem or "")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), letter=st.sampled_from('0179aefx",:}] \n'))
def test_one_changed_letter_anywhere_is_found(finished: Path, place: float, letter: str) -> None:
    text, lines = finished.read_text(), read_record(finished)
    at = int(place * len(text))
    changed = text[:at] + letter + text[at + 1 :]
    forged = finished.with_name("7.jsonl")
    forged.write_text(changed)
    found = verify_record(forged)
    same = not changed.endswith("\n") or text == changed  # without its end, the last line is one being written
    assert (not found.passed) or same or read_record(forged) == lines
