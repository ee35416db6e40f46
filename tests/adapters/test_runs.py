from __future__ import annotations

import http.server
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.adapters.kept_run import CHANGED, GIVEN_UP, INTERRUPTED_BY, INTERRUPTIONS
from flows.adapters.run_delivery import Delivery
from flows.adapters.run_sender import require_answer
from flows.adapters.runs import Runs
from flows.errors import Conflict, ServiceError

TAGS = {"tca.seed": "0"}
KEYS = ("loss", "score")


def figures(step: int) -> dict[str, float]:
    return {"loss": 1 / step, "score": step / 10}


def until(condition: Callable[[], Any], limit_s: float = 60.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return found


def all_runs(uri: str) -> list[Any]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("detector")
    return client.search_runs([experiment.experiment_id]) if experiment else []


def steps_of(uri: str, run_id: str) -> dict[str, list[int]]:
    client = MlflowClient(uri)
    return {key: [one.step for one in client.get_metric_history(run_id, key)] for key in KEYS}


def settle(runs: Runs, left: int = 0) -> None:
    """Wait until all is sent and only so many journals of interrupted runs are left."""
    until(lambda: runs.send() == 0 and len(list(runs.folder.iterdir())) == left)


@pytest.fixture
def runs(mlflow_uri: str, tmp_path: Path) -> Runs:
    return Runs(mlflow_uri, "detector", tmp_path)


def test_a_run_holds_what_was_told(runs: Runs, mlflow_uri: str, tmp_path: Path) -> None:
    (tmp_path / "epochs.csv").write_text("1\n")
    with runs.run("train", TAGS, job="a") as log:
        log.params({"train.epochs": 2, "train.distributed.nodes": 1})
        log.data("data", "md5", 8)
        for step in (1, 2, 2):
            log.metrics(figures(step), step)
        log.artifact(tmp_path / "epochs.csv")
        log.text("system.json", "{}")
        log.tags({"tca.best_epoch": 2})
    (run,) = all_runs(mlflow_uri)
    assert run.info.run_id == log.run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", "train")
    assert run.data.params == {"train.epochs": "2", "train.distributed.nodes": "1"}
    assert run.data.tags.items() >= {**TAGS, "tca.stage": "train", "tca.best_epoch": "2"}.items()
    assert run.inputs.dataset_inputs[0].dataset.digest == "md5"
    assert steps_of(mlflow_uri, run.info.run_id) == {key: [1, 2] for key in KEYS}
    kept = {one.path for one in MlflowClient(mlflow_uri).list_artifacts(run.info.run_id)}
    assert kept == {"epochs.csv", "system.json"}
    assert runs.kept() == []


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "KILLED", "interrupted"),
        (ServiceError("the training process was killed"), "FAILED", "ServiceError: the training process was killed"),
    ],
)
def test_an_interrupted_job_goes_on_in_its_run(
    runs: Runs, mlflow_uri: str, error: BaseException, status: str, reason: str
) -> None:
    with pytest.raises(type(error)), runs.run("train", TAGS, job="a") as log:
        log.params({"train.workers": 0})
        log.metrics(figures(1), 1)
        raise error
    (run,) = all_runs(mlflow_uri)
    assert (run.info.status, run.data.tags[INTERRUPTED_BY]) == (status, reason)
    with runs.run("train", {"tca.seed": "0", "tca.git_commit": "new"}, job="a") as log:
        assert set(log.figures) == {1}
        log.params({"train.workers": 2})
        log.metrics(figures(1), 1)
        log.metrics(figures(2), 2)
        until(lambda: all_runs(mlflow_uri)[0].info.status == "RUNNING")
    (run,) = all_runs(mlflow_uri)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.workers": "0"}
    assert run.data.tags.items() >= {INTERRUPTIONS: "1", f"{CHANGED}train.workers": "2"}.items()
    assert f"{CHANGED}tca.seed" not in run.data.tags
    assert steps_of(mlflow_uri, run.info.run_id) == {key: [1, 2] for key in KEYS}


def test_another_job_has_another_run_and_the_one_given_up_is_killed(runs: Runs, mlflow_uri: str) -> None:
    for job, anew in (("a", False), ("b", False), ("b", True)):
        runs.give_up("train", "another training was begun", keep=[job])
        with pytest.raises(KeyboardInterrupt), runs.run("train", TAGS, job=job, anew=anew) as log:
            log.metrics(figures(1), 1)
            raise KeyboardInterrupt
        until(
            lambda job=job: runs.interrupted("train", job)
        )  # the last try of a slow machine may go on behind our back
    settle(runs, left=1)
    reasons = Counter((run.info.status, run.data.tags.get(GIVEN_UP)) for run in all_runs(mlflow_uri))
    assert reasons == {("KILLED", reason): 1 for reason in ("another training was begun", "begun anew", None)}
    assert [one.job for one in runs.kept()] == ["b"]
    assert runs.interrupted("train", "b") == TAGS
    assert runs.interrupted("train", "a") is None


def test_what_was_saved_may_be_of_no_use(runs: Runs, mlflow_uri: str) -> None:
    with pytest.raises(KeyboardInterrupt), runs.run("train", TAGS, job="a") as log:
        log.metrics(figures(1), 1)
        raise KeyboardInterrupt
    until(lambda: runs.interrupted("train", "a"))
    with runs.run("train", TAGS, job="a") as log:
        log.params({"train.epochs": 1})
        log.begin_anew("it could not be gone on with")
        log.metrics({"loss": 7.0, "score": 7.0}, 1)
    settle(runs)
    old, new = sorted(all_runs(mlflow_uri), key=lambda run: run.info.status, reverse=True)
    assert (old.info.status, old.data.tags[GIVEN_UP]) == ("KILLED", "it could not be gone on with")
    assert (new.info.status, new.data.metrics["loss"], new.data.params) == ("FINISHED", 7.0, {"train.epochs": "1"})


def test_two_processes_are_not_at_the_same_job(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.adapters.runs._HELD_S", 0.0)
    with runs.run("train", TAGS, job="a"):
        with pytest.raises(Conflict, match="another process is at the same train"), runs.run("train", TAGS, job="a"):
            pass
        with runs.run("train", TAGS, job="b"):
            assert runs.kept() == []


def test_nested_runs_know_their_parent(runs: Runs, mlflow_uri: str) -> None:
    with runs.run("tune", TAGS, job="study", name="study") as parent:
        until(lambda: parent.run_id)
        with runs.run("tune", TAGS, job="study 1", parent=parent.run_id, name="trial 1"):
            pass
    settle(runs)
    names = {run.info.run_name: run.data.tags.get("mlflow.parentRunId") for run in all_runs(mlflow_uri)}
    assert names == {"trial 1": parent.run_id, "study": None}


def test_a_journal_that_cannot_be_sent_does_not_stop_the_others(
    runs: Runs, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a server refuses, with an upload that is too large, say."""
    with monkeypatch.context() as away:
        away.setattr("flows.adapters.runs._HELD_S", 0.0)
        away.setattr(Delivery, "send", refuse)
        away.setattr("flows.adapters.kept_run._LAST_TRY_S", 0.0)
        for job in ("a", "b", "c"):
            with runs.run(job, TAGS, job=job):
                pass
        until(lambda: len(runs.kept()) == 3)
    told: list[str] = []
    send = Delivery.send

    def refuse_one(delivery: Delivery) -> None:
        if delivery._spool.begun.job == "a":
            refuse(delivery)
        send(delivery)

    monkeypatch.setattr(Delivery, "send", refuse_one)
    assert runs.send(told.append) == 1
    assert told == ["a run of a could not be sent (413: too large)"]
    assert {run.info.run_name for run in all_runs(mlflow_uri)} == {"b", "c"}


def refuse(delivery: Delivery) -> None:
    raise RuntimeError("413: too large")


KILLED_BODY = """
import sys
from pathlib import Path
from flows.adapters.run_sender import require_answer
from flows.adapters.runs import Runs

with Runs(sys.argv[1], "detector", Path(sys.argv[2])).run("train", {}, job="a") as log:
    for step in (1, 2, 3):
        log.metrics({"loss": 1 / step, "score": step / 10}, step)
        print(step, flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_a_run_that_the_next_command_ends_and_the_same_job_takes_up(
    runs: Runs, mlflow_uri: str, tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", KILLED_BODY, mlflow_uri, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "3\n":
                break
        until(lambda: all_runs(mlflow_uri))
        assert runs.kept() == []
        os.kill(process.pid, signal.SIGKILL)
    assert runs.send() == 0
    (run,) = all_runs(mlflow_uri)
    assert (run.info.status, run.data.tags[INTERRUPTED_BY]) == ("KILLED", "its process was killed")
    with runs.run("train", {}, job="a") as log:
        for step in (1, 2, 3, 4):
            log.metrics(figures(step), step)
    (run,) = all_runs(mlflow_uri)
    assert (run.info.status, run.data.tags[INTERRUPTIONS]) == ("FINISHED", "1")
    assert steps_of(mlflow_uri, run.info.run_id) == {key: [1, 2, 3, 4] for key in KEYS}


def test_a_locked_database_holds_nobody_up(
    runs: Runs, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.adapters.kept_run._LAST_TRY_S", 0.0)
    lock = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    told: list[str] = []
    with runs.run("train", TAGS, job="a", say=told.append) as log:
        log.metrics(figures(1), 1)
    assert log.run_id is None
    assert "kept in" in told[-1]
    lock.execute("COMMIT")
    settle(runs)
    (run,) = until(lambda: all_runs(mlflow_uri))
    assert run.info.status == "FINISHED"
    assert steps_of(mlflow_uri, run.info.run_id) == {key: [1] for key in KEYS}


class Broken(http.server.BaseHTTPRequestHandler):
    """Hangs until the test ends, or answers 500."""

    release = threading.Event()
    hangs = False

    def do_GET(self) -> None:
        if self.hangs:
            self.release.wait()
        self.send_error(500)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(params=["refuses", "hangs", "answers 500"])
def broken_uri(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("flows.adapters.run_sender._PROBE_S", 0.2)
    Broken.release.clear()
    Broken.hangs = request.param == "hangs"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    server.daemon_threads = True
    if request.param == "refuses":
        server.server_close()
        yield f"http://127.0.0.1:{server.server_port}"
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Broken.release.set()
    server.shutdown()
    server.server_close()


def test_a_server_that_does_not_answer_is_said_once_and_gets_everything_later(
    broken_uri: str, mlflow_uri: str, runs: Runs, tmp_path: Path
) -> None:
    told: list[str] = []
    broken = Runs(broken_uri, "detector", tmp_path)
    with broken.run("train", TAGS, job="a", say=told.append) as log:
        log.params({"train.epochs": 3})
        for step in (1, 2, 3):
            log.metrics(figures(step), step)
        until(lambda: told)
    assert log.run_id is None
    first, last = told
    assert f"MLflow at {broken_uri} does not answer" in first
    assert "figures are kept in" in first
    assert "tca runs send" in last
    (kept,) = broken.kept()
    assert (kept.stage, kept.status, kept.run_id) == ("train", "FINISHED", None)
    assert broken.send(told.append) == 1
    assert runs.send() == 0
    (run,) = all_runs(mlflow_uri)
    assert (run.info.status, run.data.params) == ("FINISHED", {"train.epochs": "3"})
    assert steps_of(mlflow_uri, run.info.run_id) == {key: [1, 2, 3] for key in KEYS}
    assert run.info.end_time < time.time() * 1000
    assert runs.kept() == []


class Garbled(http.server.BaseHTTPRequestHandler):
    """Answers as `answer` says, whatever it is asked."""

    answer = b""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(self.answer)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", None),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", None),
        (b"HTTP/1.0 401 Unauthorized\r\n\r\n", None),
        (b"HTTP/1.0 503 Busy\r\n\r\n", "it answers 503"),
        (b"nonsense\r\n", "no web server"),
        (b"", "closed connection|reset"),
    ],
)
def test_who_answers_is_there_whatever_is_answered(
    answer: bytes, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Garbled, "answer", answer)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Garbled) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        expected = pytest.raises(OSError, match=problem) if problem else nullcontext()
        with expected:
            require_answer(f"http://name:password@127.0.0.1:{server.server_port}/")
        server.shutdown()
