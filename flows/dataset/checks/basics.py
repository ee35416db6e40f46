"""What must hold of files, label lines and the listing of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.dataset.checks.check import Check, Evidence, Row
from flows.dataset.layout import FRAMES_CSV, SPLITS, Dataset
from flows.dataset.manifest import Manifest, shown_path
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

FRAME_TOLERANCE_PX = 1.0  # labelling tools round to whole pixels
BUSY_BOXES = 5  # a camera with a median this high hardly ever shows an empty road
_TIME = r"^$|^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)$"


def basic_checks(params: ValidateParams) -> tuple[Check, ...]:
    """All checks, in the order in which their reports are read."""
    between, null, lengths = (
        "ExpectColumnValuesToBeBetween",
        "ExpectColumnValuesToBeNull",
        "ExpectColumnValueLengthsToBeBetween",
    )
    at_least_1 = {"min_value": 1}
    below = f"not larger than {params.labels.min_box_px:g} px"
    return (
        Check("images_readable", "Every image decodes", "stop", "frames", "error", null, lambda row: str(row["error"])),
        Check("labels_present", "Every frame has a label file; an empty one means no vehicles", "stop",
              "label_files", "absent", null, lambda row: str(row["absent"])),
        Check("labels_parse", "Every label line reads: class, centre x, centre y, width, height", "stop",
              "label_lines", "syntax", null, lambda row: str(row["syntax"])),
        Check("classes_known", "Every box has a class of data.yaml", "stop",
              "label_lines", "unknown_class", null, lambda row: str(row["unknown_class"])),
        Check("boxes_inside", f"Boxes lie inside the frame, within {FRAME_TOLERANCE_PX:g} px", "stop",
              "label_lines", "outside_px", between, _outside, {"max_value": FRAME_TOLERANCE_PX}),
        Check("boxes_large_enough", f"Both sides of a box are larger than {params.labels.min_box_px:g} px", "stop",
              "label_lines", "smaller_side_px", between,
              lambda row: f"the {row['class_name']} is {row['width_px']:.2f} x {row['height_px']:.2f} px, {below}",
              {"min_value": params.labels.min_box_px, "strict_min": True}),
        Check("no_duplicates_across_splits", "No image lies in two splits", "stop",
              "frames", "same_image_in", null, lambda row: f"is byte for byte the same as {row['same_image_in']}"),
        Check("classes_in_every_split", "Every class occurs in every split", "stop", "classes", "num_boxes", between,
              lambda row: f"no {row['class_name']} among the {row['num_frames']} frames of {row['split']}", at_least_1),
        Check("cameras_named", "Every frame names its camera", "stop",
              "listing", "camera", lengths, lambda row: f"{row['image']} has no camera", at_least_1),
        Check("slices_named", "Every frame names its slice", "stop",
              "listing", "slice", lengths, lambda row: f"{row['image']} has no slice", at_least_1),
        Check("times_zoned", "Times are ISO-8601 with a zone, or empty", "warn",
              "listing", "time", "ExpectColumnValuesToMatchRegex",
              lambda row: f"{row['image']} has the time {row['time']!r}", {"regex": _TIME}),
        Check("empty_frames_plausible", f"No frame is empty whose camera mostly shows {BUSY_BOXES} boxes or more",
              "warn", "frames", "empty_though_busy", null, lambda row: str(row["empty_though_busy"])),
        Check("clips_in_one_split", "No clip of a camera lies in two splits", "warn",
              "clips", "num_splits", between, _straddling, {"max_value": 1}),
        Check("no_strays", "Every image is listed, every label file belongs to a frame", "warn",
              "partners", "stray", null, lambda row: str(row["stray"])),
    )  # fmt: skip


def basic_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The tables that the checks ask; each has `file` and `line`, where an offending row is to be found."""
    dataset, manifest = evidence.dataset, evidence.manifest
    frames, listing = _frames(dataset, manifest), _listing(dataset, manifest)
    return {
        "frames": frames,
        "listing": listing,
        "label_files": _label_files(dataset, manifest),
        "label_lines": _label_lines(dataset, manifest),
        "classes": _classes(dataset, manifest),
        "clips": _clips(listing),
        "partners": _partners(frames, manifest),
    }


def _frames(dataset: Dataset, manifest: Manifest) -> pd.DataFrame:
    frames = manifest.images.copy()
    frames["error"] = frames["error"].where(~frames["readable"], None)
    frames["same_image_in"] = _same_elsewhere(dataset, manifest)
    frames["empty_though_busy"] = _empty_though_busy(manifest)
    frames["file"] = [shown_path(dataset, image) for image in frames["image"]]
    frames["line"] = 0
    return frames


def _listing(dataset: Dataset, manifest: Manifest) -> pd.DataFrame:
    """The lines of frames.csv."""
    listing = manifest.images[["image", "split", "camera", "clip", "time", "slice"]].copy()
    for column in ("camera", "clip", "slice"):
        listing[column] = listing[column].str.strip()
    listing["file"] = shown_path(dataset, FRAMES_CSV)
    listing["line"] = range(2, len(listing) + 2)  # below the header
    return listing


def _same_elsewhere(dataset: Dataset, manifest: Manifest) -> pd.Series[Any]:
    """For each image the first one of another split with the same bytes, or None."""
    import pandas as pd

    images = manifest.images
    found: list[str | None] = [None] * len(images)
    known = images["sha256"] != ""
    for positions in images[known].groupby("sha256").indices.values():
        rows = images[known].iloc[positions]
        if rows["split"].nunique() > 1:
            for label, row in rows.iterrows():
                other = rows[rows["split"] != row["split"]].iloc[0]
                found[int(str(label))] = shown_path(dataset, other["image"])
    return pd.Series(found, index=images.index, dtype=object)


def _empty_though_busy(manifest: Manifest) -> list[str | None]:
    """For each image without a box what its camera usually shows, if that is a lot."""
    images = manifest.images
    usual = images.groupby("camera")["num_boxes"].transform("median")
    return [
        f"no box, though half of the frames of camera {camera} have {median:g} or more: not labelled?"
        if number == 0 and median >= BUSY_BOXES
        else None
        for number, median, camera in zip(images["num_boxes"], usual, images["camera"], strict=True)
    ]


def _label_files(dataset: Dataset, manifest: Manifest) -> pd.DataFrame:
    import pandas as pd

    problems = manifest.problems
    absent = problems[problems["check"] == "label_present"].set_index("file")["message"]
    files = [shown_path(dataset, frame.label) for frame in dataset.frames]
    return pd.DataFrame({"file": files, "line": 0, "absent": [absent.get(file) for file in files]})


def _label_lines(dataset: Dataset, manifest: Manifest) -> pd.DataFrame:
    """All lines of all label files: boxes, and what could not be read as a box."""
    import pandas as pd

    boxes = manifest.boxes.copy()
    labels = {frame.image: shown_path(dataset, frame.label) for frame in dataset.frames}
    boxes["file"] = boxes["image"].map(labels)
    boxes["smaller_side_px"] = boxes[["width_px", "height_px"]].min(axis=1)
    faults = manifest.problems[manifest.problems["check"].isin(["label_syntax", "label_class"])]
    is_syntax = faults["check"] == "label_syntax"
    broken = faults[["file", "line"]].assign(
        syntax=faults["message"].where(is_syntax, None), unknown_class=faults["message"].where(~is_syntax, None)
    )
    lines = pd.concat([boxes.assign(syntax=None, unknown_class=None), broken], ignore_index=True)
    return lines.sort_values(["file", "line"], ignore_index=True)


def _classes(dataset: Dataset, manifest: Manifest) -> pd.DataFrame:
    import pandas as pd

    counts = manifest.boxes.groupby(["split", "class_name"]).size()
    frames = manifest.images["split"].value_counts()
    rows = [
        {
            "file": shown_path(dataset, f"labels/{split}"),
            "line": 0,
            "split": split,
            "class_name": name,
            "num_boxes": int(counts.get((split, name), 0)),
            "num_frames": int(frames.get(split, 0)),
        }
        for split in SPLITS
        for name in dataset.classes
    ]
    return pd.DataFrame(rows)


def _clips(listing: pd.DataFrame) -> pd.DataFrame:
    """A row per clip that has a name; frames without one belong to no known clip."""
    clips = listing[listing["clip"] != ""].groupby(["camera", "clip"], as_index=False)
    return clips.agg(
        file=("file", "first"),
        line=("line", "min"),
        num_splits=("split", "nunique"),
        splits=("split", lambda found: ", ".join(split for split in SPLITS if split in set(found))),
    )


def _partners(frames: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    import pandas as pd

    strays = manifest.problems[manifest.problems["check"].isin(["label_orphan", "image_unlisted"])]
    return pd.concat(
        [frames[["file", "line"]].assign(stray=None), strays[["file", "line"]].assign(stray=strays["message"])],
        ignore_index=True,
    )


def _outside(row: Row) -> str:
    hint = " (pixels instead of fractions?)" if row["outside_px"] > max(row["width_px"], row["height_px"]) else ""
    return f"the {row['class_name']} reaches {row['outside_px']:,.1f} px outside the frame{hint}"


def _straddling(row: Row) -> str:
    return f"clip {row['clip']} of camera {row['camera']} lies in {row['splits']}: its frames are near-duplicates"
