"""What is in one version of a dataset, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.layout import SPLITS
from flows.dataset.versions.snapshot import Snapshot
from flows.progress import Progress, silent

_STEP = 500
_SHOWN = 12


class DataDescription(BaseModel):
    """Counts of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_frames: int = Field(description="frames")
    num_boxes: int = Field(description="labelled boxes")
    num_empty: int = Field(description="frames without a box")
    frames_by_split: dict[str, int] = Field(description="frames of each split")
    frames_by_camera: dict[str, int] = Field(description="frames of each camera")
    frames_by_slice: dict[str, int] = Field(description="frames of each slice")
    frames_by_clip: dict[str, int] = Field(description="frames of each clip, named camera/clip")
    boxes_by_class: dict[str, dict[str, int]] = Field(description="boxes of each class, by split")
    image_sizes: dict[str, int] = Field(description="images of each size, width x height in px as stored")
    num_images_unseen: int = Field(description="images that are not on this machine or cannot be opened")


def describe_snapshot(version: Snapshot, progress: Progress = silent) -> DataDescription:
    """Read every label file and the head of every image of a version. Raises OSError where a label file is missing."""
    boxes = {name: dict.fromkeys(SPLITS, 0) for name in version.classes}
    sizes: Counter[str] = Counter()
    num_empty = num_unseen = 0
    for number, frame in enumerate(version.frames):
        if number % _STEP == 0:
            progress(number, len(version.frames), "frames read")
        found = version.boxes(frame)
        num_empty += not found
        for box in found:
            boxes[box.class_name][frame.split] += 1
        if size := _size(version, frame.image):
            sizes[size] += 1
        else:
            num_unseen += 1
    return DataDescription(
        num_frames=len(version.frames),
        num_boxes=sum(sum(by_split.values()) for by_split in boxes.values()),
        num_empty=num_empty,
        frames_by_split=_counted(frame.split for frame in version.frames),
        frames_by_camera=_counted(frame.camera for frame in version.frames),
        frames_by_slice=_counted(frame.slice for frame in version.frames),
        frames_by_clip=_counted(f"{frame.camera}/{frame.clip}" for frame in version.frames),
        boxes_by_class=boxes,
        image_sizes=dict(sizes.most_common()),
        num_images_unseen=num_unseen,
    )


def description_lines(found: DataDescription) -> list[str]:
    """The counts for a person, one line each."""
    empty = f", {found.num_empty:,} frames without one" if found.num_empty else ""
    unseen = f"; {found.num_images_unseen:,} images are not here" if found.num_images_unseen else ""
    widest = max(len("class"), *map(len, found.boxes_by_class))
    lines = [
        f"frames      {found.num_frames:,}: {_listed(found.frames_by_split)}",
        f"boxes       {found.num_boxes:,}{empty}",
        f"images      {_listed(found.image_sizes) or 'none'}{unseen}",
        f"cameras     {len(found.frames_by_camera):,}: {_listed(found.frames_by_camera)}",
        f"slices      {len(found.frames_by_slice):,}: {_listed(found.frames_by_slice)}",
        f"clips       {len(found.frames_by_clip):,}{_spread(found.frames_by_clip.values())}",
        "",
        f"{'class':<{widest}}" + "".join(f"{split:>10}" for split in SPLITS) + f"{'all':>10}",
    ]
    for name, by_split in found.boxes_by_class.items():
        numbers = [*(by_split[split] for split in SPLITS), sum(by_split.values())]
        lines.append(f"{name:<{widest}}" + "".join(f"{number:>10,}" for number in numbers))
    return lines


def _size(version: Snapshot, image: str) -> str:
    if image not in version.md5_of:
        return ""
    try:
        with Image.open(version.path_of(image)) as opened:
            return f"{opened.width} x {opened.height}"
    except Exception:  # decoders raise whatever they like; what is broken, the gate lists
        return ""


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{name or '(none)'} {number:,}" for name, number in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"{more:,} more"] if more else [])])


def _spread(numbers: Iterable[int]) -> str:
    found: Sequence[int] = sorted(numbers)
    return f" of {found[0]:,} to {found[-1]:,} frames" if found else ""
