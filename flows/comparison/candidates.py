"""Several candidates against one champion: who may be promoted, best first, with the number of claims accounted for.

Who looks at k candidates and promotes the best finds one that is good by luck k times as often. So

- every gate of every candidate is judged with alpha / k (Bonferroni): over all of them together, a candidate that is
  worse by more than the margin is let through with probability alpha at most;
- that a candidate is *better* than the champion is claimed where Holm's p value over all candidates is below alpha;
- whether any is better is asked by one permutation test, see `max_t`;
- differences to the first of the list hold for all ordered pairs together (Bonferroni), because the data chose it.

Sources: Holm 1979; Westfall and Young 1993.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.engine_latency import EngineLatency, EngineTimes
from flows.comparison.evaluation import compare
from flows.comparison.gate import Gate, Outcome
from flows.comparison.matching import match_all
from flows.comparison.max_t import p_any_better, pseudo_values
from flows.comparison.predictions import Floats, GroundTruth, Predictions
from flows.comparison.report import EvaluationReport, Figures, Thresholds
from flows.comparison.resampling import Estimate, holm, jackknife, jackknife_weights, p_worse, short, unit_of_image
from flows.errors import DataError
from flows.params import EvaluateParams
from flows.progress import Progress, silent

_REPLICATES = 100  # of a bootstrap that informs about one pair and is not shown here
_RANKS: dict[Outcome, int] = {"promote": 0, "inconclusive": 1, "reject": 2}


@dataclass(frozen=True)
class Contender:
    """A candidate: what it found in the frozen frames, the confidence it serves with, how long its engine took."""

    name: str
    found: Predictions
    served_conf: float
    times: EngineTimes | None = None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Candidate(_Frozen):
    """One candidate with what the gates say of it."""

    name: str = Field(description="registered version, model directory or trial")
    outcome: Outcome = Field(description="promote, reject or inconclusive, at alpha over the number of candidates")
    reasons: tuple[str, ...] = Field(description="why, each with its figures")
    gates: tuple[Gate, ...] = Field(description="each gate with its state")
    figures: Figures = Field(description="its own figures")
    difference: Figures | None = Field(description="candidate minus champion, paired; null: there is no champion")
    p_better: float | None = Field(description="one-sided p value of `not better than the champion`, uncorrected")
    p_better_holm: float | None = Field(description="the same, corrected over all candidates")
    to_first: Estimate | None = Field(description="mAP50-95 minus that of the first of the list; null: it is the first")
    latency: EngineLatency | None = Field(description="its engine beside the champion's; null: not timed")
    thresholds: Thresholds = Field(description="params that its gates rest on")
    predictions_sha256: str = Field(description="of the content of its predictions table")

    @property
    def frame_time(self) -> Estimate | None:
        """Time of a lone frame: over the champion's, timed in turns; without a champion the 95th percentile in ms."""
        return _frame_time(self.latency)


class CandidatesReport(_Frozen):
    """All candidates against the champion on the same frozen frames."""

    passed: bool = Field(description="whether any may be promoted")
    sentence: str = Field(description="the verdict in one sentence")
    candidates: tuple[Candidate, ...] = Field(description="best first: those that may be promoted, by lower bound")
    champion: Figures | None = Field(description="the champion's figures; null: there is none")
    p_any_better: float | None = Field(description="p value of `none is better`; null: no champion, or too few units")
    alpha: float = Field(description="error over all candidates together")
    alpha_each: float = Field(description="one-sided error of every bound of a candidate: alpha over their number")
    margin: float = Field(description="mAP50-95 that may be lost overall")
    num_images: int = Field(description="frozen frames")
    num_objects: int = Field(description="labelled objects in them")
    num_units: int = Field(description="resampling units among them")
    ground_truth_sha256: str = Field(description="of the content of the ground truth table")
    champion_sha256: str | None = Field(description="of the champion's predictions table; null: there is none")


def compare_candidates(
    truth: GroundTruth,
    champion: Predictions | None,
    contenders: Sequence[Contender],
    params: EvaluateParams,
    *,
    champion_conf: float | None = None,
    seed: int,
    progress: Progress = silent,
) -> CandidatesReport:
    """Judge all contenders; the same arguments give the same report.

    The champion serves from `champion_conf` on, None for what each contender serves from. `progress` counts contenders.

    Raises:
        DataError: There is none, two have one name, or their tables do not cover the same frames or classes.
    """
    _check_names(contenders)
    alpha_each = params.alpha / len(contenders)
    strict = params.model_copy(update={"alpha": alpha_each, "replicates": _REPLICATES})
    reports: list[EvaluationReport] = []
    for one in contenders:
        progress(len(reports), len(contenders), f"{one.name}: judged")
        reports.append(
            compare(
                truth,
                one.found,
                champion,
                strict,
                served_conf=one.served_conf,
                champion_conf=champion_conf,
                seed=seed,
                times=one.times,
            )
        )
    order = sorted(range(len(contenders)), key=lambda index: _merit(reports[index]))
    samples = _samples(truth, [*([] if champion is None else [champion]), *(one.found for one in contenders)], params)
    own = samples if champion is None else samples[1:]
    p_values = _p_better(reports)
    corrected = _holm(p_values)
    candidates = tuple(
        _candidate(
            contenders[index].name,
            reports[index],
            p_values[index],
            corrected[index],
            None if index == order[0] else _gap(own[index] - own[order[0]], len(contenders), params),
        )
        for index in order
    )
    first = reports[order[0]]
    p_any = None
    if champion is not None and first.num_units >= params.min_units:
        p_any = p_any_better(pseudo_values(samples), params.replicates, seed)
    return CandidatesReport(
        passed=candidates[0].outcome == "promote",
        sentence=_sentence(candidates, params.alpha),
        candidates=candidates,
        champion=None if first.champion is None else first.champion.figures,
        p_any_better=p_any,
        alpha=params.alpha,
        alpha_each=alpha_each,
        margin=params.margin,
        num_images=first.num_images,
        num_objects=first.num_objects,
        num_units=first.num_units,
        ground_truth_sha256=first.ground_truth_sha256,
        champion_sha256=None if first.champion is None else first.champion.predictions_sha256,
    )


def _check_names(contenders: Sequence[Contender]) -> None:
    names = [one.name for one in contenders]
    if not names:
        raise DataError("there is no candidate to compare", "Name one: tca compare MODEL")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{twice[0]} is named twice among the candidates", "Name each once")


def _samples(truth: GroundTruth, models: Sequence[Predictions], params: EvaluateParams) -> Floats:
    """mAP50-95 of each model with all units, then without one at a time: (num_models, 1 + num_units)."""
    everywhere = np.ones(len(truth.images), dtype=bool)
    weights = jackknife_weights(unit_of_image(truth, params.unit, everywhere, params.min_units, params.block_s))
    return np.array(
        [mean_average_precision(average_precisions(rank(match_all(truth, one)), weights)) for one in models]
    )


def _merit(report: EvaluationReport) -> tuple[int, float, float]:
    """By outcome, then lower bound (to a thousandth), then time of a frame: the smallest is the best."""
    figure = report.challenger.figures.map50_95 if report.difference is None else report.difference.map50_95
    bound = figure.lower if figure.lower is not None else figure.value
    time = _frame_time(report.latency)
    high = None if time is None else time.value
    return (
        _RANKS[report.outcome],
        -round(bound, 3) if bound is not None else np.inf,
        high if high is not None else np.inf,
    )


def _frame_time(latency: EngineLatency | None) -> Estimate | None:
    if latency is None:
        return None
    return latency.challenger.p95_ms if latency.slowdown is None else latency.slowdown


def _p_better(reports: Sequence[EvaluationReport]) -> list[float | None]:
    found = [None if one.difference is None else p_worse(one.difference.map50_95) for one in reports]
    return [None if p is None else 1.0 - p for p in found]


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct over all candidates; those without a p value count, as if they had none to offer."""
    corrected = holm([1.0 if p is None else p for p in p_values])
    return [None if p is None else fixed for p, fixed in zip(p_values, corrected, strict=True)]


def _gap(samples: Floats, num_candidates: int, params: EvaluateParams) -> Estimate:
    """Difference of two candidates, with bounds that hold for all ordered pairs of candidates together."""
    num_claims = max(1, num_candidates * (num_candidates - 1))
    return jackknife(samples, params.alpha / num_claims, params.min_units)


def _candidate(
    name: str, report: EvaluationReport, p_better: float | None, p_holm: float | None, to_first: Estimate | None
) -> Candidate:
    return Candidate(
        name=name,
        outcome=report.outcome,
        reasons=report.reasons,
        gates=report.gates,
        figures=report.challenger.figures,
        difference=report.difference,
        p_better=p_better,
        p_better_holm=p_holm,
        to_first=to_first,
        latency=report.latency,
        thresholds=report.thresholds,
        predictions_sha256=report.challenger.predictions_sha256,
    )


def _sentence(candidates: Sequence[Candidate], alpha: float) -> str:
    first, num = candidates[0], sum(one.outcome == "promote" for one in candidates)
    if not num:
        return (
            f"None of {len(candidates)} may be promoted; first is {first.name}: {first.reasons[0].partition(';')[0]}."
        )
    figure = f"mAP50-95 {short(first.figures.map50_95.value)}"
    if first.difference is not None:
        figure += f", {first.difference.map50_95.text(signed=True)} to the champion"
    better = first.p_better_holm is not None and first.p_better_holm < alpha
    claim = f"; better than the champion (corrected p {first.p_better_holm:.2g})" if better else ""
    return f"{num} of {len(candidates)} may be promoted; best is {first.name}: {figure}{claim}."
