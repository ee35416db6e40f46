"""What a finished training leaves: two checkpoints, the curve and the report, all at once."""

from __future__ import annotations

import csv
import math
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.training.epochs import EpochMetrics, name_score
from flows.training.loop.failures import told_of_full_disk
from flows.training.loop.state import save_tensors
from flows.training.reproducibility import TrainReport, weights_digest

if TYPE_CHECKING:
    from flows.training.loop.keeper import Keeper

_SPARE_BYTES = 2_000_000
_PRIVATE_ARGUMENTS = ("save_dir", "data", "project", "name", "model", "resume", "exist_ok")


def write_results(keeper: Keeper, draft: Path, known: dict[str, Any]) -> TrainReport:
    """Write best.pt, last.pt, epochs.csv and training.json into `draft`.

    Args:
        known: Fields of the report that do not follow from the training itself.

    Raises:
        OutsideError: The disk is full; the message says how much room is needed.
    """
    from flows.training.loop.snapshot import copy_weights

    session, best = keeper.session, keeper.curve[keeper.best_epoch - 1]
    num_parameters = sum(parameter.numel() for parameter in session.ema.ema.parameters())
    draft.mkdir(parents=True, exist_ok=True)
    # Two checkpoints in half precision.
    with told_of_full_disk(draft.parents[1], 2 * 2 * num_parameters + _SPARE_BYTES):
        for name, metrics, weights in (
            ("best.pt", best, keeper.best_weights),
            ("last.pt", keeper.curve[-1], copy_weights(session)),
        ):
            _write_checkpoint(keeper, draft / name, metrics, weights)
        report = _report(keeper, best, draft / "best.pt", {**known, "num_parameters": num_parameters})
        _write_curve(draft / "epochs.csv", keeper.curve)
        (draft / "training.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return report


def publish(draft: Path, out_dir: Path) -> None:
    """Put the finished `draft` in the place of `out_dir`."""
    old = out_dir.with_name(f"{out_dir.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out_dir.exists():
        out_dir.rename(old)
    draft.rename(out_dir)
    shutil.rmtree(old, ignore_errors=True)


def _write_checkpoint(keeper: Keeper, target: Path, metrics: EpochMetrics, weights: dict[str, Any]) -> None:
    """Write the `weights` of an epoch: half precision, no optimiser, no paths.

    Beside the model there are plain values only, so that it can be read without running what is in it.
    """
    from ultralytics import __version__

    from flows.training.loop.snapshot import build_model

    session, given = keeper.session, keeper.session.given
    model: Any = build_model(session, weights)
    model.args = {key: value for key, value in vars(session.args).items() if key not in _PRIVATE_ARGUMENTS}
    content = {
        "epoch": -1,
        "model": model,
        "ema": None,
        "optimizer": None,
        "train_args": model.args,
        "train_metrics": metrics.numbers(),
        "version": __version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "detector": {"input_size_wh": list(given.size_wh), "classes": list(given.classes), "epoch": metrics.epoch},
    }
    with target.open("wb") as stream:
        save_tensors(content, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _report(keeper: Keeper, best: EpochMetrics, best_file: Path, known: dict[str, Any]) -> TrainReport:
    curve, session = keeper.curve, keeper.session
    given, plan = session.given, session.plan
    finite = all(map(math.isfinite, [best.score, *curve[-1].losses.values()]))
    return TrainReport(
        passed=finite,
        sentence=_sentence(keeper, best, known["started_from"], finite),
        epochs=len(curve),
        best_epoch=best.epoch,
        map50=best.map50,
        map50_95=best.map50_95,
        score=best.score,
        images_per_s=statistics.median(epoch.images_per_s for epoch in curve),
        weights_sha256=weights_digest(best_file),
        task=given.params.task,
        classes=given.classes,
        input_size_wh=given.size_wh,
        precision=given.precision,
        seed=given.seed,
        images=plan.num_frames,
        device=_device_name(),
        stopped_early=len(curve) < given.params.epochs and finite,
        batch=plan.batch,
        micro_batch=plan.largest_part,
        num_processes=given.seat.world_size,
        num_nodes=given.seat.num_nodes,
        resumed_at=keeper.resumed_at,
        **known,
    )


def _sentence(keeper: Keeper, best: EpochMetrics, started_from: str, finite: bool) -> str:
    params, num_epochs = keeper.session.given.params, len(keeper.curve)
    told = (
        f"{name_score(params.task)} {best.score:.3f} on val at epoch {best.epoch} of {num_epochs}, from {started_from}"
    )
    if not finite:
        return f"the training diverged in epoch {num_epochs}; try a lower learning rate than this one ({told})"
    if num_epochs < params.epochs:
        return f"{told}; ended early, {params.patience} epochs without a better one"
    return told


def _device_name() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def _write_curve(path: Path, curve: Sequence[EpochMetrics]) -> None:
    columns = list(dict.fromkeys(name for epoch in curve for name in epoch.numbers()))
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["epoch", *columns])
        table.writerows([epoch.epoch, *(epoch.numbers().get(name, "") for name in columns)] for epoch in curve)
