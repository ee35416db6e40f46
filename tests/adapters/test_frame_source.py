from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.adapters.frame_source import MAX_FRAMES, read_feeds
from flows.errors import DataError


def draw(path: Path, shade: int = 100, size_wh: tuple[int, int] = (32, 24)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_wh, (shade, shade, shade)).save(path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three cameras of two frames each."""
    rows = [(f"images/test/{camera}_{index}.jpg", camera) for camera in ("east", "north", "west") for index in range(2)]
    with (tmp_path / "frames.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "split", "camera", "clip", "time", "slice"])
        writer.writerows([image, "test", camera, "c1", "", "day"] for image, camera in rows)
    for shade, (image, _) in enumerate(rows):
        draw(tmp_path / image, shade * 40)
    return tmp_path


@pytest.mark.parametrize("name", ["nothing", "folder", "file.mp4"])
def test_a_source_without_an_image_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    (tmp_path / "file.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=name):
        read_feeds(tmp_path / name, 2)


def test_images_are_sent_as_they_lie_on_disk(tmp_path: Path) -> None:
    paths = [draw(tmp_path / name) for name in ("a.jpg", "deep/b.PNG", "deep/c.webp")]
    (feed,) = read_feeds(tmp_path, 1).feeds
    assert feed.camera == "cam01"
    assert [frame.content_type for frame in feed.frames] == ["image/jpeg", "image/png", "image/webp"]
    assert [frame.body for frame in feed.frames] == [path.read_bytes() for path in paths]
    assert feed.frame(4) == feed.frames[1]


def test_what_the_service_does_not_take_becomes_jpeg(tmp_path: Path) -> None:
    draw(tmp_path / "a.bmp", 100)
    frame = read_feeds(tmp_path, 1).feeds[0].frames[0]
    image = Image.open(io.BytesIO(frame.body))
    assert (frame.content_type, image.format, image.size) == ("image/jpeg", "JPEG", (32, 24))
    assert abs(int(np.asarray(image).mean()) - 100) <= 2


def test_cameras_share_the_frames_of_a_folder_each_from_another_one(tmp_path: Path) -> None:
    for index in range(4):
        draw(tmp_path / f"{index}.png", index * 60)
    feeds = read_feeds(tmp_path, 2).feeds
    assert [feed.camera for feed in feeds] == ["cam01", "cam02"]
    assert feeds[1].frames == feeds[0].frames[2:] + feeds[0].frames[:2]


def test_broken_files_are_left_out_with_a_note(tmp_path: Path) -> None:
    whole = draw(tmp_path / "whole.jpg", size_wh=(320, 240)).read_bytes()
    (tmp_path / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    read = read_feeds(tmp_path, 1)
    assert len(read.feeds[0].frames) == 1
    assert [note.split(" ")[0] for note in read.notes] == ["empty.jpg", "text.png", "torn.jpg"]


def test_many_notes_are_counted(tmp_path: Path) -> None:
    draw(tmp_path / "whole.jpg")
    for index in range(9):
        (tmp_path / f"bad{index}.jpg").write_bytes(b"")
    notes = read_feeds(tmp_path, 1).notes
    assert len(notes) == 6 and notes[-1] == "and 4 more files were left out"


def test_a_datasets_cameras_send_their_own_frames(dataset: Path) -> None:
    feeds = read_feeds(dataset, 2).feeds
    assert [feed.camera for feed in feeds] == ["east", "north"]
    assert {frame.body for frame in feeds[0].frames} == {
        (dataset / f"images/test/east_{index}.jpg").read_bytes() for index in range(2)
    }


def test_more_cameras_than_the_dataset_has_get_names_of_their_own(dataset: Path) -> None:
    names = [feed.camera for feed in read_feeds(dataset, 7).feeds]
    assert names == ["east", "north", "west", "east-2", "north-2", "west-2", "east-3"]


def test_a_camera_whose_images_are_missing_does_not_send(dataset: Path) -> None:
    for index in range(2):
        (dataset / f"images/test/east_{index}.jpg").unlink()
    read = read_feeds(dataset, 2)
    assert {feed.camera for feed in read.feeds} == {"north", "north-2"}
    assert len(read.notes) == 2


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "image,camera\nonly-one\n"])
def test_a_table_that_lists_no_frames_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "frames.csv").write_text(text)
    with pytest.raises(DataError):
        read_feeds(tmp_path, 1)


def test_a_video_becomes_a_bounded_number_of_jpegs(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "drive.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for index in range(MAX_FRAMES + 5):
        video.write(np.full((48, 64, 3), index % 256, np.uint8))
    video.release()
    (feed,) = read_feeds(path, 1).feeds
    assert len(feed.frames) == MAX_FRAMES
    shades = [int(np.asarray(Image.open(io.BytesIO(frame.body))).mean()) for frame in feed.frames[:100:33]]
    assert all(abs(shade - expected) <= 3 for shade, expected in zip(shades, (0, 33, 66, 99), strict=True))
