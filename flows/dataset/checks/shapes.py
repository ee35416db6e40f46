"""What shapes the boxes of each class have in this set, learnt robustly, and which boxes fall far out of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flows.dataset.checks.check import Row
from flows.dataset.formats.framing import UNKNOWN_CAMERA
from flows.params_data import LabelParams

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_LEAST_SIGMA = 0.15  # log units: labellers differ by that much, so tighter spreads prove nothing
_HUBER = 1.345  # 95 % efficient for normal residuals (Huber 1981)
_ROUNDS = 25
_BACKFITS = 3  # turns of frames and regression where the camera is not known; more change nothing
_LEAST_IN_FRAME = 5  # whole boxes of a frame that tell how near its camera is; a median of fewer may be wrong
_NEAR_BORDER = 0.015  # of the frame's side: labels of objects that leave the frame often end short of it


@dataclass(frozen=True)
class Measure:
    """One thing that is learnt of each class, and how the check about it speaks."""

    check: str
    title: str
    column: str  # robust z, not negative
    message: Callable[[Row], str]


@dataclass(frozen=True)
class Shapes:
    """Robust z of each box, a row per box of the table that was given, missing where it was not judged."""

    scores: pd.DataFrame  # aspect_z, usual_aspect, size_z, size_ratio
    note_on_aspects: str  # what was not judged, and why, in sentences; empty if all was
    note_on_sizes: str


def _aspect(row: Row) -> str:
    own = row["width_px"] / row["height_px"]
    return (
        f"{_extent(row)}, {own:.2f} times as wide as high; usual is {row['usual_aspect']:.2f}"
        f" (robust z {row['aspect_z']:.1f})"
    )


def _size(row: Row) -> str:
    ratio = row["size_ratio"]
    compared = f"{ratio:.1f} times as large as usual" if ratio > 1 else f"{1 / ratio:.1f} times smaller than usual"
    return f"{_extent(row)}, {compared} here (robust z {row['size_z']:.1f})"


def _extent(row: Row) -> str:
    return f"the {row['class_name']} is {row['width_px']:.0f} x {row['height_px']:.0f} px"


MEASURES = (
    Measure("aspects_plausible", "The aspect of each box is plausible for its class", "aspect_z", _aspect),
    Measure("sizes_plausible", "The size of each box is plausible for its class and place", "size_z", _size),
)


def learn_shapes(boxes: pd.DataFrame, labels: LabelParams) -> Shapes:
    """Score the aspect and the size of boxes against those of their class.

    Aspect: log(width / height) against median and MAD of the class. Size: log of the root of the area, as a share of
    the frame's height. Things look smaller farther away, which is higher up in the frame of a traffic camera: so it is
    judged by the residuals of a robust regression (Huber's M-estimator, Huber 1981) on the lower edge of the box and
    its square, with an offset for each class, fitted for each camera that has enough boxes. Frames of other cameras are
    fitted together, each with an offset of its own, by backfitting (Hastie, Tibshirani 1990): a box is then compared
    with the others of its frame, and not judged if these are few.

    Whole boxes teach. Those near the border of the frame may show only part of an object: they may be of any aspect and
    as small as they like, and are judged only if they are too large.

    Args:
        boxes: Columns of the manifest's boxes, and `width` and `height` of the frame, px.
        labels: `min_shape_boxes`: classes with fewer whole boxes are not judged.
    """
    import pandas as pd

    scores = pd.DataFrame(np.nan, index=boxes.index, columns=["aspect_z", "usual_aspect", "size_z", "size_ratio"])
    sound = boxes[(boxes["width_px"] > 0) & (boxes["height_px"] > 0)]
    whole = sound[_is_whole(sound)]
    numbers = whole["class_name"].value_counts()
    common = set(numbers.index[numbers >= labels.min_shape_boxes])
    sound = sound[sound["class_name"].isin(common)]
    if len(sound):
        teaches = _is_whole(sound)
        classes = pd.factorize(sound["class_name"])[0]
        aspects = np.log((sound["width_px"] / sound["height_px"]).to_numpy(dtype=np.float64))
        residuals = _size_residuals(sound, classes, teaches, labels.min_shape_boxes)
        aspect_z, aspect_centre = _robust_z(aspects, classes, teaches)
        size_z, size_centre = _robust_z(residuals, classes, teaches)
        scores.loc[sound.index, "aspect_z"] = np.where(teaches, np.abs(aspect_z), np.nan)
        scores.loc[sound.index, "usual_aspect"] = np.exp(aspect_centre)
        scores.loc[sound.index, "size_z"] = np.where(teaches, np.abs(size_z), np.maximum(size_z, 0.0))
        scores.loc[sound.index, "size_ratio"] = np.exp(residuals - size_centre)
    few = [f"{name} ({numbers.get(name, 0):,})" for name in sorted(set(boxes["class_name"]) - common)]
    sentence = f"Not judged, with fewer than {labels.min_shape_boxes} whole boxes: {', '.join(few)}. " if few else ""
    alone = int(scores.loc[sound.index, "size_ratio"].isna().sum())
    aside = f"{alone:,} boxes not judged: camera not known, and few others in the frame to compare with. "
    return Shapes(scores, sentence.strip(), (sentence + (aside if alone else "")).strip())


def _is_whole(boxes: pd.DataFrame) -> npt.NDArray[np.bool_]:  # (N,)
    margins = np.minimum(
        np.minimum(boxes["x1"], boxes["width"] - boxes["x2"]) / boxes["width"],
        np.minimum(boxes["y1"], boxes["height"] - boxes["y2"]) / boxes["height"],
    )
    return np.asarray((margins > _NEAR_BORDER) & ~boxes["truncated"], dtype=np.bool_)


def _size_residuals(
    boxes: pd.DataFrame, classes: npt.NDArray[np.intp], teaches: npt.NDArray[np.bool_], least: int
) -> Floats:  # (N,)
    """Log size of each box less what its class, camera or frame, and lower edge let expect; missing if unknown."""
    import pandas as pd

    areas = (boxes["width_px"] * boxes["height_px"] / boxes["height"] ** 2).to_numpy(dtype=np.float64)
    log_sizes = 0.5 * np.log(areas)
    lower_edge = (boxes["y2"] / boxes["height"]).clip(0, 1).to_numpy(dtype=np.float64)
    design = np.column_stack([lower_edge, lower_edge**2, np.eye(classes.max() + 1)[classes]])
    numbers = boxes["camera"].map(boxes.loc[teaches, "camera"].value_counts()).fillna(0)
    is_known = (numbers >= least) & (boxes["camera"] != UNKNOWN_CAMERA)
    frames, cameras = pd.factorize(boxes["image"])[0], pd.factorize(boxes["camera"].where(is_known))[0]  # -1: not known
    residuals = np.empty(len(boxes))
    for camera in np.unique(cameras):
        rows = np.flatnonzero(cameras == camera)
        own = rows[teaches[rows]]
        if len(own) < least:  # of cameras that are not known; hardly anything to learn from, so all teach
            own = np.flatnonzero(teaches)
        offsets = np.zeros(len(boxes))
        coefficients = _huber(design[own], log_sizes[own])
        for _ in range(_BACKFITS if camera < 0 else 0):
            offsets = _frame_offsets(log_sizes - design @ coefficients, frames, own)
            told = own[np.isfinite(offsets[own])]
            if len(told) >= least:
                coefficients = _huber(design[told], (log_sizes - offsets)[told])
        residuals[rows] = (log_sizes - offsets - design @ coefficients)[rows]
    return residuals


def _frame_offsets(residuals: Floats, frames: npt.NDArray[np.intp], known: npt.NDArray[np.intp]) -> Floats:  # (N,)
    """For each box the median of the whole boxes of its frame: its camera may be near, or zoomed in; missing if few."""
    import pandas as pd

    by_frame = pd.Series(residuals[known]).groupby(frames[known])
    medians = by_frame.median()[by_frame.size() >= _LEAST_IN_FRAME]
    return np.asarray(medians.reindex(frames), dtype=np.float64)


def _huber(design: Floats, values: Floats) -> Floats:  # (N, K), (N,) -> (K,)
    """Coefficients of a regression in which far values weigh less: iteratively reweighted least squares."""
    weights: Floats = np.ones(len(values))
    coefficients: Floats = np.zeros(design.shape[1])
    for _ in range(_ROUNDS):
        roots = np.sqrt(weights)
        before = coefficients
        solution = np.linalg.lstsq(design * roots[:, None], values * roots, rcond=None)[0]
        coefficients = np.asarray(solution, dtype=np.float64)
        if np.allclose(coefficients, before, atol=1e-6):
            break
        residuals = np.abs(values - design @ coefficients)
        scale = max(_MAD_TO_SIGMA * float(np.median(residuals)), 1e-9)
        weights = np.minimum(1.0, _HUBER * scale / np.maximum(residuals, 1e-12))
    return coefficients


def _robust_z(
    values: Floats, classes: npt.NDArray[np.intp], teaches: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:  # (N,), (N,) -> (N,), (N,)
    """Distance of each value from the median of its class in robust standard deviations, and that median."""
    z, centres = np.empty(len(values)), np.empty(len(values))
    for index in range(classes.max() + 1):
        members = classes == index
        known = values[members & teaches & np.isfinite(values)]
        centre = float(np.median(known)) if len(known) else 0.0
        spread = float(np.median(np.abs(known - centre))) if len(known) else 0.0
        sigma = max(_MAD_TO_SIGMA * spread, _LEAST_SIGMA)
        z[members], centres[members] = (values[members] - centre) / sigma, centre
    return z, centres
