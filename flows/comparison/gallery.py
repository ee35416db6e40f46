"""Pictures of the frames where two models disagree most, their served boxes drawn in."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.comparison.predictions import Boxes, GroundTruth, Predictions
from flows.comparison.report import Disagreement
from flows.errors import DataError
from flows.page import PALETTE

LoadImage = Callable[[str], bytes]
"""Gives the encoded bytes of a frame by its name in the ground truth."""

_WIDTH_PX = 320  # as on all pages: neither faces nor number plates can be read


@dataclass(frozen=True)
class Picture:
    """A frame as a JPEG data URI with its caption."""

    data_uri: str
    caption: str


def disagreement_gallery(
    shown: Sequence[Disagreement],
    truth: GroundTruth,
    challenger: Predictions,
    champion: Predictions | None,
    *,
    served_conf: float,
    load: LoadImage,
) -> list[Picture]:
    """Draw labels (thin grey), the champion's boxes (orange) and the challenger's (blue) of each frame.

    Raises:
        DataError: A frame cannot be decoded.
    """
    numbers = {image: index for index, image in enumerate(truth.images)}
    layers: list[tuple[Boxes, str, int]] = [(truth, PALETTE[7], 1)]
    if champion is not None:
        layers.append((champion.at_confidence(served_conf), PALETTE[1], 3))
    layers.append((challenger.at_confidence(served_conf), PALETTE[0], 2))
    return [
        Picture(
            _drawn(load(one.image), one.image, numbers[one.image], layers),
            f"{one.image}: {one.num_boxes} boxes without a partner; camera {one.camera}, {one.slice}",
        )
        for one in shown
    ]


def _drawn(encoded: bytes, image: str, index: int, layers: Sequence[tuple[Boxes, str, int]]) -> str:
    from PIL import Image, ImageDraw, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    except (OSError, UnidentifiedImageError):
        raise DataError(f"{image}: is not an image that can be decoded", "Run: tca validate") from None
    scale = min(_WIDTH_PX / picture.width, 1.0)
    picture = picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)))
    draw = ImageDraw.Draw(picture)
    for boxes, colour, width in layers:
        for x1, y1, x2, y2 in boxes.boxes_xyxy[boxes.of(index)] * scale:
            draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=width)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
