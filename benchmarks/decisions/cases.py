"""The cases of the online simulation: what happens, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from benchmarks.decisions.streams import BUDGET_MS, Kind, StreamTraffic
from benchmarks.report import ROOT
from flows.params import PromoteParams
from flows.params_file import read_params

Expected = Literal["kept", "found", "held"]
"""kept: hardly ever rolled back; found: rolled back within the stated samples; held: neither promoted nor blamed."""


@dataclass(frozen=True)
class Case:
    """One kind of rollout.

    Attributes:
        name: In the table, and on the command line.
        expected: What must come of it.
        kind: How its frames are drawn.
        within: Judged frames within which 99 % must be found.
        params: Of the promotion, where they differ from `BASE`.
        garble: What the telemetry makes of an observation; None loses it.
        late: While this says so of the street, the challenger fails.
        cameras: How many send.
        compared: Whether the rules of others are tried: they have no telemetry to lose here, and no bake.
    """

    name: str
    expected: Expected
    kind: Kind = field(default_factory=Kind)
    within: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    garble: Callable[[dict[str, Any]], Any] | None = None
    late: Callable[[StreamTraffic], bool] | None = None
    cameras: int = 8
    compared: bool = True

    @cached_property
    def promote_params(self) -> PromoteParams:
        """The params of its promotions."""
        base = read_params(ROOT / "params.yaml", []).promote.model_dump()
        return PromoteParams.model_validate(base | BASE | self.params)


BASE: dict[str, Any] = {
    "latency_budget_ms": BUDGET_MS, "max_slow_share": 0.05, "max_error_share": 0.01, "min_agreement": 0.5,
    "alpha": 0.05, "canary_steps": [10, 50], "approval": "none", "state_deadline_s": 600.0,
    "shadow_frames": 320, "canary_frames": 20, "bake_frames": 60,
}  # fmt: skip


def _lose(entry: dict[str, Any]) -> None:
    return None


def _with_candidate(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    def garble(entry: dict[str, Any]) -> dict[str, Any]:
        return {**entry, "candidate": entry["candidate"] and {**entry["candidate"], **changes}}

    return garble


def _misname(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "candidate": entry["candidate"] and {"model": entry["candidate"]["version"], "code": 200}}


def _lose_a_fifth(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "candidate": {}} if entry["seq"] % 5 == 0 and entry["candidate"] else entry


def _bakes(street: StreamTraffic) -> bool:
    """Half of the frames fail once the challenger reigns."""
    champion = street.snapshot.champion
    return champion is not None and champion.version == "2" and street.num_frames % 2 == 0


_AT_LIMIT = Kind(latency="alone", p95_ms=BUDGET_MS, champion_errors=0.01, challenger_errors=0.01, agreement=(0.5, 0.25))
_LATENCY = Kind(latency="lognormal", p95_ms=BUDGET_MS, slower=1.3)

_LONG_SHADOW = {"shadow_frames": 1000}
_HASTY = {"state_deadline_s": 30.0}

CASES = (
    Case("identical", "kept"),
    Case("identical, cameras differ, frames persist", "kept",
         Kind(p95_ms=0.5 * BUDGET_MS, camera_effects=0.3, persistence=0.9)),
    Case("identical, at every limit", "kept", _AT_LIMIT, params={"state_deadline_s": 45.0}),
    Case("identical, busy machine", "kept", Kind(shape="busy")),
    Case("identical, both 200 ms late for 8 s", "kept", Kind(slowness_s=(4.0, 12.0))),
    Case("outage of both for 3 s", "kept", Kind(outage_s=(4.0, 7.0))),
    Case("errors 0.1 % to 1 %", "found", Kind(challenger_errors=0.01), within=4000,
         params={"max_error_share": 0.001, "shadow_frames": 1000, "state_deadline_s": 900}),
    Case("p95 100 ms to 130 ms", "found", _LATENCY, within=1000, params=_LONG_SHADOW),
    Case("30 % slower, recorded shape", "found", Kind(latency="alone", p95_ms=BUDGET_MS, slower=1.3), within=3000,
         params={"shadow_frames": 2000}),
    Case("agreement .90, floor .95", "found", Kind(agreement=(0.90, 0.13)), within=300, params={"min_agreement": 0.95}),
    Case("empty boxes", "found", Kind(agreement=None), within=20),
    Case("slower by 1 % every second", "found", Kind(drift_per_s=0.01), within=2500, params={"bake_frames": 1500}),
    Case("half fails in the bake", "found", late=_bakes, within=40, compared=False),
    Case("no traffic", "held", cameras=0, params=_HASTY, compared=False),
    Case("telemetry lost", "held", garble=_lose, params=_HASTY, compared=False),
    Case("a fifth of the telemetry malformed", "held", garble=_lose_a_fifth, params=_HASTY, compared=False),
    Case("latency NaN", "held", garble=_with_candidate(latency_ms=float("nan")), params=_HASTY, compared=False),
    Case("fields misnamed", "held", garble=_misname, params=_HASTY, compared=False),
)  # fmt: skip
