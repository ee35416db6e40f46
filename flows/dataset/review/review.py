"""The review of a set's labels with a reference model: what is probably wrong, worst first, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flows.dataset.layout import Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.dataset.review.cases import Finder
from flows.dataset.review.classes import ClassMap
from flows.dataset.review.matching import Comparison, compare_labels
from flows.dataset.review.objects import Detected
from flows.dataset.review.record import KINDS, Case, ClassAgreement, Kind, Review
from flows.dataset.review.trust import Trust, learn_trust, measure_sight, wilson_interval
from flows.params_data import ReviewParams

__all__ = ["Review", "Witness", "review_labels"]

_SYSTEMATIC_SHARE = 0.3  # of a class that looks like another: perhaps the two mean different things by it

_BLIND_SHARE = 0.1  # of the labels: a reference that clearly sees fewer has no opinion


@dataclass(frozen=True)
class Witness:
    """The reference model as far as a review must know it.

    Attributes:
        name: What people call it.
        key: sha256, hex, of the model and how it was asked.
        input_side_px: Longer side at which it sees a frame.
        class_map: The correspondence of its classes to those of the data.
        scores_every_class: Whether a place has a score for every class, or only for the best.
        is_ours: Whether this product trained it, so that it may have learnt the labels under review.
    """

    name: str
    key: str
    input_side_px: int
    class_map: ClassMap
    scores_every_class: bool = True
    is_ours: bool = False


def review_labels(
    dataset: Dataset,
    manifest: Manifest,
    detections: Mapping[str, Detected],
    witness: Witness,
    params: ReviewParams,
) -> Review:
    """Find and rank the labels, vehicles and frames that are probably wrong.

    Nothing is claimed of classes that the reference does not know, of images that it has not seen (`detections` has
    none for them), nor of images whose label file is missing or has faults.

    Args:
        dataset: What frames.csv lists.
        manifest: Its images, boxes and problems.
        detections: What the reference found, by image, from a confidence far below `params.min_conf` on.
        witness: Who found it.
        params: Thresholds of the claims.
    """
    compared = compare_labels(dataset, manifest, detections, witness.class_map, witness.input_side_px)
    trust = learn_trust(compared.labels, len(dataset.classes), params.min_conf)
    judged = frozenset(witness.class_map.class_of.values())
    sights, nothing = measure_sight(compared, dataset.classes, judged, params.min_labels, params.min_sure_share)
    finder = Finder(dataset, compared, trust, judged, params.min_conf)
    cases = _ranked([case for case in finder.all_cases(nothing) if case.score >= params.min_score])
    agreement = tuple(_agreement(dataset.classes, each, compared, trust, cases) for each in sorted(judged))
    judged_labels = np.isin(compared.labels.class_ids, sorted(judged))
    num_cases = {kind: sum(case.kind == kind for case in cases) for kind in KINDS}
    return Review(
        sentence=_sentence(
            num_cases, compared, int(judged_labels.sum()), int((judged_labels & trust.seen).sum()), witness.name
        ),
        reference=witness.name,
        reference_key=witness.key,
        classes=dict(witness.class_map.named),
        classes_left_out=witness.class_map.left_out,
        num_images=len(compared.images),
        num_images_left_out=len(manifest.images) - len(compared.images),
        num_empty=int((compared.images["num_boxes"] == 0).sum()),
        num_labels=len(compared.labels.line),
        num_labels_judged=int(judged_labels.sum()),
        num_labels_seen=int((judged_labels & trust.seen).sum()),
        num_cases=num_cases,
        agreement=agreement,
        sights=tuple(sights),
        notes=tuple(_notes(witness, agreement)),
        cases=cases,
        images=tuple(compared.images["image"]),
    )


def _ranked(cases: Sequence[Case]) -> tuple[Case, ...]:
    """By kind in the order of KINDS, then by falling score; ties by place, so that two runs give the same list."""
    order = {kind: position for position, kind in enumerate(KINDS)}
    return tuple(sorted(cases, key=lambda case: (order[case.kind], -case.score, case.file, case.line)))


def _agreement(
    classes: Sequence[str], class_id: int, compared: Comparison, trust: Trust, cases: Sequence[Case]
) -> ClassAgreement:
    labels, name = compared.labels, classes[class_id]
    own = labels.class_ids == class_id
    called = Counter(labels.class_scores.argmax(axis=1)[own & trust.seen].tolist())
    num_seen = sum(called.values())
    num_doubted = sum(case.kind == "wrong_class" and case.label_class == name for case in cases)
    lower, upper = wilson_interval(num_doubted, num_seen) if num_seen else (None, None)
    return ClassAgreement(
        class_name=name,
        num_labels=int(own.sum()),
        num_seen=num_seen,
        num_doubted=num_doubted,
        doubted_share=num_doubted / num_seen if num_seen else None,
        lower=lower,
        upper=upper,
        looks_like={classes[one]: number for one, number in sorted(called.items(), key=lambda item: -item[1])},
        threshold=float(trust.thresholds[class_id]),
        num_missing=_num_missing(class_id, compared, cases, name),
    )


def _num_missing(class_id: int, compared: Comparison, cases: Sequence[Case], name: str) -> int:
    """Cases of the kind, and every vehicle on the frames that have no label at all."""
    on_empty = {case.image: len(case.found_xyxy) for case in cases if case.kind == "empty_frame"}
    unlabelled = compared.unlabelled
    images = compared.images["image"].to_numpy(dtype=str)[unlabelled.image_index]
    called, scores = unlabelled.class_scores.argmax(axis=1), unlabelled.class_scores.max(axis=1, initial=0.0)
    number = sum(case.kind == "missing" and case.proposed_class == name for case in cases)
    for image, num_found in on_empty.items():
        rows = np.flatnonzero(images == image)
        surest = rows[np.argsort(-scores[rows], kind="stable")][:num_found]
        number += int((called[surest] == class_id).sum())
    return number


def _sentence(num_cases: Mapping[Kind, int], compared: Comparison, num_judged: int, num_seen: int, name: str) -> str:
    words: dict[Kind, tuple[str, str]] = {
        "empty_frame": ("empty frame shows vehicles", "empty frames show vehicles"),
        "missing": ("vehicle has no label", "vehicles have no label"),
        "wrong_class": ("label looks like another class", "labels look like another class"),
        "badly_located": ("label lies badly", "labels lie badly"),
        "spurious": ("label has nothing at its place", "labels have nothing at their place"),
    }
    extent = f"{_number(len(compared.images), 'frame')} with {_number(len(compared.labels.line), 'label')}"
    if num_seen < _BLIND_SHARE * num_judged:
        return f"{extent}: {name} clearly sees only {num_seen:,} of them, so it cannot judge the labels."
    parts = [f"{number:,} {words[kind][number != 1]}" for kind, number in num_cases.items() if number]
    if not parts:
        return f"{extent}: {name} contradicts none of the labels."
    joined = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    return f"{extent}, as {name} sees them: probably {joined}."


def _notes(witness: Witness, agreement: Sequence[ClassAgreement]) -> list[str]:
    notes = ["The cases are probable, not proven: look at the pictures before changing a label."]
    if witness.is_ours:
        notes.append(
            "This product trained the reference, perhaps on these very labels. It then repeats their faults, and finds "
            "fewer of them than a stranger would."
        )
    if not witness.scores_every_class:
        notes.append("The engine gives the best class of a place only: doubts about classes are rougher.")
    if witness.class_map.left_out:
        left_out = ", ".join(witness.class_map.left_out)
        notes.append(
            f"The reference does not know {left_out}: those labels are not judged. If it calls them otherwise, say so "
            "in params.yaml: validate.review.classes."
        )
    for one in agreement:
        if one.lower is not None and one.lower > _SYSTEMATIC_SHARE:
            notes.append(
                f"More than {_SYSTEMATIC_SHARE:.0%} of the {one.class_name} labels look like another class: perhaps "
                "labels and reference mean different things by that word."
            )
    return notes


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"
