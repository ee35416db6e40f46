from __future__ import annotations

import numpy as np
import pytest

from bentos.detector.features import image_features


def test_a_flat_frame_has_no_contrast_and_no_edges() -> None:
    features = image_features(np.full((48, 64, 3), 100, dtype=np.uint8))
    assert features == pytest.approx({"brightness": 100, "contrast": 0, "sharpness": 0}, abs=1e-3)


def test_known_values_of_a_checkerboard() -> None:
    grey = (np.indices((8, 8)).sum(axis=0) % 2 * 200).astype(np.uint8)
    features = image_features(np.repeat(grey[:, :, None], 3, axis=2))
    assert features["brightness"] == pytest.approx(100, abs=1e-3)
    assert features["contrast"] == pytest.approx(100, abs=1e-3)
    assert features["sharpness"] == pytest.approx(800**2, rel=1e-4)  # every pixel differs by 200 from its 4 neighbours


def test_blur_lowers_sharpness_and_little_else() -> None:
    import cv2

    rgb = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    before, after = image_features(rgb), image_features(cv2.GaussianBlur(rgb, (7, 7), 2))
    assert after["sharpness"] < before["sharpness"] / 10
    assert after["brightness"] == pytest.approx(before["brightness"], abs=1)


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (3, 3), (720, 1280)])
def test_any_size_gives_finite_figures(size) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert all(np.isfinite(value) for value in image_features(rgb).values())


@pytest.mark.parametrize("array", [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_other_arrays_are_refused(array) -> None:
    with pytest.raises(ValueError, match=r"expected a uint8 array of shape \(H, W, 3\)"):
        image_features(array)
