"""Compare two tables of predictions on one table of truth, and write down everything the verdict rests on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.comparison.average_precision import (
    Ranking,
    average_precisions,
    mean_average_precision,
    mean_over_classes,
    precision_curve,
    rank,
)
from flows.comparison.gate import Verdict, decide, judge_slices
from flows.comparison.matching import Matches, match_all
from flows.comparison.predictions import Boxes, Floats, GroundTruth, Ints, Predictions, check_aligned
from flows.comparison.report import (
    BootstrapDifference,
    Curve,
    Disagreement,
    EvaluationReport,
    Figures,
    ModelFigures,
    Thresholds,
)
from flows.comparison.resampling import (
    bootstrap_weights,
    jackknife,
    jackknife_weights,
    label_swap_p_value,
    percentile_interval,
    unit_of_image,
)
from flows.comparison.served import precision_recall, served_counts, unmatched_boxes
from flows.comparison.slices import SliceTable
from flows.params import EvaluateParams

_LEVEL_75 = 5  # index of IoU .75 among the thresholds
_NUM_DISAGREEMENTS = 12


@dataclass(frozen=True)
class _Model:
    """One model with its matches, and its headline figures without one unit at a time."""

    role: str
    found: Predictions
    matches: Matches
    ranking: Ranking
    samples: dict[str, Floats]  # name of the figure to (1 + num_units,)


def compare(
    truth: GroundTruth,
    challenger: Predictions,
    champion: Predictions | None,
    params: EvaluateParams,
    *,
    served_conf: float,
    seed: int,
) -> EvaluationReport:
    """Score both models on the same frames and decide; the same tables, params and seed give the same report.

    The predictions hold detections from a low confidence on, in the order of the frames of `truth`; precision and
    recall are those at `served_conf`. `seed` is of the bootstrap and the permutations.

    Raises:
        DataError: The tables do not cover the same frames or classes.
    """
    check_aligned(truth, challenger, "challenger")
    if champion is not None:
        check_aligned(truth, champion, "champion")
    everywhere = np.ones(len(truth.images), dtype=bool)
    units = unit_of_image(truth, params.unit, everywhere, params.min_units)
    new = _score("challenger", truth, challenger, units, served_conf)
    old = None if champion is None else _score("champion", truth, champion, units, served_conf)
    figures = _figures(new.samples, params)
    difference = None
    if old is not None:
        difference = _figures({key: values - old.samples[key] for key, values in new.samples.items()}, params)
    parts = judge_slices(SliceTable(truth, challenger, champion, params).figures(), params)
    verdict = decide(figures.map50_95, None if difference is None else difference.map50_95, parts, params)
    return EvaluationReport(
        passed=verdict.outcome == "promote",
        sentence=_sentence(verdict, figures),
        outcome=verdict.outcome,
        reasons=verdict.reasons,
        challenger=_model_figures(new, truth, params),
        champion=None if old is None else _model_figures(old, truth, params),
        difference=difference,
        bootstrap=None if old is None else _bootstrap(new, old, units, params, seed),
        parts=parts,
        disagreements=disagreements(truth, challenger, champion, served_conf),
        thresholds=_thresholds(params, served_conf, seed),
        num_images=len(truth.images),
        num_objects=len(truth.class_ids),
        num_units=int(units.max(initial=-1)) + 1,
        ground_truth_sha256=truth.digest(),
    )


def disagreements(
    truth: GroundTruth, challenger: Predictions, champion: Predictions | None, served_conf: float
) -> tuple[Disagreement, ...]:
    """Find the frames where the served boxes of the two differ most; without a champion, from the labels."""
    other: Boxes = truth if champion is None else champion.at_confidence(served_conf)
    counts = unmatched_boxes(challenger.at_confidence(served_conf), other)
    most = np.argsort(-counts, kind="stable")[:_NUM_DISAGREEMENTS]
    return tuple(
        Disagreement(image=truth.images[i], camera=truth.cameras[i], slice=truth.slices[i], num_boxes=int(counts[i]))
        for i in most
        if counts[i]
    )


def _score(role: str, truth: GroundTruth, found: Predictions, units: Ints, served_conf: float) -> _Model:
    matches = match_all(truth, found)
    ranking = rank(matches)
    weights = jackknife_weights(units)
    precisions = average_precisions(ranking, weights)  # (1 + num_units, num_classes, 10)
    precision, recall = precision_recall(served_counts(matches, served_conf), weights)
    samples = {
        "map50_95": mean_average_precision(precisions),
        "ap50": mean_over_classes(precisions[:, :, 0]),
        "ap75": mean_over_classes(precisions[:, :, _LEVEL_75]),
        "precision": precision,
        "recall": recall,
    }
    return _Model(role, found, matches, ranking, samples)


def _figures(samples: dict[str, Floats], params: EvaluateParams) -> Figures:
    return Figures(**{key: jackknife(values, params.alpha, params.min_units) for key, values in samples.items()})


def _model_figures(model: _Model, truth: GroundTruth, params: EvaluateParams) -> ModelFigures:
    curves = np.array([precision_curve(model.ranking, class_id, 0) for class_id in range(len(truth.classes))])
    named = [("all classes", mean_over_classes(curves.T)), *zip(truth.classes, curves, strict=True)]
    return ModelFigures(
        figures=_figures(model.samples, params),
        curves=tuple(_curve(model.role, name, values) for name, values in named if np.isfinite(values).all()),
        num_detections=len(model.found.scores),
        predictions_sha256=model.found.digest(),
    )


def _curve(role: str, name: str, values: npt.NDArray[np.float64]) -> Curve:
    return Curve(model=role, name=name, precision=tuple(float(value) for value in values.round(4)))


def _bootstrap(new: _Model, old: _Model, units: Ints, params: EvaluateParams, seed: int) -> BootstrapDifference | None:
    if units.max(initial=-1) + 1 < params.min_units:
        return None
    weights = bootstrap_weights(units, params.replicates, seed)
    maps = [mean_average_precision(average_precisions(model.ranking, weights)) for model in (new, old)]
    gaps = maps[0] - maps[1]
    interval = percentile_interval(gaps, params.alpha)
    if interval is None:
        return None
    return BootstrapDifference(
        replicates=params.replicates,
        lower=interval[0],
        upper=interval[1],
        share_better=float((gaps > 0).mean()),
        p_label_swap=label_swap_p_value(new.matches, old.matches, units, permutations=params.replicates, seed=seed),
    )


def _sentence(verdict: Verdict, figures: Figures) -> str:
    head = {"promote": "Promote", "reject": "Reject", "inconclusive": "Inconclusive"}[verdict.outcome]
    return f"{head}: mAP50-95 {figures.map50_95.text()}; {verdict.reasons[0]}."


def _thresholds(params: EvaluateParams, served_conf: float, seed: int) -> Thresholds:
    return Thresholds(
        unit=params.unit,
        min_units=params.min_units,
        alpha=params.alpha,
        replicates=params.replicates,
        seed=seed,
        min_map50_95=params.min_map50_95,
        margin=params.margin,
        slice_margin=params.slice_margin,
        min_objects_per_slice=params.min_objects_per_slice,
        served_conf=served_conf,
    )
