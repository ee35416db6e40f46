"""How far one set of frames has moved from another: figures of images, boxes and embeddings, and what cameras see."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.drift.cameras import CameraFinding, judge_cameras
from flows.dataset.drift.evidently_page import evidently_distances
from flows.dataset.drift.permutation import Comparison, compare_columns
from flows.dataset.drift.samples import BOX_COLUMNS, CLASS_PREFIX, IMAGE_COLUMNS, Sample
from flows.dataset.drift.sentences import drift_sentence, sample_notes
from flows.dataset.drift.units import ALL, Floats, Units, pool_units, shared_columns
from flows.params_data import MonitorParams

__all__ = ["DriftReport", "FeatureDrift", "measure_drift"]

Verdict = Literal["steady", "drifted", "insufficient"]


class FeatureDrift(BaseModel):
    """One column in one group of units, in both samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str = Field(description='"all", "like with like" (relative to camera and slice), "camera X" or "slice X"')
    name: str = Field(description="column of the feature")
    meaning: str = Field(description="what it is, with its unit")
    reference_mean: float | None = Field(description="mean over the units of the reference that have it")
    current_mean: float | None = Field(description="mean over the units of the current sample that have it")
    num_reference: int = Field(description="units of the reference that have it")
    num_current: int = Field(description="units of the current sample that have it")
    distance: float | None = Field(description="Wasserstein distance in standard deviations of the reference")
    limit: float | None = Field(description="the larger of params.yaml's threshold and what shuffled units reach")
    p_value: float | None = Field(description="probability of such a distance by chance in any column of any group")
    drifted: bool | None = Field(description="p_value <= alpha and distance >= threshold; null: too few have it")


class DriftReport(BaseModel):
    """Verdict on two samples of frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="whether the verdict is steady")
    sentence: str = Field(description="the verdict in one sentence")
    verdict: Verdict = Field(description="insufficient: too few frames to say")
    reference: str = Field(description="what is compared with")
    current: str = Field(description="what is judged")
    num_reference: int = Field(description="frames of the reference")
    num_current: int = Field(description="frames of the current sample")
    unit: Literal["clip", "frame"] = Field(description="what was shuffled; frames where too few clips are known")
    num_reference_units: int = Field(description="units of the reference")
    num_current_units: int = Field(description="units of the current sample")
    min_frames: int = Field(description="fewer give no verdict")
    alpha: float = Field(description="probability of a false alarm, over all columns and groups together")
    features: tuple[FeatureDrift, ...] = Field(description="each column in each group, with its distance")
    cameras: tuple[CameraFinding, ...] = Field(description="each camera that both samples have enough frames of")
    notes: tuple[str, ...] = Field(description="what was left out, and what else a reader should know")


def measure_drift(
    reference: Sample, current: Sample, params: MonitorParams, html: Path | None = None, seed: int = 0
) -> DriftReport:
    """Compare two samples column by column, in all units, like with like, and by camera and slice; then the views.

    A column has drifted when its distance is larger than the threshold of params.yaml and than what clips that are
    dealt at random reach in any column of any group but with probability `params.alpha`.

    Args:
        reference: What is compared with, the training split, say.
        current: What is judged.
        params: Thresholds.
        html: Where Evidently's own page goes; none when there are too few frames.
        seed: Of the shuffling.
    """
    reference, current, columns = shared_columns(reference, current)
    units = pool_units(reference, current, columns, params.min_units)
    enough = min(len(reference.frames), len(current.frames)) >= params.min_frames
    features = _features(reference, current, units, params, seed) if enough else ()
    measured = {one.name: one.limit for one in features if one.group == ALL and one.limit is not None}
    if html is not None and measured:
        evidently_distances(units, measured, html)
    cameras = judge_cameras(reference, current, params, seed)
    verdict = _verdict(features, cameras)
    return DriftReport(
        passed=verdict == "steady",
        sentence=drift_sentence(verdict, features, cameras, (reference, current), params.min_frames),
        verdict=verdict,
        reference=reference.name,
        current=current.name,
        num_reference=len(reference.frames),
        num_current=len(current.frames),
        unit=units.kind,
        num_reference_units=units.num_reference,
        num_current_units=units.num_current,
        min_frames=params.min_frames,
        alpha=params.alpha,
        features=features,
        cameras=cameras,
        notes=sample_notes(reference, current, units, features),
    )


def _features(
    reference: Sample, current: Sample, units: Units, params: MonitorParams, seed: int
) -> tuple[FeatureDrift, ...]:
    rare = {
        name
        for name in units.columns
        if min(int(sample.frames[name].count()) for sample in (reference, current)) < params.min_frames
    }
    cells = [(group, name, values) for group, columns in units.groups().items() for name, values in columns.items()]
    tested = [values if name not in rare else np.full(len(values), np.nan) for _, name, values in cells]
    found = compare_columns(tested, units.is_current, params.alpha, params.shuffles, seed)
    return tuple(
        _feature(group, name, values, units, comparison, params)
        for (group, name, values), comparison in zip(cells, found, strict=True)
    )


def _feature(
    group: str, name: str, values: Floats, units: Units, found: Comparison, params: MonitorParams
) -> FeatureDrift:
    before, now = (side[np.isfinite(side)] for side in (values[~units.is_current], values[units.is_current]))
    scale = max(float(before.std()), 1e-3) if len(before) else 1.0  # as Evidently does
    distance = None if found.distance is None else found.distance / scale
    return FeatureDrift(
        group=group,
        name=name,
        meaning=column_meaning(name),
        reference_mean=float(before.mean()) if len(before) else None,
        current_mean=float(now.mean()) if len(now) else None,
        num_reference=len(before),
        num_current=len(now),
        distance=distance,
        limit=None if found.limit is None else max(params.threshold, found.limit / scale),
        p_value=found.p_value,
        drifted=None
        if found.p_value is None or distance is None
        else found.p_value <= params.alpha and distance >= params.threshold,
    )


def column_meaning(name: str) -> str:
    """What a column is, with its unit."""
    if name.startswith(CLASS_PREFIX):
        return f"share of {name.removeprefix(CLASS_PREFIX)} among the boxes of a frame"
    return (IMAGE_COLUMNS | BOX_COLUMNS).get(name, "embedding of the detector's backbone, along a principal component")


def _verdict(features: tuple[FeatureDrift, ...], cameras: tuple[CameraFinding, ...]) -> Verdict:
    if any(one.drifted for one in features) or any(one.is_alarm for one in cameras):
        return "drifted"
    return "steady" if any(one.drifted is not None for one in features) else "insufficient"
