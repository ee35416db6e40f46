"""What was measured as rows of one table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.loopback import Tally
from benchmarks.report import median
from benchmarks.serving.compare import OURS, Turn
from benchmarks.serving.limits import lone_bound_ms
from benchmarks.serving.outcome import Outcome, median_or_none, peer_names
from benchmarks.serving.rungs import HTTP, SERVICE

HEADERS = (
    "model", "what", "variant", "frames/s", "of the limit", "ours / it", "p50 ms", "p99 ms", "client CPU ms",
)  # fmt: skip
_NO_TIMES = ["", "", ""]


def rows(outcome: Outcome) -> list[list[str]]:
    """The table's part of one model."""
    lines = [*_ladder_rows(outcome), *_trial_rows(outcome), *_peer_rows(outcome)]
    return [[outcome.model.label, *line] for line in lines]


def _ladder_rows(outcome: Outcome) -> list[list[str]]:
    if not (rounds := outcome.rounds):
        return []
    lines = []
    for name, variant in rounds[0].rates:
        share = median(one.rates[name, variant] / one.limit for one in rounds)
        rate = median(one.rates[name, variant] for one in rounds)
        lines.append([name, variant, f"{rate:.1f}", f"{share:.0%}" if name[0] == "4" else "", "", *_NO_TIMES])
    if outcome.benchmark_app:
        lines.insert(
            0, ["1 engine alone", "OpenVINO's benchmark_app", f"{outcome.benchmark_app:.1f}", "", "", *_NO_TIMES]
        )
    lines.append([HTTP, *_loop_cells([one.http for one in rounds]), "", "", *_times([one.http for one in rounds])])
    limit_rate = median(one.limit for one in rounds)
    rule = "min(2, 3, 5)" if rounds[0].has_own_device else "1 / (1/(2) + 1/(3) + 1/(5))"
    lines.append(["limit", rule, f"{limit_rate:.1f}", "100%", "", *_NO_TIMES])
    closed = [one.closed for one in rounds]
    share = median(one.closed.rate / one.limit for one in rounds)
    lines.append([SERVICE, *_loop_cells(closed, "closed loop"), f"{share:.0%}", "", *_times(closed)])
    rate = median(one.climb.rate for one in rounds)
    tallies = [one.climb.headline.tally for one in rounds if one.climb.headline]
    lines.append(
        [
            SERVICE,
            f"open loop, median of {len(rounds)}",
            f"{rate:.1f}",
            f"{outcome.efficiency:.0%}",
            "",
            *_times(tallies),
        ]
    )
    return lines


def _trial_rows(outcome: Outcome) -> list[list[str]]:
    lines = []
    if outcome.lone:
        bare_ms = median(outcome.bare_ms)
        variant = f"bare loop {bare_ms:.1f} ms, so under {lone_bound_ms(bare_ms):.1f} ms"
        lines.append(["lone camera", variant, "10.0", "", "", *_times(outcome.lone)])
        paced_ms = median(outcome.paced_ms)
        variant = f"the loop at its pace {paced_ms:.1f} ms, so {lone_bound_ms(paced_ms):.1f} ms"
        lines.append(["lone camera", variant, "", "", "", *_NO_TIMES])
    if outcome.memory:
        memory = outcome.memory
        shared = f", PSS {memory.tree_pss:.0f} MB" if memory.tree_pss else ""
        variant = f"{memory.tree_rss:.0f} MB in {memory.processes} processes{shared}"
        lines.append(["memory", variant, "", "", "", *_NO_TIMES])
    if outcome.cold_s:
        lines.append(["cold start", f"{median(outcome.cold_s):.2f} s to ready", "", "", "", *_NO_TIMES])
    if (overload := outcome.overload) is not None:
        refused = overload.refused_p99_ms
        variant = f"{overload.goodput:.0%} of the peak" + (f", refused within {refused:.0f} ms" if refused else "")
        rate = f"{overload.tally.rate:.1f} of {overload.rate:.0f}"
        lines.append(["3 x capacity", variant, rate, "", "", *_times([overload.tally])])
    return lines


def _peer_rows(outcome: Outcome) -> list[list[str]]:
    if not (rounds := outcome.peers):
        return []
    ours = [turn for one in rounds for turn in one.ours]
    lines = [_turn_row(OURS, ours, "1.0")]
    for name in peer_names(rounds):
        turns = [one.turns[name] for one in rounds if name in one.turns]
        value = median_or_none(one.ratio_to(name) for one in rounds if name in one.turns)
        lines.append(
            _turn_row(name, turns, f"{value:.1f}" if value is not None and math.isfinite(value) else "no rate")
        )
    failures = {name: why for one in rounds for name, why in one.failures.items()}
    lines += [[name, f"failed: {why[:60]}", "", "", "", *_NO_TIMES] for name, why in failures.items()]
    return lines


def _turn_row(name: str, turns: Sequence[Turn], ratio: str) -> list[str]:
    rate = median(turn.climb.rate for turn in turns)
    closed = median(turn.closed.rate for turn in turns)
    errors = sum(count for turn in turns for status, count in turn.closed.statuses.items() if status != 200)
    variant = f"closed loop {closed:.1f}" + (f", {errors} errors" if errors else "")
    tallies = [turn.climb.headline.tally for turn in turns if turn.climb.headline]
    return [name, variant, f"{rate:.1f}", "", ratio, *_times(tallies)]


def _loop_cells(tallies: Sequence[Tally], what: str = "closed loop") -> list[str]:
    return [what, f"{median(tally.rate for tally in tallies):.1f}"]


def _times(tallies: Sequence[Tally]) -> list[str]:
    if not tallies:
        return _NO_TIMES
    p50, p99 = (median(tally.p(percent) for tally in tallies) for percent in (50, 99))
    return [f"{p50:.1f}", f"{p99:.1f}", f"{median(tally.client_cpu_ms for tally in tallies):.2f}"]
