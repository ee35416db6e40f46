"""The candidates one after another: built, compared with PyTorch box by box and on the frozen frames, then timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bentos.detector.contract import EngineSpec, Precision
from bentos.detector.errors import EngineFailed
from flows.errors import EngineUnavailable
from flows.exporting.accuracy import Accuracy, Baseline, Judge
from flows.exporting.benchmark import Speed, run_probe, summarise
from flows.exporting.build import Built, Source, build_candidate
from flows.exporting.calibration import Calibration
from flows.exporting.candidates import Candidate, NotBuilt
from flows.exporting.choice import Contender, best_batch, choose, find_refusal
from flows.exporting.parity import ParityReport, Tolerance, boxes_of, compare_boxes, reference_detector
from flows.exporting.steps import Steps
from flows.params import ExportParams

_ROUNDS = 2  # of timing, the candidates taking turns: a busy moment falls on all of them
_TENSORRT_S, _INT8_S, _BUILD_S = 120, 10, 1
_PROVE_S, _TIME_S, _REFERENCE_S = 2, 2, 5


@dataclass(frozen=True)
class Evidence:
    """What the proof is made with.

    Attributes:
        images: Bytes of image files on which boxes are compared and time is taken.
        judge: Knows the frozen frames.
        calibration: Frames of the training split, for INT8.
        latency_budget_ms: What the p99 of a batch must stay within.
    """

    images: Sequence[bytes]
    judge: Judge
    calibration: Calibration
    latency_budget_ms: float


@dataclass(frozen=True)
class Entry:
    """A candidate that was built, with its figures so far."""

    built: Built
    parity: ParityReport
    accuracy: Accuracy
    refusal: str | None
    speed: Speed | None = None
    tried: tuple[str, ...] = ()


class Contest:
    """Runs the candidates. `baseline` is PyTorch on the frozen frames."""

    def __init__(self, source: Source, evidence: Evidence, folder: Path, steps: Steps) -> None:
        self._source, self._evidence, self._folder, self._steps = source, evidence, folder, steps
        self._params = source.params
        steps.begin(_REFERENCE_S, "PyTorch on the frozen frames")
        spec = source.describe(EngineSpec(kind="fake", file="weights.pt"), {})
        reference = reference_detector(source.graph, spec)
        self.baseline: Baseline = evidence.judge.start(reference, steps.within)
        self._expected = boxes_of(reference, evidence.images)

    @staticmethod
    def weight(candidates: Sequence[Candidate]) -> float:
        """Rough seconds that so many candidates take."""
        each = [_build_s(one) + _PROVE_S + _ROUNDS * _TIME_S for one in candidates]
        return _REFERENCE_S + sum(each)

    def run(self, candidates: Sequence[Candidate]) -> tuple[list[Entry], list[NotBuilt]]:
        """Build, prove and time all; those that cannot be built or run after all come second.

        Raises:
            EngineUnavailable: None of them can.
        """
        entries: list[Entry] = []
        failed: list[tuple[Candidate, EngineUnavailable]] = []
        for candidate in candidates:
            try:
                entries.append(self._prove(candidate))
            except EngineUnavailable as error:
                failed.append((candidate, error))
        timed, untimed = self._time(entries)
        failed += untimed
        if not timed:
            raise failed[0][1]
        missing = [NotBuilt(engine=one.engine, precision=one.precision, reason=str(error)) for one, error in failed]
        return [self._mend(entry, timed) for entry in timed], missing

    def contender(self, entry: Entry) -> Contender:
        """What the choice needs of an entry that was timed."""
        assert entry.speed is not None
        row, in_budget = best_batch(entry.speed, self._evidence.latency_budget_ms)
        return Contender(entry.built.candidate, row.images_per_s, in_budget, entry.refusal)

    def _prove(self, candidate: Candidate, float_blocks: Sequence[str] = (), suffix: str = "") -> Entry:
        params, steps = self._params, self._steps
        steps.begin(_build_s(candidate), f"building {candidate.name}{suffix}")
        folder = self._folder / f"{candidate.engine}-{candidate.precision}{suffix.replace(' ', '-')}"
        built = build_candidate(candidate, self._source, folder, float_blocks, steps.within)
        steps.begin(_PROVE_S, f"{candidate.name}{suffix} on the frozen frames")
        detector = built.load()
        try:
            boxes = boxes_of(detector, self._evidence.images)
            accuracy = self._evidence.judge.measure(detector, steps.within)
        except EngineFailed as error:
            raise EngineUnavailable(f"{candidate.name} was built, but fails: {error}") from error
        finally:
            detector.close()
        parity = compare_boxes(boxes, self._expected, tolerance_of(candidate.precision, params))
        refusal = find_refusal(candidate, parity, accuracy, self.baseline, params.max_loss)
        return Entry(built, parity, accuracy, refusal)

    def _time(self, entries: Sequence[Entry]) -> tuple[list[Entry], list[tuple[Candidate, EngineUnavailable]]]:
        """With figures of speed; those that do not run in a fresh process come second."""
        answers: dict[Candidate, list[dict[str, Any]]] = {entry.built.candidate: [] for entry in entries}
        failed: dict[Candidate, EngineUnavailable] = {}
        for _ in range(_ROUNDS if len(entries) > 1 else 1):
            for entry in entries:
                candidate = entry.built.candidate
                self._steps.begin(_TIME_S, f"timing {candidate.name}")
                try:
                    answers[candidate].append(run_probe(entry.built.folder, self._evidence.images))
                except EngineUnavailable as error:
                    failed[candidate] = error
        ran = [entry for entry in entries if entry.built.candidate not in failed]
        return [replace(one, speed=summarise(answers[one.built.candidate])) for one in ran], list(failed.items())

    def _mend(self, entry: Entry, timed: Sequence[Entry]) -> Entry:
        """Put the most harmful blocks of a refused INT8 engine back to float, more at each attempt."""
        params = self._params
        is_mendable = entry.built.candidate == Candidate("openvino", "int8") and entry.refusal is not None
        if not is_mendable or entry.accuracy.loss.upper is None or not params.int8_repairs:
            return entry
        if not self._would_win(entry, timed):
            return replace(entry, tried=("no block put back to float: it would not be chosen even without a loss",))
        deadline = time.monotonic() + params.int8_repair_s
        blocks = self._rank_blocks(entry)
        last, tried = entry, []
        for attempt in range(1, params.int8_repairs + 1):
            if last.refusal is None or not blocks or time.monotonic() > deadline:
                break
            tried.append(last.refusal)
            self._steps.expect(_INT8_S + _PROVE_S + _TIME_S)
            last = self._prove(entry.built.candidate, blocks[: 2**attempt], f" attempt {attempt + 1}")
        mended, _ = self._time([last]) if tried else ([], [])
        return replace(mended[0], tried=tuple(tried)) if mended else entry

    def _would_win(self, entry: Entry, timed: Sequence[Entry]) -> bool:
        contenders = [self.contender(one) for one in timed if one is not entry]
        ours = replace(self.contender(entry), refusal=None)
        return choose([ours, *contenders], self._params.min_speedup) == 0

    def _rank_blocks(self, entry: Entry) -> list[str]:
        from bentos.detector.engines.quiet import import_openvino
        from flows.exporting.int8 import rank_blocks
        from flows.exporting.openvino_build import read_onnx

        frames, _ = self._source.calibration.read(self._source.graph.size_wh)
        quantised = import_openvino().Core().read_model(entry.built.folder / entry.built.spec.engine.file)
        return rank_blocks(quantised, read_onnx(self._source.onnx_file), frames)


def tolerance_of(precision: Precision, params: ExportParams) -> Tolerance:
    """How far boxes may be from PyTorch's: those of fp32 must be equal, the others count by their loss."""
    if precision == "fp32":
        return Tolerance(params.parity_min_iou, params.parity_max_score_diff)
    return Tolerance(params.reduced_min_iou, params.reduced_max_score_diff, params.reduced_min_matched)


def _build_s(candidate: Candidate) -> int:
    if candidate.engine == "tensorrt":
        return _TENSORRT_S
    return _INT8_S if candidate.precision == "int8" else _BUILD_S
