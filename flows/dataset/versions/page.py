"""The page about the difference between two versions: the sentence, the figures, and the frames to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from flows.dataset.report.pictures import Cell, Detail, Mark, contact_sheet, picture_uri
from flows.dataset.versions.boxes import BoxChange, Xywhn
from flows.dataset.versions.difference import DataDifference, FrameDifference
from flows.dataset.versions.snapshot import Snapshot
from flows.geometry import xywhn_to_xyxy
from flows.page import PALETTE, Picture, contents, figure, gallery, legend, page, section, table, tiles

MAX_PICTURES = 24
_MAX_ROWS = 200
_COLOUR = {"added": PALETTE[2], "removed": PALETTE[5], "moved": PALETTE[1], "relabelled": PALETTE[3]}
_ALL = PALETTE[0]
_WORDS = {"added": "added", "removed": "removed", "moved": "moved or resized", "relabelled": "of another class"}


def frames_to_draw(found: DataDifference) -> list[FrameDifference]:
    """The frames that the page shows as pictures."""
    chosen = [frame for _, _, frames in _groups(found) for frame in _spread(frames)]
    return list({id(frame): frame for frame in chosen}.values())


def difference_page(found: DataDifference, before: Snapshot, after: Snapshot, detail: Detail = "reduced") -> str:
    """The whole document. Images are read from where the versions lie; one that is missing is shown as such."""
    parts = [("figures", "In figures", _figures(found))]
    for anchor, heading, frames in _groups(found):
        draw = _pairs if anchor in ("relabelled", "changed", "missing") else _sheet
        parts.append((anchor, f"{heading} ({len(frames):,})", draw(frames, before, after, detail)))
    parts += [(anchor, heading, body) for anchor, heading, body in _lists(found) if body]
    body = contents((anchor, heading) for anchor, heading, _ in parts)
    body += "".join(section(anchor, heading, inner) for anchor, heading, inner in parts)
    privacy = (
        "Pictures are reduced to 320 px, so that faces and number plates cannot be read." if detail == "reduced" else ""
    )
    body += f"<footer>{privacy} Written by tca data diff.</footer>"
    title = f"Data: from {found.before} to {found.after}"
    return page(title, f"{found.sentence[:1].upper()}{found.sentence[1:]}.", None, body)


def _groups(found: DataDifference) -> list[tuple[str, str, list[FrameDifference]]]:
    """What is shown as pictures: anchor, heading, frames; empty groups left out."""
    groups = [
        ("relabelled", "Relabelled frames", [frame for frame in found.frames if frame.is_relabelled]),
        ("added", "Frames added", [frame for frame in found.frames if frame.before is None]),
        ("removed", "Frames removed", [frame for frame in found.frames if frame.after is None]),
        ("changed", "Frames with other pixels", [one for one in found.frames if one.content_changed and not one.boxes]),
        ("missing", "Frames with an image file missing", [one for one in found.frames if one.image_missing]),
    ]
    return [group for group in groups if group[2]]


def _figures(found: DataDifference) -> str:
    counts = found.counts
    boxes = (counts.boxes_added, counts.boxes_removed, counts.boxes_moved, counts.boxes_relabelled)
    shown = tiles(
        [
            ("Frames", f"{found.num_frames_after:,}", f"{found.num_frames_before:,} before"),
            ("Added", f"{counts.frames_added:,}", f"with {counts.boxes_on_added_frames:,} boxes"),
            ("Removed", f"{counts.frames_removed:,}", f"with {counts.boxes_on_removed_frames:,} boxes"),
            ("Other pixels", f"{counts.frames_changed:,}", "same name, other content"),
            ("Another split", f"{counts.frames_moved:,}", f"{counts.frames_renamed:,} renamed"),
            ("Relabelled", f"{counts.frames_relabelled:,}", f"{sum(boxes):,} boxes differ"),
        ]
    )
    rows = [(_WORDS[kind], f"{number:,}") for kind, number in zip(_WORDS, boxes, strict=True) if number]
    lists = (
        ("classes added", found.classes_added),
        ("classes removed", found.classes_removed),
        ("cameras added", found.cameras_added),
        ("cameras removed", found.cameras_removed),
    )
    rows += [(name, ", ".join(values)) for name, values in lists if values]
    if found.classes_reordered:
        rows.append(("classes", "have other ids"))
    return shown + (table(("On frames in both: boxes", "Number"), rows) if rows else "")


def _sheet(frames: Sequence[FrameDifference], before: Snapshot, after: Snapshot, detail: Detail) -> str:
    cells = []
    for frame in _spread(frames):
        version, image = (after, frame.after) if frame.after else (before, frame.before)
        assert image is not None
        camera = frame.camera_after or frame.camera_before
        cells.append(Cell(version.path_of(image), f"{camera}: {image}", _all_marks(version, image)))
    return figure(contact_sheet(cells, detail), _caption(frames, len(cells)))


def _pairs(frames: Sequence[FrameDifference], before: Snapshot, after: Snapshot, detail: Detail) -> str:
    shown = _spread(frames)
    pictures = []
    for frame in shown:
        assert frame.before is not None and frame.after is not None
        sides = []
        for version, image, side in ((before, frame.before, "before"), (after, frame.after, "after")):
            path = version.path_of(image) if image in version.md5_of else Path(image)
            sides.append(picture_uri(Cell(path, image, _changed_marks(path, frame.boxes, side)), detail))
        otherwise = "image file missing" if frame.image_missing else "other pixels"
        caption = f"{frame.after}: {_told(frame.boxes) or otherwise}"
        pictures.append(Picture(tuple(sides), f"{frame.after} before and after", caption))
    colours = {_WORDS[kind]: colour for kind, colour in _COLOUR.items()} if any(frame.boxes for frame in shown) else {}
    note = f'<p class="note">Left before, right after. {_caption(frames, len(shown))}</p>{legend(colours)}'
    return note + gallery(pictures)


def _told(boxes: Sequence[BoxChange]) -> str:
    parts = []
    for kind, word in _WORDS.items():
        same = [box for box in boxes if box.kind == kind]
        if kind == "relabelled":
            parts += sorted({f"{box.class_before} is now {box.class_after}" for box in same})
        elif same:
            parts.append(f"{len(same)} {word} ({', '.join(sorted({_class(box) for box in same}))})")
    return ", ".join(parts)


def _class(box: BoxChange) -> str:
    return str(box.class_after or box.class_before)


def _changed_marks(path: Path, boxes: Sequence[BoxChange], side: str) -> tuple[Mark, ...]:
    chosen = []
    for box in boxes:
        corners, name = (box.before_xywhn, box.class_before) if side == "before" else (box.after_xywhn, box.class_after)
        if corners is not None:
            chosen.append((corners, _COLOUR[box.kind], str(name)))
    return _marks(path, chosen)


def _all_marks(version: Snapshot, image: str) -> tuple[Mark, ...]:
    frame = next(frame for frame in version.frames if frame.image == image)
    return _marks(version.path_of(image), [(box.xywhn, _ALL, "") for box in version.boxes(frame)])


def _marks(path: Path, boxes: Sequence[tuple[Xywhn, str, str]]) -> tuple[Mark, ...]:
    size_wh = _upright_size(path) if boxes else None
    if size_wh is None:
        return ()
    corners = xywhn_to_xyxy([box for box, _, _ in boxes], size_wh)
    return tuple(
        Mark((float(row[0]), float(row[1]), float(row[2]), float(row[3])), colour, label)
        for row, (_, colour, label) in zip(corners, boxes, strict=True)
    )


def _upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height of the frame as it is looked at; None where it cannot be opened."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except Exception:  # the picture itself says what is wrong
        return None


def _spread(frames: Sequence[FrameDifference]) -> list[FrameDifference]:
    """At most `MAX_PICTURES`, spread over all of them, so that not one camera fills the sheet."""
    step = max(len(frames) / MAX_PICTURES, 1.0)
    return [frames[int(number * step)] for number in range(min(len(frames), MAX_PICTURES))]


def _caption(frames: Sequence[FrameDifference], shown: int) -> str:
    return "All of them." if shown == len(frames) else f"{shown} of {len(frames):,}, spread evenly; all: --json."


def _lists(found: DataDifference) -> list[tuple[str, str, str]]:
    moved = [one for one in found.frames if one.is_moved or one.is_renamed]
    fields = [(one.after, change.field, change.before, change.after) for one in found.frames for change in one.fields]
    return [
        (
            "moved",
            "In another split, or renamed",
            _rows(("before", "after"), [(one.before, one.after) for one in moved]),
        ),
        ("fields", "Fields of frames.csv", _rows(("frame", "field", "before", "after"), fields)),
        ("other", "Other files", _rows(("file",), [(file,) for file in found.other_files])),
    ]


def _rows(headers: Sequence[str], rows: Sequence[Sequence[object]], limit: int = _MAX_ROWS) -> str:
    if not rows:
        return ""
    more = f'<p class="note">{len(rows) - limit:,} more: --json lists all.</p>' if len(rows) > limit else ""
    return table(headers, rows[:limit]) + more
