"""Labels beside what a reference model found: who supports which label, and what no label explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from flows.dataset.layout import Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.dataset.review.classes import ClassMap
from flows.dataset.review.objects import (
    Detected,
    Floats,
    Ints,
    Objects,
    common_area,
    covered_share,
    hidden_share,
    match_boxes,
    merge_detections,
)
from flows.geometry import area_xyxy, iou_xyxy

if TYPE_CHECKING:
    import pandas as pd

MATCH_IOU = 0.3
"""From here on a label and a detection are about the same thing, be it badly located."""
EXPLAINED_SHARE = 0.5
"""A detection of which labels cover that much is no missing label: a part of a vehicle, or a group of them."""
_INSIDE_SHARE = 0.8  # a label that lies in a detection to that part is supported by it


@dataclass(frozen=True)
class Labels:
    """All labels of the reviewed images, flat, with what the reference says about each."""

    image_index: Ints  # (L,)
    line: Ints  # (L,)
    class_ids: Ints  # (L,)
    boxes_xyxy: Floats  # (L, 4), px of the image
    side_px: Floats  # (L,) square root of the area, px of the image as the reference sees it
    hidden: Floats  # (L,) share of it that other labels cover
    support: Floats  # (L,) best score of any class about this place; 0: nothing was found there
    iou: Floats  # (L,) overlap with its partner; 0: none
    partner_xyxy: Floats  # (L, 4); zeros without a partner
    class_scores: Floats  # (L, num_classes) of its partner; zeros without


@dataclass(frozen=True)
class Unlabelled:
    """Things that no label explains."""

    image_index: Ints  # (U,)
    boxes_xyxy: Floats  # (U, 4), px
    class_scores: Floats  # (U, num_classes)
    covered: Floats  # (U,) share that labels cover


Rows = TypeVar("Rows", Labels, Unlabelled)


@dataclass(frozen=True)
class Comparison:
    """Labels and detections of the reviewed images; `images` are their rows of the manifest and `file`."""

    images: pd.DataFrame
    labels: Labels
    unlabelled: Unlabelled


@dataclass(frozen=True)
class _Given:
    """The labels of one image, corners as written."""

    line: Ints  # (L,)
    class_ids: Ints  # (L,)
    boxes_xyxy: Floats  # (L, 4), px

    def rows(self, indices: Ints) -> _Given:
        return _Given(self.line[indices], self.class_ids[indices], self.boxes_xyxy[indices])


def compare_labels(
    dataset: Dataset, manifest: Manifest, detections: Mapping[str, Detected], class_map: ClassMap, input_side_px: int
) -> Comparison:
    """Pair the labels of every image with what was found in it.

    Images that the reference has not seen are left out, and those whose label file is missing or has faults: nothing
    can be said about labels that cannot be read.

    Args:
        dataset: What frames.csv lists.
        manifest: Its images and boxes.
        detections: By image.
        class_map: The correspondence of classes.
        input_side_px: Longer side at which the reference sees an image.
    """
    images = _reviewable(dataset, manifest, detections)
    given = _Given(
        manifest.boxes["line"].to_numpy(np.int64),
        manifest.boxes["class_id"].to_numpy(np.int64),
        manifest.boxes[["x1", "y1", "x2", "y2"]].to_numpy(np.float64),
    )
    by_image = manifest.boxes.groupby("image", sort=False).indices
    none, num_classes = np.zeros(0, dtype=np.int64), len(dataset.classes)
    labels = [_label_rows(0, given.rows(none), _no_objects(num_classes), 1.0, (1, 1))]  # types, where nothing follows
    unlabelled = [_unlabelled_rows(0, given.rows(none), _no_objects(num_classes))]
    for index, row in enumerate(images[["image", "width", "height"]].to_dict("records")):
        own = given.rows(np.asarray(by_image.get(row["image"], none), dtype=np.int64))
        found = merge_detections(detections[row["image"]], class_map.class_of, num_classes)
        size_wh = (int(row["width"]), int(row["height"]))
        labels.append(_label_rows(index, own, found, input_side_px / max(size_wh), size_wh))
        unlabelled.append(_unlabelled_rows(index, own, found))
    return Comparison(images, _joined(Labels, labels), _joined(Unlabelled, unlabelled))


def _reviewable(dataset: Dataset, manifest: Manifest, detections: Mapping[str, Detected]) -> pd.DataFrame:
    """Rows of the images whose labels can be judged, with the name of the label file as `file`."""
    root = dataset.root.resolve().name
    files = {frame.image: f"{root}/{frame.label}" for frame in dataset.frames}
    images = manifest.images.assign(file=manifest.images["image"].map(files))
    faulty = set(manifest.problems.loc[manifest.problems["check"].str.startswith("label_"), "file"])
    reviewable = images["image"].isin(set(detections)) & ~images["file"].isin(faulty)
    return images[reviewable].reset_index(drop=True)


def _label_rows(index: int, given: _Given, found: Objects, scale: float, size_wh: tuple[int, int]) -> Labels:
    corners = np.clip(given.boxes_xyxy, 0.0, np.array(size_wh * 2, dtype=np.float64))  # as detections are
    partner, overlap = match_boxes(corners, found.boxes_xyxy, MATCH_IOU)
    matched = partner >= 0
    partner_xyxy = np.zeros((len(corners), 4))
    class_scores = np.zeros((len(corners), found.class_scores.shape[1]))
    partner_xyxy[matched] = found.boxes_xyxy[partner[matched]]
    class_scores[matched] = found.class_scores[partner[matched]]
    return Labels(
        image_index=np.full(len(corners), index, dtype=np.int64),
        line=given.line,
        class_ids=given.class_ids,
        boxes_xyxy=corners,
        side_px=np.sqrt(area_xyxy(corners)) * scale,
        hidden=hidden_share(corners),
        support=_support(corners, found),
        iou=overlap,
        partner_xyxy=partner_xyxy,
        class_scores=class_scores,
    )


def _unlabelled_rows(index: int, given: _Given, found: Objects) -> Unlabelled:
    covered = covered_share(found.boxes_xyxy, given.boxes_xyxy)
    near = iou_xyxy(found.boxes_xyxy, given.boxes_xyxy).max(axis=1, initial=0.0)
    alone = (covered < EXPLAINED_SHARE) & (near < MATCH_IOU)
    return Unlabelled(
        image_index=np.full(int(alone.sum()), index, dtype=np.int64),
        boxes_xyxy=found.boxes_xyxy[alone],
        class_scores=found.class_scores[alone],
        covered=covered[alone],
    )


def _support(corners: Floats, found: Objects) -> Floats:  # (L, 4) -> (L,)
    """Best score of anything found at the place of each label, be it shared with others."""
    if not len(corners) or not len(found.boxes_xyxy):
        return np.zeros(len(corners))
    near = iou_xyxy(corners, found.boxes_xyxy) >= MATCH_IOU  # (L, N)
    common = common_area(corners, found.boxes_xyxy)  # (L, N)
    smaller = np.minimum(area_xyxy(corners)[:, None], area_xyxy(found.boxes_xyxy)[None, :])
    near |= common >= _INSIDE_SHARE * np.maximum(smaller, 1e-9)
    best: Floats = np.max(np.where(near, found.scores[None, :], 0.0), axis=1)
    return best


def _no_objects(num_classes: int) -> Objects:
    return Objects(np.zeros((0, 4)), np.zeros((0, num_classes)))


def _joined(kind: type[Rows], parts: Sequence[Rows]) -> Rows:
    return kind(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(kind)})
