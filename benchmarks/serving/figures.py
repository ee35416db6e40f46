"""What was measured for the JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.loopback import Tally
from benchmarks.report import median
from benchmarks.serving.climb import Climb, Step
from benchmarks.serving.compare import PeerRound, Turn
from benchmarks.serving.outcome import Outcome, targets


def figures(outcome: Outcome) -> dict[str, Any]:
    """Everything of one model for the JSON: medians over the rounds; shares and ratios are formed within a round."""
    found: dict[str, Any] = {"targets": [{**asdict(target), "met": target.is_met} for target in targets(outcome)]}
    if rounds := outcome.rounds:
        found["ladder"] = {
            "rates": {
                f"{name}, {variant}": median(one.rates[name, variant] for one in rounds)
                for name, variant in rounds[0].rates
            },
            "benchmark_app": outcome.benchmark_app,
            "http": _tally_figures(rounds[-1].http),
            "limit": median(one.limit for one in rounds),
            "closed_loop": [_tally_figures(one.closed) for one in rounds],
            "headline_rate": median(one.climb.rate for one in rounds),
            "efficiency": outcome.efficiency,
            "efficiency_closed_loop": median(one.closed.rate / one.limit for one in rounds),
            "service_cpu_ms": median(one.service_cpu_ms for one in rounds),
            "stages_ms": rounds[-1].stages_ms,
            "climbs": [_climb_figures(one.climb) for one in rounds],
        }
    if outcome.lone:
        found["lone"] = {
            "bare_loop_ms": median(outcome.bare_ms),
            "paced_loop_ms": median(outcome.paced_ms),
            "runs": [_tally_figures(one) for one in outcome.lone],
        }
    if outcome.memory:
        found["memory_mb"] = asdict(outcome.memory)
    if outcome.cold_s:
        found["cold_start_s"] = outcome.cold_s
    if (overload := outcome.overload) is not None:
        found["overload"] = {
            "offered": overload.rate,
            "peak": overload.peak,
            "goodput": overload.goodput,
            "refused_p99_ms": overload.refused_p99_ms,
            **_tally_figures(overload.tally),
        }
    if outcome.peers:
        found["peers"] = [_peer_figures(one) for one in outcome.peers]
        found["ratios"] = {**outcome.peer_ratios(engine=True), **outcome.peer_ratios(engine=False)}
    return found


def _peer_figures(one: PeerRound) -> dict[str, Any]:
    def describe(turn: Turn) -> dict[str, Any]:
        return {
            "boxes": turn.num_boxes,
            "closed_loop": _tally_figures(turn.closed),
            "headline_rate": turn.climb.rate,
            "climb": _climb_figures(turn.climb),
        }

    return {
        "ours": [describe(turn) for turn in one.ours],
        "theirs": {name: describe(turn) for name, turn in one.turns.items()},
        "failures": one.failures,
    }


def _climb_figures(climb: Climb) -> list[dict[str, Any]]:
    return [_step_figures(step) for step in climb.steps]


def _step_figures(step: Step) -> dict[str, Any]:
    return {"rate": step.rate, "passed": step.passed, **_tally_figures(step.tally)}


def _tally_figures(tally: Tally) -> dict[str, Any]:
    return {
        "answered": tally.rate,
        "seconds": tally.seconds,
        "p50_ms": tally.p(50),
        "p99_ms": tally.p(99),
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "client_cpu_ms": tally.client_cpu_ms,
        "client_late_p99_ms": tally.p_late(99),
    }
