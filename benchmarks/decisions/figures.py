"""From the outcomes of a case to its figures, its row of the table, and whether it came out as it must."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.decisions.cases import Case
from benchmarks.decisions.rollouts import Outcome
from benchmarks.report import percentile

FOUND_SHARE = 0.99
HEADERS = (
    "case", "must be", "promoted", "held", "rolled back (95 %)", "frames 50/90/99 %", "within",
    "threshold x5", "threshold x1", "Mann-Whitney", "",
)  # fmt: skip


@dataclass(frozen=True)
class CaseFigures:
    """What came of all rollouts of a case; shares of 1.

    Attributes:
        rolled_back_range: Wilson's 95 % interval.
        frames: Judged frames to the verdict: 50, 90 and 99 % of those rolled back needed at most so many.
        found_within: Rolled back within the stated number of frames, of all rollouts.
        flagger: Rolled back by a threshold that five looks must fail; argo: one; None: not tried.
        num_verified: Records verified, all of them without a fault.
    """

    num: int
    promoted: float
    held: float
    rolled_back: float
    rolled_back_range: tuple[float, float]
    frames: tuple[float, float, float] | None
    found_within: float | None
    flagger: float | None
    argo: float | None
    mann_whitney: float | None
    num_verified: int
    passed: bool


def count(case: Case, outcomes: Sequence[Outcome]) -> CaseFigures:
    """Count the outcomes of a case. Raises RuntimeError when a record does not verify."""
    num, by = len(outcomes), Counter(one.outcome for one in outcomes)
    verified = [one.verified for one in outcomes if one.verified is not None]
    if not all(verified):
        raise RuntimeError(f"{case.name}: {verified.count(False)} of {len(verified)} records do not verify")
    frames = [one.frames for one in outcomes if one.outcome == "rolled_back"]
    within = None if case.within is None else sum(needed <= case.within for needed in frames) / num
    return CaseFigures(
        num=num,
        promoted=by["promoted"] / num,
        held=by["held"] / num,
        rolled_back=by["rolled_back"] / num,
        rolled_back_range=wilson(by["rolled_back"], num),
        frames=(percentile(frames, 0.5), percentile(frames, 0.9), percentile(frames, 0.99)) if frames else None,
        found_within=within,
        flagger=_share(one.flagger for one in outcomes) if case.compared else None,
        argo=_share(one.argo for one in outcomes) if case.compared else None,
        mann_whitney=_share(one.mann_whitney for one in outcomes) if case.compared else None,
        num_verified=len(verified),
        passed=_passed(case, by, num, within),
    )


def _passed(case: Case, by: Mapping[str, int], num: int, within: float | None) -> bool:
    match case.expected:
        case "kept":
            return by["rolled_back"] / num <= case.promote_params.alpha
        case "found":
            return within is not None and within >= FOUND_SHARE
        case "held":
            return by["held"] == num


def wilson(num_events: int, num: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share (Wilson, 1927)."""
    share, spread = num_events / num, z * z / num
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / num + spread / (4 * num))
    return max(0.0, middle - half), min(1.0, middle + half)


def row(case: Case, of: CaseFigures) -> list[str]:
    """A row of the table."""
    low, high = of.rolled_back_range
    frames = "" if of.frames is None else "/".join(f"{value:.0f}" for value in of.frames)
    return [
        case.name,
        {"kept": f"back <= {case.promote_params.alpha:.0%}", "found": "found", "held": "held"}[case.expected],
        _percent(of.promoted),
        _percent(of.held),
        f"{_percent(of.rolled_back)} ({_percent(low)}-{_percent(high)})",
        frames,
        "" if of.found_within is None else f"{_percent(of.found_within)} in {case.within}",
        *("" if share is None else _percent(share) for share in (of.flagger, of.argo, of.mann_whitney)),
        "ok" if of.passed else "FAILED",
    ]


def sentence(cases: Sequence[Case], figures: Mapping[str, CaseFigures]) -> str:
    """The answer."""
    of = {kind: [figures[case.name] for case in cases if case.expected == kind] for kind in ("kept", "found", "held")}
    parts = []
    if of["kept"]:
        worst = max(one.rolled_back for one in of["kept"])
        others = max(one.mann_whitney or 0.0 for one in of["kept"])
        parts.append(
            f"an equal challenger is rolled back in at most {worst:.1%} (a repeated Mann-Whitney: {others:.0%})"
        )
    if of["found"]:
        parts.append(f"a worse one is found in at least {min(one.found_within or 0.0 for one in of['found']):.1%}")
    if of["held"]:
        parts.append(f"{sum(one.promoted > 0 for one in of['held'])} cases of missing data promote")
    failed = [case.name for case in cases if not figures[case.name].passed]
    return _begun("; ".join(parts)) + "." + (f" Not as it must be: {', '.join(failed)}." if failed else "")


def _share(values: Iterable[bool | None]) -> float:
    found = [bool(value) for value in values]
    return sum(found) / len(found)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %"


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]
