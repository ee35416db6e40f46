"""Is each camera still where it was, and does it still see? Moved, blinded and swapped cameras are called by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.drift.samples import Sample
from flows.dataset.drift.views import Complexes, ViewMatch, match_views, view_of
from flows.dataset.formats.framing import UNKNOWN_CAMERA
from flows.params_data import MonitorParams

if TYPE_CHECKING:
    import pandas as pd

State = Literal["steady", "moved", "blinded", "other scene", "not judged"]

_MAX_FRAMES = 200  # of a camera, evenly spread: more do not sharpen a view
_NUM_DRAWS = 12
_SAME_SCENE = 0.3  # two scenes resemble each other less; night and day of one scene, rather more
_SHARE_OF_USUAL = 0.5  # and of what parts of the reference have among themselves
_NOISE_FACTOR = 3.0  # a shift must be that many times what parts of the reference show among themselves


class CameraFinding(BaseModel):
    """One camera in both samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    camera: str = Field(description="its name")
    state: State = Field(description="moved, blinded and other scene are alarms")
    sentence: str = Field(description="what was found")
    num_reference: int = Field(description="its frames in the reference")
    num_current: int = Field(description="its frames in the current sample")
    reference_contrast: float | None = Field(description="median standard deviation of grey in the reference")
    current_contrast: float | None = Field(description="the same in the current sample")
    shift_right: float | None = Field(description="what it sees has moved so far to the right, share of the width")
    shift_down: float | None = Field(description="so far down, share of the height")
    similarity: float | None = Field(description="of both views where they fit best, about 0 to 1")
    usual_similarity: float | None = Field(description="the least of parts of the reference among themselves")

    @property
    def is_alarm(self) -> bool:
        """Whether somebody should look at that camera."""
        return self.state in ("moved", "blinded", "other scene")


@dataclass(frozen=True)
class _Usual:
    """A camera's view in the reference, and how much parts of the reference differ from each other."""

    view: Complexes
    similarity: float  # the least
    distance: float  # the largest shift
    clip_similarity: float  # of single clips with all others, median


def judge_cameras(
    reference: Sample, current: Sample, params: MonitorParams, seed: int = 0
) -> tuple[CameraFinding, ...]:
    """Each camera that both samples have enough frames of.

    A shift counts when it is larger than `params.view_shift` and several times what random parts of the reference show
    among themselves; another scene, when the views resemble each other far less than those parts do.
    """
    ours, theirs = (sample.frames["camera"] for sample in (reference, current))
    shared = sorted(set(ours) & set(theirs) - {UNKNOWN_CAMERA, ""})
    enough = [
        name
        for name in shared
        if min(int((ours == name).sum()), int((theirs == name).sum())) >= params.min_camera_frames
    ]
    usual: dict[str, _Usual] = {}
    if reference.thumbnails is not None and current.thumbnails is not None:
        known = sorted(set(ours) - {UNKNOWN_CAMERA, ""})
        usual = {
            name: _usual_view(reference, name, int((theirs == name).sum()), np.random.default_rng([seed, at]))
            for at, name in enumerate(known)
            if int((ours == name).sum()) >= params.min_camera_frames
        }
    return tuple(_judge(name, reference, current, usual, params) for name in enough)


def _judge(
    name: str, reference: Sample, current: Sample, usual: Mapping[str, _Usual], params: MonitorParams
) -> CameraFinding:
    before, now = (sample.frames.loc[sample.frames["camera"] == name, "contrast"] for sample in (reference, current))
    match: ViewMatch | None = None
    if bool(now.median() < params.blind_share * before.median() and now.median() < before.quantile(0.05)):
        state: State = "blinded"
        sentence = f"camera {name} sees nothing: contrast {now.median():.0f} (was {before.median():.0f}): covered?"
    elif name in usual:
        match = match_views(usual[name].view, _view(current, name))
        state, sentence = _judge_view(name, match, usual, current, params)
    else:
        state, sentence = "steady", f"camera {name} still sees; its view was not compared"
    return CameraFinding(
        camera=name,
        state=state,
        sentence=sentence,
        num_reference=len(before),
        num_current=len(now),
        reference_contrast=float(before.median()),
        current_contrast=float(now.median()),
        shift_right=None if match is None else match.right,
        shift_down=None if match is None else match.down,
        similarity=None if match is None else match.similarity,
        usual_similarity=usual[name].similarity if match is not None else None,
    )


def _judge_view(
    name: str, match: ViewMatch, usual: Mapping[str, _Usual], current: Sample, params: MonitorParams
) -> tuple[State, str]:
    own = usual[name]
    if min(own.similarity, own.clip_similarity) < _SAME_SCENE or own.distance > params.view_shift:
        return "not judged", f"camera {name} shows more than one view in the reference already"
    if match.similarity < min(_SAME_SCENE, _SHARE_OF_USUAL * own.similarity):
        whose = _whose(name, usual, _view(current, name))
        return "other scene", f"camera {name} shows another scene than before{whose}"
    if match.distance > max(params.view_shift, _NOISE_FACTOR * own.distance):
        return "moved", f"camera {name} has moved: its view is shifted by {shift_words(match.right, match.down)}"
    return "steady", f"camera {name} shows the same view"


def shift_words(right: float, down: float) -> str:
    """A shift in words: "9 % of the width to the left and 4 % of the height down"; parts below half a percent go."""
    parts = []
    if abs(right) >= 0.005:
        parts.append(f"{abs(right) * 100:.0f} % of the width to the {'right' if right > 0 else 'left'}")
    if abs(down) >= 0.005:
        parts.append(f"{abs(down) * 100:.0f} % of the height {'down' if down > 0 else 'up'}")
    return " and ".join(parts) or "less than 1 %"


def _whose(name: str, usual: Mapping[str, _Usual], view: Complexes) -> str:
    """The camera of the reference whose scene it is, if it is one."""
    matches = {other: match_views(one.view, view).similarity for other, one in usual.items() if other != name}
    best = max(matches, key=lambda other: matches[other], default=None)
    if best is None or matches[best] < max(_SAME_SCENE, _SHARE_OF_USUAL * usual[best].similarity):
        return " (turned or replaced?)"
    return f": that of {best} (cables swapped?)"


def _usual_view(sample: Sample, name: str, num_current: int, generator: np.random.Generator) -> _Usual:
    """Random parts of the camera's clips, as large as the current sample but no more than half, against the rest."""
    directions, units = _unit_views(sample, name)
    total = directions.sum(axis=0)
    view: Complexes = total / units.sum()
    if len(units) < 2:
        return _Usual(view, 1.0, 0.0, 1.0)
    share = min(num_current / max(int((sample.frames["camera"] == name).sum()), 1), 0.5)
    size = min(max(round(share * len(units)), 1), len(units) // 2)

    def match_part(part: npt.NDArray[np.int64]) -> ViewMatch:
        some, num_frames = directions[part].sum(axis=0), units[part].sum()
        return match_views((total - some) / (units.sum() - num_frames), some / num_frames)

    parts = [match_part(generator.choice(len(units), size, replace=False)) for _ in range(_NUM_DRAWS)]
    singles = [match_part(one) for one in generator.permutation(len(units))[:_NUM_DRAWS, None]]
    return _Usual(
        view,
        min(one.similarity for one in parts),
        max(one.distance for one in parts),
        float(np.median([one.similarity for one in singles])),
    )


def _unit_views(sample: Sample, name: str) -> tuple[Complexes, npt.NDArray[np.int64]]:
    """The sum of directions of each clip (frames without a clip are clips of their own), and its number of frames."""
    rows = _rows(sample.frames, name)
    assert sample.thumbnails is not None
    units = sample.frames["unit"].to_numpy()[rows]
    names = np.where(units == "", np.char.mod("%d", rows), units.astype(str))
    distinct, of = np.unique(names, return_inverse=True)
    sums = [view_of(sample.thumbnails[rows[of == at]]) * int((of == at).sum()) for at in range(len(distinct))]
    return np.stack(sums), np.bincount(of).astype(np.int64)


def _view(sample: Sample, name: str) -> Complexes:
    assert sample.thumbnails is not None
    return view_of(sample.thumbnails[_rows(sample.frames, name)])


def _rows(frames: pd.DataFrame, name: str) -> npt.NDArray[np.int64]:
    """Evenly spread rows of a camera."""
    rows = np.flatnonzero((frames["camera"] == name).to_numpy())
    if len(rows) <= _MAX_FRAMES:
        return rows.astype(np.int64)
    return np.asarray(rows[np.linspace(0, len(rows) - 1, _MAX_FRAMES).round().astype(np.int64)], dtype=np.int64)
