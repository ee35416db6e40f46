"""What one image file says about itself: bytes, size, light, and whether it decodes at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bentos.detector.features import grey_features, sample_grey
from flows.dataset.manifest.decoding import decode_grey, decode_rgb
from flows.dataset.manifest.reading import read_steadily

__all__ = ["ImageFacts", "decode_rgb", "inspect_content", "inspect_image", "perceptual_hash", "unreadable"]

cv2.setNumThreads(1)  # images are worked on side by side already

THUMBNAIL_WH = (96, 54)
_ALMOST_BLACK, _ALMOST_WHITE = 16, 239  # grey, 0 to 255
_MISSING = float("nan")
_HASH_SIDE = 32
_COSINES = np.cos(np.pi * np.outer(np.arange(8), np.arange(_HASH_SIDE) + 0.5) / _HASH_SIDE).astype(
    np.float32
)  # (8, 32)


@dataclass(frozen=True)
class ImageFacts:
    """Figures of one image file; `error` says why it does not decode, and then the figures of its pixels are missing.

    Width and height are those of the upright frame, px. Brightness and contrast are mean and standard deviation of
    grey, sharpness is the variance of the Laplacian, `underexposed` and `overexposed` are the shares of pixels that are
    almost black or white, all of them of the pixels of `sample_grey`. `phash` is 64 bits as 16 hex digits, see
    `perceptual_hash`. `orientation` is the tag of EXIF: 1 to 8, 0 where there is none, -1 where it is none of these or
    cannot be read. `thumbnail` is (54, 96) grey.
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
        content, _ = read_steadily(str(path))
    except OSError as error:
        return unreadable(f"cannot be read: {error.strerror}")
    return inspect_content(content, hashlib.sha256(content).hexdigest())


def inspect_content(content: bytes, sha256: str) -> ImageFacts:
    """Decode and measure the content of an image file. Never raises for what is in it."""
    if not content:
        return unreadable("the file is empty")
    try:
        decoded = decode_grey(content)
    except Exception as error:  # decoders raise whatever they like on broken input; the reason goes into the report
        return unreadable(_reason(error), len(content), sha256)
    sample = sample_grey(decoded.grey)
    small = _reduced(sample)
    return ImageFacts(
        readable=True,
        error="",
        width=decoded.size_wh[0],
        height=decoded.size_wh[1],
        format=decoded.format,
        num_bytes=len(content),
        sha256=sha256,
        phash=perceptual_hash(small),
        **grey_features(sample),
        underexposed=_share(sample, _ALMOST_BLACK, cv2.CMP_LT),
        overexposed=_share(sample, _ALMOST_WHITE, cv2.CMP_GT),
        orientation=decoded.orientation,
        thumbnail=_thumbnail(small),
    )


def perceptual_hash(grey: npt.NDArray[np.uint8]) -> str:  # (H, W)
    """64 signs of the lowest horizontal and vertical frequencies, as 16 hex digits; re-encoding and scaling flip few.

    A variant of pHash (Zauner 2010) without its median: bit (v, u), row by row, is the sign of the cosine coefficient
    of vertical frequency v and horizontal frequency u of the frame shrunk to 32 x 32. Mirroring the frame thus flips
    just the bits of odd u, turning it upside down those of odd v, so that flips can be told by the hash alone.
    """
    small = cv2.resize(_reduced(grey), (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = _COSINES @ (small - small.mean()) @ _COSINES.T  # (8, 8)
    return np.packbits(low > 0).tobytes().hex()


def unreadable(error: str, num_bytes: int = 0, sha256: str = "") -> ImageFacts:
    """The facts of a file that does not decode."""
    return ImageFacts(
        readable=False,
        error=error,
        width=0,
        height=0,
        format="",
        num_bytes=num_bytes,
        sha256=sha256,
        phash="",
        brightness=_MISSING,
        contrast=_MISSING,
        sharpness=_MISSING,
        underexposed=_MISSING,
        overexposed=_MISSING,
        orientation=0,
        thumbnail=np.zeros(THUMBNAIL_WH[::-1], dtype=np.uint8),
    )


def _reduced(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Averages of blocks of pixels, still larger than a thumbnail: halving is many times faster than other scaling."""
    while not any(side % 2 or side < 2 * least for side, least in zip(grey.shape, THUMBNAIL_WH[::-1], strict=True)):
        grey = _shrunk(grey, (grey.shape[1] // 2, grey.shape[0] // 2))
    return grey


def _thumbnail(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:  # (H, W) -> (54, 96)
    return _shrunk(grey, THUMBNAIL_WH)


def _shrunk(grey: npt.NDArray[np.uint8], size_wh: tuple[int, int]) -> npt.NDArray[np.uint8]:
    small: npt.NDArray[np.uint8] = cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return small


def _share(grey: npt.NDArray[np.uint8], level: int, comparison: int) -> float:
    return cv2.countNonZero(cv2.compare(grey, level, comparison)) / grey.size  # type: ignore[call-overload]


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "this is no image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"was not decoded: {error}"
    return f"does not decode: {' '.join(str(error).split()) or type(error).__name__}"
