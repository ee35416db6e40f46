"""The page of a promotion, made from its record alone: how it ended, on what evidence, and when what happened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from flows.page import Markup, contents, escape, figure, folded, grid, legend, page, section, table, tiles
from flows.rollout.curve_plots import CHALLENGER, CHAMPION, STATE_COLOURS, evidence_plot, latency_plot, share_plot
from flows.rollout.curves import Band, Curve, Story, read_story
from flows.rollout.latencies import Latencies
from flows.rollout.summary import frames_judged

_METRICS = {
    "errors": "more failed frames than tolerated, and more than the champion's",
    "latency": "more slow frames than tolerated, and more than the champion's",
    "agreement": "boxes unlike the champion's",
    "bake errors": "more failed frames, after the switch",
    "bake latency": "more slow frames, after the switch",
    "error certificate": "failed frames are rarer than the limit",
}
_PASSED = {"promoted": True, "rolled_back": False, "aborted": False}


def promotion_page(number: int, lines: Sequence[dict[str, Any]]) -> str:
    """The page as HTML. Raises KeyError, TypeError or ValueError when the record is damaged."""
    story, last = read_story(lines), lines[-1]
    sections = [
        ("evidence", "Evidence", _evidence(story)),
        ("latency", "Latency", _latency(story)),
        ("states", "States", _states(story)),
        ("verdicts", "Verdicts that decided", _verdicts(lines)),
        *([("people", "People", people)] if (people := _people(lines)) else []),
        ("record", "The record", _record(number, lines)),
    ]
    body = [
        tiles(_tiles(story, lines)),
        contents((anchor, heading) for anchor, heading, _ in sections),
        *(section(*one) for one in sections),
    ]
    passed = _PASSED.get(last.get("outcome", ""))
    return page(f"Promotion {number}", f"{_sentence(last, story)}.", passed, "\n".join(body))


def _sentence(last: dict[str, Any], story: Story) -> str:
    if last["kind"] in ("closed", "held"):
        return str(last["sentence"])
    here = story.bands[-1].state if story.bands else "IDLE"
    return f"It is in {here}, or was when it was broken off: {last['sentence']}"


def _tiles(story: Story, lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    evidence, opened = story.replay.evidence, lines[0]
    yield "challenger", f"version {opened['challenger'][0]}", f"digest {opened['challenger'][1][:12]}"
    champion = opened["champion"]
    yield "champion", f"version {champion[0]}" if champion else "none", f"digest {champion[1][:12]}" if champion else ""
    yield "frames judged", f"{frames_judged(evidence):,}", f"of {evidence.frames:,} that the router answered"
    yield "frames lost", f"{evidence.lost:,}", f"{evidence.fallbacks:,} answered by the other arm"
    seconds = story.bands[-1].ended_s if story.bands else 0.0
    yield "time", _duration(seconds), f"from {_time(opened)}"


def _evidence(story: Story) -> str:
    if not story.curves:
        return '<p class="note">No frame was judged.</p>'
    end = max(curve.nums[-1] for curve in story.curves)
    drawn = (figure(evidence_plot(curve, story.bands, end), _caption(curve)) for curve in story.curves)
    names = {band.state.partition(" ")[0] for band in story.bands}
    colours = {name: colour for name, colour in STATE_COLOURS.items() if name in names}
    return (
        '<p class="note">Each curve is the logarithm of an e-value, which may be looked at after every frame: while '
        "there is no harm, it reaches its limit with a probability of at most "
        f"{story.replay.params.alpha:g} over all metrics and looks. A dashed line is the limit; a curve that reaches "
        f"it decides.</p>{legend(colours)}{grid(drawn)}"
    )


def _caption(curve: Curve) -> str:
    shown = "none" if curve.value is None else f"{curve.value:.1%}"
    held_against = f"limit {curve.limit:.1%}"
    if curve.metric == "agreement":
        shown, held_against = ("none" if curve.value is None else f"{curve.value:.3f}"), f"floor {curve.limit:.3f}"
    e_value = math.exp(min(curve.ln_es[-1], 300.0))
    return (
        f"{curve.metric}: {_METRICS[curve.metric]}. In the end {shown} of {curve.num:,} frames, {held_against}, "
        f"e = {e_value:.3g} (decides at {math.exp(curve.needed_ln_e):.3g})"
    )


def _latency(story: Story) -> str:
    evidence, params = story.replay.evidence, story.replay.params
    headers = ("Arm", "Frames", "p50", "p95", f"p95, bounds at all looks ({1 - params.alpha:.0%})", "p99")
    arms = (("challenger", evidence.latencies), ("champion, same frames", evidence.champion_latencies))
    rows = [_latency_row(name, latencies, params.alpha) for name, latencies in arms]
    drawn = ""
    if any(one.challenger_ms for one in story.windows):
        caption = "Median (thin) and 95th percentile (thick) of neighbouring frames, in ms"
        colours = {"challenger": CHALLENGER, "champion on the same frames": CHAMPION}
        drawn = figure(latency_plot(story.windows, story.bands, params.latency_budget_ms), caption, colours)
    return drawn + table(headers, rows)


def _latency_row(name: str, latencies: Latencies, alpha: float) -> tuple[str, ...]:
    low, high = latencies.interval_ms(0.95, alpha)
    between = f"{_ms(low)} to {_ms(high)}" if low is not None or high is not None else "not enough frames"
    p50, p95, p99 = (_ms(latencies.percentile_ms(share)) for share in (0.5, 0.95, 0.99))
    return name, f"{latencies.num:,}", p50, p95, between, p99


def _states(story: Story) -> str:
    if not story.bands:
        return '<p class="note">It has not begun yet.</p>'
    rows = [
        (
            band.state,
            f"{band.share:.0%}",
            _duration(band.ended_s - band.began_s),
            _frames(band),
            band.why.partition("; ")[0],
        )
        for band in story.bands
    ]
    return figure(share_plot(story.shares, story.bands), "Share of cameras that the challenger answered") + table(
        ("State", "Share of cameras", "Time", "Frames judged", "Why it was entered"), rows, "told"
    )


def _frames(band: Band) -> str:
    return f"{band.ended_num - band.began_num:,}" if band.ended_num > band.began_num else ""


def _verdicts(lines: Sequence[dict[str, Any]]) -> str:
    parts = []
    for line in deciding_verdicts(lines):
        verdict = line["verdict"]
        rows = [
            (
                one["metric"],
                f"{one['num']:,}",
                _share(one),
                f"{one['limit']:.3g}",
                _e(one["ln_e"]),
                _e(one["needed_ln_e"]),
            )
            for one in verdict["figures"]
            if one["num"]
        ]
        where = f"{line['state']} step {line['step'] + 1}" if line["state"] == "CANARY" else line["state"]
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict["reasons"])
        heading = f"<h3>{escape(where)}: {escape(verdict['decision'])}, {_time(line)}</h3><ul>{reasons}</ul>"
        figures = table(("Metric", "Frames", "Value", "Limit", "e", "decides at"), rows)
        parts.append(heading + folded("The e-values it rests on", figures))
    return "".join(parts) or '<p class="note">None: no state that is judged was left on evidence.</p>'


def deciding_verdicts(lines: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The verdicts that a transition followed at once."""
    for line, following in pairwise(lines):
        if line["kind"] == "verdict" and following.get("event") == line["verdict"]["decision"]:
            yield line


def _people(lines: Sequence[dict[str, Any]]) -> str:
    rows = [
        (_time(line), line["gate"], "asked" if line["kind"] == "asked" else _answer(line), line.get("who", ""))
        for line in lines
        if line["kind"] in ("asked", "approval")
    ]
    return table(("Time", "To enter", "What", "Who"), rows) if rows else ""


def _answer(line: dict[str, Any]) -> str:
    return f"{'agreed' if line['agreed'] else 'refused'} ({line['how']})"


def _record(number: int, lines: Sequence[dict[str, Any]]) -> str:
    shown = [(_time(line), line["state"], line["sentence"]) for line in lines if line["kind"] in TOLD]
    link = Markup(f'<a href="{number}.jsonl">{number}.jsonl</a>')
    return (
        f"<p>{link}: {len(lines):,} lines, each with the hash of the line before; the last hash is "
        f"<code>{escape(lines[-1]['hash'][:16])}</code>. Check it, and have every verdict computed anew: "
        f"<code>tca promotion verify {number}</code></p>"
        + folded("Everything that happened", table(("Time (UTC)", "State", "What"), shown, "told"))
    )


TOLD = ("opened", "state", "effect", "asked", "approval", "held", "closed")
"""Kinds of lines that a person reads; evidence and verdicts are too many."""


def _time(line: dict[str, Any]) -> str:
    return str(line["at"])[:19].replace("T", " ") + " UTC"


def _share(figure_: dict[str, Any]) -> str:
    value = figure_["value"]
    return "" if value is None else f"{value:.3g}"


def _e(ln_e: float) -> str:
    return f"{math.exp(min(ln_e, 300.0)):.3g}"


def _ms(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f}\u00a0ms"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f}\u00a0s"
    return f"{seconds / 60:.1f}\u00a0min" if seconds < 7200 else f"{seconds / 3600:.1f}\u00a0h"
