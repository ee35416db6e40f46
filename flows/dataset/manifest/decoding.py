"""From the bytes of an image file to grey pixels: a JPEG through libjpeg-turbo straight to its Y, others by Pillow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from math import ceil

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps

from bentos.detector.features import LONG_SIDE_PX
from bentos.detector.header import read_header
from bentos.detector.imaging import MAX_PIXELS, turn_upright

Pixels = npt.NDArray[np.uint8]

_JPEG = b"\xff\xd8\xff"
_ORIENTATION_TAG = 0x0112
_METADATA = (b"Exif\0", b"http://ns.adobe.com/xap/", b"MPF\0")  # what may turn a JPEG or make it one of several
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_START_OF_SCAN = 0xDA
_APPLICATION = (0xE1, 0xE2)  # where EXIF, XMP and MPF are
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)  # kinds of frames
_MOST_SCANS = 500  # of a progressive JPEG; encoders make some 10, more are an attack on the decoder
_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_MOST_PADDING = 16  # bytes before the end that cameras leave; a decoder that lost its way leaves more


@dataclass(frozen=True)
class Decoded:
    """Grey pixels, (h, w), of the upright frame of `size_wh`; the format by Pillow's name; EXIF's orientation.

    A JPEG may have been decoded at a fraction of its size, but not to less than `LONG_SIDE_PX` where it has so many.
    """

    grey: Pixels
    size_wh: tuple[int, int]
    format: str
    orientation: int


def decode_grey(content: bytes) -> Decoded:
    """Decode an image file to ITU-R BT.601 luma, upright, as far as its figures need it.

    A JPEG is good only if libjpeg-turbo has nothing to say about it: it notices a missing end or broken data where
    other decoders paint the rest grey. What it refuses is decoded once more by Pillow, whose reasons are better.

    Raises:
        ValueError: It is damaged, or has more than `MAX_PIXELS`.
        Exception: Whatever Pillow raises on what it does not know or cannot decode.
    """
    complaint = ""
    if content.startswith(_JPEG):
        try:
            found = _decode_jpeg(content)
        except Exception as error:
            complaint = " ".join(str(error).split()) or type(error).__name__
        else:
            if found is not None:
                return found
    grey, form, orientation = _with_pillow(content, rgb=False)
    if complaint and not _is_harmless(complaint):
        raise ValueError(f"the JPEG is damaged ({complaint}); get the file again")
    return Decoded(grey, (grey.shape[1], grey.shape[0]), form, orientation)


def decode_rgb(content: bytes) -> tuple[Pixels, str, int]:  # (H, W, 3)
    """Decode an image file, upright, into RGB; with its format and EXIF orientation. Raises as `decode_grey` does."""
    return _with_pillow(content, rgb=True)


def _decode_jpeg(content: bytes) -> Decoded | None:
    """None where Pillow must do it or say why not: other colours than YCbCr and grey, too many pixels or scans."""
    header = read_header(content)
    width, height = header.size_wh
    stored_h, stored_w, colours, _ = simplejpeg.decode_jpeg_header(content)
    if not header.plain or colours not in ("YCbCr", "Gray") or (stored_w, stored_h) != (width, height):
        return None
    may_be_turned, is_progressive = _look_at_segments(content)
    if width * height > MAX_PIXELS or (is_progressive and not _has_few_scans(content)):
        return None
    form, orientation = "JPEG", 0
    if may_be_turned:
        with Image.open(BytesIO(content)) as image:
            form, orientation = image.format or "", _orientation(image)
    scale = min(1.0, LONG_SIDE_PX / max(width, height))
    least = {"min_width": ceil(width * scale), "min_height": ceil(height * scale)}
    grey = simplejpeg.decode_jpeg(content, "GRAY", **least)  # (h, w, 1); all its bytes are looked at all the same
    size_wh = (height, width) if orientation >= 5 else (width, height)
    return Decoded(turn_upright(grey, max(orientation, 1))[:, :, 0], size_wh, form, orientation)


def _with_pillow(content: bytes, rgb: bool) -> tuple[Pixels, str, int]:
    with Image.open(BytesIO(content)) as image:
        form = image.format or ""
        _require_size(*image.size)
        if form in ("JPEG", "MPO") and not _has_few_scans(content):
            raise ValueError(f"it has more than {_MOST_SCANS} scans; save it anew")
        image.load()
        orientation = _orientation(image)
        upright = ImageOps.exif_transpose(image) if orientation > 1 else image
        pixels = np.asarray(upright.convert("RGB"))
    if rgb:
        return pixels, form, orientation
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    return grey, form, orientation


def _require_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        limit = f"{MAX_PIXELS / 1e6:g} million pixels"
        raise ValueError(f"its header says {width} x {height}, more than {limit}; it was not decoded")


def _has_few_scans(content: bytes) -> bool:
    return content.count(b"\xff\xda") <= _MOST_SCANS


def _look_at_segments(content: bytes) -> tuple[bool, bool]:
    """Whether a segment before the pixels may turn the frame, and whether it is progressive.

    Walks from segment to segment: a search through all bytes takes longer than the rest of what is done here.
    """
    may_be_turned = is_progressive = False
    offset = 2
    while (offset := content.find(b"\xff", offset)) >= 0 and offset + 4 <= len(content):
        marker = content[offset + 1]
        if marker == _START_OF_SCAN:
            break
        if marker == 0xFF:
            offset += 1
        elif marker == 0 or marker in _ALONE:
            offset += 2
        else:
            may_be_turned |= marker in _APPLICATION and content.startswith(_METADATA, offset + 4)
            is_progressive |= marker in _PROGRESSIVE
            offset += 2 + max(2, int.from_bytes(content[offset + 2 : offset + 4], "big"))
    return may_be_turned, is_progressive


def _is_harmless(complaint: str) -> bool:
    padding = _PADDING.fullmatch(complaint)
    return padding is not None and int(padding[1]) <= _MOST_PADDING


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 0)
    except Exception:  # damaged EXIF: Pillow raises whatever it stumbles over
        return -1
    return value if isinstance(value, int) and 0 <= value <= 8 else -1
