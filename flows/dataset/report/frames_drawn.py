"""The pictures of a validation: sample frames of each slice, and the worst offenders of each failed check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from flows.dataset.checks.check import Row
from flows.dataset.checks.expectations import CheckResult, Offender
from flows.dataset.layout import Dataset, Frame
from flows.dataset.manifest.manifest import Manifest, shown_path
from flows.dataset.report.distributions import class_colours
from flows.dataset.report.moments import moment_of
from flows.dataset.report.pictures import Box, Cell, Detail, Mark, picture_uris
from flows.page import PALETTE, Markup, Picture, escape

if TYPE_CHECKING:
    import pandas as pd

OFFENDING, BESIDE = PALETTE[5], PALETTE[4]
SAMPLES, MAX_SLICES = 32, 16
_LABEL_PX = 40  # sample boxes from this width on, on a picture of 320 px, carry their class
_MESSAGES_SHOWN = 2
_PICTURE_PX = 320


@dataclass(frozen=True)
class DrawnFrames:
    """Draws frames of one dataset, with the detail that the user allows."""

    dataset: Dataset
    manifest: Manifest
    detail: Detail

    @cached_property
    def _readable(self) -> frozenset[str]:
        images = self.manifest.images
        return frozenset(images.loc[images["readable"], "image"])

    @cached_property
    def _images(self) -> pd.DataFrame:
        return self.manifest.images.set_index("image")

    def _row(self, image: str) -> Row:
        return {str(name): value for name, value in self._images.loc[image].items()}

    def samples(self) -> dict[str, list[Picture]]:
        """Readable frames of each slice (the largest ones), evenly spread over cameras and splits."""
        readable = self.manifest.images[self.manifest.images["readable"]]
        slices = readable["slice"].value_counts().index[:MAX_SLICES].tolist()
        each = max(SAMPLES // len(slices), 2) if slices else 0
        chosen = {name: spread(readable[readable["slice"] == name], each) for name in sorted(slices)}
        boxes = self._boxes_of(image for images in chosen.values() for image in images)
        return {name: self._sample_pictures(images, boxes) for name, images in chosen.items()}

    def offenders(self, check: CheckResult, limit: int) -> list[Picture]:
        """Up to `limit` frames that fail `check`, what is wrong marked; a frame with its partner is a pair."""
        shown = self._shown(check, limit)
        partners = {image: self._partner(found) for image, found in shown.items()}
        boxes = self._boxes_of([*shown, *partners.values()])
        cells: list[tuple[Cell, ...]] = []
        for image, found in shown.items():
            if partner := partners[image]:
                cells.append((self._plain(image, boxes), self._plain(partner, boxes)))
            else:
                cells.append((self._marked(image, found, boxes),))
        uris = iter(picture_uris([cell for group in cells for cell in group], self.detail))
        return [
            Picture(tuple(next(uris) for _ in group), f"{image}: {found[0].message}", _caption(found))
            for group, (image, found) in zip(cells, shown.items(), strict=True)
        ]

    def _shown(self, check: CheckResult, limit: int) -> dict[str, list[Offender]]:
        """Offenders by readable frame, in their order; of two frames that accuse each other only the first."""
        by_image: dict[str, list[Offender]] = {}
        for offender in check.offenders:
            if offender.image in self._readable:
                by_image.setdefault(offender.image, []).append(offender)
        shown: dict[str, list[Offender]] = {}
        for image, found in by_image.items():
            partner = self._partner(found)
            if len(shown) < limit and not (partner in shown and self._partner(shown[partner]) == image):
                shown[image] = found
        return shown

    def _partner(self, offenders: Sequence[Offender]) -> str:
        partner = offenders[0].partner
        return partner if partner in self._readable else ""

    def _boxes_of(self, images: Iterable[str]) -> dict[str, list[Row]]:
        boxes = self.manifest.boxes
        wanted = boxes[boxes["image"].isin(set(images))]
        found: dict[str, list[Row]] = {}
        for box in wanted.to_dict("records"):
            found.setdefault(box["image"], []).append({str(name): value for name, value in box.items()})
        return found

    def _sample_pictures(self, images: Sequence[str], boxes: Mapping[str, list[Row]]) -> list[Picture]:
        colours = list(class_colours(self.dataset.classes).values())
        cells = []
        for image in images:
            row = self._row(image)
            least_px = _LABEL_PX / _PICTURE_PX * max(row["width"], row["height"])
            marks = [_mark(box, colours[box["class_id"]], least_px) for box in boxes.get(image, [])]
            cells.append(Cell(self.dataset.root / image, "", tuple(marks)))
        uris = picture_uris(cells, self.detail)
        return [
            Picture((uri,), f"Sample frame {image} with its boxes", self._about(image))
            for uri, image in zip(uris, images, strict=True)
        ]

    def _about(self, image: str) -> Markup:
        row = self._row(image)
        moment = moment_of(row["time"])
        words = [row["camera"], row["split"], f"{moment:%Y-%m-%d %H:%M}" if moment else ""]
        count = int(row["num_boxes"])
        words.append(f"{count} box{'' if count == 1 else 'es'}")
        return Markup(f"{escape(' · '.join(filter(None, words)))}<br><code>{escape(image)}</code>")

    def _plain(self, image: str, boxes: Mapping[str, list[Row]]) -> Cell:
        marks = tuple(Mark(_corners(box), BESIDE) for box in boxes.get(image, []))
        return Cell(self.dataset.root / image, "", marks)

    def _marked(self, image: str, offenders: Sequence[Offender], boxes: Mapping[str, list[Row]]) -> Cell:
        """The frame with offending boxes in vermilion and, where labels are at fault, the others broken; a single one
        is looked at closely.
        """
        label_file = shown_path(self.dataset, Frame(image, "", "", "", "", "").label)
        lines = {offender.line for offender in offenders if offender.file == label_file and offender.line}
        marks, guilty = [], []
        about_labels = any(offender.file == label_file for offender in offenders)
        for box in boxes.get(image, []) if about_labels else []:
            corners = _corners(box)
            if box["line"] in lines:
                guilty.append(Mark(corners, OFFENDING, str(box["class_name"])))
            else:
                marks.append(Mark(corners, BESIDE, dashed=True))
        focus = guilty[0].box_xyxy if len(guilty) == 1 else None
        return Cell(self.dataset.root / image, "", (*marks, *guilty), focus)


def spread(images: pd.DataFrame, number: int) -> list[str]:
    """Names of up to `number` rows, evenly spaced in the order of camera, split and name."""
    ordered = images.sort_values(["camera", "split", "image"])["image"].tolist()
    if len(ordered) <= number:
        return ordered
    return [ordered[int((index + 0.5) * len(ordered) / number)] for index in range(number)]


def _mark(box: Row, colour: str, least_px: float) -> Mark:
    corners = _corners(box)
    return Mark(corners, colour, str(box["class_name"]) if corners[2] - corners[0] >= least_px else "")


def _corners(box: Row) -> Box:
    return box["x1"], box["y1"], box["x2"], box["y2"]


def _caption(offenders: Sequence[Offender]) -> Markup:
    """Where and what; of several faults in one frame the first ones."""
    shown = [
        f"<code>{escape(f'{one.file}:{one.line}' if one.line else one.file)}</code> {escape(one.message)}"
        for one in offenders[:_MESSAGES_SHOWN]
    ]
    if len(offenders) > _MESSAGES_SHOWN:
        shown.append(f"and {len(offenders) - _MESSAGES_SHOWN:,} more in this frame")
    return Markup("<br>".join(shown))
