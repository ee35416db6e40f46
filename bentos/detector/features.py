"""Light, contrast and sharpness of a frame: cheap figures by which a camera's drift shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LONG_SIDE_PX = 320
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def image_features(rgb: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Mean grey, standard deviation of grey (both 0..255) and variance of the Laplacian (Pech-Pacheco 2000).

    Every n-th pixel is taken so that the long side has some 320 px, which keeps 1280 x 720 under a millisecond.
    Sharpness therefore compares frames of one camera, not frames of different sizes.

    Args:
        rgb: (H, W, 3) uint8, at least one pixel.

    Raises:
        ValueError: The array has another shape or type.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"expected a uint8 array of shape (H, W, 3), got {rgb.dtype} {rgb.shape}")
    step = max(1, max(rgb.shape[:2]) // _LONG_SIDE_PX)
    grey = rgb[::step, ::step].astype(np.float32) @ _LUMA  # (h, w)
    return {"brightness": float(grey.mean()), "contrast": float(grey.std()), "sharpness": _sharpness(grey)}


def _sharpness(grey: npt.NDArray[np.float32]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var())
