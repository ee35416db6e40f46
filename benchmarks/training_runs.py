"""One training in a process of its own, its epochs timed from inside: `python -m benchmarks.training_runs JOB.json`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from benchmarks.report import ROOT, median
from flows.dataset.layout import Dataset, read_dataset
from flows.params_file import apply_overrides
from flows.params_train import TrainParams
from flows.training.epochs import EpochMetrics
from flows.training.frames import input_size_wh, mirror_frames, read_sizes_wh
from flows.training.loop.arguments import Precision, choose_precision, ultralytics_arguments
from flows.weights import load_ultralytics

Way = Literal["bare", "bare, our settings", "trainer", "flow"]
WAYS: dict[Way, str] = {
    "bare": "Ultralytics, as it is",
    "bare, our settings": "Ultralytics, with our settings",
    "trainer": "our trainer, state saved every epoch",
    "flow": "tca train: flow, tracking, checkpoints",
}


class Job(BaseModel):
    """What is trained in which way; `place` is an empty folder, or the project for the flow."""

    model_config = ConfigDict(frozen=True)

    way: Way
    data: Path
    place: Path
    params: TrainParams
    seed: int = 0
    start: Path | None = None


class Run(BaseModel):
    """When the epochs of a training ended, s after its process was started; and what our trainer says of each."""

    ends_s: list[float]
    total_s: float
    epochs: list[EpochMetrics] = []
    score: float | None = None
    cache: str | None = None

    @property
    def epoch_s(self) -> float:
        """Median time from the end of an epoch to the end of the next: all that a further epoch costs."""
        return median(end - begin for begin, end in zip(self.ends_s, self.ends_s[1:], strict=False))

    @property
    def fixed_s(self) -> float:
        """What a training takes beside its epochs."""
        return self.total_s - len(self.ends_s) * self.epoch_s

    @property
    def images_per_s(self) -> float:
        """Training images a second, median of the epochs after the first."""
        return median(epoch.images_per_s for epoch in self.epochs[1:])

    @property
    def wait_share(self) -> float:
        """Share of the training time spent waiting for frames, median of the epochs after the first."""
        return median(epoch.wait_share for epoch in self.epochs[1:])


def run_apart(job: Job, log: Path) -> Run:
    """Train in a new process. Raises RuntimeError with the end of its output when it fails."""
    outcome = log.with_suffix(".run.json")
    outcome.unlink(missing_ok=True)
    document = log.with_suffix(".job.json")
    document.write_text(job.model_dump_json(), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TCA_HOME": ""}
    argv = [sys.executable, "-P", "-m", "benchmarks.training_runs", str(document), str(outcome)]
    cwd = job.place if job.way == "flow" else ROOT
    with log.open("wb") as sink:
        started = time.monotonic()
        done = subprocess.run(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, check=False)
        total_s = time.monotonic() - started
    if done.returncode or not outcome.exists():
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise RuntimeError(f"the training ({job.way}) ended with {done.returncode}:\n{tail}")
    found = json.loads(outcome.read_text(encoding="utf-8"))
    found["ends_s"] = [end - started for end in found["ends_s"]]
    return Run.model_validate({**found, "total_s": total_s})


def main(arguments: list[str]) -> int:
    job = Job.model_validate_json(Path(arguments[0]).read_text(encoding="utf-8"))
    train = {"bare": _bare, "bare, our settings": _bare, "trainer": _trainer, "flow": _flow}[job.way]
    found = train(job)
    Path(arguments[1]).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _trainer(job: Job) -> dict[str, Any]:
    """`train_model` here and now."""
    from flows.training.loop.trainer import train_model

    ends, epochs = [], []

    def on_epoch(metrics: EpochMetrics) -> None:
        ends.append(time.monotonic())
        epochs.append(metrics)

    dataset, out_dir = read_dataset(job.data), job.place / "training"
    report = train_model(dataset, job.params, job.seed, out_dir, on_epoch, start_checkpoint=job.start)
    assert report
    return {
        "ends_s": ends,
        "epochs": [json.loads(epoch.model_dump_json()) for epoch in epochs],
        "score": report.map50_95,
        "cache": report.cache,
    }


def _flow(job: Job) -> dict[str, Any]:
    """The flow of `tca train` in the project that this process was started in."""
    from flows import train as stage
    from flows.adapters import orchestrator
    from flows.training.launching.launch import train_apart

    ends: list[float] = []

    def timed(dataset: Any, params: Any, seed: int, out_dir: Path, on_epoch: Any, *others: Any, **options: Any) -> Any:
        def told(metrics: EpochMetrics) -> None:
            on_epoch(metrics)
            ends.append(time.monotonic())

        return train_apart(dataset, params, seed, out_dir, told, *others, **options)

    setattr(stage, "train_apart", timed)  # noqa: B010 - the flow calls it by that name
    with orchestrator.connected(job.place / ".tca"):
        stage.train(overrides=_overrides(job.params), force=True)
    return {"ends_s": ends}


def _overrides(params: TrainParams) -> list[str]:
    return [
        f"train.{key}={json.dumps(value)}"
        for key, value in params.model_dump(mode="json").items()
        if key != "distributed"
    ]


def _bare(job: Job) -> dict[str, Any]:
    """Ultralytics' own trainer with the same arguments."""
    os.environ["YOLO_CONFIG_DIR"] = str(job.place)
    load_ultralytics()
    from ultralytics.utils import USER_CONFIG_DIR

    (USER_CONFIG_DIR / "Arial.ttf").touch()  # else it looks for a font on the internet
    dataset, mirror = read_dataset(job.data), job.place / "mirror"
    mirror_frames(dataset, mirror)
    size_wh = input_size_wh(read_sizes_wh(dataset), job.params.image_size)
    arguments = _bare_arguments(job, choose_precision(job.params.precision), size_wh)
    arguments["data"] = str(_write_data_yaml(dataset, mirror))
    trainer = _trainer_class(job, size_wh)(overrides=arguments)
    ends: list[float] = []
    trainer.add_callback("on_fit_epoch_end", lambda _: ends.append(time.monotonic()))
    trainer.train()
    return {"ends_s": ends[: job.params.epochs]}  # its validation of the best weights at the end calls, too


def _write_data_yaml(dataset: Dataset, mirror: Path) -> Path:
    content = {"path": str(mirror), "train": "images/train", "val": "images/val", "names": list(dataset.classes)}
    path = mirror / "data.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _bare_arguments(job: Job, precision: Precision, size_wh: tuple[int, int]) -> dict[str, Any]:
    """Ours, with warm-up and closing of mosaics left to Ultralytics, which writes a checkpoint every epoch."""
    params = job.params
    rect = params.mosaic == 0 and size_wh[0] != size_wh[1]
    start, cache = str(job.start or params.model), {"auto": "ram"}.get(params.cache, params.cache)
    ours = ultralytics_arguments(params, precision, job.seed, job.place / "run", start, rect, cache)
    bias_rate = 0.1 if params.optimizer == "SGD" else 0.0
    theirs = {"warmup_epochs": params.warmup_epochs, "warmup_bias_lr": bias_rate}
    return {**ours, **theirs, "close_mosaic": max(1, params.epochs // 5), "save": True}


def _trainer_class(job: Job, size_wh: tuple[int, int]) -> Any:
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer

    class WithOurSettings(DetectionTrainer):
        """Frames fill the input, channels last, Adam's fused kernel, as many threads: what `Session` does."""

        def build_dataset(self, *given: Any, **options: Any) -> Any:
            built = super().build_dataset(*given, **options)
            if built.rect and self.args.rect:
                built.batch_shapes[:] = size_wh[::-1]
            return built

        def _setup_train(self) -> None:
            super()._setup_train()  # type: ignore[no-untyped-call]
            torch.set_num_threads(job.params.threads or torch.get_num_threads())
            if self.device.type == "cpu":
                for model in (self.model, self.ema.ema):  # type: ignore[attr-defined]
                    model.to(memory_format=torch.channels_last)  # type: ignore[union-attr]

        def build_optimizer(self, *given: Any, **options: Any) -> Any:
            optimizer = super().build_optimizer(*given, **options)  # type: ignore[no-untyped-call]
            for group in optimizer.param_groups:
                group["fused"] = isinstance(optimizer, torch.optim.Adam)
            return optimizer

    return DetectionTrainer if job.way == "bare" else WithOurSettings


@contextlib.contextmanager
def project_with(data_overrides: list[str], place: Path) -> Iterator[Path]:
    """A project of its own with rendered and validated frames; its services are stopped when the block is left."""
    from tests.projects import copy_project

    root = copy_project(place)
    apply_overrides(root / "params.yaml", data_overrides)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TCA_HOME": ""}

    def tca(*arguments: str) -> None:
        argv = [sys.executable, "-P", "-m", "flows.cli", *arguments]
        done = subprocess.run(argv, cwd=root, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"tca {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    try:
        tca("data", "render")
        tca("validate")
        yield root
    finally:
        tca("down")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
