"""The same comparison inside every slice, condition, camera, class and object size, each with an interval of its own.

A part often lies in fewer cameras than an interval needs. It then takes clips, or blocks of time, as units and says so.
Blocks that lie close together resemble one another, so such an interval is rather too narrow than too wide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from flows.comparison.average_precision import Ranking, average_precisions, mean_over_classes, rank
from flows.comparison.matching import AREA_RANGES_PX, match_all
from flows.comparison.predictions import Floats, GroundTruth, Ints, Predictions
from flows.comparison.resampling import UNITS, Estimate, Unit, jackknife, jackknife_weights, p_worse, unit_of_image
from flows.params import EvaluateParams
from flows.progress import Progress, silent

Kind = Literal["slice", "camera", "class", "size"]


class SliceFigure(BaseModel):
    """mAP50-95 of both models on a part of the frames or objects (AP50-95 for a class)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field(description="what the part is cut by")
    name: str = Field(description="slice word, camera, class, or COCO object size")
    num_images: int = Field(description="frames that hold an object of the part")
    num_objects: int = Field(description="labelled objects of the part")
    unit: Unit = Field(description="resampling unit: the coarsest of camera, clip, block of time with enough units")
    challenger: Estimate = Field(description="the challenger's figure")
    champion: Estimate | None = Field(description="the champion's figure; null: there is no champion")
    difference: Estimate | None = Field(description="challenger minus champion, paired; null: there is no champion")
    p_worse: float | None = Field(description="one-sided p value that the challenger is not worse, uncorrected")


@dataclass(frozen=True)
class _Part:
    """A part of the data: a choice of images, and maybe one class or one object size."""

    kind: Kind
    name: str
    members: npt.NDArray[np.bool_]  # (num_images,)
    class_id: int | None = None


class SliceTable:
    """Computes the figures part by part, matching once per object size and resampling once per choice of units."""

    def __init__(
        self, truth: GroundTruth, challenger: Predictions, champion: Predictions | None, params: EvaluateParams
    ) -> None:
        self._truth = truth
        self._models = [challenger] if champion is None else [challenger, champion]
        self._params = params
        self._rankings: dict[str, list[Ranking]] = {}
        self._samples: dict[tuple[str, bytes], list[Floats]] = {}

    def figures(self, progress: Progress = silent) -> tuple[SliceFigure, ...]:
        """All parts that hold at least one object, by kind and name."""
        parts = list(_parts(self._truth))
        found = []
        for number, part in enumerate(parts, start=1):
            found.append(self._figure(part))
            progress(number, len(parts), "parts compared")
        return tuple(figure for figure in found if figure.num_objects)

    def _figure(self, part: _Part) -> SliceFigure:
        size = part.name if part.kind == "size" else ""
        counts = self._ranking(size)[0].num_objects  # (num_classes, num_images)
        per_image = (counts.sum(axis=0) if part.class_id is None else counts[part.class_id]) * part.members
        unit, units = self._units(part.members, per_image > 0)
        samples = self._jackknifed(size, units)  # per model (1 + units, num_classes)
        values = [mean_over_classes(one) if part.class_id is None else one[:, part.class_id] for one in samples]
        estimates = [self._estimate(value) for value in values]
        difference = self._estimate(values[0] - values[1]) if len(values) == 2 else None
        return SliceFigure(
            kind=part.kind,
            name=part.name,
            num_images=int((per_image > 0).sum()),
            num_objects=int(per_image.sum()),
            unit=unit,
            challenger=estimates[0],
            champion=estimates[1] if len(estimates) == 2 else None,
            difference=difference,
            p_worse=None if difference is None else p_worse(difference),
        )

    def _units(self, members: npt.NDArray[np.bool_], with_objects: npt.NDArray[np.bool_]) -> tuple[Unit, Ints]:
        """Take the configured unit, or the coarsest finer one of which enough hold objects."""
        for unit in UNITS[UNITS.index(self._params.unit) :]:
            units = unit_of_image(self._truth, unit, members, self._params.min_units, self._params.block_s)
            if len(np.unique(units[with_objects])) >= self._params.min_units:
                break
        return unit, units

    def _estimate(self, samples: Floats) -> Estimate:
        return jackknife(samples, self._params.alpha, self._params.min_units)

    def _ranking(self, size: str) -> list[Ranking]:
        if size not in self._rankings:
            area = AREA_RANGES_PX.get(size)
            self._rankings[size] = [rank(match_all(self._truth, model, area)) for model in self._models]
        return self._rankings[size]

    def _jackknifed(self, size: str, units: Ints) -> list[Floats]:
        key = (size, units.tobytes())
        if key not in self._samples:
            weights = jackknife_weights(units)
            self._samples[key] = [average_precisions(one, weights).mean(axis=2) for one in self._ranking(size)]
        return self._samples[key]


def _parts(truth: GroundTruth) -> Iterator[_Part]:
    everywhere = np.ones(len(truth.images), dtype=bool)
    for name, words in _slices(truth).items():
        yield _Part("slice", name, np.array([one in words for one in truth.slices]))
    for name in sorted({*truth.cameras} - {""}):
        yield _Part("camera", name, np.array([one == name for one in truth.cameras]))
    for class_id, name in enumerate(truth.classes):
        yield _Part("class", name, everywhere, class_id)
    for name in AREA_RANGES_PX:
        yield _Part("size", name, everywhere)


def _slices(truth: GroundTruth) -> dict[str, set[str]]:
    """Name of each slice to its slice words: every word alone, then every condition that several of them share.

    Of `day-dry`, `night-dry` and `night-rain` the conditions are `any night` and `any dry`. Frames whose slice or
    camera is not known ("") are no part.
    """
    own = sorted({*truth.slices} - {""})
    sharing: dict[str, set[str]] = {}
    for word in own:
        for condition in re.findall(r"[^\W_]+", word):
            sharing.setdefault(condition, set()).add(word)
    found = {word: {word} for word in own}
    for condition, words in sorted(sharing.items()):
        if 1 < len(words) < len({*truth.slices}) and words not in found.values():
            found[f"any {condition}"] = words
    return found
