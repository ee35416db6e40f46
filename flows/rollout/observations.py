"""From what the router wrote to frames that may be judged.

What is missing, NaN or misnamed never becomes a good frame.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeGuard

from flows.errors import ServiceError
from flows.rollout.agreement import agreement

Mode = Literal["shadow", "canary", "champion"]
_FAULT = "fault"
_REFUSED = "refused"
_GOOD = "good"
_NUMBERS = (int, float)
_RATE_LIMITED = 429  # the client sends more than it may; an overloaded service answers 503


@dataclass(frozen=True)
class Sample:
    """What challenger and champion made of one frame. None: not asked, failed, or said nothing about it."""

    seq: int
    mode: Mode
    failed: bool
    latency_ms: float | None
    champion_failed: bool | None
    champion_ms: float | None
    agreement: float | None
    window: int | None = None
    """Number of the window of time that it belongs to; None: each frame has its own."""

    def row(self) -> list[Any]:
        """The sample as JSON; `Sample(*row)` is the way back."""
        return [
            self.seq,
            self.mode,
            self.failed,
            self.latency_ms,
            self.champion_failed,
            self.champion_ms,
            self.agreement,
            self.window,
        ]


@dataclass(frozen=True)
class Reading:
    """One look at the router: the samples, and counts over all frames seen, judged or not."""

    cursor: int
    samples: tuple[Sample, ...] = ()
    outcomes: tuple[tuple[bool | None, bool | None], ...] = ()
    """Of every frame, thinned out or not: did the challenger fail, did the champion fail; None: it was not asked."""
    num_frames: int = 0
    num_asked: int = 0
    """Frames that should tell of the challenger: it was asked, or the frame says too little to know."""
    num_fallbacks: int = 0
    num_lost: int = 0
    num_unusable: int = 0
    num_dropped: int = 0

    def plus(self, later: Reading) -> Reading:
        """Both looks as one; `later` went on from here."""
        return Reading(
            cursor=later.cursor,
            samples=self.samples + later.samples,
            outcomes=self.outcomes + later.outcomes,
            num_frames=self.num_frames + later.num_frames,
            num_asked=self.num_asked + later.num_asked,
            num_fallbacks=self.num_fallbacks + later.num_fallbacks,
            num_lost=self.num_lost + later.num_lost,
            num_unusable=self.num_unusable + later.num_unusable,
            num_dropped=self.num_dropped + later.num_dropped,
        )


PERIODS_PER_WINDOW = 4
LATE_S = 2.0
"""By then nearly every frame has been told of: a copy may take one second, after the answer that it follows."""


class _Frame(NamedTuple):
    """One that may be judged."""

    time_s: float
    camera: str
    entry: Mapping[str, Any]
    ours: _Arm
    theirs: _Arm | None
    outcome: tuple[bool | None, bool | None]


@dataclass
class Thinning:
    """Lets one frame of a camera through per period: neighbours are so alike that they are not two observations.

    The router tells of a frame once its last answer is there, of a slow one after quicker ones that came later. Chosen
    in that order, slow frames would be chosen more often than others. So frames wait here for `LATE_S` seconds of the
    stream, and are chosen in the order in which they came in. Those that wait when a controller dies are not judged.

    Slow frames and errors come in bursts over all cameras, so frames are gathered in windows of four periods.
    """

    period_s: float
    _last_s: dict[str, float] = field(default_factory=dict)
    _waiting: list[_Frame] = field(default_factory=list)

    def choose(self, frames: Sequence[_Frame]) -> list[_Frame]:
        """Those to be judged by now, `frames` being the new ones."""
        if not self.period_s or not frames:
            return list(frames)
        due_s = max(frame.time_s for frame in frames) - LATE_S
        ordered = sorted([*self._waiting, *frames], key=lambda frame: frame.time_s)
        num_due = bisect_right(ordered, due_s, key=lambda frame: frame.time_s)
        self._waiting = ordered[num_due:]
        return [frame for frame in ordered[:num_due] if self.lets_through(frame.camera, frame.time_s)]

    def lets_through(self, camera: str, time_s: float) -> bool:
        """Whether this frame is judged."""
        last_s = self._last_s.get(camera)
        if last_s is not None and 0 <= time_s - last_s < self.period_s:
            return False
        self._last_s[camera] = time_s
        return True

    def window_of(self, time_s: float) -> int | None:
        """The window that a frame belongs to; None where every frame is judged."""
        return math.floor(time_s / (PERIODS_PER_WINDOW * self.period_s)) if self.period_s else None


class _Arm(NamedTuple):
    """One arm's answer: good, refused (the client's fault) or fault."""

    outcome: str
    latency_ms: float
    detections: Sequence[Sequence[float]]


class _Unusable(Exception):
    """The observation says nothing that could be judged."""


def read_page(page: Mapping[str, Any], promotion: int, version: str, thinning: Thinning) -> Reading:
    """Turn a page of the router's observations into samples about `version`.

    Raises:
        ServiceError: This is no page of observations at all.
    """
    cursor, dropped, entries = _head(page)
    ours = [entry for entry in entries if isinstance(entry, dict) and entry.get("promotion") == promotion]
    frames: list[_Frame] = []
    samples: list[Sample] = []
    outcomes: list[tuple[bool | None, bool | None]] = []
    num_asked = num_unreadable = num_spoilt = 0
    for entry in ours:
        try:
            outcome, frame = _read_entry(entry, version)
        except _Unusable:
            num_unreadable += 1
            continue
        outcomes.append(outcome)
        if frame is not None:
            num_asked += 1
            frames.append(frame)
    for frame in thinning.choose(frames):
        try:
            sample = _sample(frame, thinning.window_of(frame.time_s))
        except _Unusable:
            num_spoilt += 1
            continue
        if sample is not None:
            samples.append(sample)
    return Reading(
        cursor=cursor,
        samples=tuple(samples),
        outcomes=tuple(outcomes),
        num_frames=len(ours),
        num_asked=num_asked + num_unreadable,
        num_fallbacks=sum(entry.get("fallback") is True for entry in ours),
        num_lost=sum(map(_is_lost, ours)),
        num_unusable=num_unreadable + num_spoilt,
        num_dropped=dropped,
    )


def _head(page: Mapping[str, Any]) -> tuple[int, int, list[Any]]:
    try:
        cursor, dropped, entries = page["next"], page["dropped"], page["observations"]
    except (KeyError, TypeError):
        raise ServiceError("the router's observations lack next, dropped or observations", _OTHER_VERSION) from None
    if not (_is_whole(cursor) and _is_whole(dropped) and isinstance(entries, list)):
        raise ServiceError("the router's observations are not what they should be", _OTHER_VERSION)
    return cursor, dropped, entries


_OTHER_VERSION = "Router and controller are of different versions: tca down, then tca serve"


def _read_entry(entry: Mapping[str, Any], version: str) -> tuple[tuple[bool | None, bool | None], _Frame | None]:
    ours, theirs = _arms(entry, version)
    outcome = _failures(ours, theirs)
    if ours is None or not _is_on_trial(entry, version):
        return outcome, None
    return outcome, _Frame(_number(entry, "time"), _text(entry, "camera"), entry, ours, theirs, outcome)


def _is_on_trial(entry: Mapping[str, Any], version: str) -> bool:
    """Whether the challenger was asked for the sake of the trial, and not in place of a champion that failed.

    A standby is asked only then, and so is the candidate of a canary about cameras that are not its own: such frames
    would all speak for it.
    """
    if entry.get("mode") == "champion":
        return not _is_candidate(entry, version)
    return entry.get("mode") != "canary" or (entry.get("served_by") == "candidate") != (entry.get("fallback") is True)


def _is_candidate(entry: Mapping[str, Any], version: str) -> bool:
    """Whether the challenger is the candidate; in mode champion it is then a standby, and not on trial."""
    candidate = entry.get("candidate")
    return isinstance(candidate, dict) and candidate.get("version") == version


def _arms(entry: Mapping[str, Any], version: str) -> tuple[_Arm | None, _Arm | None]:
    """The challenger's and the other arm, told apart by version: after the switch the slots are swapped."""
    candidate = entry.get("candidate")
    found: dict[bool, Mapping[str, Any]] = {}
    for arm in (entry.get("champion"), candidate):
        if arm is None:
            continue
        if not isinstance(arm, dict) or not isinstance(arm.get("version"), str):
            raise _Unusable
        is_ours = arm["version"] == version
        if is_ours in found:
            raise _Unusable
        found[is_ours] = arm
    if not found or (candidate is not None and True not in found):
        raise _Unusable
    return (_read_arm(found[True]) if True in found else None), (_read_arm(found[False]) if False in found else None)


def _read_arm(arm: Mapping[str, Any]) -> _Arm | None:
    """What an arm made of the frame; None for a rate limit, by which it was as good as not asked."""
    status = arm.get("status")
    if not _is_whole(status):
        raise _Unusable
    if status == _RATE_LIMITED:
        return None
    if status == 0 or status >= 500 or (arm.get("error") is not None and status < 300):
        return _Arm(_FAULT, 0.0, ())
    if not 200 <= status < 300:
        return _Arm(_REFUSED, 0.0, ())
    latency_ms, detections = round(_number(arm, "latency_ms"), 2), arm.get("detections")
    if latency_ms <= 0 or not isinstance(detections, list):
        raise _Unusable
    return _Arm(_GOOD, latency_ms, detections)


def _failures(ours: _Arm | None, theirs: _Arm | None) -> tuple[bool | None, bool | None]:
    """Whether each arm failed. A frame that only the challenger refuses is its failure, not the client's."""
    champion = None if theirs is None else theirs.outcome == _FAULT
    if ours is None:
        return None, champion
    if ours.outcome == _REFUSED:
        return (True if theirs is not None and theirs.outcome == _GOOD else None), champion
    return ours.outcome == _FAULT, champion


def _sample(frame: _Frame, window: int | None) -> Sample | None:
    entry, ours, theirs = frame.entry, frame.ours, frame.theirs
    failed, champion_failed = frame.outcome
    if failed is None:
        return None  # refused by all who were asked: the client's fault
    if theirs is not None and theirs.outcome == _REFUSED:
        theirs, champion_failed = None, None
    both_good = ours.outcome == _GOOD and theirs is not None and theirs.outcome == _GOOD
    mode, seq = entry.get("mode"), entry.get("seq")
    if mode not in ("shadow", "canary", "champion") or not _is_whole(seq):
        raise _Unusable
    try:
        score = round(agreement(theirs.detections, ours.detections), 6) if both_good and theirs is not None else None
    except ValueError:
        raise _Unusable from None
    return Sample(
        seq=seq,
        mode=mode,
        failed=failed,
        latency_ms=ours.latency_ms if ours.outcome == _GOOD else None,
        champion_failed=champion_failed,
        champion_ms=theirs.latency_ms if theirs is not None and theirs.outcome == _GOOD else None,
        agreement=score,
        window=window,
    )


def _is_lost(entry: Mapping[str, Any]) -> bool:
    served = entry.get(str(entry.get("served_by")))
    if not isinstance(served, dict) or not _is_whole(served.get("status")):
        return False
    return bool(served["status"] == 0 or served["status"] >= 500)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(entry: Mapping[str, Any], key: str) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise _Unusable
    try:
        number = float(value)
    except OverflowError:
        raise _Unusable from None
    if not math.isfinite(number):
        raise _Unusable
    return number


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise _Unusable
    return value
