"""What a verdict rests on as files: truth and predictions as parquet, one row an image, and the raw engine times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy.typing as npt

from flows.comparison.engine_latency import EngineTimes
from flows.comparison.predictions import Boxes, GroundTruth, Ints, LabelledFrame, Predictions, ground_truth, predictions
from flows.errors import DataError

_TRUTH, _CHALLENGER, _CHAMPION = "ground_truth.parquet", "challenger.parquet", "champion.parquet"
_TIMES = "engine_times.json"


@dataclass(frozen=True)
class Evidence:
    """What a comparison rests on: the truth, what each model found, how long its engine took."""

    truth: GroundTruth
    challenger: Predictions
    champion: Predictions | None
    times: EngineTimes


def write_evidence(folder: Path, evidence: Evidence) -> None:
    """Write all of it into `folder`; what an earlier champion found does not stay."""
    folder.mkdir(parents=True, exist_ok=True)
    write_ground_truth(folder / _TRUTH, evidence.truth)
    write_predictions(folder / _CHALLENGER, evidence.challenger)
    (folder / _CHAMPION).unlink(missing_ok=True)
    if evidence.champion is not None:
        write_predictions(folder / _CHAMPION, evidence.champion)
    (folder / _TIMES).write_text(evidence.times.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_evidence(folder: Path) -> Evidence:
    """Read what `write_evidence` wrote. Raises DataError if a file is missing or something else."""
    try:
        times = EngineTimes.model_validate_json((folder / _TIMES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{folder / _TIMES} is missing or damaged", "Run: tca evaluate --force") from None
    return Evidence(
        truth=read_ground_truth(folder / _TRUTH),
        challenger=read_predictions(folder / _CHALLENGER),
        champion=read_predictions(folder / _CHAMPION) if (folder / _CHAMPION).exists() else None,
        times=times,
    )


def write_predictions(path: Path, found: Predictions) -> None:
    """Write one row an image to a parquet file: image, boxes_xyxy (flat), scores, class_ids."""
    _write_parquet(path, _columns(found) | {"scores": _per_image(found.scores, found.offsets)})


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote. Raises DataError if the file is missing or something else."""
    columns = _read_parquet(path, ("image", "boxes_xyxy", "scores", "class_ids"))
    return predictions(columns["image"], columns["boxes_xyxy"], columns["scores"], columns["class_ids"])


def write_ground_truth(path: Path, truth: GroundTruth) -> None:
    """Write one row an image to a parquet file, the class names in its schema."""
    places = {"camera": list(truth.cameras), "clip": list(truth.clips), "slice": list(truth.slices)}
    places["time"] = list(truth.times) or [""] * len(truth.images)
    _write_parquet(path, _columns(truth) | places, {"classes": "\n".join(truth.classes)})


def read_ground_truth(path: Path) -> GroundTruth:
    """Read what `write_ground_truth` wrote; older files lack the times of the frames.

    Raises:
        DataError: The file is missing or something else.
    """
    fields = ["image", "camera", "clip", "slice", "boxes_xyxy", "class_ids"]
    columns = _read_parquet(path, (*fields, "classes"))
    fields += ["time"] * ("time" in columns)
    rows = zip(*(columns[field] for field in fields), strict=True)
    return ground_truth(columns["classes"], [LabelledFrame(**dict(zip(fields, row, strict=True))) for row in rows])


def _columns(table: Boxes) -> dict[str, list[Any]]:
    boxes = [part.ravel() for part in _per_image(table.boxes_xyxy, table.offsets)]
    return {"image": list(table.images), "boxes_xyxy": boxes, "class_ids": _per_image(table.class_ids, table.offsets)}


def _per_image(values: npt.NDArray[Any], offsets: Ints) -> list[npt.NDArray[Any]]:
    return [values[low:high] for low, high in pairwise(offsets)]


def _write_parquet(path: Path, columns: Mapping[str, list[Any]], metadata: Mapping[str, str] | None = None) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"boxes_xyxy": pa.list_(pa.float64()), "scores": pa.list_(pa.float64()), "class_ids": pa.list_(pa.int64())}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in columns], metadata=dict(metadata or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns), schema=schema), path)


def _read_parquet(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be read as parquet: {cause}", "Run: tca evaluate") from None
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    columns: dict[str, Any] = {name: table.column(name).to_pylist() for name in table.column_names}
    if "classes" in metadata:
        columns["classes"] = metadata["classes"].split("\n")
    if missing := [key for key in keys if key not in columns]:
        raise DataError(f"{path} has no column {', '.join(missing)}", "Run: tca evaluate")
    return columns
