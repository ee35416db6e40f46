"""Two samples as one table of units: clips where both sides know theirs, since frames of a clip are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from flows.dataset.drift.permutation import MIN_SIDE
from flows.dataset.drift.samples import CLASS_PREFIX, Sample
from flows.dataset.formats.framing import UNKNOWN_CAMERA

if TYPE_CHECKING:
    import pandas as pd

ALL = "all"
ALIKE = "like with like"
"""The group in which every figure is taken relative to the mean of its camera and slice, over both samples."""
_MAX_UNITS = 1000  # of a side, evenly spread: more do not change what a difference worth a name looks like
_OTHER = "\0"

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Units:
    """`table` has a row per unit with camera, slice, is_current, and the mean of its frames in each of `columns`."""

    table: pd.DataFrame
    columns: tuple[str, ...]
    kind: Literal["clip", "frame"]
    num_reference: int
    num_current: int

    @property
    def is_current(self) -> Bools:
        """(num_units,) which sample a unit belongs to."""
        return self.table["is_current"].to_numpy(dtype=np.bool_)

    def groups(self) -> dict[str, dict[str, Floats]]:
        """The values of each column (NaN outside of the group) by group: all, like with like, cameras, slices."""
        groups = {ALL: {name: self.table[name].to_numpy(dtype=np.float64) for name in self.columns}}
        stratum = self._stratum()
        if stratum.nunique() > 1:
            means = self.table.groupby(stratum)[list(self.columns)].transform("mean")
            groups[ALIKE] = {name: groups[ALL][name] - means[name].to_numpy() for name in self.columns}
        for fact in ("camera", "slice"):
            for value in self._shared(fact):
                inside = (self.table[fact] == value).to_numpy()
                if inside.all() or inside.sum() < 2 * MIN_SIDE:
                    continue
                groups[f"{fact} {value}"] = {name: np.where(inside, groups[ALL][name], np.nan) for name in self.columns}
        return groups

    def _shared(self, fact: str) -> list[str]:
        """Cameras or slices that both sides have."""
        sides = [set(self.table.loc[self.is_current == side, fact]) for side in (False, True)]
        return sorted((sides[0] & sides[1]) - {"", UNKNOWN_CAMERA})

    def _stratum(self) -> pd.Series[str]:
        camera, slice_ = (
            self.table[fact].where(self.table[fact].isin(self._shared(fact)), _OTHER) for fact in ("camera", "slice")
        )
        return camera + "/" + slice_


def pool_units(reference: Sample, current: Sample, columns: Sequence[str], min_units: int) -> Units:
    """Clips as units where each side has at least `min_units`; frames otherwise."""
    import pandas as pd

    sides = (reference.frames, current.frames)
    by_clip = all((frames["unit"] != "").all() and frames["unit"].nunique() >= min_units for frames in sides)
    tables = [_units(frames, columns, by_clip) for frames in sides]
    pooled = pd.concat(
        [_thinned(table).assign(is_current=bool(at)) for at, table in enumerate(tables)], ignore_index=True
    )
    numbers = [int((pooled["is_current"] == side).sum()) for side in (False, True)]
    return Units(pooled, tuple(columns), "clip" if by_clip else "frame", *numbers)


def shared_columns(reference: Sample, current: Sample) -> tuple[Sample, Sample, list[str]]:
    """Both samples, with a class that only one of them has as absent in the other, and the columns of both."""
    classes = [[name for name in sample.columns if name.startswith(CLASS_PREFIX)] for sample in (reference, current)]
    if all(classes):
        reference, current = (_with_classes(sample, [*classes[0], *classes[1]]) for sample in (reference, current))
    return reference, current, [name for name in reference.columns if name in current.columns]


def _with_classes(sample: Sample, names: Sequence[str]) -> Sample:
    import pandas as pd

    absent = [name for name in dict.fromkeys(names) if name not in sample.columns]
    share = np.where(sample.frames["num_boxes"] > 0, 0.0, np.nan)
    return sample.with_columns(pd.DataFrame(dict.fromkeys(absent, share)))


def _units(frames: pd.DataFrame, columns: Sequence[str], by_clip: bool) -> pd.DataFrame:
    facts = ["camera", "slice"]
    if not by_clip:
        return frames[[*facts, *columns]]
    clips = frames.groupby("unit", sort=True)
    return clips[facts].first().join(clips[list(columns)].mean()).reset_index(drop=True)


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    if len(table) <= _MAX_UNITS:
        return table
    return table.iloc[np.linspace(0, len(table) - 1, _MAX_UNITS).round().astype(np.int64)]
