"""Average precision of a detector that was really trained, on drawn traffic, against the COCO reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.matching import AREA_RANGES_PX, match_all
from flows.comparison.predictions import MAX_DETECTIONS, detect_frames
from flows.dataset.layout import read_dataset
from flows.frozen import frozen_frames
from flows.params_file import apply_overrides, read_params
from flows.training_page.judge import open_checkpoint
from tests.comparison.test_average_precision import coco_precision
from tests.projects import copy_project

pytestmark = [pytest.mark.deep, pytest.mark.train, pytest.mark.timeout(900)]

SMALL = ("render.clips_per_camera=4", "render.frames_per_clip=6", "train.epochs=12", "train.image_size=192")


def test_equal_to_coco_on_what_a_trained_detector_finds(tmp_path: Path) -> None:
    root = copy_project(tmp_path / "project")
    apply_overrides(root / "params.yaml", SMALL)
    env = os.environ | {"PYTHONPATH": str(root)}
    for verb in (["data", "render"], ["validate"], ["train"]):
        subprocess.run([sys.executable, "-P", "-m", "flows.cli", *verb], cwd=root, env=env, check=True)
    params, dataset = read_params(root / "params.yaml"), read_dataset(root / "data")
    detector = open_checkpoint(root / "artifacts" / "training" / "best.pt", params)
    truth = frozen_frames(dataset, "test")
    found = detect_frames(detector, dataset.root, truth.images, max_det=MAX_DETECTIONS)
    reference = coco_precision(truth, found)
    once = np.ones((1, len(truth.images)), dtype=int)
    for area, size in enumerate([None, *AREA_RANGES_PX]):
        ours = average_precisions(rank(match_all(truth, found, AREA_RANGES_PX.get(size or ""))), once)
        expected = reference[..., area].mean(axis=1).T
        np.testing.assert_allclose(np.nan_to_num(ours[0], nan=-1), expected, rtol=0, atol=1e-6)
        if size is None:
            assert mean_average_precision(ours)[0] > 0  # it has learnt something: the comparison is not of zeros
