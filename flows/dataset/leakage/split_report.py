"""What another split would change, as tables for a terminal and as a CSV."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.layout import SPLITS, Frame
from flows.dataset.leakage.repair import Proposal, straddling
from flows.dataset.manifest.manifest import Manifest

COLUMNS = ("image", "split", "new_split", "new_image", "group", "camera", "clip")
_ARROW = " -> "


class SplitChange(BaseModel):
    """Figures of a set before and after another split; each pair is (before, after)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_frames: int = Field(description="frames in all")
    num_groups: int = Field(description="groups of frames that must stay together")
    straddling: tuple[int, int] = Field(description="groups that lie in two splits")
    moved: int = Field(description="frames that go to another split")
    frames: dict[str, tuple[int, int]] = Field(description="frames by split")
    boxes: dict[str, dict[str, tuple[int, int]]] = Field(description="boxes by class, then by split")
    slices: dict[str, dict[str, tuple[int, int]]] = Field(description="frames by slice, then by split")
    moves: dict[str, int] = Field(description='frames by "from -> to"')
    notes: tuple[str, ...] = Field(description="what a person should know")

    @property
    def sentence(self) -> str:
        """The change in one sentence."""
        before, after = self.straddling
        return (
            f"{self.num_frames:,} frames in {self.num_groups:,} groups: {before:,} straddle splits, then {after:,}; "
            f"{self.moved:,} frames move"
        )


def split_change(manifest: Manifest, proposal: Proposal) -> SplitChange:
    """What the proposal changes."""
    images, boxes = manifest.images, manifest.boxes
    old, new = images["split"].tolist(), list(proposal.splits)
    of_image = dict(zip(images["image"], new, strict=True))
    classes = Counter(zip(boxes["class_name"], boxes["split"], strict=True))
    new_classes = Counter(zip(boxes["class_name"], boxes["image"].map(of_image), strict=True))
    slices, new_slices = (Counter(zip(images["slice"], splits, strict=True)) for splits in (old, new))
    return SplitChange(
        num_frames=len(old),
        num_groups=len(set(proposal.groups.tolist())),
        straddling=(straddling(proposal.groups, tuple(old)), straddling(proposal.groups, proposal.splits)),
        moved=sum(before != after for before, after in zip(old, new, strict=True)),
        frames={split: (old.count(split), new.count(split)) for split in SPLITS},
        boxes=_by_name(classes, new_classes),
        slices=_by_name(slices, new_slices),
        moves=dict(sorted(Counter(f"{a}{_ARROW}{b}" for a, b in zip(old, new, strict=True) if a != b).items())),
        notes=proposal.notes,
    )


def table_lines(change: SplitChange) -> list[str]:
    """The figures as a table, before and after, with shares of the whole."""
    rows = [("frames", change.frames)]
    rows += [(f"boxes, {name}", counts) for name, counts in change.boxes.items()]
    rows += [(f"frames, {name}", counts) for name, counts in change.slices.items()]
    cells = [["", *SPLITS]] + [[name, *_cells(counts)] for name, counts in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def write_proposal(path: Path, frames: Sequence[Frame], new: Sequence[Frame], proposal: Proposal) -> None:
    """One row per frame: where it is, where it would go, and the group that keeps it with others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for frame, after, group in zip(frames, new, proposal.groups.tolist(), strict=True):
            writer.writerow([frame.image, frame.split, after.split, after.image, group + 1, frame.camera, after.clip])
    temporary.replace(path)


def _by_name(old: Counter[tuple[str, str]], new: Counter[tuple[str, str]]) -> dict[str, dict[str, tuple[int, int]]]:
    names = sorted({name for name, _ in old})
    return {name: {split: (old[name, split], new[name, split]) for split in SPLITS} for name in names}


def _cells(counts: dict[str, tuple[int, int]]) -> list[str]:
    total = sum(before for before, _ in counts.values()) or 1
    return [
        f"{before:,} ({before / total:.0%}){_ARROW}{after:,} ({after / total:.0%})" for before, after in counts.values()
    ]
