"""The curve of a finished training as it lies beside its checkpoint: epochs.csv, one row an epoch."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from flows.errors import ProjectError
from flows.training.epochs import EpochMetrics

_NOT_OF_THIS_TASK = dict.fromkeys(("map50", "map50_95", "precision", "recall"), math.nan)
_FIELDS = set(EpochMetrics.model_fields) - {"epoch", "epochs", "losses"}


def read_curve(path: Path) -> list[EpochMetrics]:
    """The epochs of an epochs.csv, oldest first. What an older file lacks has its default, `score` that of
    mAP50-95; figures that its task does not have are NaN.

    Raises:
        ProjectError: There is no such file, or it is no curve.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return [_epoch(row, len(rows)) for row in rows]
    except FileNotFoundError:
        raise ProjectError(f"there is no {path.name} beside the checkpoint", "Run: tca train") from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        first = str(error).splitlines()[0]
        raise ProjectError(f"{path.name} is not the curve of a training ({first})", "Run: tca train --force") from None


def _epoch(row: dict[str, str], num_epochs: int) -> EpochMetrics:
    values = {name: float(text) for name, text in row.items() if name != "epoch" and text}
    known = {name: value for name, value in values.items() if name in _FIELDS}
    losses = {name: value for name, value in values.items() if name.startswith(("train_", "val_"))}
    if "score" not in known:
        known["score"] = known["map50_95"]
    return EpochMetrics.model_validate(
        {**_NOT_OF_THIS_TASK, "epoch": int(row["epoch"]), "epochs": num_epochs, "losses": losses, **known}
    )
