"""What one image file says about itself: bytes, size, light, and whether it decodes at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from bentos.detector.features import image_features

THUMBNAIL_WH = (96, 54)
_ALMOST_BLACK, _ALMOST_WHITE = 16, 239  # grey, 0 to 255
_MISSING = float("nan")
_ORIENTATION_TAG = 0x0112
_HASH_SIDE = 32
_COSINES = np.cos(np.pi * np.outer(np.arange(8), np.arange(_HASH_SIDE) + 0.5) / _HASH_SIDE).astype(
    np.float32
)  # (8, 32)


@dataclass(frozen=True)
class ImageFacts:
    """Figures of one image file; `error` says why it does not decode, and then the figures of its pixels are missing.

    Width and height are those of the upright frame, px. Brightness and contrast are mean and standard deviation of
    grey, sharpness is the variance of the Laplacian; `underexposed` and `overexposed` are the shares of pixels that are
    almost black or white. `phash` is 64 bits as 16 hex digits, see `perceptual_hash`. `orientation` is the tag of EXIF:
    1 to 8, 0 where there is none, -1 where it is none of these or cannot be read. `thumbnail` is (54, 96) grey.
    """

    readable: bool
    error: str
    width: int
    height: int
    format: str
    num_bytes: int
    sha256: str
    phash: str
    brightness: float
    contrast: float
    sharpness: float
    underexposed: float
    overexposed: float
    orientation: int
    thumbnail: npt.NDArray[np.uint8]


def inspect_image(path: Path) -> ImageFacts:
    """Read, hash, decode and measure an image file. Never raises for what is in the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return unreadable(f"cannot be read: {error.strerror}")
    if not content:
        return unreadable("the file is empty", content)
    try:
        rgb, form, orientation = decode_rgb(content)
    except Exception as error:  # decoders raise whatever they like on broken input; the reason goes into the report
        return unreadable(_reason(error), content)
    grey: npt.NDArray[np.uint8] = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    features = image_features(rgb)
    return ImageFacts(
        readable=True,
        error="",
        width=rgb.shape[1],
        height=rgb.shape[0],
        format=form,
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        phash=perceptual_hash(grey),
        brightness=features["brightness"],
        contrast=features["contrast"],
        sharpness=features["sharpness"],
        underexposed=float((grey < _ALMOST_BLACK).mean()),
        overexposed=float((grey > _ALMOST_WHITE).mean()),
        orientation=orientation,
        thumbnail=_thumbnail(grey),
    )


def decode_rgb(content: bytes) -> tuple[npt.NDArray[np.uint8], str, int]:  # (H, W, 3)
    """Decode an image file, upright, into RGB; with its format and EXIF orientation. Raises what Pillow raises."""
    with Image.open(BytesIO(content)) as image:
        form = image.format or ""
        image.load()
        orientation = _orientation(image)
        upright = (ImageOps.exif_transpose(image) if orientation > 1 else image).convert("RGB")
        return np.asarray(upright), form, orientation


def perceptual_hash(grey: npt.NDArray[np.uint8]) -> str:  # (H, W)
    """64 signs of the lowest horizontal and vertical frequencies, as 16 hex digits; re-encoding and scaling flip few.

    A variant of pHash (Zauner 2010) without its median: bit (v, u), row by row, is the sign of the cosine coefficient
    of vertical frequency v and horizontal frequency u of the frame shrunk to 32 x 32. Mirroring the frame thus flips
    just the bits of odd u, turning it upside down those of odd v, so that flips can be told by the hash alone.
    """
    small = cv2.resize(grey, (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = _COSINES @ (small - small.mean()) @ _COSINES.T  # (8, 8)
    return np.packbits(low > 0).tobytes().hex()


def _thumbnail(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:  # (H, W) -> (54, 96)
    small: npt.NDArray[np.uint8] = cv2.resize(grey, THUMBNAIL_WH, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return small


def unreadable(error: str, content: bytes = b"") -> ImageFacts:
    """The facts of a file that does not decode."""
    return ImageFacts(
        readable=False,
        error=error,
        width=0,
        height=0,
        format="",
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest() if content else "",
        phash="",
        brightness=_MISSING,
        contrast=_MISSING,
        sharpness=_MISSING,
        underexposed=_MISSING,
        overexposed=_MISSING,
        orientation=0,
        thumbnail=np.zeros(THUMBNAIL_WH[::-1], dtype=np.uint8),
    )


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 0)
    except Exception:  # damaged EXIF: Pillow raises whatever it stumbles over
        return -1
    return value if isinstance(value, int) and 0 <= value <= 8 else -1


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "this is no image of a known format"
    return f"does not decode: {' '.join(str(error).split()) or type(error).__name__}"
