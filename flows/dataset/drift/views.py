"""What a fixed camera looks at, as far as it stands still: compared between two sets of frames, whatever the light.

A view is the mean of the frames' gradient directions. Edges of the street add up, vehicles and shadows do not, and how
strong an edge is hardly counts (orientation correlation: Fitch et al. 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Complexes = npt.NDArray[np.complex128]
Floats = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]

MAX_SHIFT = 0.25
"""The farthest shift that is looked for, share of width and height; beyond it a view counts as another one."""
_NOISE_GREY = 4.0  # a gradient of that many grey levels a pixel counts half


@dataclass(frozen=True)
class ViewMatch:
    """How one view lies on another: `similarity` (about 0 to 1) where it fits best.

    `right` and `down` say how far what the camera sees has moved, as shares of width and height.
    """

    right: float
    down: float
    similarity: float

    @property
    def distance(self) -> float:
        """Length of the shift, in such shares."""
        return float(np.hypot(self.right, self.down))


def view_of(thumbnails: Pictures) -> Complexes:  # (N, H, W) -> (H, W)
    """The view that one or more grey thumbnails show."""
    frames = np.asarray(thumbnails, dtype=np.float32)
    down, right = np.gradient(frames, axis=(1, 2))
    gradients = right + 1j * down
    directions = gradients / (np.abs(gradients) + _NOISE_GREY)
    mean: Complexes = directions.mean(axis=0).astype(np.complex128)
    return mean


def match_views(before: Complexes, now: Complexes) -> ViewMatch:  # (H, W), (H, W)
    """Where `now` fits best on `before`: correlation normalised over the part that both show (Padfield 2012)."""
    height, width = before.shape
    shape = (2 * height, 2 * width)
    inside = np.fft.fft2(np.ones((height, width)), shape)
    agreement = np.fft.ifft2(np.fft.fft2(now, shape) * np.fft.fft2(before, shape).conj()).real
    energy_before = np.fft.ifft2(inside * np.fft.fft2(np.abs(before) ** 2, shape).conj()).real
    energy_now = np.fft.ifft2(np.fft.fft2(np.abs(now) ** 2, shape) * inside.conj()).real
    scores = agreement / np.sqrt(np.maximum(energy_before * energy_now, 1e-9))
    reach_y, reach_x = int(MAX_SHIFT * height), int(MAX_SHIFT * width)
    window = np.roll(scores, (reach_y, reach_x), axis=(0, 1))[: 2 * reach_y + 1, : 2 * reach_x + 1]
    top, left = np.unravel_index(int(window.argmax()), window.shape)
    return ViewMatch(
        right=(left - reach_x + _vertex(window[top, :], int(left))) / width,
        down=(top - reach_y + _vertex(window[:, left], int(top))) / height,
        similarity=float(window[top, left]),
    )


def _vertex(values: Floats, peak: int) -> float:
    """Where the parabola through a peak and its neighbours has its top, relative to the peak; 0 at the rim."""
    if not 0 < peak < len(values) - 1:
        return 0.0
    low, middle, high = values[peak - 1 : peak + 2]
    bend = low - 2 * middle + high
    return float(0.5 * (low - high) / bend) if bend < 0 else 0.0
