"""Streams of frames on which every rule is tried: what champion and challenger would make of each frame.

A stream is drawn in pieces from a seed, so that all rules see the same frames however many each of them looks at.
Latencies are blocks of the recorded shapes, which keeps what neighbouring frames have in common.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.decisions.shapes import Shape, read_shapes
from flows.adapters.fake_traffic import FakeTraffic, arm

PIECE = 2048
"""Frames drawn at once."""
NUM_CAMERAS = 8
FPS = 2.0
BUDGET_MS = 100.0
NUM_BOXES = 5
"""Boxes of the champion's answer on every frame."""
EMPTY = -1
_BLOCK = 32
"""Frames taken from a recorded shape in a row: 2 s."""
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Frames:
    """Frames in the order of time, (N,) each; cameras take turns.

    `matched`: of the champion's `NUM_BOXES` boxes, those that the challenger has too, among as many of its own; or
    `EMPTY`: it has none at all.
    """

    champion_ms: Floats
    challenger_ms: Floats
    champion_failed: Bools
    challenger_failed: Bools
    matched: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Kind:
    """How the frames of a case are drawn.

    Attributes:
        latency: recorded (both arms of a recorded pair, at random which is whose), alone (each arm from blocks of its
            own) or lognormal.
        shape: Which recorded shape.
        p95_ms: The champion's 95th percentile.
        slower: The challenger's latencies are that many times longer,
        drift_per_s: and longer by this share with every second.
        champion_errors: Share of failed answers.
        challenger_errors: The same.
        agreement: Mean and standard deviation of the pairs' F1; None: the challenger finds nothing.
        camera_effects: Of each camera, the same in both arms: standard deviation of ln latency; errors and boxes too.
        persistence: Autocorrelation of ln latency from frame to frame of a camera, in each arm for itself.
        outage_s: When both versions fail,
        slowness_s: when both are 200 ms late.
    """

    latency: str = "recorded"
    shape: str = "steady"
    p95_ms: float = 0.8 * BUDGET_MS
    slower: float = 1.0
    drift_per_s: float = 0.0
    champion_errors: float = 0.001
    challenger_errors: float = 0.001
    agreement: tuple[float, float] | None = (0.95, 0.06)
    camera_effects: float = 0.0
    persistence: float = 0.0
    outage_s: tuple[float, float] | None = None
    slowness_s: tuple[float, float] | None = None


@dataclass
class Stream:
    """The frames of one rollout."""

    kind: Kind
    seed: int
    num_cameras: int = NUM_CAMERAS
    _pieces: list[Frames] = field(default_factory=list)

    def piece(self, number: int) -> Frames:
        """The frames from number * PIECE on."""
        while len(self._pieces) <= number:
            self._pieces.append(_draw(self.kind, self.seed, len(self._pieces), self.num_cameras))
        return self._pieces[number]


class StreamTraffic(FakeTraffic):
    """The simulated street, on which both versions answer as a stream says. Version "1" is the champion."""

    def play(self, stream: Stream, late: Callable[[StreamTraffic], bool] | None = None) -> None:
        """Take the answers from `stream`; while `late` says so, the challenger fails."""
        self._stream, self._late = stream, late
        self._lists: list[dict[str, tuple[list[float], list[bool], list[int]]]] = []

    def draw(self, version: str, number: int, time_s: float) -> dict[str, Any]:
        at, within = divmod(number, PIECE)
        while len(self._lists) <= at:
            self._lists.append(_as_lists(self._stream.piece(len(self._lists))))
        latencies_ms, failed, matched = self._lists[at][version]
        if failed[within] or (self._late is not None and version != "1" and self._late(self)):
            return arm(version, 500, latencies_ms[within], "status 500", [])
        return arm(version, 200, latencies_ms[within], None, _BOXES[matched[within]])


def _draw(kind: Kind, seed: int, piece: int, num_cameras: int) -> Frames:
    rng = np.random.default_rng((seed, piece))
    numbers = np.arange(PIECE) + piece * PIECE
    seconds, cameras = numbers / (FPS * num_cameras), numbers % num_cameras
    champion_ms, challenger_ms = _latencies(kind, rng)
    effects = np.random.default_rng((seed, 1_000_000)).standard_normal((3, num_cameras)) * kind.camera_effects
    common = np.exp(effects[0])[cameras]
    growth = kind.slower * (1 + kind.drift_per_s * seconds)
    own = [_persistent(rng, kind.persistence, num_cameras) for _ in range(2)]
    late_ms = 200.0 * _is_within(seconds, kind.slowness_s)
    outage = _is_within(seconds, kind.outage_s)
    more_errors = np.exp(2 * effects[1])[cameras]
    return Frames(
        champion_ms=np.round(champion_ms * common * own[0] + late_ms, 3),
        challenger_ms=np.round(challenger_ms * common * own[1] * growth + late_ms, 3),
        champion_failed=(rng.random(PIECE) < kind.champion_errors * more_errors) | outage,
        challenger_failed=(rng.random(PIECE) < kind.challenger_errors * more_errors) | outage,
        matched=_matched(rng, kind.agreement, effects[2][cameras]),
    )


def _latencies(kind: Kind, rng: np.random.Generator) -> tuple[Floats, Floats]:
    if kind.latency == "lognormal":  # sigma .5, as in the simulations of Lindon et al.
        median_ms = kind.p95_ms / np.exp(0.5 * 1.6449)
        both = median_ms * np.exp(0.5 * rng.standard_normal((2, PIECE)))
        return both[0], both[1]
    shape = _shape(kind.shape)
    scale = kind.p95_ms / _shape("steady").p95_ms()  # a busy machine is busier than the budget was made for
    pairs = np.stack([shape.served_ms, shape.copied_ms])
    num = len(shape.served_ms)
    first, second = (_blocks(rng, num) for _ in range(2))
    if kind.latency == "recorded":
        second = first
    swapped = np.repeat(rng.random(PIECE // _BLOCK) < 0.5, _BLOCK).astype(np.int64)
    return scale * pairs[swapped, first], scale * pairs[1 - swapped, second]


def _blocks(rng: np.random.Generator, num: int) -> npt.NDArray[np.int64]:
    begins = rng.integers(0, num, PIECE // _BLOCK)
    places: npt.NDArray[np.int64] = ((begins[:, None] + np.arange(_BLOCK)) % num).ravel()
    return places


@lru_cache
def _shape(name: str) -> Shape:
    return read_shapes()[name]


def _persistent(rng: np.random.Generator, persistence: float, num_cameras: int) -> Floats:
    """A factor for each frame, log-normal with sigma 0.3; those of a camera go on from one to the next (AR(1))."""
    if not persistence:
        return np.ones(PIECE)
    shocks = rng.standard_normal((-(-PIECE // num_cameras), num_cameras))
    states = np.empty_like(shocks)
    states[0] = shocks[0]
    for row in range(1, len(shocks)):
        states[row] = persistence * states[row - 1] + np.sqrt(1 - persistence**2) * shocks[row]
    return np.exp(0.3 * states.ravel()[:PIECE])


def _matched(rng: np.random.Generator, agreement: tuple[float, float] | None, effects: Floats) -> npt.NDArray[np.int64]:
    if agreement is None:
        return np.full(PIECE, EMPTY)
    mean, deviation = agreement
    weight = mean * (1 - mean) / deviation**2 - 1
    scores = np.clip(rng.beta(weight * mean, weight * (1 - mean), PIECE) - 0.1 * np.abs(effects), 0, 1)
    # Up or down at random, so that the mean stays.
    return np.asarray(np.floor(NUM_BOXES * scores + rng.random(PIECE)), dtype=np.int64).clip(0, NUM_BOXES)


def _is_within(seconds: Floats, span_s: tuple[float, float] | None) -> Bools:
    if span_s is None:
        return np.zeros(len(seconds), dtype=np.bool_)
    return np.asarray((seconds >= span_s[0]) & (seconds < span_s[1]), dtype=np.bool_)


def _as_lists(frames: Frames) -> dict[str, tuple[list[float], list[bool], list[int]]]:
    return {
        "1": (frames.champion_ms.tolist(), frames.champion_failed.tolist(), [NUM_BOXES] * PIECE),
        "2": (frames.challenger_ms.tolist(), frames.challenger_failed.tolist(), frames.matched.tolist()),
    }


def _boxes(matched: int) -> list[list[float]]:
    """An answer of `NUM_BOXES` boxes, each of its own class, so many of them where the champion has them."""
    shifts = [0.0 if at < matched else 1000.0 for at in range(NUM_BOXES)]
    return [
        [100.0 * at, 50.0 + shift, 100.0 * at + 60.0, 90.0 + shift, 0.9 - 0.05 * at, at]
        for at, shift in enumerate(shifts)
    ]


_BOXES = {EMPTY: [], **{matched: _boxes(matched) for matched in range(NUM_BOXES + 1)}}
