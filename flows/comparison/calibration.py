"""Whether a confidence is what it says: of detections with confidence .8, eight in ten should be right.

Detection expected calibration error (D-ECE) of the detections served, by confidence alone, right at IoU .50, and the
share of it that is overconfidence: what confidences promise beyond what they hold. The rest is shyness, of which a
detector has more the better it gets while it is still learning; so only overconfidence is judged, both are told.

Source: Küppers et al., "Multivariate Confidence Calibration for Object Detection", CVPR workshops 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from flows.comparison.matching import Matches
from flows.comparison.predictions import Floats

NUM_BINS = 10
"""Bins of equal width between confidence 0 and 1."""


class CalibrationBin(BaseModel):
    """The served detections of one range of confidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lower: float = Field(description="confidence from which the bin begins")
    upper: float = Field(description="confidence at which it ends")
    mean_confidence: float = Field(description="mean of the confidences in it")
    precision: float = Field(description="share of them that are right, IoU .50")
    num: int = Field(description="detections in it")


class Calibration(BaseModel):
    """The calibration of one model at the served confidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: float | None = Field(description="D-ECE: |precision - mean confidence|, mean over detections; null: none")
    overconfidence: float | None = Field(
        default=None, description="the part of it where confidence is above precision; null: none, or not measured"
    )
    bins: tuple[CalibrationBin, ...] = Field(description="bins that hold a detection, by rising confidence")


@dataclass(frozen=True)
class ConfidenceBins:
    """Per image and bin of confidence: what is served there, and what of it is right."""

    num: Floats  # (num_images, NUM_BINS) detections
    confidence: Floats  # (num_images, NUM_BINS) sum of their confidences
    hits: Floats  # (num_images, NUM_BINS) those of them that are right


def confidence_bins(matches: Matches, conf: float) -> ConfidenceBins:
    """Sort the detections of confidence `conf` and more by image and confidence."""
    kept = (matches.scores >= conf) & ~matches.ignored[0]
    scores = matches.scores[kept]
    bins = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    cells = matches.image_index[kept] * NUM_BINS + bins

    def summed(values: npt.NDArray[np.float64] | None) -> Floats:
        flat = np.bincount(cells, weights=values, minlength=matches.num_images * NUM_BINS)
        return flat.astype(np.float64).reshape(matches.num_images, NUM_BINS)

    return ConfidenceBins(summed(None), summed(scores), summed(matches.hit[0, kept].astype(np.float64)))


def calibration_errors(bins: ConfidenceBins, weights: npt.NDArray[np.integer]) -> tuple[Floats, Floats]:
    """D-ECE and overconfidence of each weighting of the images, (R, num_images) to two (R,); NaN: nothing is served."""
    promised = weights @ bins.confidence - weights @ bins.hits  # (R, NUM_BINS) beyond what is held
    served = (weights @ bins.num).sum(axis=1)
    return _shares(np.abs(promised), served), _shares(np.maximum(promised, 0.0), served)


def calibration(bins: ConfidenceBins) -> Calibration:
    """Read the calibration off all images together."""
    num, confidence, hits = bins.num.sum(axis=0), bins.confidence.sum(axis=0), bins.hits.sum(axis=0)
    error, over = calibration_errors(bins, np.ones((1, len(bins.num)), dtype=np.int64))
    filled = tuple(
        CalibrationBin(
            lower=index / NUM_BINS,
            upper=(index + 1) / NUM_BINS,
            mean_confidence=float(confidence[index] / num[index]),
            precision=float(hits[index] / num[index]),
            num=int(num[index]),
        )
        for index in np.flatnonzero(num)
    )
    if not filled:
        return Calibration(error=None, bins=())
    return Calibration(error=float(error[0]), overconfidence=float(over[0]), bins=filled)


def _shares(gaps: Floats, served: Floats) -> Floats:
    total = gaps.sum(axis=1)
    shares: Floats = np.divide(total, served, out=np.full(len(total), np.nan), where=served > 0)
    return shares
