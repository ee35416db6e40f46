"""Train a YOLO11 detector: from labelled frames to the best checkpoint and its curve."""

from __future__ import annotations

import csv
import math
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.errors import DataError
from flows.params_train import TrainParams
from flows.progress import Progress, silent
from flows.training.checkpoints import CheckpointInfo, find_start, inspect_checkpoint, seal_checkpoint
from flows.training.epochs import EpochMetrics, OnEpoch
from flows.training.frames import LabelledFrames, input_size_wh, mirror_frames, read_sizes_wh
from flows.training.reproducibility import TrainReport
from flows.weights import digest_state, load_ultralytics, read_weights, threads

if TYPE_CHECKING:
    from flows.training.session import DetectorTrainer


def train_detector(
    dataset: LabelledFrames,
    params: TrainParams,
    seed: int,
    out_dir: Path,
    on_epoch: OnEpoch,
    progress: Progress = silent,
    start_checkpoint: Path | None = None,
) -> TrainReport:
    """Train on the split `train`, choose by mAP50-95 on `val`.

    `out_dir` gets best.pt, last.pt, epochs.csv and training.json, and is replaced only when all is done: until then
    the work lies beside it in `<out_dir>.partial`, which stays after an interruption and is begun anew next time. An
    exception raised by `on_epoch` ends the training and is passed on.

    On a CPU the same input gives the same weights, as long as nothing else in the process draws from its random
    numbers: see `flows.training.launch`.

    Args:
        start_checkpoint: Train on from these weights instead of from `params.model`.

    Raises:
        DataError: A split is empty, or an image cannot be read.
        CheckpointError: The weights to start from are not those of a YOLO11 detector.
    """
    start = start_checkpoint or find_start(params.model)
    info = inspect_checkpoint(start) if isinstance(start, Path) else None
    size_wh = input_size_wh(read_sizes_wh(dataset), params.image_size)
    draft = out_dir.with_name(f"{out_dir.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    load_ultralytics()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mirror-", dir=draft) as mirror, threads(params.threads):
        mirror_frames(dataset, Path(mirror))
        trainer = _session(dataset, params, seed, draft, str(start), Path(mirror), size_wh)
        # Ultralytics has just left PyTorch one thread less than there are cores.
        with threads(params.threads) as num_threads:
            epochs = _run(trainer, on_epoch, progress)
    best = max(epochs, key=lambda epoch: (epoch.map50_95, epoch.epoch))
    notes = {"input_size_wh": list(size_wh), "classes": list(dataset.classes), "epoch": best.epoch}
    for name in ("best.pt", "last.pt"):
        seal_checkpoint(draft / "weights" / name, draft / name, notes)
    origin = _origin(start, info, dataset.classes)
    run: dict[str, Any] = {
        "images": len(dataset.split("train")),
        "seconds": round(time.monotonic() - started, 2),
        "seed": seed,
    }
    run |= {"precision": trainer.precision, "num_threads": num_threads}
    report = _report(epochs, best, draft / "best.pt", size_wh, {**origin, **run})
    _write_results(draft, epochs, report)
    _publish(draft, out_dir)
    return report


def _session(
    dataset: LabelledFrames,
    params: TrainParams,
    seed: int,
    draft: Path,
    start: str,
    mirror: Path,
    size_wh: tuple[int, int],
) -> DetectorTrainer:
    from flows.training.session import DetectorTrainer, choose_precision, ultralytics_arguments

    # Mosaics are squares of four frames; without them frames of one shape need no borders.
    rect = params.mosaic == 0 and size_wh[0] != size_wh[1]
    precision = choose_precision(params.precision)
    arguments = ultralytics_arguments(params, precision, seed, draft, start, rect)
    return DetectorTrainer(arguments, precision, mirror, dataset.classes, size_wh)


def _run(trainer: DetectorTrainer, on_epoch: OnEpoch, progress: Progress) -> list[EpochMetrics]:
    epochs: list[EpochMetrics] = []

    def note() -> str:
        shown = f"epoch {min(len(epochs) + 1, trainer.epochs)}/{trainer.epochs}"
        return f"{shown}  mAP50-95 {epochs[-1].map50_95:.3f}" if epochs else shown

    def validated(_: Any) -> None:
        epochs.append(_epoch_metrics(trainer))
        on_epoch(epochs[-1])

    trainer.on_batch(lambda done, total: progress(done, total, note()))
    trainer.add_callback("on_fit_epoch_end", validated)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trainer.train()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "No valid images" not in str(error):
                raise
            raise DataError("Ultralytics found no usable frame with labels", "Run: tca validate") from error
    return epochs


def _epoch_metrics(trainer: Any) -> EpochMetrics:
    figures = {key.removesuffix("(B)"): float(value) for key, value in trainer.metrics.items()}
    losses = {f"train_{key}": float(value) for key, value in trainer.tloss.items()}
    losses |= {key.replace("/", "_"): value for key, value in figures.items() if key.startswith("val/")}
    return EpochMetrics(
        epoch=trainer.epoch + 1,
        epochs=trainer.epochs,
        losses=losses,
        score=figures["metrics/mAP50-95"],
        map50=figures["metrics/mAP50"],
        map50_95=figures["metrics/mAP50-95"],
        precision=figures["metrics/precision"],
        recall=figures["metrics/recall"],
        learning_rate=float(trainer.lr["lr/pg0"]),
        seconds=round(trainer.epoch_time, 3),
        images_per_s=round(len(trainer.train_loader.dataset) / trainer.train_seconds, 2),
    )


def _origin(start: str | Path, info: CheckpointInfo | None, classes: tuple[str, ...]) -> dict[str, Any]:
    if info is None:
        return {"started_from": str(start), "classes_started_from": None, "head_kept": None, "classes": classes}
    shown = f"{Path(start).name} {info.sha256[:12]}"
    kept = info.classes == classes
    return {"started_from": shown, "classes_started_from": info.classes, "head_kept": kept, "classes": classes}


def _report(
    epochs: Sequence[EpochMetrics], best: EpochMetrics, best_file: Path, size_wh: tuple[int, int], known: dict[str, Any]
) -> TrainReport:
    model = read_weights(best_file).model
    finite = math.isfinite(best.map50_95) and all(map(math.isfinite, epochs[-1].losses.values()))
    told = f"mAP50-95 {best.map50_95:.3f} on val at epoch {best.epoch} of {len(epochs)}, from {known['started_from']}"
    return TrainReport(
        passed=finite,
        sentence=told if finite else f"the training diverged; try a lower learning rate than this one ({told})",
        epochs=len(epochs),
        best_epoch=best.epoch,
        map50=best.map50,
        map50_95=best.map50_95,
        images_per_s=statistics.median(epoch.images_per_s for epoch in epochs),
        weights_sha256=digest_state(model),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        input_size_wh=size_wh,
        device=_device_name(),
        **known,
    )


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def _write_results(draft: Path, epochs: Sequence[EpochMetrics], report: TrainReport) -> None:
    """Leave our four files in `draft` and nothing of Ultralytics', whose tables and arguments name paths."""
    for leftover in draft.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover.suffix != ".pt":
            leftover.unlink()
    with (draft / "epochs.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["epoch", *epochs[0].numbers()])
        table.writerows([epoch.epoch, *epoch.numbers().values()] for epoch in epochs)
    (draft / "training.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _publish(draft: Path, out_dir: Path) -> None:
    old = out_dir.with_name(f"{out_dir.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out_dir.exists():
        out_dir.rename(old)
    draft.rename(out_dir)
    shutil.rmtree(old, ignore_errors=True)
