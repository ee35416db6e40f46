"""What a training tells, and what becomes of it; the whole way is in tests/integration/test_training_survives.py."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.errors import Conflict, OutsideError
from flows.stopping import alone
from flows.tracking import TrackedTraining, flat_params, is_same, tracked_training
from flows.train import Throne, champion_checkpoint, data_since_champion
from flows.training.epochs import EpochMetrics
from flows.training.loop.state import partial_of
from flows.training.reproducibility import TrainReport


class FakeLog:
    """A `KeptRun` in memory."""

    run_id = None
    interrupted_at = "noon"

    def __init__(self) -> None:
        self.figures: dict[int, dict[str, float]] = {}
        self.begun_anew: list[str] = []

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.figures.setdefault(step, dict(values))

    def begin_anew(self, reason: str) -> None:
        self.begun_anew.append(reason)
        self.figures.clear()


class FakeRun:
    """A `StageRun` that only listens."""

    def __init__(self, fails: bool = False) -> None:
        self.lines: list[str] = []
        self.shown = SimpleNamespace(milestone=self.lines.append, progress=lambda done, total, note: None)
        self.published = SimpleNamespace(update=self._publish)
        self.params = SimpleNamespace(train=SimpleNamespace(epochs=10, may_start_from_champion=True))
        self._fails = fails

    def _publish(self, done: int, total: int, note: str) -> None:
        if self._fails:
            raise RuntimeError("no server")


def epoch(number: int, seconds: float = 1.0) -> EpochMetrics:
    figures = dict.fromkeys(("score", "map50", "map50_95", "precision", "recall", "learning_rate"), 0.1)
    return EpochMetrics(
        epoch=number, epochs=10, losses={"train_box_loss": 1 / 3}, seconds=seconds, images_per_s=9.5, **figures
    )


def tracked(tmp_path: Path, run: Any = None, log: FakeLog | None = None) -> TrackedTraining:
    return TrackedTraining(run or FakeRun(), tmp_path / "training", log or FakeLog(), [])  # type: ignore[arg-type]


def test_params_are_flat_under_their_dotted_names() -> None:
    assert flat_params("train", {"epochs": 3, "distributed": {"nodes": 1}, "classes": {}}) == {
        "train.epochs": "3",
        "train.distributed.nodes": "1",
        "train.classes": "{}",
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": float("nan")}, {"a": float("nan")}, True),
        ({"a": 0.1}, {"a": 0.1 + 1e-12}, False),
        ({"a": 1}, {}, False),
    ],
)
def test_figures_are_the_same_to_the_last_digit(one: dict[str, float], other: dict[str, float], same: bool) -> None:
    assert is_same(one, other) is same


def test_a_training_that_goes_on_says_so_once(tmp_path: Path) -> None:
    run, log = FakeRun(), FakeLog()
    for number in (1, 2):
        log.metrics(epoch(number).numbers(), number)
    training = tracked(tmp_path, run, log)
    for number in (1, 2):
        training.on_epoch(epoch(number))
    for done in (31, 32):
        training.progress(done, 100, "")
    training.on_epoch(epoch(3))
    training.progress(41, 100, "")
    assert run.lines == ["goes on from epoch 3 of 10, interrupted at noon"]
    assert list(log.figures) == [1, 2, 3]
    assert log.begun_anew == []
    assert training.what_is_saved().startswith("stopped in epoch 4 of 10; what was done is saved")


def test_a_training_that_had_to_begin_anew_has_another_run(tmp_path: Path) -> None:
    run, log = FakeRun(), FakeLog()
    log.metrics(epoch(1).numbers(), 1)
    training = tracked(tmp_path, run, log)
    training.on_epoch(epoch(1, seconds=2.0))
    training.progress(11, 100, "")
    assert len(log.begun_anew) == 1
    assert log.figures[1]["seconds"] == 2.0
    assert run.lines == []


def test_an_epoch_that_was_trained_again_keeps_its_first_figures(tmp_path: Path) -> None:
    """The newest state was damaged and the one before was taken: the run is the same."""
    log = FakeLog()
    for number in (1, 2):
        log.metrics(epoch(number).numbers(), number)
    training = tracked(tmp_path, log=log)
    training.on_epoch(epoch(1))
    training.on_epoch(epoch(2, seconds=2.0))
    assert log.begun_anew == []
    assert log.figures[2]["seconds"] == 1.0


def test_prefect_may_fail_while_it_trains(tmp_path: Path) -> None:
    training = tracked(tmp_path, FakeRun(fails=True))
    for done in (1, 2):
        training.progress(done, 100, "")
    assert len(training.notes) == 1
    assert "no server" in training.notes[0]


def finish(out_dir: Path, epochs: list[EpochMetrics]) -> TrainReport:
    out_dir.mkdir()
    (out_dir / "best.pt").write_bytes(b"weights")
    with (out_dir / "epochs.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["epoch", *epochs[0].numbers()])
        table.writerows([one.epoch, *one.numbers().values()] for one in epochs)
    values = dict.fromkeys(
        ("map50", "map50_95", "seconds", "images_per_s", "epochs", "best_epoch", "images", "num_parameters", "seed"), 1
    )
    texts = dict.fromkeys(("sentence", "weights_sha256", "started_from", "device", "precision"), "x")
    report = TrainReport.model_validate(
        {
            **{**values, **texts, "passed": True, "num_threads": 1, "input_size_wh": (64, 64)},
            **{"classes_started_from": None, "head_kept": None, "classes": ("car",)},
        }
    )
    (out_dir / "training.json").write_text(report.model_dump_json())
    return report


def test_a_training_that_was_done_is_known_by_its_figures(tmp_path: Path) -> None:
    log = FakeLog()
    training = tracked(tmp_path, log=log)
    assert training.finished_before() is None
    epochs = [epoch(number, 1 / number) for number in (1, 2)]
    for one in epochs:
        log.metrics(one.numbers(), one.epoch)
    assert training.finished_before() is None
    report = finish(tmp_path / "training", epochs)
    assert training.finished_before() == report
    log.figures[2]["seconds"] = 0.7
    assert training.finished_before() is None
    log.figures[2]["seconds"] = 0.5
    partial_of(tmp_path / "training").mkdir()
    assert training.finished_before() is None


def test_a_second_training_leaves_the_first_alone(tmp_path: Path) -> None:
    """With force it would clear away what the first has saved; with other parameters, too."""
    run: Any = SimpleNamespace(project=SimpleNamespace(home=tmp_path), force=True)
    saved = partial_of(tmp_path / "training") / "state-1.json"
    saved.parent.mkdir()
    saved.touch()
    with (
        alone(tmp_path / "train.lock", "not this"),
        pytest.raises(Conflict, match=r"another training is at work in this project\. Wait for it"),
        tracked_training(run, tmp_path / "training", None, {}),
    ):
        pass
    assert saved.exists()


def test_without_mlflow_a_training_needs_the_champion_only_to_start_from_it() -> None:
    run: Any = FakeRun()
    throne = Throne(None, OutsideError("MLflow is down"))
    assert data_since_champion(run, throne).sentence.endswith("MLflow is down")
    with pytest.raises(OutsideError):
        champion_checkpoint(run, throne)
    run.params.train.may_start_from_champion = False
    assert champion_checkpoint(run, throne) is None
