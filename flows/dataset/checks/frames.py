"""Checks of image files: readable, showing something, of the usual size, stored upright."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flows.dataset.checks.check import BETWEEN, NULL, Check, Evidence, Row, add_note, root_name, stated, told
from flows.dataset.checks.turning import turning_evidence
from flows.dataset.formats.framing import UNKNOWN_CAMERA
from flows.dataset.manifest.manifest import Manifest
from flows.params_data import LabelParams, ValidateParams

if TYPE_CHECKING:
    import pandas as pd

_TURNS = {
    2: "mirrored",
    3: "turned by 180°",
    4: "mirrored and turned by 180°",
    5: "mirrored and turned by 90°",
    6: "turned by 90°",
    7: "mirrored and turned by 90°",
    8: "turned by 90°",
}


def frames_checks(params: ValidateParams) -> tuple[Check, ...]:
    """What must hold of each image file.

    A corrupt orientation tag warns and does not stop: readers ignore it, so frame and labels agree; but it tells of a
    tool that damages files, and other tools may refuse the file.
    """
    least_px = params.labels.min_frame_px
    return (
        Check("images_readable", "Every image decodes", "stop", "frames", "error", NULL, told("error")),
        Check("frames_show_something", "No frame is blank: black, white or without contrast", "warn",
              "frames", "blank", NULL, told("blank"),
              threshold=stated(params, "labels.min_contrast", "labels.max_exposed_share"), worst="-contrast"),
        Check("frames_large_enough", f"Both sides of a frame have {least_px} px or more", "warn",
              "frames", "smaller_side_px", BETWEEN, lambda row: f"the frame is only {_size(row)} px",
              {"min_value": least_px}, stated(params, "labels.min_frame_px"), "-smaller_side_px"),
        Check("camera_keeps_size", "All frames of a camera have the same size", "warn",
              "frames", "odd_size", NULL, told("odd_size"), threshold=stated(params, "labels.rare_size_share")),
        Check("orientation_readable", "The EXIF orientation of every image is one of 1 to 8, or absent", "warn",
              "frames", "corrupt_orientation", NULL, told("corrupt_orientation")),
        Check("frames_stored_upright", "No image is turned by its EXIF orientation", "warn",
              "frames", "turned", NULL, told("turned")),
    )  # fmt: skip


def frames_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`frames`: a row per frame of frames.csv."""
    dataset, manifest, labels = evidence.dataset, evidence.manifest, evidence.params.labels
    frames = manifest.images.copy()
    frames["error"] = frames["error"].where(~frames["readable"], None)
    frames["blank"] = [_blank(row, labels) for row in _rows(frames)]
    frames["smaller_side_px"] = frames[["width", "height"]].min(axis=1).where(frames["readable"])
    frames["odd_size"] = _odd_sizes(frames, labels)
    frames["corrupt_orientation"] = [
        "its EXIF orientation is none of 1 to 8, or cannot be read: it is taken as upright" if value < 0 else None
        for value in frames["orientation"]
    ]
    frames["turned"] = _turned(manifest, labels)
    frames["file"] = root_name(dataset) + "/" + frames["image"]
    frames["line"] = 0
    if (frames["camera"] == UNKNOWN_CAMERA).any():
        add_note(frames, "camera_keeps_size", "Where the camera is not known, only rare shapes are reported")
    return {"frames": frames}


def _rows(frames: pd.DataFrame) -> Iterator[Row]:
    columns = ["readable", "contrast", "underexposed", "overexposed"]
    return (dict(zip(columns, values, strict=True)) for values in frames[columns].itertuples(index=False))


def _blank(row: Row, labels: LabelParams) -> str | None:
    if not row["readable"]:
        return None
    for column, word in (("underexposed", "black"), ("overexposed", "white")):
        if row[column] > labels.max_exposed_share:
            return f"{row[column]:.0%} of it is almost {word}: lens covered, camera blinded, or frame lost?"
    if row["contrast"] < labels.min_contrast:
        return f"shows nothing (contrast {row['contrast']:.1f} grey levels): lens covered, or frame lost?"
    return None


def _size(row: Row) -> str:
    return f"{row['width']} x {row['height']}"


def _odd_sizes(frames: pd.DataFrame, labels: LabelParams) -> list[str | None]:
    """For each frame that has not the usual size of its camera what that is."""
    words: dict[tuple[str, int, int], str] = {}
    readable = frames[frames["readable"]]
    for camera, group in readable.groupby("camera"):
        where = "frames without a known camera" if camera == UNKNOWN_CAMERA else f"frames of camera {camera}"
        sizes = Counter(zip(group["width"].tolist(), group["height"].tolist(), strict=True)).most_common()
        usual = " x ".join(map(str, sizes[0][0]))
        for (width, height), number in sizes[1:]:
            if camera != UNKNOWN_CAMERA or _is_rare(width / height, sizes, labels.rare_size_share):
                words[str(camera), width, height] = (
                    f"is {width} x {height} px, as {number:,} of {len(group):,} {where};"
                    f" most are {usual}: scaled, cropped or of another camera?"
                )
    return [words.get(key) for key in zip(frames["camera"], frames["width"], frames["height"], strict=True)]


def _is_rare(aspect: float, sizes: Sequence[tuple[tuple[int, int], int]], share: float) -> bool:
    """Whether few of the frames have about this aspect (width / height)."""
    alike = sum(number for (width, height), number in sizes if 0.95 < width / height / aspect < 1.05)
    return alike <= share * sum(number for _, number in sizes)


def _turned(manifest: Manifest, labels: LabelParams) -> list[str | None]:
    evidence = turning_evidence(manifest, labels)
    return [
        f"its EXIF orientation {value} ({_TURNS[value]}) turns it, and labelling tools differ in whether they do;"
        f" {evidence[image]}"
        if value > 1
        else None
        for image, value in zip(manifest.images["image"], manifest.images["orientation"], strict=True)
    ]
