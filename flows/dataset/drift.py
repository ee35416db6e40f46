"""How far what the cameras send in production has moved from the frames that the model was trained on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.recorder import WARM_UP_CAMERA, FeatureRecord, read_records
from flows.errors import DataError
from flows.params_data import MonitorParams

if TYPE_CHECKING:
    import pandas as pd

# What both a labelled frame and a recorded answer have. Boxes are labels on one side and detections on the other: what
# the detector misses shows as drift, which is wanted, since it means the same to the user.
FEATURES = {
    "brightness": "mean grey, 0 to 255",
    "contrast": "standard deviation of grey",
    "sharpness": "variance of the Laplacian",
    "num_boxes": "boxes in a frame",
    "mean_box_share": "mean area of a box, share of the frame",
}
FALSE_ALARM_RATE = 0.05  # over all features, under sampling noise alone
_NUM_SHUFFLES = 400
_METRIC = "evidently:metric_v2:ValueDrift"


class FeatureDrift(BaseModel):
    """One feature in training and in production."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="column of the feature")
    meaning: str = Field(description="what it is, with its unit")
    reference_mean: float | None = Field(description="mean over the reference frames that have it")
    current_mean: float | None = Field(description="mean over the production frames that have it")
    num_current: int = Field(description="production frames that have it")
    distance: float | None = Field(description="Wasserstein distance in standard deviations of the reference")
    threshold: float | None = Field(description="the larger of params.yaml's and what sampling noise alone would reach")
    drifted: bool | None = Field(description="distance >= threshold; null: too few frames have it")


class DriftReport(BaseModel):
    """Verdict on a batch of production frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="whether the verdict is steady")
    sentence: str = Field(description="the verdict in one sentence")
    verdict: Literal["steady", "drifted", "insufficient"] = Field(description="insufficient: too few frames to say")
    num_reference: int = Field(description="frames of the training reference")
    num_current: int = Field(description="recorded production frames")
    min_frames: int = Field(description="fewer give no verdict")
    drifted_share: float | None = Field(description="share of measured features that drifted")
    drift_share_limit: float = Field(description="share that makes an alarm")
    features: tuple[FeatureDrift, ...] = Field(description="each feature with its distance")


def reference_features(images: pd.DataFrame, boxes: pd.DataFrame, split: str = "train") -> pd.DataFrame:
    """A row per readable frame of `split`, with the columns of `FEATURES`; from the tables of a manifest."""
    frames = images[(images["split"] == split) & images["readable"]].set_index("image")
    ours = boxes[boxes["image"].isin(frames.index)]
    frame_area = ours["image"].map(frames["width"] * frames["height"])
    share = (ours["width_px"] * ours["height_px"] / frame_area).groupby(ours["image"]).mean()
    table = frames[["brightness", "contrast", "sharpness", "num_boxes"]].assign(mean_box_share=share)
    return table[list(FEATURES)].astype("float64").reset_index(drop=True)


def production_features(record_dir: Path) -> pd.DataFrame:
    """A row per recorded frame, with the columns of `FEATURES`; from the JSON lines that serving wrote.

    Raises:
        DataError: There is no such folder, or it holds a line that is no record.
    """
    import pandas as pd

    if not record_dir.is_dir():
        raise DataError(
            f"no production frames are recorded in {record_dir}",
            "Serve with recording on (tca serve does; elsewhere set DETECTOR_RECORD_DIR), or name the folder",
        )
    try:
        rows = [_row(record) for record in read_records(record_dir) if record.camera != WARM_UP_CAMERA]
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{record_dir} holds a line that is no record: {reason}", "Move that file away") from None
    return pd.DataFrame(rows, columns=list(FEATURES)).astype("float64")


def measure_drift(
    reference: pd.DataFrame, current: pd.DataFrame, params: MonitorParams, html: Path | None = None, seed: int = 0
) -> DriftReport:
    """Compare two tables with the columns of `FEATURES`, feature by feature, with Evidently.

    A feature has drifted when its normed Wasserstein distance reaches its threshold: the one of params.yaml, or the
    distance that shuffled frames of both tables reach by chance (`FALSE_ALARM_RATE`, Bonferroni over the features), if
    that is larger. So few frames do not cry wolf.

    Args:
        reference: (N, 5) frames of the training split.
        current: (M, 5) recorded production frames.
        params: Thresholds.
        html: Where Evidently's own page goes; none when there are too few frames.
        seed: Of the shuffling.
    """
    if min(len(reference), len(current)) < params.min_frames:
        return _report(reference, current, params, {}, {})
    counts = {name: (reference[name].count(), current[name].count()) for name in FEATURES}
    measured = [name for name, both in counts.items() if min(both) >= params.min_frames]
    generator = np.random.default_rng(seed)
    level = 1 - FALSE_ALARM_RATE / len(FEATURES)
    thresholds = {
        name: max(params.threshold, noise_distance(_values(reference, name), _values(current, name), level, generator))
        for name in measured
    }
    distances = _evidently_distances(reference[measured], current[measured], thresholds, params.drift_share, html)
    return _report(reference, current, params, distances, thresholds)


def noise_distance(
    reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64], level: float, generator: np.random.Generator
) -> float:
    """The normed Wasserstein distance that shuffled values of both samples stay below with probability `level`.

    Permutation test (Fisher 1935): exact for any distribution, where a bootstrap is too low for heavy tails.
    """
    from scipy.stats import wasserstein_distance

    pooled = np.concatenate([reference, current])
    scale = max(float(reference.std()), 1e-3)  # as Evidently does
    distances = []
    for _ in range(_NUM_SHUFFLES):
        generator.shuffle(pooled)
        distances.append(wasserstein_distance(pooled[: len(reference)], pooled[len(reference) :]) / scale)
    return float(np.quantile(distances, level))


def _evidently_distances(
    reference: pd.DataFrame, current: pd.DataFrame, thresholds: Mapping[str, float], share: float, html: Path | None
) -> dict[str, float]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=list(thresholds))
    preset = DataDriftPreset(
        drift_share=share, num_method="wasserstein", per_column_threshold=dict(thresholds), columns=list(thresholds)
    )
    snapshot = Report([preset], include_tests=True).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        snapshot.save_html(str(html))
    with tempfile.TemporaryDirectory() as folder:  # dict() would hold numpy scalars and enums
        path = Path(folder) / "snapshot.json"
        snapshot.save_json(str(path))
        found = json.loads(path.read_text(encoding="utf-8"))
    configs = [(metric["config"], metric["value"]) for metric in found["metrics"]]
    return {config["column"]: float(value) for config, value in configs if config["type"] == _METRIC}


def _report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    params: MonitorParams,
    distances: Mapping[str, float],
    thresholds: Mapping[str, float],
) -> DriftReport:
    features = tuple(_feature(name, reference, current, distances, thresholds) for name in FEATURES)
    verdicts = [one.drifted for one in features if one.drifted is not None]
    share = sum(verdicts) / len(verdicts) if verdicts else None
    verdict = _verdict(share, params.drift_share)
    return DriftReport(
        passed=verdict == "steady",
        sentence=_sentence(verdict, features, len(reference), len(current), params),
        verdict=verdict,
        num_reference=len(reference),
        num_current=len(current),
        min_frames=params.min_frames,
        drifted_share=share,
        drift_share_limit=params.drift_share,
        features=features,
    )


def _verdict(share: float | None, limit: float) -> Literal["steady", "drifted", "insufficient"]:
    if share is None:
        return "insufficient"
    return "drifted" if share > 0 and share >= limit else "steady"


def _feature(
    name: str,
    reference: pd.DataFrame,
    current: pd.DataFrame,
    distances: Mapping[str, float],
    thresholds: Mapping[str, float],
) -> FeatureDrift:
    distance, threshold = distances.get(name), thresholds.get(name)
    return FeatureDrift(
        name=name,
        meaning=FEATURES[name],
        reference_mean=_mean(reference, name),
        current_mean=_mean(current, name),
        num_current=int(current[name].count()),
        distance=distance,
        threshold=threshold,
        drifted=None if distance is None or threshold is None else distance >= threshold,
    )


def _sentence(
    verdict: str, features: tuple[FeatureDrift, ...], num_reference: int, num_current: int, params: MonitorParams
) -> str:
    if verdict == "insufficient":
        fewer = "production" if num_current <= num_reference else "reference"
        number = min(num_reference, num_current)
        return f"too few {fewer} frames to say: {number:,}, at least {params.min_frames:,} are needed"
    frames = f"{num_current:,} production frames against {num_reference:,} of training"
    moved = [one.name for one in features if one.drifted]
    measured = sum(one.drifted is not None for one in features)
    if not moved:
        return f"no drift in {measured} features, {frames}"
    return f"{len(moved)} of {measured} features drifted ({', '.join(moved)}), {frames}"


def _row(record: FeatureRecord) -> dict[str, float | None]:
    fields = record.model_dump(include=set(FEATURES))
    return {**fields, "num_boxes": record.num_detections}


def _values(table: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
    return table[name].dropna().to_numpy(dtype=np.float64)


def _mean(table: pd.DataFrame, name: str) -> float | None:
    values = _values(table, name)
    return float(values.mean()) if len(values) else None
