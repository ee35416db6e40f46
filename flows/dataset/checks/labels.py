"""Checks of label files: there, readable line by line, with known classes, not empty where that is odd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.dataset.checks.check import NULL, Check, Evidence, root_name, stated, told
from flows.dataset.formats.framing import UNKNOWN_CAMERA
from flows.dataset.layout import Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd


def labels_checks(params: ValidateParams) -> tuple[Check, ...]:
    """What must hold of label files and their lines."""
    busy = f"{params.labels.busy_boxes:g} boxes or more"
    return (
        Check("labels_present", "Every frame has a label file; an empty one means no vehicles", "stop",
              "label_files", "absent", NULL, told("absent")),
        Check("labels_parse", "Every label line reads: class, centre x, centre y, width, height", "stop",
              "label_lines", "syntax", NULL, told("syntax")),
        Check("classes_known", "Every box has a class of data.yaml", "stop",
              "label_lines", "unknown_class", NULL, told("unknown_class")),
        Check("empty_frames_plausible", f"No frame is empty where its camera mostly shows {busy}", "warn",
              "label_files", "empty_though_busy", NULL, told("empty_though_busy"),
              threshold=stated(params, "labels.busy_boxes"), worst="usual_boxes"),
        Check("no_strays", "Every image is listed, every label file belongs to a frame", "warn",
              "partners", "stray", NULL, told("stray")),
    )  # fmt: skip


def labels_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`label_files`: a row per frame; `label_lines`: per box or broken line; `partners`: per frame or stray file."""
    files = _label_files(evidence.dataset, evidence.manifest, evidence.params)
    return {
        "label_files": files,
        "label_lines": _label_lines(files, evidence.manifest),
        "partners": _partners(evidence.dataset, evidence.manifest),
    }


def _label_files(dataset: Dataset, manifest: Manifest, params: ValidateParams) -> pd.DataFrame:
    problems = manifest.problems
    missing = problems[problems["check"] == "label_present"]
    absent = dict(zip(missing["file"], missing["message"], strict=True))
    root = root_name(dataset)
    files = manifest.images[["image", "camera", "slice", "num_boxes"]].copy()
    files["file"] = [f"{root}/{frame.label}" for frame in dataset.frames]
    files["line"] = 0
    files["absent"] = [absent.get(file) for file in files["file"]]
    unclear = set(problems.loc[problems["check"].isin(["label_present", "label_syntax", "label_class"]), "file"])
    files["empty_though_busy"] = _empty_though_busy(files, unclear, params.labels.busy_boxes)
    return files


def _empty_though_busy(files: pd.DataFrame, unclear: set[str], busy_boxes: float) -> list[str | None]:
    """For each label file that is empty what its camera usually shows, if that is a lot.

    "Usually" is the median over the frames of the same camera and slice: where most frames have that many boxes, an
    empty road is a rare sight; a quiet street, or a quiet night of a busy one, has a low median and is left alone.
    Files that could not be read are another check's.
    """
    files["usual_boxes"] = files.groupby(["camera", "slice"])["num_boxes"].transform("median")
    columns = files[["file", "num_boxes", "usual_boxes", "camera", "slice"]]
    return [
        f"no box, though half of the {condition} frames of {_camera(camera)} have {usual:g} or more: not labelled?"
        if number == 0 and usual >= busy_boxes and file not in unclear
        else None
        for file, number, usual, camera, condition in columns.itertuples(index=False)
    ]


def _camera(name: str) -> str:
    return "cameras that are not known" if name == UNKNOWN_CAMERA else f"camera {name}"


def _label_lines(files: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """All lines of all label files: boxes, and what could not be read as a box."""
    import pandas as pd

    images = dict(zip(files["file"], files["image"], strict=True))
    labels = dict(zip(files["image"], files["file"], strict=True))
    boxes = manifest.boxes[["image", "line"]].assign(syntax=None, unknown_class=None)
    boxes["file"] = boxes["image"].map(labels)
    faults = manifest.problems[manifest.problems["check"].isin(["label_syntax", "label_class"])]
    is_syntax = faults["check"] == "label_syntax"
    broken = faults[["file", "line"]].assign(
        image=faults["file"].map(images),
        syntax=faults["message"].where(is_syntax, None),
        unknown_class=faults["message"].where(~is_syntax, None),
    )
    lines = pd.concat([boxes, broken], ignore_index=True)
    return lines.sort_values(["file", "line"], ignore_index=True)


def _partners(dataset: Dataset, manifest: Manifest) -> pd.DataFrame:
    import pandas as pd

    root = root_name(dataset)
    strays = manifest.problems[manifest.problems["check"].isin(["label_orphan", "image_unlisted"])]
    listed = pd.DataFrame({"file": root + "/" + manifest.images["image"], "line": 0, "stray": None, "image": ""})
    is_image = strays["check"] == "image_unlisted"
    images = strays["file"].str.removeprefix(f"{root}/").where(is_image, "")
    found = strays[["file", "line"]].assign(stray=strays["message"], image=images)
    return pd.concat([listed, found], ignore_index=True)
