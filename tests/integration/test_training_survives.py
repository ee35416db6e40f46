"""`tca train` killed at every kind of moment: the next one goes on, in the same MLflow run, to the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from flows.adapters.kept_run import GIVEN_UP, INTERRUPTIONS
from flows.adapters.run_spool import find_journals, peek
from flows.adapters.runs import Runs
from flows.dataset.layout import read_dataset
from flows.params_file import apply_overrides, read_params
from flows.training.launching.launch import train_apart
from tests.projects import copy_project, run

pytestmark = [pytest.mark.deep, pytest.mark.train, pytest.mark.timeout(900)]

EPOCHS = 3
SMALL = (
    *("render.cameras=6", "render.clips_per_camera=4", "render.frames_per_clip=5", "render.size_wh=[96, 64]"),
    *(f"train.epochs={EPOCHS}", "train.image_size=64", "train.batch=8", "train.mosaic=0.0", "train.cache=ram"),
    *("train.precision=fp32", "train.workers=0", "train.checkpoint_minutes=0.001"),
)


class Killable:
    """A small project in which `tca train` is started, looked at and killed."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.root, self.env = root, env
        self.uri = f"sqlite:///{root / '.tca' / 'mlflow.db'}"
        self.partial = root / "artifacts" / "training.partial"

    def tca(self, *arguments: str) -> str:
        return run(self.root, sys.executable, "-m", "flows.cli", *arguments, env=self.env).stderr

    def killed(self, when: Callable[[], Any], number: int, *arguments: str, **env: str) -> tuple[int, str]:
        """Start `tca train` and send its whole process group the signal `number` as soon as `when` says so."""
        argv = [sys.executable, "-m", "flows.cli", "train", *arguments]
        process = subprocess.Popen(
            argv, cwd=self.root, env={**self.env, **env}, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 280
            while not when():
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.002)
            workers = psutil.Process(process.pid).children(recursive=True)
        except BaseException:
            number = signal.SIGKILL
            raise
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            _, told = process.communicate(timeout=120)
        psutil.wait_procs(workers, timeout=60)
        assert not any(worker.is_running() for worker in workers)
        return process.returncode, told

    def jobs(self) -> set[str]:
        """The trainings that have a journal."""
        found = map(peek, find_journals(self.root / ".tca" / "runs"))
        return {begun.job for begun in found if begun is not None}

    def has_state(self, epoch: int, *, within: bool) -> bool:
        """Whether the state of an epoch's end, or one of within the next epoch, has been saved."""
        found = [path.stem.split("-") for path in self.partial.glob("state-*.json")]
        return any(int(done) == epoch and (int(step) > 0) == within for _, done, step in found)

    def runs(self) -> list[Any]:
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name("its-camera-detector")
        assert experiment is not None
        found = client.search_runs([experiment.experiment_id], "tags.`tca.stage` = 'train'")
        return sorted(found, key=lambda one: one.info.start_time)

    def require_each_step_once(self, run_id: str) -> None:
        client = MlflowClient(self.uri)
        for key in client.get_run(run_id).data.metrics:
            steps = Counter(one.step for one in client.get_metric_history(run_id, key))
            assert steps == dict.fromkeys(range(1, EPOCHS + 1), 1), key

    def report(self) -> dict[str, Any]:
        return json.loads((self.root / "reports" / "train.json").read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Iterator[Killable]:
    root = copy_project(tmp_path_factory.mktemp("killable") / "project")
    apply_overrides(root / "params.yaml", SMALL)
    homes = {"TCA_HOME", "BENTOML_HOME", "PREFECT_HOME", "YOLO_CONFIG_DIR", "MLFLOW_TRACKING_URI"}
    env = {key: value for key, value in os.environ.items() if key not in homes}
    made = Killable(root, {**env, "PREFECT_API_URL": prefect_api})
    made.tca("data", "render")
    made.tca("validate")
    yield made
    made.tca("down")


@pytest.fixture(scope="module")
def digest(project: Killable, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the same training without any interruption."""
    params, dataset = read_params(project.root / "params.yaml"), read_dataset(project.root / "data")
    out_dir = tmp_path_factory.mktemp("reference") / "training"
    return train_apart(dataset, params.train, params.seed, out_dir, lambda epoch: None).weights_sha256


def test_1_killed_before_the_first_epoch_within_one_and_between_two(project: Killable, digest: str) -> None:
    project.killed(project.jobs, signal.SIGKILL, "-S", "train.batch=10")
    other_jobs = project.jobs()
    moments: list[Callable[[], Any]] = [
        lambda: project.jobs() - other_jobs,
        lambda: project.has_state(1, within=True),
        lambda: project.has_state(2, within=False),
    ]
    for moment in moments:
        code, _ = project.killed(moment, signal.SIGKILL, "-S", "train.batch=8")
        assert code == -signal.SIGKILL
    told = project.tca("train")
    assert f"goes on from epoch {EPOCHS} of {EPOCHS}, interrupted at 20" in told
    assert project.report()["weights_sha256"] == digest
    other, one = project.runs()
    assert (other.info.status, other.data.tags[GIVEN_UP]) == ("KILLED", "another training was begun")
    assert (one.info.status, one.data.tags[INTERRUPTIONS]) == ("FINISHED", "3")
    assert one.info.run_id == project.report()["mlflow_run_id"]
    assert one.data.params["train.distributed.nodes"] == "1"
    project.require_each_step_once(one.info.run_id)
    assert not project.partial.exists()


def test_2_a_finished_training_is_current_and_not_resumed(project: Killable) -> None:
    assert "current" in project.tca("train")
    assert len(project.runs()) == 2


def test_3_after_ctrl_c_the_same_command_goes_on_and_a_finished_training_is_not_repeated(
    project: Killable, digest: str
) -> None:
    result = project.root / "artifacts" / "training" / "training.json"
    before = result.read_bytes()
    code, told = project.killed(lambda: project.has_state(1, within=False), signal.SIGINT, "--force")
    assert code == 130
    assert "the same command" in told
    Runs(project.uri, "its-camera-detector", project.root / ".tca").send()
    assert project.runs()[2].info.status == "KILLED"

    def is_published() -> bool:
        return result.exists() and result.read_bytes() != before and not project.partial.exists()

    # With MLflow down from the start: the figures are in the journal, which the next command sends.
    _, told = project.killed(is_published, signal.SIGKILL, "--force", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert told.count("MLflow at http://127.0.0.1:9 does not answer") == 1
    after = result.read_bytes()
    assert "this training was done" in project.tca("train", "--force")
    assert result.read_bytes() == after
    assert project.report()["weights_sha256"] == digest
    (one,) = project.runs()[2:]
    assert (one.info.status, one.data.tags[INTERRUPTIONS]) == ("FINISHED", "2")
    project.require_each_step_once(one.info.run_id)
