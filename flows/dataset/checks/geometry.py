"""Checks of boxes: inside the frame, large enough, labelled once, of a plausible shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flows.dataset.checks.check import BETWEEN, NULL, Check, Evidence, Row, add_note, root_name, stated, told
from flows.dataset.checks.shapes import MEASURES, learn_shapes
from flows.dataset.layout import Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.geometry import iou_xyxy
from flows.params_data import LabelParams, ValidateParams

if TYPE_CHECKING:
    import pandas as pd


def geometry_checks(params: ValidateParams) -> tuple[Check, ...]:
    """What must hold of each box of a readable image."""
    labels = params.labels
    below = f"not larger than {labels.min_box_px:g} px"
    return (
        Check("boxes_inside", f"Boxes lie inside the frame, within {labels.max_outside_px:g} px", "stop",
              "boxes", "outside_px", BETWEEN, _outside, {"max_value": labels.max_outside_px},
              stated(params, "labels.max_outside_px"), "outside_px"),
        Check("boxes_large_enough", f"Both sides of a box are larger than {labels.min_box_px:g} px", "stop",
              "boxes", "smaller_side_px", BETWEEN,
              lambda row: f"the {row['class_name']} is {row['width_px']:.2f} x {row['height_px']:.2f} px, {below}",
              {"min_value": labels.min_box_px, "strict_min": True},
              stated(params, "labels.min_box_px"), "-smaller_side_px"),
        Check("boxes_smaller_than_frame", f"No box covers more than {labels.max_frame_share:.0%} of its frame", "warn",
              "boxes", "frame_share", BETWEEN,
              lambda row: f"the {row['class_name']} covers {row['frame_share']:.0%} of the frame",
              {"max_value": labels.max_frame_share}, stated(params, "labels.max_frame_share"), "frame_share"),
        Check("boxes_labelled_once", "No object has two boxes of the same class", "warn",
              "boxes", "repeats", NULL, told("repeats"),
              threshold=stated(params, "labels.duplicate_iou"), worst="repeat_iou"),
        Check("classes_agree", "No object has boxes of two classes", "warn",
              "boxes", "contradicts", NULL, told("contradicts"),
              threshold=stated(params, "labels.conflict_iou"), worst="conflict_iou"),
        *(
            Check(measure.check, measure.title, "warn", "boxes", measure.column, BETWEEN, measure.message,
                  {"max_value": labels.max_shape_z},
                  stated(params, "labels.max_shape_z", "labels.min_shape_boxes"), measure.column)
            for measure in MEASURES
        ),
    )  # fmt: skip


def geometry_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`boxes`: a row per box of a readable image."""
    dataset, manifest, labels = evidence.dataset, evidence.manifest, evidence.params.labels
    boxes = _in_frames(dataset, manifest)
    shapes = learn_shapes(boxes[boxes["outside_px"] <= labels.max_outside_px], labels)
    boxes = boxes.join(shapes.scores).join(_overlaps(boxes, labels))
    for measure, note in zip(MEASURES, (shapes.note_on_aspects, shapes.note_on_sizes), strict=True):
        add_note(boxes, measure.check, note)
    return {"boxes": boxes}


def _in_frames(dataset: Dataset, manifest: Manifest) -> pd.DataFrame:
    """The boxes with the size of their frames, and with measures that need it."""
    boxes = manifest.boxes.merge(manifest.images[["image", "width", "height"]], on="image", how="left")
    labels = {frame.image: f"{root_name(dataset)}/{frame.label}" for frame in dataset.frames}
    boxes["file"] = boxes["image"].map(labels)
    boxes["smaller_side_px"] = boxes[["width_px", "height_px"]].min(axis=1)
    seen_px = [
        (boxes[high].clip(upper=boxes[side]) - boxes[low].clip(lower=0)).clip(lower=0)
        for low, high, side in (("x1", "x2", "width"), ("y1", "y2", "height"))
    ]
    boxes["frame_share"] = seen_px[0] * seen_px[1] / (boxes["width"] * boxes["height"])
    return boxes


def _overlaps(boxes: pd.DataFrame, labels: LabelParams) -> pd.DataFrame:
    """For each box, by its index, the words about an earlier one of its frame that it repeats or contradicts.

    The manifest knows the largest overlap of each box, so only boxes with a large one are looked at again.
    """
    import pandas as pd

    least = min(labels.duplicate_iou, labels.conflict_iou)
    rows: dict[int, dict[str, object]] = {}
    for _, group in boxes[boxes["max_iou"] >= least].groupby("image"):
        corners = group[["x1", "y1", "x2", "y2"]].to_numpy(dtype=np.float64)
        overlaps = np.tril(iou_xyxy(corners, corners), -1)  # (N, N): each pair once, told at the later line
        names, lines = group["class_name"].tolist(), group["line"].tolist()
        for later, earlier in sorted(np.argwhere(overlaps >= least).tolist(), key=lambda pair: overlaps[*pair]):
            iou, same = float(overlaps[later, earlier]), names[later] == names[earlier]
            if iou >= (labels.duplicate_iou if same else labels.conflict_iou):
                words = f"{names[earlier]} of line {lines[earlier]} (IoU {iou:.2f})"
                row = rows.setdefault(group.index[later], {})
                if same:
                    row |= {"repeats": f"repeats the {words}", "repeat_iou": iou}
                else:
                    row |= {"contradicts": f"the {names[later]} is also the {words}", "conflict_iou": iou}
    columns = {"repeats": object, "repeat_iou": float, "contradicts": object, "conflict_iou": float}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns)).reindex(boxes.index).astype(columns)
    for column in ("repeats", "contradicts"):
        table[column] = table[column].where(table[column].notna(), None)
    return table


def _outside(row: Row) -> str:
    hint = " (pixels instead of fractions?)" if row["outside_px"] > max(row["width_px"], row["height_px"]) else ""
    return f"the {row['class_name']} reaches {row['outside_px']:,.1f} px outside the frame{hint}"
