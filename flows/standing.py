"""Where an open promotion stands, from its record and the router's snapshot on disk: it asks nobody, so it is quick."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bentos.router.routing import Snapshot, parse_snapshot
from flows.rollout.report import EvidenceFigure
from flows.settings import Project


class Standing(BaseModel):
    """Where an open promotion stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: str = Field(description="with the step of a canary; for HOLD the state that it is held in")
    is_held: bool = Field(description="whether it is held")
    since: str | None = Field(description="ISO-8601, UTC, when it came there")
    weight: float | None = Field(
        description="share of cameras that the challenger answers; null: the router has no word"
    )
    num: int | None = Field(description="frames judged in this state; null: it is not judged")
    num_needed: int | None = Field(description="frames it needs at least")
    reason: str | None = Field(description="first reason of the last verdict")
    figures: tuple[EvidenceFigure, ...] = Field(description="the e-values, those for harm first")
    asks: str | None = Field(description="gate at which a person must agree before it goes on")


def read_standing(project: Project, promotion: int, version: str) -> Standing | None:
    """Where promotion `promotion` of `version` stands; None when it has no readable record yet."""
    lines = list(_lines(project.records / f"{promotion}.jsonl"))
    return standing_of(lines, _weight(_routed(project, promotion), version)) if lines else None


def standing_of(lines: Iterable[Mapping[str, Any]], weight: float | None) -> Standing:
    """The state that the lines of a record end in, with the last verdict given there."""
    state: Mapping[str, Any] = {}
    held = verdict = None
    asks: str | None = None
    for line in lines:
        kind = line.get("kind")
        if line.get("event") == "restart" and _is_at(held or state, line):
            continue  # another controller took over where the one before was
        if kind == "state":
            is_hold = str(line.get("state", "")).startswith("HOLD")
            held = line if is_hold else None
            if not is_hold:
                state, verdict = line, None
        elif kind == "verdict":
            verdict = line.get("verdict")
        elif kind == "asked":
            asks = str(line.get("gate"))
        elif kind == "approval":
            asks = None
    judged = verdict or {}
    return Standing(
        state=_named(state),
        is_held=held is not None,
        since=(held or state).get("at"),
        weight=weight,
        num=judged.get("num"),
        num_needed=judged.get("num_needed"),
        reason=str(held["sentence"]) if held else next(iter(judged.get("reasons") or ()), None),
        figures=tuple(map(_figure, judged.get("figures") or ())),
        asks=asks,
    )


def standing_lines(promotion: int, version: str, found: Standing) -> list[str]:
    """A line for where it stands and one for each e-value, for a person."""
    weight = "" if found.weight is None else f", {_share(found.weight)}"
    since = f", since {_clock(found.since)}" if found.since else ""
    held = "held in " if found.is_held else ""
    lines = [f"promotion   {promotion}: version {version} {held}{found.state}{weight}{since}"]
    if found.num is not None:
        judged = f"{found.num} of {found.num_needed} frames judged"
        more = f": {found.reason}" if found.reason and found.reason != judged else ""
        lines.append(f"evidence    {judged}{more}")
    elif found.reason:
        lines.append(f"            {found.reason}")
    for one in (figure for figure in found.figures if figure.num):
        lines.append(
            f"evidence    {one.metric:<18} {one.value or 0.0:.3g} of {one.num} frames, limit {one.limit:.3g}, "
            f"e = {one.e_value:.3g}, decides at {one.e_needed:.3g}"
        )
    if found.asks:
        lines.append(f"asks        may it go on to {found.asks}? tca promotion approve --by NAME (or --refuse)")
    if found.is_held:
        lines.append(
            f"            go on: tca promotion resume {promotion}; give it up: tca promotion abort {promotion}"
        )
    return lines


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue  # the last line, half written just now or left so by a crash
        if isinstance(found, dict):
            yield found


def _routed(project: Project, promotion: int) -> Snapshot | None:
    try:
        found = parse_snapshot((project.home / "router" / "routing.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found if found.promotion == promotion else None


def _weight(routed: Snapshot | None, version: str) -> float | None:
    if routed is None:
        return None
    if routed.mode == "champion":
        return float(routed.champion is not None and routed.champion.version == version)
    return routed.share if routed.mode == "canary" else 0.0


def _share(weight: float) -> str:
    return "no user sees it" if weight == 0 else f"answers {weight:.0%} of the cameras"


def _is_at(known: Mapping[str, Any], line: Mapping[str, Any]) -> bool:
    return all(known.get(key) == line.get(key) for key in ("state", "step"))


def _named(state: Mapping[str, Any]) -> str:
    name = str(state.get("state", "IDLE"))
    return f"{name} step {state.get('step', 0) + 1}" if name == "CANARY" else name


def _figure(one: Mapping[str, Any]) -> EvidenceFigure:
    return EvidenceFigure(
        metric=str(one["metric"]),
        num=int(one["num"]),
        value=one["value"],
        limit=float(one["limit"]),
        e_value=float(f"{math.exp(min(one['ln_e'], 300.0)):.6g}"),
        e_needed=float(f"{math.exp(min(one['needed_ln_e'], 300.0)):.6g}"),
    )


def _clock(at: str) -> str:
    return datetime.fromisoformat(at).astimezone(UTC).strftime("%H:%M:%S UTC")
