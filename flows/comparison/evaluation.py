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
from flows.comparison.calibration import ConfidenceBins, calibration, calibration_errors, confidence_bins
from flows.comparison.demands import judge_gates, judge_slices
from flows.comparison.engine_latency import EngineTimes, engine_latency
from flows.comparison.gate import Verdict, decide
from flows.comparison.matching import Matches, match_all
from flows.comparison.predictions import Floats, GroundTruth, Ints, Predictions, check_aligned
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
    bootstrap_blocks,
    jackknife,
    jackknife_weights,
    label_swap_p_value,
    percentile_interval,
    unit_of_image,
)
from flows.comparison.served import precision_recall, served_counts, unmatched_boxes
from flows.comparison.slices import SliceTable
from flows.errors import DataError
from flows.params import EvaluateParams
from flows.progress import Progress, silent

_LEVEL_75 = 5  # index of IoU .75 among the thresholds
_NUM_DISAGREEMENTS = 12


@dataclass(frozen=True)
class _Model:
    """One model with its matches, and its headline figures without one unit at a time."""

    role: str
    found: Predictions
    matches: Matches
    ranking: Ranking
    bins: ConfidenceBins
    samples: dict[str, Floats]  # name of the figure to (1 + num_units,)


def compare(
    truth: GroundTruth,
    challenger: Predictions,
    champion: Predictions | None,
    params: EvaluateParams,
    *,
    served_conf: float,
    champion_conf: float | None = None,
    seed: int,
    times: EngineTimes | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """Score both models on the same frames and decide; the same arguments give the same report.

    The predictions hold detections from a low confidence on, in the order of the frames of `truth`; precision, recall
    and calibration are those at the confidence that each model serves with: `served_conf`, and `champion_conf`, None
    for the same. `seed` is of the bootstrap and the permutations. Without `times` of the two engines their latency is
    not judged. `progress` counts parts, then resamples.

    Raises:
        DataError: The tables do not cover the same frames or classes, or the times are not of the same models.
    """
    _check(truth, challenger, champion, times)
    everywhere = np.ones(len(truth.images), dtype=bool)
    units = unit_of_image(truth, params.unit, everywhere, params.min_units, params.block_s)
    new = _score("challenger", truth, challenger, units, served_conf)
    old_conf = served_conf if champion_conf is None else champion_conf
    old = None if champion is None else _score("champion", truth, champion, units, old_conf)
    models = [_model_figures(one, truth, params) for one in (new, old) if one is not None]
    difference = None
    if old is not None:
        difference = _figures({key: values - old.samples[key] for key, values in new.samples.items()}, params)
    latency = None if times is None else engine_latency(times, params.alpha)
    parts = judge_slices(SliceTable(truth, challenger, champion, params).figures(progress), params)
    of_champion = models[1] if old is not None else None
    gates = judge_gates(
        models[0].figures, None if of_champion is None else of_champion.figures, difference, parts, latency, params
    )
    verdict = decide(gates)
    return EvaluationReport(
        passed=verdict.outcome == "promote",
        sentence=_sentence(verdict, models[0].figures),
        outcome=verdict.outcome,
        reasons=verdict.reasons,
        gates=gates,
        challenger=models[0],
        champion=of_champion,
        difference=difference,
        bootstrap=None if old is None else _bootstrap(new, old, units, params, seed, progress),
        latency=latency,
        parts=parts,
        disagreements=disagreements(
            truth, challenger.at_confidence(served_conf), None if champion is None else champion.at_confidence(old_conf)
        ),
        thresholds=_thresholds(params, served_conf, None if champion is None else champion_conf, seed),
        num_images=len(truth.images),
        num_objects=len(truth.class_ids),
        num_units=int(units.max(initial=-1)) + 1,
        ground_truth_sha256=truth.digest(),
    )


def disagreements(
    truth: GroundTruth, challenger: Predictions, champion: Predictions | None
) -> tuple[Disagreement, ...]:
    """Find the frames where the boxes of the two, as served, differ most; without a champion, from the labels."""
    counts = unmatched_boxes(challenger, truth if champion is None else champion)
    most = np.argsort(-counts, kind="stable")[:_NUM_DISAGREEMENTS]
    return tuple(
        Disagreement(image=truth.images[i], camera=truth.cameras[i], slice=truth.slices[i], num_boxes=int(counts[i]))
        for i in most
        if counts[i]
    )


def _check(
    truth: GroundTruth, challenger: Predictions, champion: Predictions | None, times: EngineTimes | None
) -> None:
    check_aligned(truth, challenger, "challenger")
    if champion is not None:
        check_aligned(truth, champion, "champion")
    if times is not None and bool(times.champion_ms) != (champion is not None):
        timed = "was timed" if times.champion_ms else "was not timed"
        compared = "is none" if champion is None else "is one"
        raise DataError(f"a champion {timed}, but there {compared} to compare with", "Run: tca evaluate")


def _score(role: str, truth: GroundTruth, found: Predictions, units: Ints, served_conf: float) -> _Model:
    matches = match_all(truth, found)
    ranking = rank(matches)
    bins = confidence_bins(matches, served_conf)
    weights = jackknife_weights(units)
    precisions = average_precisions(ranking, weights)  # (1 + num_units, num_classes, 10)
    precision, recall = precision_recall(served_counts(matches, served_conf), weights)
    error, overconfidence = calibration_errors(bins, weights)
    samples = {
        "map50_95": mean_average_precision(precisions),
        "ap50": mean_over_classes(precisions[:, :, 0]),
        "ap75": mean_over_classes(precisions[:, :, _LEVEL_75]),
        "precision": precision,
        "recall": recall,
        "calibration_error": error,
        "overconfidence": overconfidence,
    }
    return _Model(role, found, matches, ranking, bins, samples)


def _figures(samples: dict[str, Floats], params: EvaluateParams) -> Figures:
    return Figures(**{key: jackknife(values, params.alpha, params.min_units) for key, values in samples.items()})


def _model_figures(model: _Model, truth: GroundTruth, params: EvaluateParams) -> ModelFigures:
    curves = np.array([precision_curve(model.ranking, class_id, 0) for class_id in range(len(truth.classes))])
    named = [("all classes", mean_over_classes(curves.T)), *zip(truth.classes, curves, strict=True)]
    return ModelFigures(
        figures=_figures(model.samples, params),
        curves=tuple(_curve(model.role, name, values) for name, values in named if np.isfinite(values).all()),
        calibration=calibration(model.bins),
        num_detections=len(model.found.scores),
        predictions_sha256=model.found.digest(),
    )


def _curve(role: str, name: str, values: npt.NDArray[np.float64]) -> Curve:
    return Curve(model=role, name=name, precision=tuple(float(value) for value in values.round(4)))


def _bootstrap(
    new: _Model, old: _Model, units: Ints, params: EvaluateParams, seed: int, progress: Progress
) -> BootstrapDifference | None:
    if units.max(initial=-1) + 1 < params.min_units:
        return None
    gaps = np.empty(0)
    for weights in bootstrap_blocks(units, params.replicates, seed):
        maps = [mean_average_precision(average_precisions(model.ranking, weights)) for model in (new, old)]
        gaps = np.append(gaps, maps[0] - maps[1])
        progress(len(gaps), params.replicates, "bootstrap")
    interval = percentile_interval(gaps, params.alpha)
    if interval is None:
        return None
    return BootstrapDifference(
        replicates=params.replicates,
        lower=interval[0],
        upper=interval[1],
        share_better=float((gaps > 0).mean()),
        p_label_swap=label_swap_p_value(
            new.matches, old.matches, units, permutations=params.replicates, seed=seed, progress=progress
        ),
    )


def _sentence(verdict: Verdict, figures: Figures) -> str:
    head = {"promote": "Promote", "reject": "Reject", "inconclusive": "Inconclusive"}[verdict.outcome]
    return f"{head}: mAP50-95 {figures.map50_95.text()}; {verdict.reasons[0]}."


def _thresholds(params: EvaluateParams, served_conf: float, champion_conf: float | None, seed: int) -> Thresholds:
    return Thresholds(
        unit=params.unit,
        block_s=params.block_s,
        min_units=params.min_units,
        alpha=params.alpha,
        replicates=params.replicates,
        seed=seed,
        min_map50_95=params.min_map50_95,
        margin=params.margin,
        goal=params.goal,
        slice_margin=params.slice_margin,
        slice_rule=params.slice_rule,
        min_objects_per_slice=params.min_objects_per_slice,
        insufficient=params.insufficient,
        precision_margin=params.precision_margin,
        recall_margin=params.recall_margin,
        calibration_margin=params.calibration_margin,
        max_latency_ms=params.max_latency_ms,
        max_slowdown=params.max_slowdown,
        served_conf=served_conf,
        champion_conf=champion_conf,
    )
