"""What others are told of a promotion, from real records, in Python, over HTTP and on the command line."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from flows.adapters.fake_traffic import Behaviour
from flows.cli.verdict import app
from flows.errors import Conflict, InputError, ProjectError, ServiceError
from flows.rollout.record import Record
from flows.settings import Project
from flows.verdict_client import wait_for_verdict
from flows.verdict_server import VerdictServer
from flows.verdicts import VerdictAnswer, Verdicts
from tests.rollout.conftest import Rollout

BAD = Behaviour(miss_share=1.0)


def cut(source: Path, target: Path, until: str) -> None:
    """The record as it was when a state had just been entered."""
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    for line in source.read_text(encoding="utf-8").splitlines(keepends=True):
        kept.append(line)
        tree = json.loads(line)
        if (tree["kind"], tree["state"]) == ("state", until):
            break
    target.write_text("".join(kept), encoding="utf-8")


def enter_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("params.yaml", "dvc.yaml"):
        (folder / name).touch()
    monkeypatch.chdir(folder)
    return Project(folder)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = Rollout(tmp_path_factory.mktemp("promoted"))
    assert one.run().outcome == "promoted"
    return one.records


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    one = Rollout(tmp_path_factory.mktemp("rolled_back"), BAD)
    assert one.run().outcome == "rolled_back"
    return one.records


def test_a_promoted_version_may_go_on_with_all_that_led_to_it(promoted: Path) -> None:
    found = Verdicts(promoted).answer(None, "2")
    assert (found.verdict, found.outcome, found.state, found.promotion) == ("advance", "promoted", "DONE", 1)
    assert (found.challenger_version, found.challenger_digest, found.champion_version) == ("2", "b" * 64, "1")


def test_one_that_was_sent_away_is_gone_whatever_lay_behind_it(rolled_back: Path) -> None:
    for past in ("DONE", "STAGING", "OFFLINE_GATE"):
        found = Verdicts(rolled_back).answer(1, past=past)
        assert (found.verdict, found.outcome) == ("rollback", "rolled_back")
    assert "agreement" in found.reasons[0]


@pytest.mark.parametrize(
    ("state", "past", "expected"),
    [
        ("SHADOW", "DONE", "wait"),
        ("SHADOW", "STAGING", "advance"),
        ("SHADOW", "SHADOW", "wait"),
        ("CANARY", "SHADOW", "advance"),
        ("CANARY", "CANARY-1", "wait"),
        ("PROMOTING", "CANARY-1", "advance"),
        ("PROMOTING", "CANARY-2", "advance"),
        ("PROMOTING", "CANARY-3", "wait"),
        ("BAKE", "BAKE", "wait"),
        ("DRAIN_OLD", "BAKE", "advance"),
        ("DRAIN_OLD", "DONE", "wait"),
        ("DONE", "DONE", "advance"),
    ],
)
def test_a_running_promotion_is_waited_for_until_the_state_lies_behind_it(
    promoted: Path, tmp_path: Path, state: str, past: str, expected: str
) -> None:
    cut(promoted / "1.jsonl", tmp_path / "1.jsonl", state)
    assert Verdicts(tmp_path).answer(1, past=past).verdict == expected


def test_reasons_and_frames_are_those_of_the_last_verdict_in_the_state(promoted: Path, tmp_path: Path) -> None:
    lines = (promoted / "1.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if '"kind":"verdict"' in line and '"state":"SHADOW"' in line)
    (tmp_path / "1.jsonl").write_text("".join(lines[: last + 1]), encoding="utf-8")
    found = Verdicts(tmp_path).answer(1)
    assert (found.state, found.verdict, found.num_needed) == ("SHADOW", "wait", 20)
    assert found.num is not None
    assert found.num >= 20
    assert "frames judged" in found.reasons[0]


def test_held_aborted_and_first_champions_are_told_apart(tmp_path: Path) -> None:
    held = Rollout(tmp_path / "held", options={"num_cameras": 0})
    assert held.run().outcome == "held"
    assert Verdicts(held.records).answer(1, past="STAGING").verdict == "hold"
    held.abort()
    found = Verdicts(held.records).answer(1)
    assert (found.verdict, found.outcome) == ("rollback", "aborted")
    first = Rollout(tmp_path / "first", has_champion=False)
    first.run()
    assert Verdicts(first.records).answer(None).champion_version is None


def test_half_a_line_is_one_in_the_making_and_a_damaged_one_is_an_error(promoted: Path, tmp_path: Path) -> None:
    cut(promoted / "1.jsonl", tmp_path / "1.jsonl", "SHADOW")
    with (tmp_path / "1.jsonl").open("a", encoding="utf-8") as sink:
        sink.write('{"n": 99, "kind": "sta')
    assert Verdicts(tmp_path).answer(1).state == "SHADOW"
    with (tmp_path / "1.jsonl").open("a", encoding="utf-8") as sink:
        sink.write("\n")
    with pytest.raises(ProjectError, match="is damaged"):
        Verdicts(tmp_path).answer(1)


@pytest.mark.parametrize("content", ["[]", '{"kind": "state", "state": "SHADOW"}', '{"kind": "opened"}', "\\udc80"])
def test_a_record_of_another_shape_is_damaged_and_no_crash(tmp_path: Path, content: str) -> None:
    (tmp_path / "1.jsonl").write_text(content + "\n", encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ProjectError, match="is damaged"):
        Verdicts(tmp_path).answer(1)


def test_a_move_that_was_written_down_and_never_made_lies_not_behind_it(promoted: Path, tmp_path: Path) -> None:
    """Killed between record and journal: the next controller is in SHADOW still, and says so."""
    path = tmp_path / "1.jsonl"
    cut(promoted / "1.jsonl", path, "CANARY")
    assert Verdicts(tmp_path).answer(1, past="SHADOW").verdict == "advance"
    text = "controller of epoch 2 takes over"
    Record(path).append("state", "SHADOW", text, 2e9, event="restart", step=0, left="SHADOW")
    found = Verdicts(tmp_path).answer(1, past="SHADOW")
    assert (found.verdict, found.state) == ("wait", "SHADOW")
    assert Verdicts(tmp_path).answer(1, past="STAGING").verdict == "advance"


def test_nobody_goes_on_with_a_record_that_was_changed(promoted: Path, tmp_path: Path) -> None:
    text = (promoted / "1.jsonl").read_text(encoding="utf-8")
    path = tmp_path / "1.jsonl"
    path.write_text(text, encoding="utf-8")
    verdicts = Verdicts(tmp_path)
    assert verdicts.answer(1).verdict == "advance"
    path.write_text(text.replace('"challenger":["2"', '"challenger":["33"', 1), encoding="utf-8")
    found = verdicts.answer(1)
    assert found.verdict == "hold"
    assert "does not hold" in found.reasons[0]
    path.write_text(text, encoding="utf-8")
    assert verdicts.answer(1).verdict == "advance"
    path.write_text(text.replace('"challenger":["2"', '"challenger":["3"', 1), encoding="utf-8")  # of the same length
    assert verdicts.answer(1).verdict == "hold"


def test_what_is_not_there_or_no_state_is_said(promoted: Path, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="promotion 7"):
        Verdicts(promoted).answer(7)
    with pytest.raises(ProjectError, match="any promotion of version 9"):
        Verdicts(promoted).answer(None, "9")
    with pytest.raises(ProjectError, match="any promotion"):
        Verdicts(tmp_path / "nowhere").answer(None)
    for past in ("HOLD", "CANARY", "CANARY-0", "SHADOW-1", "CANARY-x", ""):
        with pytest.raises(InputError, match="no state"):
            Verdicts(promoted).answer(1, past=past)


@pytest.fixture
def server(promoted: Path) -> Iterator[VerdictServer]:
    with VerdictServer(promoted, "127.0.0.1", 0, "secret") as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def ask(server: VerdictServer, path: str, token: str = "secret") -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.get(f"http://127.0.0.1:{server.server_address[1]}{path}", headers=headers, trust_env=False)


def test_the_endpoint_answers_what_argo_evaluates(server: VerdictServer) -> None:
    for path in ("/promotions/1/verdict", "/promotions/latest/verdict?version=2&past=CANARY-1"):
        reply = ask(server, path)
        assert reply.status_code == 200
        assert reply.json()["verdict"] == "advance"
        assert VerdictAnswer.model_validate(reply.json()).promotion == 1


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/promotions/7/verdict", 404, "promotion 7"),
        ("/promotions/latest/verdict?version=9", 404, "version 9"),
        ("/promotions/latest/verdict?past=NOWHERE", 400, "Expected IDLE"),
        ("/promotions/latest/verdict?versoin=2", 400, "versoin"),
        ("/promotions/../../verdict", 404, "/promotions/NUMBER/verdict"),
        ("/", 404, "/promotions/NUMBER/verdict"),
    ],
)
def test_everything_else_is_refused_in_words(server: VerdictServer, path: str, status: int, words: str) -> None:
    reply = ask(server, path)
    assert reply.status_code == status
    assert words in reply.json()["error"]["message"]


def test_an_address_that_is_none_gets_an_answer(server: VerdictServer) -> None:
    with socket.create_connection(server.server_address[:2], timeout=10.0) as connection:
        connection.sendall(b"GET http://[/promotions HTTP/1.0\r\n\r\n")
        assert connection.makefile("rb").readline().split()[1] == b"400"


@pytest.mark.parametrize(
    ("status", "body"), [(200, "[]"), (200, '{"verdict": "advance"}'), (200, "<html>"), (502, "bad"), (502, '["x"]')]
)
def test_an_answer_of_somebody_else_is_none(status: int, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpx.get", lambda *_, **__: httpx.Response(status, text=body))
    with pytest.raises(ServiceError, match="no verdict from|answers 502"):
        wait_for_verdict("1", None, "DONE", 0.0, "http://127.0.0.1:9")


def test_it_can_only_be_read_and_asks_for_its_token(server: VerdictServer) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert ask(server, "/promotions/1/verdict", "wrong").status_code == 401
    assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert httpx.request(method, f"{url}/promotions/1/verdict", trust_env=False).status_code == 501


def test_an_address_in_use_is_a_conflict(server: VerdictServer, promoted: Path) -> None:
    with pytest.raises(Conflict, match="--port"):
        VerdictServer(promoted, "127.0.0.1", server.server_address[1])


def test_the_client_waits_for_a_verdict_and_then_leaves(
    server: VerdictServer, promoted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("TCA_VERDICT_TOKEN", "secret")
    monkeypatch.setattr("flows.verdict_client._POLL_S", 0.02)
    assert wait_for_verdict("latest", "2", "DONE", 30.0, url).verdict == "advance"
    with pytest.raises(ProjectError, match="promotion 7"):
        wait_for_verdict("7", None, "DONE", 0.1, url)
    with pytest.raises(InputError, match="is no promotion"):
        wait_for_verdict("first", None, "DONE", 0.0, url)
    monkeypatch.setenv("TCA_VERDICT_TOKEN", "wrong")
    with pytest.raises(InputError, match="TCA_VERDICT_TOKEN"):
        wait_for_verdict("1", None, "DONE", 30.0, url)
    with pytest.raises(ServiceError, match="no verdict from"):
        wait_for_verdict("1", None, "DONE", 0.1, "http://127.0.0.1:9")


def test_the_client_goes_on_when_the_promotion_does(
    promoted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = enter_project(tmp_path, monkeypatch)
    monkeypatch.setattr("flows.verdict_client._POLL_S", 0.02)
    path = project.records / "1.jsonl"
    cut(promoted / "1.jsonl", path, "CANARY")
    assert wait_for_verdict("latest", None, "DONE", 0.0).verdict == "wait"
    timer = threading.Timer(0.1, lambda: path.write_bytes((promoted / "1.jsonl").read_bytes()))
    timer.start()
    assert wait_for_verdict("latest", None, "DONE", 30.0).verdict == "advance"
    timer.join()


@pytest.mark.parametrize(("until", "code"), [("DONE", 0), ("CANARY", 3)])
def test_the_command_ends_with_the_code_of_the_verdict(
    promoted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: str, code: int
) -> None:
    project = enter_project(tmp_path, monkeypatch)
    cut(promoted / "1.jsonl", project.records / "1.jsonl", until)
    done = CliRunner().invoke(app, ["ask"])
    assert done.exit_code == code, done.output
    content: dict[str, Any] = json.loads(done.output)
    assert content["promotion"] == 1


def test_the_command_ends_with_1_when_it_was_rolled_back(
    rolled_back: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = enter_project(tmp_path, monkeypatch)
    cut(rolled_back / "1.jsonl", project.records / "1.jsonl", "nowhere")
    assert CliRunner().invoke(app, ["ask", "1"]).exit_code == 1
