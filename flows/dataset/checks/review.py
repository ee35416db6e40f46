"""Checks of labels against the opinion of a reference model; there are none where nobody was asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flows.dataset.checks.check import NULL, Check, Evidence, add_note, stated, told
from flows.dataset.review.record import Case, Kind, Review
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

_FRAMES, _LABELS = "reviewed_frames", "reviewed_labels"
_NAMED = 3  # vehicles that the words about a frame name
_LABEL_KINDS: tuple[Kind, ...] = ("wrong_class", "badly_located", "spurious")


def review_checks(params: ValidateParams) -> tuple[Check, ...]:
    """What must hold of labels as a reference model sees them; only for evidence with a review."""
    claim = stated(params, "review.min_conf", "review.min_score")
    sight = stated(params, "review.min_score", "review.min_labels", "review.min_sure_share")
    return (
        Check("empty_frames_confirmed", "No frame without labels shows vehicles to the reference model", "warn",
              _FRAMES, "empty_frame", NULL, told("empty_frame"), threshold=claim, worst="empty_frame_score"),
        Check("labels_not_missing", "Every vehicle that the reference model is sure of has a label", "warn",
              _FRAMES, "missing", NULL, told("missing"), threshold=claim, worst="missing_score"),
        Check("labels_classes_agree", "No label looks like another class to the reference model", "warn",
              _LABELS, "wrong_class", NULL, told("wrong_class"), threshold=claim, worst="wrong_class_score"),
        Check("labels_well_placed", "Labels fit what the reference model finds at their place", "warn",
              _LABELS, "badly_located", NULL, told("badly_located"), threshold=claim, worst="badly_located_score"),
        Check("labels_supported", "The reference model finds something wherever it should see a label", "warn",
              _LABELS, "spurious", NULL, told("spurious"), threshold=sight, worst="spurious_score"),
    )  # fmt: skip


def review_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`reviewed_frames`: a row per frame that was reviewed; `reviewed_labels`: a row per label that was judged.

    Columns named like a kind of case hold its words, or nothing. No tables without a review.
    """
    if evidence.review is None:
        return {}
    review = evidence.review
    tables = {_FRAMES: _frames(evidence, review), _LABELS: _labels(evidence, review)}
    seen = f"{review.reference} clearly sees {review.num_labels_seen:,} of {review.num_labels_judged:,} labels"
    for check in review_checks(evidence.params):
        add_note(tables[check.table], check.name, seen)
    return tables


def _frames(evidence: Evidence, review: Review) -> pd.DataFrame:
    images = evidence.manifest.images
    frames = images.loc[images["image"].isin(review.images), ["image", "camera", "slice"]].reset_index(drop=True)
    files = {frame.image: f"{evidence.dataset.root.resolve().name}/{frame.label}" for frame in evidence.dataset.frames}
    frames["file"], frames["line"] = frames["image"].map(files), 0
    empty = {case.image: case for case in review.of("empty_frame")}
    missing: dict[str, list[Case]] = defaultdict(list)
    for case in review.of("missing"):
        missing[case.image].append(case)
    frames["empty_frame"] = [empty[name].sentence if name in empty else None for name in frames["image"]]
    frames["empty_frame_score"] = [empty[name].score if name in empty else 0.0 for name in frames["image"]]
    frames["missing"] = [_missing(missing[name]) if name in missing else None for name in frames["image"]]
    frames["missing_score"] = [sum(case.score for case in missing.get(name, ())) for name in frames["image"]]
    return frames


def _missing(cases: list[Case]) -> str:
    named = ", ".join(f"{case.proposed_class} at ({_centre(case)})" for case in cases[:_NAMED])
    more = f" and {len(cases) - _NAMED} more" if len(cases) > _NAMED else ""
    return f"{len(cases)} probably without a label: {named}{more}"


def _centre(case: Case) -> str:
    x1, y1, x2, y2 = case.found_xyxy[0]
    return f"{(x1 + x2) / 2:.0f}, {(y1 + y2) / 2:.0f}"


def _labels(evidence: Evidence, review: Review) -> pd.DataFrame:
    boxes = evidence.manifest.boxes
    judged = boxes["image"].isin(review.images) & boxes["class_name"].isin(review.classes)
    labels = boxes.loc[judged, ["image", "camera", "slice", "line", "class_name"]].reset_index(drop=True)
    files = {frame.image: f"{evidence.dataset.root.resolve().name}/{frame.label}" for frame in evidence.dataset.frames}
    labels["file"] = labels["image"].map(files)
    for kind in _LABEL_KINDS:
        cases = _by_place(review.of(kind))
        found = [cases.get(place) for place in zip(labels["file"], labels["line"], strict=True)]
        labels[kind] = [case.sentence if case else None for case in found]
        labels[f"{kind}_score"] = [case.score if case else 0.0 for case in found]
    return labels


def _by_place(cases: Iterable[Case]) -> dict[tuple[str, int], Case]:
    return {(case.file, case.line): case for case in cases}
