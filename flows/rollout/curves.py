"""What a record tells over time: the evidence after each look, the states, the latencies; as plain numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from flows.rollout.evidence import Figure, error_certificate, harm_figures
from flows.rollout.observations import Sample
from flows.rollout.replay import Replay
from flows.rollout.states import State
from flows.rollout.summary import frames_judged

MOST_POINTS = 600
NUM_WINDOWS = 48
_ROUTE = re.compile(r"route (champion|shadow|canary (?P<percent>\d+)%), champion (?P<champion>\S+)")


@dataclass(frozen=True)
class Band:
    """A stay in one state."""

    state: str
    """With the step of a canary."""
    began_s: float
    """Since the promotion was opened."""
    ended_s: float
    began_num: int
    """Frames judged until then."""
    ended_num: int
    share: float
    """Of cameras that the challenger answered in the end."""
    why: str


@dataclass(frozen=True)
class Curve:
    """One e-process: its logarithm over the frames judged."""

    metric: str
    nums: tuple[int, ...]
    ln_es: tuple[float, ...]
    needed_ln_e: float
    limit: float
    num: int
    """Frames that it rests on in the end."""
    value: float | None


@dataclass(frozen=True)
class LatencyWindow:
    """Latencies of neighbouring judged frames: median and 95th percentile, ms; None where an arm answered nothing."""

    num: int
    """Frames judged until its end."""
    challenger_ms: tuple[float, float] | None
    champion_ms: tuple[float, float] | None


@dataclass
class Story:
    """All of it."""

    bands: list[Band] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    windows: list[LatencyWindow] = field(default_factory=list)
    shares: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    """The share of cameras that the challenger answered from a time on, in seconds since the opening."""
    replay: Replay = field(default_factory=Replay)


def read_story(lines: Sequence[dict[str, Any]]) -> Story:
    """The story that the lines of a record tell. Raises KeyError, TypeError or ValueError where they are damaged."""
    story = Story()
    stride = math.ceil(sum(line["kind"] == "evidence" for line in lines) / MOST_POINTS) or 1
    points: list[tuple[int, tuple[Figure, ...]]] = []
    samples: list[Sample] = []
    opened_s = _seconds(lines[0])
    num_evidence = 0
    for line in lines:
        story.replay.take(line)
        now_s = _seconds(line) - opened_s
        if line["kind"] == "state":
            _enter(story, line, now_s)
        elif line["kind"] == "effect":
            _route(story, line["sentence"], now_s, lines[0]["challenger"][0])
        elif line["kind"] == "evidence":
            samples += [Sample(*row) for row in line["samples"]]
            num_evidence += 1
            if num_evidence % stride == 0:
                points.append((frames_judged(story.replay.evidence), _figures(story.replay)))
    points.append((frames_judged(story.replay.evidence), _figures(story.replay)))
    _leave(story, _seconds(lines[-1]) - opened_s)
    story.curves = _curves(points)
    story.windows = _windows(samples)
    return story


def _seconds(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["at"]).timestamp()


def _figures(replay: Replay) -> tuple[Figure, ...]:
    evidence, params = replay.evidence, replay.params
    return (*harm_figures(evidence, params), error_certificate(evidence, params))


def _enter(story: Story, line: dict[str, Any], now_s: float) -> None:
    state, step = line["state"], line.get("step", 0)
    label = f"{state} step {step + 1}" if state == State.CANARY else state
    if line["event"] == "restart" and story.bands and story.bands[-1].state == label:
        return
    _leave(story, now_s)
    judged = frames_judged(story.replay.evidence)
    story.bands.append(Band(label, now_s, now_s, judged, judged, 0.0, line["sentence"]))


def _leave(story: Story, now_s: float) -> None:
    if story.bands:
        num, share = frames_judged(story.replay.evidence), story.shares[-1][1]
        story.bands[-1] = replace(story.bands[-1], ended_s=now_s, ended_num=num, share=share)


def _route(story: Story, effect: str, now_s: float, challenger: str) -> None:
    if found := _ROUTE.fullmatch(effect):
        share = int(found["percent"]) / 100 if found["percent"] else float(found["champion"] == challenger)
        story.shares.append((now_s, share))


def _curves(points: list[tuple[int, tuple[Figure, ...]]]) -> list[Curve]:
    """One curve for each process that saw a frame."""
    last = points[-1][1]
    return [
        Curve(
            metric=figure.metric,
            nums=tuple(num for num, _ in points),
            ln_es=tuple(figures[index].ln_e for _, figures in points),
            needed_ln_e=figure.needed_ln_e,
            limit=figure.limit,
            num=figure.num,
            value=figure.value,
        )
        for index, figure in enumerate(last)
        if figure.num
    ]


def _windows(samples: list[Sample]) -> list[LatencyWindow]:
    size = max(1, math.ceil(len(samples) / NUM_WINDOWS))
    return [
        LatencyWindow(
            num=min(begin + size, len(samples)),
            challenger_ms=_percentiles([one.latency_ms for one in samples[begin : begin + size]]),
            champion_ms=_percentiles([one.champion_ms for one in samples[begin : begin + size]]),
        )
        for begin in range(0, len(samples), size)
    ]


def _percentiles(latencies_ms: Sequence[float | None]) -> tuple[float, float] | None:
    known = [one for one in latencies_ms if one is not None]
    if not known:
        return None
    median, high = np.percentile(known, [50, 95], method="higher")
    return float(median), float(high)
