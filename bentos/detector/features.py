"""Light, contrast and sharpness of a frame: cheap figures by which a camera's drift shows."""

from __future__ import annotations

import cv2
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


def sample_grey(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:  # (H, W) -> (h, w)
    """The pixels that `image_features` looks at; of such a sample it is the sample itself."""
    step = max(1, max(grey.shape) // _LONG_SIDE_PX)
    return np.ascontiguousarray(grey[::step, ::step])


def grey_features(grey: npt.NDArray[np.uint8]) -> dict[str, float]:
    """The figures of `image_features` from a frame that was decoded to grey, for a fifth of the cost.

    They differ by the rounding of grey to whole levels, and where a saturated colour was cut off in RGB. The sums are
    of whole numbers, so that the figures are the same on every machine.

    Args:
        grey: (H, W) uint8, at least one pixel: the Y of a JPEG, or ITU-R BT.601 luma.

    Raises:
        ValueError: The array has another shape or type.
    """
    if grey.ndim != 2 or grey.dtype != np.uint8 or 0 in grey.shape:
        raise ValueError(f"expected a uint8 array of shape (H, W), got {grey.dtype} {grey.shape}")
    sample = sample_grey(grey)
    mean, deviation = cv2.meanStdDev(sample)
    return {
        "brightness": float(mean[0, 0]),
        "contrast": float(deviation[0, 0]),
        "sharpness": _variance_of_laplacian(sample),
    }


def _variance_of_laplacian(grey: npt.NDArray[np.uint8]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    laplacian = cv2.Laplacian(grey, cv2.CV_16S, ksize=1)[1:-1, 1:-1]
    mean = cv2.sumElems(laplacian)[0] / laplacian.size
    return float(cv2.norm(laplacian, cv2.NORM_L2SQR) / laplacian.size - mean**2)


def _sharpness(grey: npt.NDArray[np.float32]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var())
