"""The mirror that Ultralytics works in, and the shape of the network's input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import DataError
from flows.training.frames import STRIDE, input_size_wh, mirror_frames, read_sizes_wh


@pytest.mark.parametrize(
    ("sizes_wh", "image_size", "expected"),
    [
        ([], 320, (320, 320)),
        ([(640, 384)], 320, (320, 192)),
        ([(1280, 720), (640, 360)], 320, (320, 192)),
        ([(640, 384), (640, 480)], 320, (320, 320)),
        ([(480, 640)], 320, (256, 320)),
        ([(100, 100)], 64, (64, 64)),
        ([(5000, 10)], 640, (640, 32)),
    ],
)
def test_input_size(sizes_wh: list[tuple[int, int]], image_size: int, expected: tuple[int, int]) -> None:
    assert input_size_wh(sizes_wh, image_size) == expected


@given(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), st.integers(1, 40))
def test_every_frame_fits_and_no_stride_is_wasted(size_wh: tuple[int, int], strides: int) -> None:
    image_size = strides * STRIDE
    fitted = input_size_wh([size_wh], image_size)
    assert max(fitted) == image_size
    for side, length in zip(fitted, size_wh, strict=True):
        needed = length * image_size / max(size_wh)
        assert side % STRIDE == 0
        assert needed <= side + 1e-3
        assert side < needed + STRIDE


def test_mirror_links_what_is_sound_and_copies_what_would_be_rewritten(
    draw: Callable[..., Any], tmp_path: Path
) -> None:
    frames = draw(tmp_path / "data")
    cut = tmp_path / "data" / "images" / "train" / "f0.jpg"
    cut.write_bytes(cut.read_bytes()[:-2])
    mirror_frames(frames, tmp_path / "mirror")
    assert not (tmp_path / "mirror" / "images" / "train" / "f0.jpg").is_symlink()
    assert (tmp_path / "mirror" / "images" / "train" / "f1.jpg").is_symlink()
    assert (tmp_path / "mirror" / "labels" / "val" / "f3.txt").read_text() == (
        tmp_path / "data" / "labels" / "val" / "f3.txt"
    ).read_text()


def test_a_missing_label_file_is_named(draw: Callable[..., Any], tmp_path: Path) -> None:
    frames = draw(tmp_path / "data")
    (tmp_path / "data" / "labels" / "train" / "f5.txt").unlink()
    with pytest.raises(DataError, match=r"labels/train/f5\.txt is missing"):
        mirror_frames(frames, tmp_path / "mirror")


def test_sizes_come_from_the_headers(draw: Callable[..., Any], tmp_path: Path) -> None:
    frames = draw(tmp_path / "data", size_wh=(96, 64))
    assert set(read_sizes_wh(frames)) == {(96, 64)}
    (tmp_path / "data" / "images" / "train" / "f1.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"images/train/f1\.jpg cannot be read"):
        read_sizes_wh(frames)
