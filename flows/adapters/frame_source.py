"""What replayed cameras send: images of a folder or a dataset, or frames of a video, encoded and in memory once."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from flows.errors import DataError

MAX_FRAMES = 200
"""Frames kept in memory, over all cameras; they are sent in a circle."""
_SENT_AS_THEY_ARE = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
_SUFFIXES = (*_SENT_AS_THEY_ARE, ".bmp")
_NOTES_LISTED = 5


@dataclass(frozen=True)
class SentFrame:
    """One request body."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class CameraFeed:
    """What one camera sends, in a circle."""

    camera: str
    frames: tuple[SentFrame, ...]

    def frame(self, index: int) -> SentFrame:
        """The frame to send as number `index`, from 0 on."""
        return self.frames[index % len(self.frames)]


@dataclass(frozen=True)
class Feeds:
    """One feed a camera, and a note for each file that was left out."""

    feeds: tuple[CameraFeed, ...]
    notes: tuple[str, ...]


def read_feeds(source: Path, num_cameras: int) -> Feeds:
    """Read a dataset (frames.csv), a folder of images, or a video.

    A dataset's cameras keep their names and their own frames; otherwise cameras are cam01 ... and share the frames,
    each beginning at another. Files that are no image are left out with a note.

    Raises:
        DataError: The source is missing or holds nothing that can be sent.
    """
    notes: list[str] = []
    if source.is_dir() and (source / "frames.csv").is_file():
        by_camera = _read_dataset(source, num_cameras, notes)
    elif source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
        by_camera = {"": _read_images(paths[:MAX_FRAMES], notes)}
    elif source.is_file():
        by_camera = {"": _read_video(source)}
    else:
        raise DataError(f"{source} does not exist", "Name a folder of images, a dataset folder, or a video")
    by_camera = {camera: frames for camera, frames in by_camera.items() if frames}
    if not by_camera:
        hint = f" ({notes[0]})" if notes else ""
        raise DataError(f"{source} holds no image that can be sent{hint}", f"Expected files {' '.join(_SUFFIXES)}")
    if len(notes) > _NOTES_LISTED:
        notes[_NOTES_LISTED:] = [f"and {len(notes) - _NOTES_LISTED} more files were left out"]
    return Feeds(_feeds(by_camera, num_cameras), tuple(notes))


def _feeds(by_camera: dict[str, list[SentFrame]], num_cameras: int) -> tuple[CameraFeed, ...]:
    names = sorted(by_camera)
    feeds = []
    for index in range(num_cameras):
        name, turn = names[index % len(names)], index // len(names)
        frames = by_camera[name]
        first = len(frames) * index // num_cameras  # cameras that share frames begin at different ones
        camera = f"cam{index + 1:02d}" if not name else name if not turn else f"{name}-{turn + 1}"
        feeds.append(CameraFeed(camera, tuple(frames[first:] + frames[:first])))
    return tuple(feeds)


def _read_dataset(root: Path, num_cameras: int, notes: list[str]) -> dict[str, list[SentFrame]]:
    path = root / "frames.csv"
    by_camera: dict[str, list[Path]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream):
                by_camera.setdefault(row["camera"], []).append(root / row["image"])
    except (KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of frames: {error!r}", "Expected the columns image and camera") from None
    chosen = sorted(by_camera)[:num_cameras]
    share = max(1, MAX_FRAMES // max(1, len(chosen)))
    return {camera: _read_images(by_camera[camera][:share], notes) for camera in chosen}


def _read_images(paths: list[Path], notes: list[str]) -> list[SentFrame]:
    frames = []
    for path in paths:
        try:
            frames.append(_read_image(path))
        except (OSError, ValueError, SyntaxError) as error:
            notes.append(f"{path.name} was left out: {str(error).replace(str(path), path.name)}")
    return frames


def _read_image(path: Path) -> SentFrame:
    """Read and decode once, so that what is sent is known to be sound. Raises OSError, ValueError, SyntaxError."""
    from PIL import Image

    body = path.read_bytes()
    try:
        with Image.open(io.BytesIO(body)) as image:
            if content_type := _SENT_AS_THEY_ARE.get(path.suffix.lower()):
                image.draft(None, (image.width // 8, image.height // 8))  # a quick decode still meets a torn file
                image.load()
                return SentFrame(body, content_type)
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=90)
            return SentFrame(buffer.getvalue(), "image/jpeg")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None


def _read_video(path: Path) -> list[SentFrame]:
    """The first MAX_FRAMES frames as JPEG. Raises DataError when OpenCV reads none."""
    import cv2

    video = cv2.VideoCapture(str(path))
    frames: list[SentFrame] = []
    try:
        while len(frames) < MAX_FRAMES:
            read, image = video.read()
            if not read:
                break
            _, encoded = cv2.imencode(".jpg", image, [int(cv2.IMWRITE_JPEG_QUALITY), 90])
            frames.append(SentFrame(encoded.tobytes(), "image/jpeg"))
    finally:
        video.release()
    if not frames:
        raise DataError(
            f"{path} is no video that OpenCV reads", "Name a folder of images, a dataset folder, or a video"
        )
    return frames
