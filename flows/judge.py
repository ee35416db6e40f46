"""What an engine loses against PyTorch on the frozen frames: the comparison's arithmetic for the export's proof."""

from __future__ import annotations

import numpy as np

from bentos.detector.detector import Detector
from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.matching import match_all
from flows.comparison.predictions import MAX_DETECTIONS, Floats, detect_frames
from flows.comparison.resampling import Estimate, jackknife, jackknife_weights, unit_of_image
from flows.dataset.layout import Dataset
from flows.exporting.accuracy import Accuracy, Baseline, Loss
from flows.frozen import check_classes, frozen_frames
from flows.params import EvaluateParams
from flows.progress import Progress


class FrozenJudge:
    """An export's `Judge`: paired differences on the frozen frames, with the units and the error of the evaluation."""

    def __init__(self, dataset: Dataset, params: EvaluateParams) -> None:
        self._dataset, self._params = dataset, params
        self._truth = frozen_frames(dataset, params.split)
        everywhere = np.ones(len(self._truth.images), dtype=bool)
        units = unit_of_image(self._truth, params.unit, everywhere, params.min_units, params.block_s)
        self._weights = jackknife_weights(units)
        self._reference: Floats | None = None

    def start(self, reference: Detector, progress: Progress) -> Baseline:
        """See `Judge.start`. Raises DataError where the model has other classes than the data."""
        check_classes(reference.spec.classes, self._dataset)
        self._reference = self._score(reference, progress)
        return Baseline(
            split=self._params.split,
            unit=self._params.unit,
            alpha=self._params.alpha,
            num_images=len(self._truth.images),
            num_objects=len(self._truth.class_ids),
            num_units=len(self._weights) - 1,
            min_units=self._params.min_units,
            map50_95=self._estimate(self._reference).value,
        )

    def measure(self, detector: Detector, progress: Progress) -> Accuracy:
        """See `Judge.measure`."""
        assert self._reference is not None, "start comes first"
        samples = self._score(detector, progress)
        loss = self._estimate(self._reference - samples)
        return Accuracy(
            map50_95=self._estimate(samples).value,
            loss=Loss(value=loss.value, lower=loss.lower, upper=loss.upper, num_units=loss.num_units),
        )

    def _score(self, detector: Detector, progress: Progress) -> Floats:
        """mAP50-95 with all units, then without one at a time, (1 + num_units,)."""
        found = detect_frames(
            detector,
            self._dataset.root,
            self._truth.images,
            progress,
            max_det=min(MAX_DETECTIONS, detector.spec.top_k),
        )
        return mean_average_precision(average_precisions(rank(match_all(self._truth, found)), self._weights))

    def _estimate(self, samples: Floats) -> Estimate:
        return jackknife(samples, self._params.alpha, self._params.min_units)
