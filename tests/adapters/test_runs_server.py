"""A real MLflow server that dies while a run is told, and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.adapters.processes import find_free_port
from flows.adapters.runs import Runs

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """`mlflow server` on a database, in a process group of its own."""

    def __init__(self, database: str, folder: Path) -> None:
        self.port = find_free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._argv = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--backend-store-uri", database, "--artifacts-destination", str(folder / "files"), "--workers", "1"),
        ]
        self._log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._argv, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 180
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.mark.deep
def test_a_server_killed_in_the_middle_gets_every_step_once(
    mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.adapters.kept_run._LAST_TRY_S", 60.0)
    server = Server(mlflow_uri, tmp_path)
    runs, told = Runs(server.uri, "detector", tmp_path), []
    (tmp_path / "epochs.csv").write_text("1\n")
    try:
        server.start()
        with runs.run("train", {"tca.seed": "0"}, job="a", say=told.append) as log:
            log.params({"train.epochs": 5})
            for step in (1, 2):
                log.metrics({"loss": 1 / step}, step)
            _wait(lambda: log.run_id is not None and _steps(server, log.run_id) == [1, 2])
            server.kill()
            for step in (3, 4):
                log.metrics({"loss": 1 / step}, step)
            _wait(lambda: told)
            server.start()
            log.metrics({"loss": 0.2}, 5)
            log.artifact(tmp_path / "epochs.csv")
        assert log.run_id is not None
        run = MlflowClient(server.uri).get_run(log.run_id)
        assert _steps(server, log.run_id) == [1, 2, 3, 4, 5]
        assert (run.info.status, run.data.params) == ("FINISHED", {"train.epochs": "5"})
        assert [one.path for one in MlflowClient(server.uri).list_artifacts(log.run_id)] == ["epochs.csv"]
        assert [text.split(";")[0] for text in told[1:]] == ["MLflow answers again"]
        assert runs.kept() == []
    finally:
        server.kill()


def _steps(server: Server, run_id: str) -> list[int]:
    return [one.step for one in MlflowClient(server.uri).get_metric_history(run_id, "loss")]


def _wait(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
