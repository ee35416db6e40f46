"""Pictures of the frames where two models disagree most, side by side, what they disagree on drawn bold."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flows.comparison.matching import Bools
from flows.comparison.predictions import Floats, GroundTruth, Predictions
from flows.comparison.report import Disagreement
from flows.comparison.served import unpartnered
from flows.errors import DataError
from flows.page import PALETTE, Picture

if TYPE_CHECKING:
    from PIL.Image import Image

LoadImage = Callable[[str], bytes]
"""Gives the encoded bytes of a frame by its name in the ground truth."""

_WIDTH_PX = 320  # as on all pages: neither faces nor number plates can be read
_CHALLENGER, _CHAMPION, _MISSED, _LABEL = (
    PALETTE[4],
    PALETTE[1],
    PALETTE[5],
    PALETTE[7],
)  # seen on dark and bright frames
_Layer = tuple[Floats, str, int]  # boxes (N, 4), colour, width of the line, px


def disagreement_gallery(
    shown: Sequence[Disagreement],
    truth: GroundTruth,
    challenger: Predictions,
    champion: Predictions | None,
    *,
    load: LoadImage,
) -> list[Picture]:
    """Draw each frame as the challenger sees it and, beside it, as the champion does, of the detections served.

    Bold are boxes without a partner on the other side (without a champion: among the labels), thin those that have one,
    thin and grey the labels.

    Raises:
        DataError: A frame cannot be decoded.
    """
    numbers = {image: index for index, image in enumerate(truth.images)}
    return [_picture(one, numbers[one.image], truth, challenger, champion, load(one.image)) for one in shown]


def _picture(
    shown: Disagreement, index: int, truth: GroundTruth, new: Predictions, old: Predictions | None, encoded: bytes
) -> Picture:
    alone, other_alone = unpartnered(new, truth if old is None else old, index)
    labels: _Layer = (truth.boxes_xyxy[truth.of(index)], _LABEL, 1)
    views = [[labels, *_layers(new, index, alone, _CHALLENGER)]]
    said = [_told("the challenger", new, index, alone, truth)]
    if old is None:
        views[0].append((truth.boxes_xyxy[truth.of(index)][other_alone], _MISSED, 2))
        said.append(f"{int(other_alone.sum())} labelled objects missed")
    else:
        views.append([labels, *_layers(old, index, other_alone, _CHAMPION)])
        said.append(_told("the champion", old, index, other_alone, truth))
    picture = _decoded(encoded, shown.image)
    place = f"camera {shown.camera}, {shown.slice}"
    alt = f"{shown.image} as the challenger sees it" + ("" if old is None else ", and as the champion does")
    uris = tuple(_drawn(picture, layers) for layers in views)
    return Picture(uris, alt, f"{shown.image} ({place}): {'; '.join(said)}")


def _layers(found: Predictions, index: int, alone: Bools, colour: str) -> list[_Layer]:
    boxes = found.boxes_xyxy[found.of(index)]
    return [(boxes[~alone], colour, 1), (boxes[alone], colour, 3)]


def _told(who: str, found: Predictions, index: int, alone: Bools, truth: GroundTruth) -> str:
    """Like `only the challenger: 5, of which 4 are labelled`."""
    num = int(alone.sum())
    if not num:
        return f"only {who}: none"
    right = int((alone & ~unpartnered(found, truth, index)[0]).sum())
    return f"only {who}: {num}, of which {right or 'none'} {'is' if right == 1 else 'are'} labelled"


def _decoded(encoded: bytes, image: str) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(encoded)).convert("RGB")
    except (OSError, UnidentifiedImageError):
        raise DataError(f"{image}: is not an image that can be decoded", "Run: tca validate") from None


def _drawn(picture: Image, layers: Sequence[_Layer]) -> str:
    from PIL import ImageDraw

    scale = min(_WIDTH_PX / picture.width, 1.0)
    small = picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)))
    draw = ImageDraw.Draw(small)
    for boxes, colour, width in layers:
        for x1, y1, x2, y2 in np.asarray(boxes) * scale:
            draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=width)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
