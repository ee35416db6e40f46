"""Whatever is interrupted where: MLflow gets one run, each step once, and nothing is lost."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flows.adapters.run_delivery import Delivery
from flows.adapters.run_entries import Begun, DataUsed, Figures, FileKept, ParamsSet, RunStatus, TagsSet
from flows.adapters.run_spool import JOURNAL, Spool
from tests.adapters.fake_mlflow import FakeMlflow


class Killed(BaseException):
    """The process ends here."""


class Down(Exception):
    """MLflow stops answering here; what it was asked may have happened."""


def begun(**changes: Any) -> Begun:
    values = {"stage": "train", "job": "a", "token": "t", "name": "train", "tags": {"tca.seed": "0"}}
    return Begun.model_validate({**values, "started_ms": 1, "parent_run": None, **changes})


def figures(step: int) -> Figures:
    return Figures(step=step, at_ms=step, values={"loss": 1 / step, "mAP50-95(B)": step / 10})


def deliver(spool: Spool, client: FakeMlflow, refused: list[str] | None = None) -> None:
    Delivery(spool, client, "7", (refused if refused is not None else []).append).send()  # type: ignore[arg-type]


class TrainingThatIsInterrupted(RuleBasedStateMachine):
    """A training tells its epochs; its process, the sending and MLflow are interrupted at every point."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="runs-"))
        self.client = FakeMlflow()
        self.delivery: Delivery | None = None
        self.done = 0

    @initialize()
    def begin(self) -> None:
        self.spool = Spool.create(self.home / "run", begun())
        self.spool.append(ParamsSet(values={"train.epochs": "9"}))
        self.spool.append(DataUsed(name="data", md5="md5", num_images=8))

    @rule()
    def tell_an_epoch(self) -> None:
        self.done += 1
        self.spool.append(figures(self.done))

    @rule(after=st.integers(0, 12), death=st.sampled_from([Killed, Down, None]))
    def send(self, after: int, death: type[BaseException] | None) -> None:
        """Send until the effect number `after`, where the process is killed or MLflow falls silent."""
        countdown = itertools.count(after, -1)

        def fail() -> None:
            if death is not None and next(countdown) <= 0:
                raise death

        self.client.fail = fail
        try:
            self.delivery = self.delivery or Delivery(self.spool, self.client, "7", self._refused)  # type: ignore[arg-type]
            self.delivery.send()
        except Down:
            self.delivery = None
        except Killed:
            self._die(0)
        finally:
            self.client.fail = lambda: None

    @rule(torn=st.integers(0, 30))
    def be_killed(self, torn: int) -> None:
        self._die(torn)

    @rule()
    def be_deleted_by_a_person(self) -> None:
        for run in self.client.active():
            run.lifecycle_stage = "deleted"

    @precondition(lambda self: self.client.active())
    @rule()
    def be_doubled_by_a_late_answer(self) -> None:
        """A request that timed out is carried out after all."""
        if self.delivery is None:
            self.client.create_run("7", 2, {"tca.spool": "t"}, "train")

    def _die(self, torn: int) -> None:
        """The process is gone; of the journal only a note at the end may be lost, as it alone is not made durable."""
        size = (self.home / "run" / JOURNAL).stat().st_size
        content = (self.home / "run" / JOURNAL).read_bytes()
        last = content[:-1].rfind(b"\n") + 1
        self.spool.close()
        if b'"kind":"sent"' in content[last:] and torn:
            with (self.home / "run" / JOURNAL).open("r+b") as stream:
                stream.truncate(max(last, size - torn))
        spool = Spool.open(self.home / "run")
        assert spool is not None
        self.spool, self.delivery = spool, None
        self.spool.append(RunStatus(status="RUNNING", at_ms=5))
        for step in range(1, self.done + 1):  # what was told before an interruption is told again
            if step not in self.spool.figures:
                self.spool.append(figures(step))

    def _refused(self, reason: str) -> None:
        raise AssertionError(reason)

    @invariant()
    def no_step_is_told_twice(self) -> None:
        for run in self.client.runs.values():
            told = Counter((key, step) for key, step, _ in run.told)
            assert all(count == 1 for count in told.values()), told

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.client.fail = lambda: None
            self.spool.append(RunStatus(status="FINISHED", at_ms=9, is_last=True))
            for _ in range(2):  # the second time there is nothing to do
                deliver(self.spool, self.client)
            (run,) = self.client.active()
            expected = {(key, step) for step in range(1, self.done + 1) for key in ("loss", "mAP50-95_B_")}
            assert {(key, step) for key, step, _ in run.told} == expected
            assert (run.status, run.params, run.inputs) == ("FINISHED", {"train.epochs": "9"}, {"md5"})
            assert run.tags["tca.seed"] == "0"
            self.spool.close()
        shutil.rmtree(self.home)


TrainingThatIsInterrupted.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestTrainingThatIsInterrupted = TrainingThatIsInterrupted.TestCase


def test_what_mlflow_refuses_is_told_and_left_out(tmp_path: Path) -> None:
    client, refused = FakeMlflow(), []
    spool = Spool.create(tmp_path / "run", begun())
    spool.append(FileKept(path=str(tmp_path / "gone.csv"), folder=None))
    spool.append(TagsSet(values={"a": "b"}))
    deliver(spool, client, refused)
    assert len(refused) == 1
    assert "gone.csv is gone" in refused[0]
    assert client.active()[0].tags["a"] == "b"
    assert spool.unsent() == []
