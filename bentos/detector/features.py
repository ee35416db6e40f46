"""Light, contrast and sharpness of a frame: cheap figures by which a camera's drift shows."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

LONG_SIDE_PX = 320
"""Longer side of what is measured: a JPEG need not be decoded to more."""


def image_features(rgb: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Mean grey, standard deviation of grey (both 0..255) and variance of the Laplacian (Pech-Pacheco 2000).

    Taken of the frame shrunk to `LONG_SIDE_PX` by averaging, so that a frame that was decoded at a fraction of its size
    has the figures of the whole one. Sharpness compares frames of one shape.

    Args:
        rgb: (H, W, 3) uint8, at least one pixel.

    Raises:
        ValueError: The array has another shape or type.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"expected a uint8 array of shape (H, W, 3), got {rgb.dtype} {rgb.shape}")
    return grey_features(sample_grey(np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)))


def sample_grey(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:  # (H, W) -> (h, w)
    """The frame shrunk by averaging until its longer side has `LONG_SIDE_PX`; a smaller one as it is."""
    longer = max(grey.shape)
    if longer <= LONG_SIDE_PX:
        return grey
    width, height = (max(1, round(side * LONG_SIDE_PX / longer)) for side in grey.shape[::-1])
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def grey_features(grey: npt.NDArray[np.uint8]) -> dict[str, float]:
    """The figures of `image_features` of a `sample_grey`; from the Y of a JPEG they differ by rounding.

    The sums are of whole numbers, so that the figures are the same on every machine.

    Args:
        grey: (h, w) uint8, at least one pixel.

    Raises:
        ValueError: The array has another shape or type.
    """
    if grey.ndim != 2 or grey.dtype != np.uint8 or 0 in grey.shape:
        raise ValueError(f"expected a uint8 array of shape (H, W), got {grey.dtype} {grey.shape}")
    mean, deviation = cv2.meanStdDev(grey)
    return {
        "brightness": float(mean[0, 0]),
        "contrast": float(deviation[0, 0]),
        "sharpness": _variance_of_laplacian(grey),
    }


def _variance_of_laplacian(grey: npt.NDArray[np.uint8]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    laplacian = cv2.Laplacian(grey, cv2.CV_16S, ksize=1)[1:-1, 1:-1]
    mean = cv2.sumElems(laplacian)[0] / laplacian.size
    return float(cv2.norm(laplacian, cv2.NORM_L2SQR) / laplacian.size - mean**2)
