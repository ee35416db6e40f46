"""The rendered dataset as a whole: deterministic, well formed, split by clip."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from flows.dataset.labels import boxes_xyxy, parse_labels
from flows.dataset.layout import SPLITS, Dataset, read_dataset
from flows.dataset.rendering import scene
from flows.dataset.rendering.scene import RenderSummary, plan_clips, render_dataset
from flows.dataset.rendering.weather import SLICES
from flows.errors import DataError
from flows.params_data import RenderParams

SIZE_WH = (320, 192)


def params(cameras: int = 2, clips: int = 4, frames: int = 1, size_wh: tuple[int, int] = (160, 96)) -> RenderParams:
    return RenderParams(
        cameras=cameras, clips_per_camera=clips, frames_per_clip=frames, size_wh=list(size_wh), jpeg_quality=90
    )


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, RenderSummary]:
    root = tmp_path_factory.mktemp("scene") / "data"
    summary = render_dataset(root, params(cameras=8, frames=2, size_wh=SIZE_WH), seed=3)
    return read_dataset(root), summary


def labels(dataset: Dataset, image: str) -> list[tuple[int, list[float]]]:
    label = next(frame.label for frame in dataset.frames if frame.image == image)
    boxes, problems = parse_labels((dataset.root / label).read_text(), len(dataset.classes), label)
    assert not problems
    corners = boxes_xyxy(boxes, SIZE_WH).tolist()
    return [(box.class_id, corner) for box, corner in zip(boxes, corners, strict=True)]


def test_the_same_seed_gives_the_same_bytes_however_many_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_dataset(tmp_path / "one", params(), seed=7)
    monkeypatch.setattr(scene, "_num_workers", lambda num_frames: 2)
    render_dataset(tmp_path / "two", params(), seed=7)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_another_seed_gives_other_pictures(tmp_path: Path) -> None:
    for seed in (7, 8):
        render_dataset(tmp_path / str(seed), params(cameras=1), seed)
    first, second = digests(tmp_path / "7"), digests(tmp_path / "8")
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first if name.endswith(".jpg"))


def test_a_camera_looks_the_same_whatever_others_there_are(tmp_path: Path) -> None:
    render_dataset(tmp_path / "few", params(cameras=1), seed=7)
    render_dataset(tmp_path / "more", params(cameras=2), seed=7)
    few, more = digests(tmp_path / "few"), digests(tmp_path / "more")
    pictures = [name for name in few if name.endswith(".jpg")]
    assert pictures and all(few[name] == more[name] for name in pictures)


def test_summary_counts_what_was_written(rendered: tuple[Dataset, RenderSummary]) -> None:
    dataset, summary = rendered
    assert (summary.num_images, summary.num_cameras) == (64, 8) == (len(dataset.frames), summary.num_cameras)
    assert summary.num_boxes == sum(len(labels(dataset, frame.image)) for frame in dataset.frames)
    assert (summary.slices, summary.classes) == (SLICES, dataset.classes)


def test_every_frame_is_a_picture_of_the_size_with_boxes_inside_it(rendered: tuple[Dataset, RenderSummary]) -> None:
    dataset, _ = rendered
    for frame in dataset.frames:
        with Image.open(dataset.root / frame.image) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", SIZE_WH)
        for _, (x1, y1, x2, y2) in labels(dataset, frame.image):
            assert -1e-3 <= x1 < x2 <= SIZE_WH[0] + 1e-3 and -1e-3 <= y1 < y2 <= SIZE_WH[1] + 1e-3
            assert min(x2 - x1, y2 - y1) > 7.9


def test_every_split_has_every_slice_and_every_class(rendered: tuple[Dataset, RenderSummary]) -> None:
    dataset, _ = rendered
    for split in SPLITS:
        frames = dataset.split(split)
        classes = {class_id for frame in frames for class_id, _ in labels(dataset, frame.image)}
        assert {frame.slice for frame in frames} == set(SLICES)
        assert classes == set(range(len(dataset.classes)))


def test_a_clip_lies_in_one_split_and_runs_on_in_time(rendered: tuple[Dataset, RenderSummary]) -> None:
    dataset, _ = rendered
    clips = defaultdict(list)
    for frame in dataset.frames:
        clips[frame.camera, frame.clip].append(frame)
    assert len(clips) == 32
    for frames in clips.values():
        assert len({frame.split for frame in frames}) == len({frame.slice for frame in frames}) == 1
        first, second = (datetime.fromisoformat(frame.time) for frame in frames)
        assert first.tzinfo is not None and second - first == timedelta(seconds=0.5)


@pytest.mark.parametrize(
    ("cameras", "clips", "counts"),
    [(1, 4, (2, 1, 1)), (1, 5, (3, 1, 1)), (3, 7, (4, 2, 1)), (8, 8, (4, 2, 2)), (2, 64, (32, 16, 16))],
)
def test_clips_are_split_by_half_and_quarters(cameras: int, clips: int, counts: tuple[int, int, int]) -> None:
    plan = plan_clips(params(cameras, clips))
    assert len(plan) == cameras * clips == len({(clip.camera, clip.number) for clip in plan})
    assert tuple(sum(clip.split == split for clip in plan) for split in SPLITS) == tuple(cameras * n for n in counts)
    for split, count in zip(SPLITS, counts, strict=True):
        slices = {clip.slice for clip in plan if clip.split == split}
        assert len(slices) == min(len(SLICES), cameras * count)


def test_an_older_dataset_is_replaced(tmp_path: Path) -> None:
    render_dataset(tmp_path / "data", params(cameras=2), seed=7)
    render_dataset(tmp_path / "data", params(cameras=1), seed=7)
    assert {frame.camera for frame in read_dataset(tmp_path / "data").frames} == {"cam01"}


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="no dataset"):
        render_dataset(tmp_path, params(), seed=7)
    with pytest.raises(DataError, match="is a file"):
        render_dataset(tmp_path / "thesis.tex", params(), seed=7)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_rendering_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int, note: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_dataset(tmp_path / "data", params(), 7, interrupt)
    assert not list(tmp_path.iterdir())


def test_progress_counts_frames_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    render_dataset(tmp_path / "data", params(frames=2), 7, lambda done, total, note: seen.append((done, total)))
    assert seen[0] == (0, 16) and seen[-1] == (16, 16) and seen == sorted(seen)
