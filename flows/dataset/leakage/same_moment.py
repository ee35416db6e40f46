"""Whether two small pictures show the same moment: re-encoded, scaled, brighter or slightly cropped, nothing moved."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]  # (H, W)
_Plane = npt.NDArray[np.float32]  # (H, W)

_NEIGHBOURHOOD = np.ones((3, 3), np.uint8)
_SATURATED = 235  # grey from which a brighter copy may have lost detail
_SMOOTHING = 0.7  # px of the thumbnail; sampling differs between copies of other sizes
_SURROUNDINGS_PX = 9
_INTERPOLATION = 0.25  # share of the local contrast that a shift by a part of a pixel may change
_LEAST_CONTRAST = 4.0  # grey; below it, noise would count as structure
_BORDER_PX = 2  # a cropped copy knows nothing of what lay there
_STEPS = 4
_STILL_PX, _LOST_PX = 0.2, 4.0
_RIDGE = 1e-3


def moment_difference(first: Grey, second: Grey) -> float:
    """How much the most different spot differs, in standard deviations of the picture's structure; 0 means nothing.

    The second picture is first laid over the first one: shift and scale along both axes, gain and offset are estimated
    together by Gauss-Newton steps (Lucas and Kanade 1981; Baker and Matthews 2004). What is left after that is noise
    of encoding and sampling, or something that has moved. A spot is 3 x 3 px; overexposed ones do not count.
    """
    one, two = _smooth(first), _smooth(second)
    moved = _laid_over(one, two)
    fine_one, fine_two = _structure(one), _structure(moved)
    judged = (cv2.dilate(np.maximum(first, second), _NEIGHBOURHOOD) < _SATURATED).astype(np.float32)
    energy_one, energy_two = float((fine_one**2 * judged).mean()), float((fine_two**2 * judged).mean())
    fine_two = fine_two * np.float32(np.sqrt(energy_one / max(energy_two, _RIDGE)))
    tolerance = _INTERPOLATION * np.maximum(_local_range(fine_one), _local_range(fine_two))
    left = np.maximum(np.abs(fine_one - fine_two) - tolerance, 0) * judged
    inner = cv2.blur(left, (3, 3))[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX]
    return float(inner.max() / max(float(fine_one.std()), _LEAST_CONTRAST))


def has_structure(picture: Grey) -> bool:
    """Whether there is anything to recognise: a black or white picture resembles every other one."""
    return float(_structure(_smooth(picture)).std()) >= 1.0


def flipped(picture: Grey, flip: int) -> Grey:
    """The picture as it is (0), mirrored (1), upside down (2), or turned by 180 degrees (3)."""
    if flip & 1:
        picture = picture[:, ::-1]
    if flip & 2:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def _laid_over(target: _Plane, picture: _Plane) -> _Plane:
    """The picture, shifted and scaled so that it fits the target best; as it is if it fits or will not fit."""
    height, width = target.shape
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    across, down = xs / (width / 2) - 1, ys / (height / 2) - 1  # -1 to 1
    place = np.zeros(4, dtype=np.float32)  # shift x, scale x, shift y, scale y, px at the border
    moved = picture
    for step in range(_STEPS):
        place = place + _step(target, moved, across, down)
        reach = max(abs(place[0]) + abs(place[1]), abs(place[2]) + abs(place[3]))
        if (step == 0 and reach < _STILL_PX) or reach > _LOST_PX:
            return picture
        map_x, map_y = xs + place[0] + place[1] * across, ys + place[2] + place[3] * down
        moved = cv2.remap(picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return moved


def _step(target: _Plane, picture: _Plane, across: _Plane, down: _Plane) -> npt.NDArray[np.float32]:  # (4,)
    """Shift and scale along x and y that bring the picture nearer to the target, whatever the gain and offset."""
    slope_x = cv2.Sobel(picture, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    slope_y = cv2.Sobel(picture, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    columns = [slope_x, slope_x * across, slope_y, slope_y * down, picture, np.ones_like(picture)]
    system = np.stack(columns, axis=-1).reshape(-1, len(columns))
    normal = system.T @ system + np.eye(len(columns), dtype=np.float32) * (_RIDGE * len(system))
    solution = np.linalg.solve(normal, system.T @ target.ravel())
    return (solution[:4] / max(float(solution[4]), _STILL_PX)).astype(np.float32)


def _smooth(picture: Grey) -> _Plane:
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _SMOOTHING)  # type: ignore[return-value]


def _structure(picture: _Plane) -> _Plane:
    return picture - cv2.blur(picture, (_SURROUNDINGS_PX, _SURROUNDINGS_PX))


def _local_range(picture: _Plane) -> _Plane:
    return cv2.dilate(picture, _NEIGHBOURHOOD) - cv2.erode(picture, _NEIGHBOURHOOD)
