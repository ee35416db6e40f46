"""The outcome of a contest as a report: every engine with its reason, and one sentence for all."""

from __future__ import annotations

from dataclasses import dataclass

from bentos.detector.contract import read_spec
from flows.exporting.accuracy import Baseline, short
from flows.exporting.build import Source
from flows.exporting.calibration import CalibrationReport
from flows.exporting.candidates import NotBuilt
from flows.exporting.choice import best_batch
from flows.exporting.contest import Entry, Evidence
from flows.exporting.decoding import DecodeReport
from flows.exporting.report import CandidateReport, ChoiceRule, ExportReport, State


@dataclass(frozen=True)
class Outcome:
    """How the contest ended. `taken` is in the model directory, and `won` says whether it may be."""

    baseline: Baseline
    entries: tuple[Entry, ...]
    missing: tuple[NotBuilt, ...]
    taken: Entry
    won: bool
    decoding: DecodeReport


def make_report(outcome: Outcome, source: Source, evidence: Evidence) -> ExportReport:
    """Write down `outcome`; the folder of the engine that was taken still lies where it was built."""
    graph, folder = source.graph, outcome.taken.built.folder
    spec = read_spec(folder)
    rows = [_row(entry, outcome, source, evidence) for entry in outcome.entries]
    rows.sort(key=lambda row: (not row.in_budget, -row.images_per_s))
    taken = next(row for row in rows if row.name == outcome.taken.built.candidate.name)
    return ExportReport(
        passed=outcome.won,
        sentence=_sentence(outcome, taken, len(rows)),
        model_digest=spec.digest,
        engine=spec.engine.kind,
        precision=spec.engine.precision,
        device=spec.engine.device,
        input_size_wh=graph.size_wh,
        classes=graph.classes,
        top_k=graph.top_k,
        file_bytes={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        parity=taken.parity,
        latency=taken.speed.latency,
        baseline=outcome.baseline,
        rule=_rule(source, evidence),
        candidates=tuple(rows),
        not_built=outcome.missing,
        calibration=_calibration(outcome, source),
        decoding=outcome.decoding,
    )


def _row(entry: Entry, outcome: Outcome, source: Source, evidence: Evidence) -> CandidateReport:
    assert entry.speed is not None
    best, in_budget = best_batch(entry.speed, evidence.latency_budget_ms)
    chosen = outcome.won and entry is outcome.taken
    state: State = "chosen" if chosen else "refused" if entry.refusal else "admitted"
    engine = entry.built.spec.engine
    return CandidateReport(
        engine=engine.kind,
        precision=engine.precision,
        device=engine.device,
        state=state,
        reason=_reason(entry, state, outcome, source, evidence),
        accuracy=entry.accuracy,
        parity=entry.parity,
        speed=entry.speed,
        best_batch=best.batch,
        images_per_s=best.images_per_s,
        in_budget=in_budget,
        engine_bytes=entry.built.engine_bytes,
        float_blocks=entry.built.float_blocks,
        tried=entry.tried,
    )


def _reason(entry: Entry, state: State, outcome: Outcome, source: Source, evidence: Evidence) -> str:
    if entry.refusal is not None:
        return entry.refusal
    budget_ms, min_speedup = evidence.latency_budget_ms, source.params.min_speedup
    assert entry.speed is not None and outcome.taken.speed is not None
    own, in_budget = best_batch(entry.speed, budget_ms)
    name, speed = entry.built.candidate.name, f"{own.images_per_s:.0f} images/s at batches of {own.batch}"
    late = "" if in_budget else f", though not within {budget_ms:g} ms"
    if state == "chosen":
        return f"{name} chosen: {speed}{late}, loses {entry.accuracy.loss.text()} mAP50-95"
    chosen, _ = best_batch(outcome.taken.speed, budget_ms)
    other = outcome.taken.built.candidate.name
    if not in_budget:
        return f"{name} admitted, not chosen: {speed}{late}"
    if own.images_per_s > chosen.images_per_s:
        rival = f"less than {min_speedup:g} x the {chosen.images_per_s:.0f} of {other}, which is more exact"
    else:
        rival = f"{other} does {chosen.images_per_s:.0f}"
    return f"{name} admitted, not chosen: {speed}, {rival}"


def _sentence(outcome: Outcome, taken: CandidateReport, num: int) -> str:
    if not outcome.won:
        others = f" ({num} engines tried)" if num > 1 else ""
        return f"no engine may be taken{others}: {taken.reason}"
    width, height = outcome.taken.built.spec.input.size_wh
    of = f"{short(outcome.baseline.map50_95)} mAP50-95"
    return (
        f"{taken.name} at {width} x {height} px: {taken.images_per_s:.0f} images/s, loses {taken.accuracy.loss.text()} "
        f"of {of}; {_count(num)}"
    )


def _count(num: int) -> str:
    return f"best of {num} engines" if num > 1 else "the only engine tried"


def _rule(source: Source, evidence: Evidence) -> ChoiceRule:
    params, budget_ms = source.params, evidence.latency_budget_ms
    return ChoiceRule(
        max_loss=params.max_loss,
        latency_budget_ms=budget_ms,
        min_speedup=params.min_speedup,
        sentence=(
            "Of the engines whose boxes agree with PyTorch's and whose loss of mAP50-95 is at most "
            f"{params.max_loss:g} at the upper end of its interval, the one of most images a second at a batch whose "
            f"p99 is within {budget_ms:g} ms is taken; a less exact one must be {params.min_speedup:g} times faster. "
            "Without an interval only fp32 may be taken."
        ),
    )


def _calibration(outcome: Outcome, source: Source) -> CalibrationReport | None:
    if not any(entry.built.candidate.precision == "int8" for entry in outcome.entries):
        return None
    return source.calibration.read(source.graph.size_wh)[1]
