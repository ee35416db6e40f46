"""What one image file says about itself: bytes, size, light, and whether it decodes at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from bentos.detector.features import image_features

_HASH_SIDE = 8


@dataclass(frozen=True)
class ImageFacts:
    """Figures of one image file; `error` says why it does not decode, and then the figures of its pixels are missing.

    Width and height are those of the upright frame, px. Brightness and contrast are mean and standard deviation of
    grey, sharpness is the variance of the Laplacian. `dhash` is 64 bits as 16 hex digits.
    """

    readable: bool
    error: str
    width: int
    height: int
    format: str
    sha256: str
    dhash: str
    brightness: float
    contrast: float
    sharpness: float


def inspect_image(path: Path) -> ImageFacts:
    """Read, hash, decode and measure an image file. Never raises for what is in the file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return _unreadable(f"cannot be read: {error.strerror}", "")
    sha256 = hashlib.sha256(content).hexdigest()
    if not content:
        return _unreadable("the file is empty", sha256)
    try:
        rgb, form = decode_rgb(content)
    except Exception as error:  # decoders raise whatever they like on broken input; the reason goes into the report
        return _unreadable(_reason(error), sha256)
    features = image_features(rgb)
    return ImageFacts(
        readable=True,
        error="",
        width=rgb.shape[1],
        height=rgb.shape[0],
        format=form,
        sha256=sha256,
        dhash=difference_hash(rgb),
        brightness=features["brightness"],
        contrast=features["contrast"],
        sharpness=features["sharpness"],
    )


def decode_rgb(content: bytes) -> tuple[npt.NDArray[np.uint8], str]:  # (H, W, 3)
    """Decode an image file, turned upright, into RGB; with the name of its format. Raises what Pillow raises."""
    with Image.open(BytesIO(content)) as image:
        form = image.format or ""
        image.load()
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(upright), form


def difference_hash(rgb: npt.NDArray[np.uint8]) -> str:  # (H, W, 3)
    """64-bit difference hash (Krawetz 2013): which cells of a grid are brighter than their left neighbours.

    Re-encoding and scaling flip few of its bits, so near-duplicates differ in few.
    """
    grey = Image.fromarray(rgb).convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX)
    cells = np.asarray(grey, dtype=np.int16)  # (8, 9)
    bits = cells[:, 1:] > cells[:, :-1]
    return np.packbits(bits).tobytes().hex()


def _unreadable(error: str, sha256: str) -> ImageFacts:
    missing = float("nan")
    return ImageFacts(False, error, 0, 0, "", sha256, "", missing, missing, missing)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "this is no image of a known format"
    return f"does not decode: {' '.join(str(error).split()) or type(error).__name__}"
