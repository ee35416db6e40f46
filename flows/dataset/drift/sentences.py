"""A drift verdict in words, and what a reader of it should know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.dataset.drift.cameras import CameraFinding
from flows.dataset.drift.samples import CLASS_PREFIX, Sample
from flows.dataset.drift.units import ALIKE, ALL, Units

if TYPE_CHECKING:
    from flows.dataset.drift.drift import FeatureDrift

_LISTED = 6


def drift_sentence(
    verdict: str,
    features: Sequence[FeatureDrift],
    cameras: Sequence[CameraFinding],
    samples: tuple[Sample, Sample],
    min_frames: int,
) -> str:
    """The verdict in one sentence: cameras first, since somebody has to go there."""
    reference, current = samples
    frames = f"{len(current.frames):,} frames of {current.name} against {len(reference.frames):,} of {reference.name}"
    if verdict == "insufficient":
        fewer = min(samples, key=lambda sample: len(sample.frames))
        return f"too few frames of {fewer.name} to say: {len(fewer.frames):,}, at least {min_frames:,} are needed"
    if verdict == "steady":
        names = {one.name for one in features if one.drifted is not None}
        return f"no drift in {len(names)} columns, {frames}"
    parts = _listed([one.sentence for one in cameras if one.is_alarm])
    if moved := drifted_names(features):
        noun = "column" if len(moved) == 1 else "columns"
        parts.append(f"{len(moved)} {noun} drifted ({', '.join(_listed(moved))})")
    return "; ".join(parts) + f", {frames}"


def drifted_names(features: Sequence[FeatureDrift]) -> list[str]:
    """Each drifted column once, with its groups where it has not drifted over all."""
    groups: dict[str, list[str]] = {}
    for one in features:
        if one.drifted:
            groups.setdefault(one.name, []).append(one.group)
    return [
        name if {ALL, ALIKE} & set(where) else f"{name} in {' and '.join(_listed(where))}"
        for name, where in groups.items()
    ]


def sample_notes(reference: Sample, current: Sample, units: Units, features: Sequence[FeatureDrift]) -> tuple[str, ...]:
    """What was left out and why; which columns another mix of cameras and slices explains."""
    notes = [*reference.notes, *current.notes]
    pairs = ((reference, current), (current, reference))
    for one, other in pairs:
        lacking = [name for name in one.columns if name not in other.columns and not name.startswith(CLASS_PREFIX)]
        if lacking:
            notes.append(f"{other.name} has no {', '.join(lacking)}: not compared")
        cameras = sorted(set(one.frames["camera"]) - set(other.frames["camera"]))
        if cameras:
            notes.append(f"{other.name} has no frame of {', '.join(_listed(cameras))}")
    if units.kind == "frame":
        notes.append(
            "frames were shuffled one by one, since too few clips are known: neighbouring frames resemble each other, "
            "so that differences look more certain than they are"
        )
    alike = {one.name: one.drifted for one in features if one.group == ALIKE}
    mixed = [one.name for one in features if one.group == ALL and one.drifted and alike.get(one.name) is False]
    if mixed:
        names = ", ".join(mixed)
        notes.append(f"another mix of cameras and slices may explain {names}: like with like, they are steady")
    return tuple(notes)


def _listed(names: list[str]) -> list[str]:
    return names if len(names) <= _LISTED else [*names[: _LISTED - 1], f"{len(names) - _LISTED + 1} more"]
