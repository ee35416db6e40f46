"""Sample frames with their boxes on one picture, so that a person sees what is in the set."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

from flows.dataset.manifest import Manifest
from flows.page import PALETTE

if TYPE_CHECKING:
    import pandas as pd

_CELL_WH = (320, 200)
_COLUMNS = 4
_CAPTION_PX = 20
_BACKGROUND = "#14181c"


def contact_sheet(root: Path, manifest: Manifest, num_frames: int = 24) -> str:
    """A JPEG, as a data URI, of up to `num_frames` readable frames with boxes in the colour of their class.

    The frames are spread evenly over splits, slices and cameras. Empty if no frame is readable.
    """
    sample = _spread(manifest.images[manifest.images["readable"]], num_frames)
    if not len(sample):
        return ""
    rows = -(-len(sample) // _COLUMNS)
    cell_height = _CELL_WH[1] + _CAPTION_PX
    sheet = Image.new("RGB", (_COLUMNS * _CELL_WH[0], rows * cell_height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.font = ImageFont.load_default(13)
    for position, row in enumerate(sample.to_dict("records")):
        left, top = position % _COLUMNS * _CELL_WH[0], position // _COLUMNS * cell_height
        boxes = manifest.boxes[manifest.boxes["image"] == row["image"]]
        sheet.paste(_thumbnail(root / row["image"], boxes), (left, top))
        caption = " · ".join(str(row[name]) for name in ("split", "camera", "slice") if row[name])
        draw.text((left + 4, top + _CELL_WH[1] + 2), _fitting(draw, caption), fill="#e8ebee")
    buffer = BytesIO()
    sheet.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour per class, repeated when there are more classes than colours."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(classes)}


def _spread(images: pd.DataFrame, number: int) -> pd.DataFrame:
    """Evenly spaced rows of the table in the order of slice, camera and name."""
    ordered = images.sort_values(["slice", "camera", "image"])
    if len(ordered) <= number:
        return ordered
    return ordered.iloc[[int(index * len(ordered) / number) for index in range(number)]]


def _thumbnail(path: Path, boxes: pd.DataFrame) -> Image.Image:
    with Image.open(path) as image:
        size_wh = image.size
        image.draft("RGB", (_CELL_WH[0] * 2, _CELL_WH[1] * 2))  # JPEG decodes at a fraction of its size, much faster
        upright = ImageOps.exif_transpose(image).convert("RGB")
        turned = (upright.size[0] > upright.size[1]) != (size_wh[0] > size_wh[1])
    frame_width = size_wh[1] if turned else size_wh[0]
    upright.thumbnail(_CELL_WH)
    scale = upright.size[0] / frame_width
    draw = ImageDraw.Draw(upright)
    for box in boxes.to_dict("records"):
        x1, y1, x2, y2 = (box[name] * scale for name in ("x1", "y1", "x2", "y2"))
        colour = PALETTE[int(box["class_id"]) % len(PALETTE)]
        draw.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline=colour, width=2)
    cell = Image.new("RGB", _CELL_WH, _BACKGROUND)
    cell.paste(upright, ((_CELL_WH[0] - upright.size[0]) // 2, (_CELL_WH[1] - upright.size[1]) // 2))
    return cell


def _fitting(draw: ImageDraw.ImageDraw, caption: str) -> str:
    while caption and draw.textlength(caption) > _CELL_WH[0] - 8:
        caption = caption[:-2].rstrip("…") + "…"
    return caption
