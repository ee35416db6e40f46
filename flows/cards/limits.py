"""Limits of a model, drawn from what was measured: its weakest parts, what it saw little of, what was not judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flows.cards.sources import CardSources
from flows.comparison.gate import JudgedSlice
from flows.comparison.report import EvaluationReport
from flows.comparison.resampling import short
from flows.comparison.slices import SliceFigure
from flows.dataset.report.validation import ValidationReport
from flows.training.report.page import incidents

FEW_LABELS = 500  # labels of a class in train; Ultralytics advises 10,000, fewer than this is little by any measure
SMALL_SHARE = 0.2  # a class with fewer labels than this share of the most frequent one
_KINDS = {"slice": "slice", "class": "class", "size": "object size", "camera": "camera"}


def measured_limits(sources: CardSources) -> list[str]:
    """A sentence each, the weightiest first."""
    found = [*sources.gaps]
    if sources.evaluation:
        found += _errors_served(sources.evaluation)
        found += _weakest(sources.evaluation)
        found += _unjudged(sources.evaluation)
        found += _strange_cameras(sources.evaluation, sources.background.cameras_by_split)
    if sources.validation:
        found += _scarce(sources.validation)
        found.append(_seen(sources.validation))
        found += [
            f"The data gate warned: {one.title} ({one.num_failed:,} of {one.num_checked:,} failed)."
            for one in sources.validation.checks
            if not one.passed
        ]
    if sources.training:
        found += incidents(sources.training)
    return found


def _errors_served(evaluation: EvaluationReport) -> Iterator[str]:
    figures, conf = evaluation.challenger.figures, evaluation.thresholds.served_conf
    if figures.recall.value is not None:
        missed = f"{100 * (1 - figures.recall.value):.0f} %"
        wrong = f"{100 * (1 - figures.precision.value):.0f} %" if figures.precision.value is not None else None
        told = f", and {wrong} of what it reports is not labelled so" if wrong else ""
        yield f"At the served confidence of {conf:g} it misses {missed} of the labelled objects{told} (IoU .50)."


def _weakest(evaluation: EvaluationReport) -> Iterator[str]:
    whole = short(evaluation.challenger.figures.map50_95.value)
    for kind, word in _KINDS.items():
        parts = [one for one in _parts(evaluation, kind) if one.figure.challenger.value is not None]
        if len(parts) > 1:
            figure = min(parts, key=lambda one: one.figure.challenger.value or 0.0).figure
            yield (
                f"Weakest {word}: {_named(figure)}, mAP50-95 {figure.challenger.text()} on {figure.num_objects:,} "
                f"objects (all together: {whole})."
            )


def _unjudged(evaluation: EvaluationReport) -> Iterator[str]:
    few = evaluation.thresholds.min_objects_per_slice
    for kind, word in _KINDS.items():
        names = [
            f"{_named(one.figure)} ({one.figure.num_objects})"
            for one in _parts(evaluation, kind)
            if one.figure.num_objects < few
        ]
        if names:
            yield f"Too few objects to judge the {word} alone (fewer than {few}): {', '.join(names)}."
    if evaluation.challenger.figures.map50_95.lower is None:
        yield (
            f"The frozen frames come from {evaluation.num_units} {evaluation.thresholds.unit}s, too few for an "
            "interval: how far the figures would be elsewhere cannot be said."
        )


def _scarce(validation: ValidationReport) -> Iterator[str]:
    counts = {name: by_split.get("train", 0) for name, by_split in validation.boxes_per_class.items()}
    most = max(counts.values(), default=0)
    few = [f"{name} ({number:,})" for name, number in counts.items() if number < max(FEW_LABELS, SMALL_SHARE * most)]
    if few:
        yield f"Few labels to learn from, in the training split: {', '.join(few)}."


def _seen(validation: ValidationReport) -> str:
    cameras, slices = len(validation.images_per_camera), [name for name in validation.slices if name]
    conditions = f" under the conditions {_listed(slices)}" if slices else ""
    return (
        f"All its frames come from {cameras} camera{'' if cameras == 1 else 's'}{conditions}; it has seen nothing else."
    )


def _strange_cameras(evaluation: EvaluationReport, cameras_by_split: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Whether it was judged at cameras that it was not trained on."""
    judged = {one.figure.name for one in _parts(evaluation, "camera") if one.figure.name}
    trained = set(cameras_by_split.get("train", ()))
    if not judged or not trained:
        yield "Whether it was judged at cameras that it was not trained on is not known."
    elif strange := judged - trained:
        yield f"Of the {len(judged)} judged cameras {len(strange)} were not trained on: {', '.join(sorted(strange))}."
    else:
        yield (
            f"It was judged at {len(judged)} cameras, all of which it was trained on, too: how it does at another one "
            "has not been measured."
        )


def _parts(evaluation: EvaluationReport, kind: str) -> Sequence[JudgedSlice]:
    return [one for one in evaluation.parts if one.figure.kind == kind]


def _named(figure: SliceFigure) -> str:
    return figure.name or "(none)"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
