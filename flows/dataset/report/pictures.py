"""Frames as small pictures with marked boxes, alone or many on a sheet.

The privacy rule: a reduced picture is made from the frame scaled to fit 320 x 320 px, and a crop is cut from that, too.
So a face or a number plate in the view of a traffic camera is a few pixels wide, and no enlargement brings it back;
what fills half the frame stays visible. Nothing but pixels goes along: no EXIF, no comment. Full detail is only on
request.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from flows.dataset.report.captions import fitting_text, font

Detail = Literal["reduced", "full"]
Box = tuple[float, float, float, float]

REDUCED_PX = 320  # longest side of the frame that a reduced picture is made from
_PICTURE_PX: dict[Detail, int] = {"reduced": 320, "full": 640}  # width of a picture, px
_TALLEST = 0.75  # height of a picture, of its width
_SURROUNDINGS = 2.5  # a crop is that many times larger than its focus
_LEAST_CROP = {"reduced": 80, "full": 160}  # px of the frame that it is cut from: less shows no surroundings
_FONT_PX, _LINE_PX, _MARGIN_PX = 12, 16, 4
_DARK, _LIGHT = "#14181c", "#e8ebee"
_ORIENTATION_TAG = 0x0112
_DASH_PX = 5
_FAR_PX = 2000.0
_LEAST_BOX_PX = 6
_GAP_PX = 6
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class Mark:
    """A box to draw; corners in px of the upright frame, colour one of flows.page.PALETTE."""

    box_xyxy: Box
    colour: str
    label: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Cell:
    """One picture: a file or its bytes, what stands below it, boxes to mark, and the part to show, px, if not all."""

    source: Path | bytes
    caption: str
    marks: tuple[Mark, ...] = ()
    focus_xyxy: Box | None = None


def contact_sheet(cells: Sequence[Cell], detail: Detail = "reduced", columns: int = 4) -> str:
    """A JPEG, as a data URI, with a captioned picture per cell, row by row; "" without cells.

    An image that cannot be read gives a cell that says so.
    """
    if not cells:
        return ""
    columns = min(columns, len(cells))
    width = _PICTURE_PX[detail]
    pictures = [draw_cell(cell, detail) for cell in cells]
    height = max(picture.height for picture in pictures)
    captions = [fitting_text(cell.caption, width - 2 * _MARGIN_PX, _FONT_PX, max_lines=2) for cell in cells]
    step_wh = (width + _GAP_PX, height + _LINE_PX * max(map(len, captions)) + 2 * _MARGIN_PX)
    sheet = Image.new("RGB", (columns * step_wh[0] - _GAP_PX, -(-len(cells) // columns) * step_wh[1]), _DARK)
    pen = ImageDraw.Draw(sheet)
    for position, (picture, lines) in enumerate(zip(pictures, captions, strict=True)):
        left, top = position % columns * step_wh[0], position // columns * step_wh[1]
        sheet.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
        for number, line in enumerate(lines):
            where = (left + _MARGIN_PX, top + height + _MARGIN_PX // 2 + number * _LINE_PX)
            pen.text(where, line, fill=_LIGHT, font=font(_FONT_PX))
    return _data_uri(sheet)


def picture_uri(cell: Cell, detail: Detail = "reduced") -> str:
    """The picture of one cell without its caption: a JPEG as a data URI, for pages that set captions as text."""
    return _data_uri(draw_cell(cell, detail))


def picture_uris(cells: Sequence[Cell], detail: Detail = "reduced") -> list[str]:
    """`picture_uri` of each cell; several are decoded at a time, which the interpreter lock allows."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        return list(pool.map(lambda cell: picture_uri(cell, detail), cells))


def draw_cell(cell: Cell, detail: Detail = "reduced") -> Image.Image:
    """The picture of one cell with its marks, at most 320 x 240 px (full: 640 x 480)."""
    width = _PICTURE_PX[detail]
    focus = cell.focus_xyxy if cell.focus_xyxy and all(map(math.isfinite, cell.focus_xyxy)) else None
    try:
        frame, frame_width = _upright(cell.source, REDUCED_PX if detail == "reduced" else None if focus else width)
    except Exception as error:  # decoders raise whatever they like on broken input; the picture says what
        return _apology(error, width)
    scale = frame.width / frame_width
    left, top = 0.0, 0.0
    if focus:
        window = _window([corner * scale for corner in focus], frame.size, _LEAST_CROP[detail])
        left, top = window[:2]
        frame = frame.crop(window)
    zoom = min(width / frame.width, width * _TALLEST / frame.height)
    size = (max(round(frame.width * zoom), 1), max(round(frame.height * zoom), 1))
    picture = frame.resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    placed = [(mark, _placed(mark.box_xyxy, scale, (left, top), zoom)) for mark in cell.marks]
    seen = [(mark, corners) for mark, corners in placed if _is_seen(corners, size)]
    for mark, corners in seen:
        _outline(pen, corners, mark)
    for mark, corners in seen:
        _label(pen, corners, mark, size)
    return picture


def _upright(source: Path | bytes, longest_px: int | None) -> tuple[Image.Image, int]:
    """The upright RGB frame, made smaller to fit a square of `longest_px`, and the width it has in full."""
    with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
        turned = _turned(image)
        width = image.height if turned > 4 else image.width
        if longest_px:
            image.draft("RGB", (longest_px * 2, longest_px * 2))  # JPEG decodes at a fraction of its size, much faster
        rgb = image.convert("RGB")  # before scaling: palettes cannot be averaged
        if longest_px:
            rgb.thumbnail((longest_px, longest_px), Image.Resampling.BICUBIC)
        if 1 < turned <= 8:
            rgb.getexif()[_ORIENTATION_TAG] = turned
            rgb = ImageOps.exif_transpose(rgb)
        return rgb, width


def _turned(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 0 where there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 0)
    except Exception:  # broken EXIF is the business of a check; the frame is shown as it is stored
        return 0
    return value if value in range(1, 9) else 0


def _window(focus: Sequence[float], size_wh: tuple[int, int], least_px: int) -> tuple[int, int, int, int]:
    """The part of a picture to show around `focus`, four to three, inside the picture as far as it reaches."""
    x1, y1, x2, y2 = min(focus[0], focus[2]), min(focus[1], focus[3]), max(focus[0], focus[2]), max(focus[1], focus[3])
    width = max((x2 - x1) * _SURROUNDINGS, (y2 - y1) * _SURROUNDINGS / _TALLEST, least_px)
    starts, ends = [], []
    for centre, side, limit in zip(((x1 + x2) / 2, (y1 + y2) / 2), (width, width * _TALLEST), size_wh, strict=True):
        length = max(min(round(side), limit), 1)
        start = min(max(round(centre - length / 2), 0), limit - length)
        starts.append(start)
        ends.append(start + length)
    return starts[0], starts[1], ends[0], ends[1]


def _placed(box: Box, scale: float, origin: tuple[float, float], zoom: float) -> Box:
    """Corners on the picture; far beyond it they are drawn in, where they are not seen either."""
    xs = sorted(_near((value * scale - origin[0]) * zoom) for value in box[::2])
    ys = sorted(_near((value * scale - origin[1]) * zoom) for value in box[1::2])
    return xs[0], ys[0], xs[1], ys[1]


def _near(value: float) -> float:
    return min(max(value, -_FAR_PX), _FAR_PX)


def _is_seen(corners: Box, size_wh: tuple[int, int]) -> bool:
    return corners[0] < size_wh[0] and corners[1] < size_wh[1] and corners[2] >= 0 and corners[3] >= 0


def _outline(pen: ImageDraw.ImageDraw, corners: Box, mark: Mark) -> None:
    """A line of 2 px with a dark one around it, so that it shows on any ground."""
    x1, y1, x2, y2 = _visible(corners)
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_DARK)
    if not mark.dashed:
        pen.rectangle((x1, y1, x2, y2), outline=mark.colour, width=2)
        return
    for first, last, horizontal in ((x1, x2, True), (y1, y2, False)):
        start = first
        while start < last:
            end = min(start + _DASH_PX, last)
            for other in (y1, y2) if horizontal else (x1, x2):
                line = (start, other, end, other) if horizontal else (other, start, other, end)
                pen.line(line, fill=mark.colour, width=2)
            start += 2 * _DASH_PX


def _visible(corners: Box) -> Box:
    """The box, or one of a few px around it where it is smaller."""
    x1, y1, x2, y2 = corners
    more_x, more_y = (max(_LEAST_BOX_PX - side, 0) / 2 for side in (x2 - x1, y2 - y1))
    return x1 - more_x, y1 - more_y, x2 + more_x, y2 + more_y


def _label(pen: ImageDraw.ImageDraw, corners: Box, mark: Mark, size_wh: tuple[int, int]) -> None:
    """The label on a dark ground above its box, or inside where there is no room above; never beyond the picture."""
    if not mark.label:
        return
    lines = fitting_text(mark.label, size_wh[0] - 6, _FONT_PX, max_lines=1)
    length = font(_FONT_PX).getlength(lines[0])
    left = max(min(corners[0] - 1, size_wh[0] - length - 6), 0)
    above = corners[1] - _LINE_PX
    top = above if above >= 0 else min(max(corners[1], 0), size_wh[1] - _LINE_PX)
    pen.rectangle((left, top, left + length + 5, top + _LINE_PX - 1), fill=_DARK)
    pen.rectangle((left, top, left + 1, top + _LINE_PX - 1), fill=mark.colour)
    pen.text((left + 4, top), lines[0], fill=_LIGHT, font=font(_FONT_PX))


def _apology(error: Exception, width: int) -> Image.Image:
    picture = Image.new("RGB", (width, width * 9 // 16), "#3a2a24")
    known: dict[type[Exception], str] = {
        FileNotFoundError: "the file is missing",
        UnidentifiedImageError: "it is no image that is known here",
    }
    reason = known.get(type(error), f"{type(error).__name__}: {error}")
    lines = fitting_text(f"This image cannot be shown: {reason}", width - 24, _FONT_PX, max_lines=4)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((12, 12 + number * _LINE_PX), line, fill=_LIGHT, font=font(_FONT_PX))
    return picture


def _data_uri(picture: Image.Image) -> str:
    bare = Image.new("RGB", picture.size)  # neither the place in EXIF nor a comment or colour profile goes along
    bare.paste(picture)
    buffer = BytesIO()
    bare.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
