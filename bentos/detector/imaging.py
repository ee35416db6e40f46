"""From the bytes of an image file to pixels in a slot of the next batch.

Sizes and boxes refer to the image as displayed: EXIF orientation is applied. Transparency is dropped, 16-bit samples
keep their upper byte, CMYK is converted by Pillow, and of an animation the first frame is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from bentos.detector.boxes import Letterbox
from bentos.detector.errors import BadImage, ImageTooLarge
from bentos.detector.header import ImageHeader, read_header

Pixels = npt.NDArray[np.uint8]

cv2.setNumThreads(1)  # frames are worked on side by side already

MAX_PIXELS = 40_000_000
"""Pixels that are decoded by default: above 8K video (33 million), 120 MB as RGB."""
_MAX_SCANS = 500  # of a progressive JPEG, as libjpeg-turbo's own limit: more are an attack on the decoder
_MAX_SCANNED_PIXELS = 1_000_000_000  # every scan walks over the whole image; encoders make 10 of it, with CMYK 18


@dataclass(frozen=True)
class Picture:
    """Decoded pixels, (H, W, 3) RGB, upright. `size_wh` is the size of the sent image.

    It is larger than the pixels' own size when a JPEG was decoded at a fraction of it.
    """

    rgb: Pixels
    size_wh: tuple[int, int]


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, cover_wh: tuple[int, int] | None = None) -> Picture:
    """Decode a JPEG, PNG or WebP file; its size is checked first, from the header alone.

    Args:
        data: The file's content.
        max_pixels: Width times height that is accepted.
        cover_wh: If given, a JPEG may be decoded at some eighths of its size, as long as its letterboxed content in an
            input of this size need not be enlarged.

    Raises:
        BadImage: It is no such image, or does not decode to its last row.
        ImageTooLarge: It has more than `max_pixels`.
    """
    header = read_header(data)
    width, height = header.size_wh
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width} x {height} pixels, accepted are {max_pixels / 1e6:g} million; send a smaller one",
            width=width,
            height=height,
            max_pixels=max_pixels,
        )
    if header.format == "jpeg":
        _require_few_scans(data, header)
    try:
        if header.format == "jpeg" and header.plain:
            return _decode_jpeg(data, header, cover_wh)
        return _decode_with_pillow(data, header)
    except BadImage:
        raise
    except Exception as error:  # decoders raise whatever they like on broken input; all of it is the input's fault
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImage(f"the {header.format.upper()} does not decode: {reason}; is it complete?") from None


def letterbox_into(slot: Pixels, picture: Picture, fill: int) -> Letterbox:  # slot (H, W, 3)
    """Scale the picture into `slot` (bilinear, aspect kept, centred), paint the borders, and say where it lies."""
    height, width = slot.shape[:2]
    box = Letterbox.fit(picture.size_wh, (width, height))
    content_w, content_h = box.content_wh
    inner = slot[box.top : box.top + content_h, box.left : box.left + content_w]
    cv2.resize(picture.rgb, box.content_wh, dst=inner, interpolation=cv2.INTER_LINEAR)
    slot[: box.top] = fill
    slot[box.top + content_h :] = fill
    slot[:, : box.left] = fill
    slot[:, box.left + content_w :] = fill
    return box


def _require_few_scans(data: bytes, header: ImageHeader) -> None:
    width, height = header.size_wh
    most = min(_MAX_SCANS, _MAX_SCANNED_PIXELS // (width * height))
    if data.count(b"\xff\xda") > most:
        raise BadImage(f"the JPEG has more than {most} scans, for its size too many; save it as a baseline JPEG")


def _decode_jpeg(data: bytes, header: ImageHeader, cover_wh: tuple[int, int] | None) -> Picture:
    stored_h, stored_w = simplejpeg.decode_jpeg_header(data)[:2]
    if (stored_w, stored_h) != header.size_wh:
        raise BadImage("the JPEG has frame headers that contradict each other")
    turned = header.orientation >= 5
    upright_wh = (stored_h, stored_w) if turned else (stored_w, stored_h)
    min_w, min_h = (0, 0) if cover_wh is None else Letterbox.fit(upright_wh, cover_wh).content_wh
    if turned:
        min_w, min_h = min_h, min_w
    if cover_wh is None or min_w > stored_w or min_h > stored_h:
        rgb = simplejpeg.decode_jpeg(data, "RGB")
    else:
        rgb = simplejpeg.decode_jpeg(data, "RGB", min_width=min_w, min_height=min_h, min_factor=1)
    return Picture(turn_upright(rgb, header.orientation), upright_wh)


def turn_upright(rgb: Pixels, orientation: int) -> Pixels:  # (H, W, 3)
    """Turn and mirror as EXIF `orientation` (1..8) asks; the result is contiguous."""
    if orientation == 1:
        return rgb
    if orientation in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def _decode_with_pillow(data: bytes, header: ImageHeader) -> Picture:
    from PIL import Image, ImageOps

    with Image.open(BytesIO(data), formats=[header.format.upper()]) as image:
        if image.size != header.size_wh:
            raise BadImage("the image has headers that contradict each other")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):  # Pillow would clip 16-bit grey at 255
            grey = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
            rgb = np.repeat(grey[:, :, None], 3, axis=2)
        else:
            direct = image.convert("RGBA") if image.mode == "P" else image  # with transparency it has no way to RGB
            rgb = np.array(direct if direct.mode == "RGB" else direct.convert("RGB"))  # a copy of 8K is 100 MB
    return Picture(rgb, (rgb.shape[1], rgb.shape[0]))
