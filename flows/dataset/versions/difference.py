"""What differs between two versions of a dataset: frames, their content, split and fields, their boxes, the classes.

Images are compared by the md5 of their files and never opened; a label file is read where its md5 differs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.dataset.layout import DATA_YAML, FRAMES_CSV, Frame
from flows.dataset.versions.boxes import BoxChange, compare_boxes
from flows.dataset.versions.snapshot import Snapshot
from flows.progress import Progress, silent

FIELDS = ("camera", "clip", "time", "slice")
_NAMED_CAMERAS = 3
_STEP = 1000


class FieldChange(BaseModel):
    """One field of frames.csv that differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: Literal["camera", "clip", "time", "slice"] = Field(description="column of frames.csv")
    before: str = Field(description="its value in the earlier version")
    after: str = Field(description="its value in the later version")


class FrameDifference(BaseModel):
    """One frame that differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: str | None = Field(description="image in the earlier version, relative to data/; null: the frame is new")
    after: str | None = Field(description="image in the later version; null: the frame is gone")
    camera_before: str | None = Field(description="camera there")
    camera_after: str | None = Field(description="camera here")
    content_changed: bool = Field(description="whether the image file has another content")
    image_missing: bool = Field(default=False, description="one of the versions lists it without its image file")
    fields: tuple[FieldChange, ...] = Field(description="fields of frames.csv that differ")
    boxes: tuple[BoxChange, ...] = Field(description="boxes that differ; none for a frame that is new or gone")
    num_boxes_before: int = Field(description="boxes there; 0 where nothing about the boxes differs")
    num_boxes_after: int = Field(description="boxes here; 0 where nothing about the boxes differs")

    @property
    def is_kept(self) -> bool:
        """Whether both versions have the frame."""
        return self.before is not None and self.after is not None

    @property
    def is_moved(self) -> bool:
        """Whether it went from one split to another."""
        return self.is_kept and _split(self.before) != _split(self.after)

    @property
    def is_renamed(self) -> bool:
        """Whether it has another name, split aside."""
        return self.is_kept and _name(self.before) != _name(self.after)

    @property
    def is_relabelled(self) -> bool:
        """Whether any of its boxes differ."""
        return bool(self.boxes)


class DifferenceCounts(BaseModel):
    """How much differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames_added: int = Field(description="frames that only the later version has")
    frames_removed: int = Field(description="frames that only the earlier version has")
    frames_changed: int = Field(description="frames whose image has another content")
    frames_without_image: int = Field(description="frames in both of which one version lacks the image file")
    frames_moved: int = Field(description="frames that went to another split")
    frames_renamed: int = Field(description="frames that have another name")
    frames_relabelled: int = Field(description="frames in both whose boxes differ")
    frames_with_other_fields: int = Field(description="frames in both with another camera, clip, time or slice")
    boxes_added: int = Field(description="boxes added on frames in both")
    boxes_removed: int = Field(description="boxes removed on frames in both")
    boxes_moved: int = Field(description="boxes moved or resized on frames in both")
    boxes_relabelled: int = Field(description="boxes of another class on frames in both")
    boxes_on_added_frames: int = Field(description="boxes that came with added frames")
    boxes_on_removed_frames: int = Field(description="boxes that went with removed frames")


class DataDifference(BaseModel):
    """Everything that differs between two versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: str = Field(description="the earlier version")
    after: str = Field(description="the later version")
    sentence: str = Field(description="the difference in one sentence")
    num_frames_before: int = Field(description="frames of the earlier version")
    num_frames_after: int = Field(description="frames of the later version")
    classes_added: tuple[str, ...] = Field(description="classes that only the later version knows")
    classes_removed: tuple[str, ...] = Field(description="classes that only the earlier version knows")
    classes_reordered: bool = Field(description="whether classes of both have other ids")
    cameras_added: tuple[str, ...] = Field(description="cameras that only the later version has")
    cameras_removed: tuple[str, ...] = Field(description="cameras that only the earlier version has")
    counts: DifferenceCounts = Field(description="how much differs")
    frames: tuple[FrameDifference, ...] = Field(description="each frame that differs")
    other_files: tuple[str, ...] = Field(description="files that differ and belong to no frame of frames.csv")

    @property
    def is_empty(self) -> bool:
        """Whether the versions are the same, as far as a training goes."""
        classes = self.classes_added or self.classes_removed or self.classes_reordered
        return not (self.frames or classes or self.other_files)


def compare_snapshots(before: Snapshot, after: Snapshot, progress: Progress = silent) -> DataDifference:
    """What a change from `before` to `after` adds, removes and alters.

    Raises:
        OSError: A label file cannot be read.
    """
    pairs = _pair_frames(before, after)
    frames = []
    for number, (old, new) in enumerate(pairs):
        if number % _STEP == 0:
            progress(number, len(pairs), "frames compared")
        if difference := _compare(before, after, old, new):
            frames.append(difference)
    cameras = [{frame.camera for frame in version.frames} for version in (before, after)]
    ids = [[name for name in one.classes if name in other.classes] for one, other in ((before, after), (after, before))]
    counts = _count(frames)
    known = {
        "classes_added": tuple(name for name in after.classes if name not in before.classes),
        "classes_removed": tuple(name for name in before.classes if name not in after.classes),
        "classes_reordered": ids[0] != ids[1],
        "counts": counts,
        "frames": tuple(frames),
        "other_files": _other_files(before, after),
    }
    return DataDifference(
        before=before.name,
        after=after.name,
        sentence=_sentence(known),
        num_frames_before=len(before.frames),
        num_frames_after=len(after.frames),
        cameras_added=tuple(sorted(cameras[1] - cameras[0])),
        cameras_removed=tuple(sorted(cameras[0] - cameras[1])),
        **known,
    )


Pair = tuple[Frame | None, Frame | None]


def _pair_frames(before: Snapshot, after: Snapshot) -> list[Pair]:
    """Frames of the same path; then of the same content, first where the name agrees; then of the same name."""
    old, new = list(before.frames), list(after.frames)
    pairs: list[Pair] = []

    def content(version: Snapshot) -> Callable[[Frame], str]:
        return lambda frame: version.md5_of.get(frame.image, "")  # "": the image is missing, which pairs nothing

    def content_and_name(version: Snapshot) -> Callable[[Frame], str]:
        return lambda frame: f"{md5}/{_name(frame.image)}" if (md5 := content(version)(frame)) else ""

    def path(version: Snapshot) -> Callable[[Frame], str]:
        return lambda frame: frame.image

    def name(version: Snapshot) -> Callable[[Frame], str]:
        return lambda frame: _name(frame.image)

    for key in (path, content_and_name, content, name):
        found, old, new = _pair_by(old, new, key(before), key(after))
        pairs += found
    pairs += [(frame, None) for frame in old]
    pairs += [(None, frame) for frame in new]
    return pairs


def _pair_by(
    old: Sequence[Frame], new: Sequence[Frame], key_old: Callable[[Frame], str], key_new: Callable[[Frame], str]
) -> tuple[list[Pair], list[Frame], list[Frame]]:
    """Pairs of frames with the same key, in the order of their paths, and what is left of either side."""
    waiting: dict[str, list[Frame]] = defaultdict(list)
    for frame in sorted(new, key=lambda frame: frame.image, reverse=True):
        waiting[key_new(frame)].append(frame)
    waiting.pop("", None)
    pairs: list[Pair] = []
    left = []
    for frame in sorted(old, key=lambda frame: frame.image):
        same = waiting.get(key_old(frame))
        if same:
            pairs.append((frame, same.pop()))
        else:
            left.append(frame)
    taken = {frame.image for _, frame in pairs if frame}
    return pairs, left, [frame for frame in new if frame.image not in taken]


def _compare(before: Snapshot, after: Snapshot, old: Frame | None, new: Frame | None) -> FrameDifference | None:
    if old is None or new is None:
        return _alone(before, after, old, new)
    fields = tuple(
        FieldChange(field=field, before=getattr(old, field), after=getattr(new, field))
        for field in FIELDS
        if getattr(old, field) != getattr(new, field)
    )
    contents = before.md5_of.get(old.image), after.md5_of.get(new.image)
    image_missing = (contents[0] is None) != (contents[1] is None)
    content_changed = contents[0] != contents[1] and not image_missing
    boxes: tuple[BoxChange, ...] = ()
    num_before = num_after = 0
    if before.md5_of.get(old.label) != after.md5_of.get(new.label) or before.classes != after.classes:
        boxes_before, boxes_after = before.boxes(old), after.boxes(new)
        boxes = compare_boxes(boxes_before, boxes_after)
        if boxes:
            num_before, num_after = len(boxes_before), len(boxes_after)
    if old.image == new.image and not (fields or content_changed or image_missing or boxes):
        return None
    return FrameDifference(
        before=old.image,
        after=new.image,
        camera_before=old.camera,
        camera_after=new.camera,
        content_changed=content_changed,
        image_missing=image_missing,
        fields=fields,
        boxes=boxes,
        num_boxes_before=num_before,
        num_boxes_after=num_after,
    )


def _alone(before: Snapshot, after: Snapshot, old: Frame | None, new: Frame | None) -> FrameDifference:
    return FrameDifference(
        before=old.image if old else None,
        after=new.image if new else None,
        camera_before=old.camera if old else None,
        camera_after=new.camera if new else None,
        content_changed=False,
        fields=(),
        boxes=(),
        num_boxes_before=len(before.boxes(old)) if old else 0,
        num_boxes_after=len(after.boxes(new)) if new else 0,
    )


def _other_files(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    known = {DATA_YAML, FRAMES_CSV}
    for version in (before, after):
        known.update(path for frame in version.frames for path in (frame.image, frame.label))
    paths = (before.md5_of.keys() | after.md5_of.keys()) - known
    return tuple(sorted(path for path in paths if before.md5_of.get(path) != after.md5_of.get(path)))


def _count(frames: Sequence[FrameDifference]) -> DifferenceCounts:
    boxes = Counter(box.kind for frame in frames for box in frame.boxes)
    added = [frame for frame in frames if frame.before is None]
    removed = [frame for frame in frames if frame.after is None]
    return DifferenceCounts(
        frames_added=len(added),
        frames_removed=len(removed),
        frames_changed=sum(frame.content_changed for frame in frames),
        frames_without_image=sum(frame.image_missing for frame in frames),
        frames_moved=sum(frame.is_moved for frame in frames),
        frames_renamed=sum(frame.is_renamed for frame in frames),
        frames_relabelled=sum(frame.is_relabelled for frame in frames),
        frames_with_other_fields=sum(bool(frame.fields) for frame in frames),
        boxes_added=boxes["added"],
        boxes_removed=boxes["removed"],
        boxes_moved=boxes["moved"],
        boxes_relabelled=boxes["relabelled"],
        boxes_on_added_frames=sum(frame.num_boxes_after for frame in added),
        boxes_on_removed_frames=sum(frame.num_boxes_before for frame in removed),
    )


def _sentence(known: dict[str, object]) -> str:
    counts, frames = known["counts"], known["frames"]
    assert isinstance(counts, DifferenceCounts) and isinstance(frames, tuple)
    added = _cameras(frame.camera_after for frame in frames if frame.before is None)
    removed = _cameras(frame.camera_before for frame in frames if frame.after is None)
    numbers = (
        (counts.frames_added, f"added{added}"),
        (counts.frames_removed, f"removed{removed}"),
        (counts.frames_changed, "with other pixels"),
        (counts.frames_without_image, "with an image file missing"),
        (counts.frames_moved, "in another split"),
        (counts.frames_renamed, "renamed"),
        (counts.frames_relabelled, "relabelled"),
        (counts.frames_with_other_fields, "with other camera, clip, time or slice"),
    )
    parts = [f"{number:,} {words}" for number, words in numbers if number]
    if parts:
        first, rest = parts[0].split(" ", 1)
        parts[0] = f"{first} {'frame' if first == '1' else 'frames'} {rest}"
    for key, word in (("classes_added", "added"), ("classes_removed", "removed")):
        parts += [f"class {name} {word}" for name in known[key]]  # type: ignore[attr-defined]
    if known["classes_reordered"]:
        parts.append("classes in another order")
    if other := len(known["other_files"]):  # type: ignore[arg-type]
        parts.append(f"{other:,} other {'file differs' if other == 1 else 'files differ'}")
    return ", ".join(parts) or "no difference"


def _cameras(names: Iterable[str | None]) -> str:
    found = sorted({name for name in names if name})
    if not found:
        return ""
    more = f" and {len(found) - _NAMED_CAMERAS} more" if len(found) > _NAMED_CAMERAS else ""
    return f" ({', '.join(found[:_NAMED_CAMERAS])}{more})"


def _split(image: str | None) -> str:
    return PurePosixPath(image or "").parts[1]


def _name(image: str | None) -> str:
    return str(PurePosixPath(*PurePosixPath(image or "").parts[2:]))
