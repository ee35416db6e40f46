"""Frames for INT8: from every slice and camera, the same for the same seed, read once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import EngineUnavailable
from flows.exporting import calibration as module
from flows.exporting.calibration import Calibration, TrainingFrame, choose_frames

Stratum = tuple[str, str]


def split(sizes: dict[Stratum, int]) -> list[TrainingFrame]:
    return [
        TrainingFrame(Path(f"{'-'.join(stratum)}-{index}.jpg"), f"{'-'.join(stratum)}-{index:03}.jpg", stratum)
        for stratum, size in sizes.items()
        for index in range(size)
    ]


strata = st.dictionaries(
    st.tuples(st.sampled_from(["day", "night", "rain"]), st.sampled_from(["cam1", "cam2", "cam3"])),
    st.integers(1, 12),
    min_size=1,
)


@given(strata, st.integers(1, 60), st.integers(0, 5))
def test_strata_differ_by_one_frame_at_most_unless_one_has_run_out(
    sizes: dict[Stratum, int], count: int, seed: int
) -> None:
    chosen = choose_frames(split(sizes), count, seed)
    assert len(set(chosen)) == len(chosen) == min(count, sum(sizes.values()))
    taken = Counter(frame.stratum for frame in chosen)
    most = max(taken.values())
    assert all(taken[stratum] >= min(most - 1, sizes[stratum]) for stratum in sizes)


@given(strata, st.integers(1, 30), st.randoms(use_true_random=False))
def test_the_order_of_the_files_does_not_matter_but_the_seed_does(
    sizes: dict[Stratum, int], count: int, dice: object
) -> None:
    frames = split(sizes)
    shuffled = frames.copy()
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose_frames(frames, count, 3) == choose_frames(shuffled, count, 3)


def test_another_seed_draws_other_frames_and_a_new_camera_leaves_the_draw_of_the_others() -> None:
    sizes = {("day", "cam1"): 50, ("day", "cam2"): 50}
    first = choose_frames(split(sizes), 10, 0)
    assert first != choose_frames(split(sizes), 10, 1)
    more = choose_frames(split(sizes | {("day", "cam9"): 50}), 15, 0)
    assert set(first) <= set(more)


def test_pixels_are_those_of_serving_and_kept(calibration: Calibration, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, report = calibration.read((96, 64))
    assert pixels.shape == (4, 64, 96, 3)
    assert (report.num_frames, report.num_strata, len(report.sha256)) == (4, 2, 16)
    assert (pixels[3][:, 0] == 114).all()  # a tall frame has grey borders

    def fail(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(module, "_letterbox", fail)
    again, same = calibration.read((96, 64))
    np.testing.assert_array_equal(again, pixels)
    assert same == report
    with pytest.raises(AssertionError, match="read again"):
        calibration.read((64, 64))  # another size is another set


def test_other_content_is_another_set(tmp_path: Path, frames: list[bytes]) -> None:
    path = tmp_path / "one.jpg"
    path.write_bytes(frames[0])
    calibration = Calibration((TrainingFrame(path, "one.jpg", ("day", "cam1")),), tmp_path / "kept")
    before, report = calibration.read((96, 64))
    path.write_bytes(frames[1])
    after, other = calibration.read((96, 64))
    assert report.sha256 != other.sha256
    assert not np.array_equal(before, after)


def test_a_damaged_set_is_made_again_and_old_ones_go(tmp_path: Path, frames: list[bytes]) -> None:
    path = tmp_path / "one.jpg"
    path.write_bytes(frames[0])
    calibration = Calibration((TrainingFrame(path, "one.jpg", ("day", "cam1")),), tmp_path / "kept")
    pixels, report = calibration.read((96, 64))
    kept = tmp_path / "kept" / f"{report.sha256}.npy"
    kept.write_bytes(kept.read_bytes()[:100])
    np.testing.assert_array_equal(calibration.read((96, 64))[0], pixels)
    for side in (32, 64, 96, 128):
        calibration.read((side, side))
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_without_training_frames_there_is_no_int8(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no training frame"):
        Calibration((), tmp_path).read((96, 64))
