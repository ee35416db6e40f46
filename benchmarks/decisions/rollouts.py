"""One simulated rollout: the real state machine, with its journal in memory and its record on a folder in memory."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.decisions.cases import Case
from benchmarks.decisions.rules import FLAGGER_LOOKS, mann_whitney_rolls_back, threshold_rolls_back
from benchmarks.decisions.streams import FPS, Stream, StreamTraffic
from flows.adapters.fake_traffic import FakeClock, FakeRegistry
from flows.rollout.controller import run_promotion
from flows.rollout.journal import journal_in_memory
from flows.rollout.record import verify_record
from flows.rollout.report import PromotionReport
from flows.rollout.traffic import Contender

VERIFY_EVERY = 50
"""Of so many records one is verified."""
_OLD, _NEW = Contender("1", "a" * 64), Contender("2", "b" * 64)


@dataclass(frozen=True)
class Outcome:
    """What came of one rollout, by our rule and by those of others (True: rolled back; None: not tried)."""

    outcome: str
    frames: int
    """Judged frames on which the verdict rests: pairs, and where the bake decided, those since it began."""
    lost: int
    verified: bool | None
    flagger: bool | None = None
    argo: bool | None = None
    mann_whitney: bool | None = None


def roll_out(case: Case, seed: int) -> Outcome:
    """Run rollout number `seed` of a case."""
    stream = Stream(case.kind, seed, max(1, case.cameras))
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        report, lost = _promote(case, stream, Path(folder))
        verified = None
        if seed % VERIFY_EVERY == 0:
            verified = verify_record(Path(folder, "1.jsonl")).passed
    if not case.compared:
        return Outcome(report.outcome, _frames(report), lost, verified)
    params = case.promote_params
    return Outcome(
        report.outcome, _frames(report), lost, verified,
        flagger=threshold_rolls_back(stream, params, FLAGGER_LOOKS),
        argo=threshold_rolls_back(stream, params, 1),
        mann_whitney=mann_whitney_rolls_back(stream),
    )  # fmt: skip


def _promote(case: Case, stream: Stream, folder: Path) -> tuple[PromotionReport, int]:
    clock = FakeClock()
    street = StreamTraffic(clock, num_cameras=case.cameras, fps=FPS)
    if case.garble is not None:
        street.garble = case.garble
    street.play(stream, case.late)
    registry = FakeRegistry(reigning=street.enthrone(_OLD.version, _OLD.digest))
    with journal_in_memory() as journal:
        report = run_promotion(journal, street, registry, _NEW, _OLD, case.promote_params, folder, clock=clock)
    return report, street.num_lost


def _frames(report: PromotionReport) -> int:
    nums = {figure.metric: figure.num for figure in report.evidence}
    baked = max(nums["bake errors"], nums["bake latency"])
    return baked or max(nums["errors"], nums["latency"], nums["agreement"])
