"""What a promotion leaves: the frozen report of how it ended, and the live event of where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["promoted", "rolled_back", "held", "aborted"]


class Percentiles(BaseModel):
    """Latency of one arm as the router saw it, to 2 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    p50: float | None = Field(description="median, ms; null without frames")
    p99: float | None = Field(description="99th percentile, ms; null without frames")


class EvidenceFigure(BaseModel):
    """One e-value as it stood at the end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description="what was tested")
    num: int = Field(description="frames it rests on")
    value: float | None = Field(description="share of events, or mean agreement")
    limit: float = Field(description="what it was held against")
    e_value: float = Field(description="evidence for harm (for the certificate: for a low error rate)")
    e_needed: float = Field(description="from here on it decides")


class StatePassed(BaseModel):
    """A state that the promotion went through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: str = Field(description="name of the state, with the step of a canary")
    entered_at: str = Field(description="ISO-8601, UTC")
    seconds: float = Field(description="time spent in it")
    reason: str = Field(description="why it was entered")


class PromotionReport(BaseModel):
    """How a promotion ended, and on what evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="the challenger reigns")
    sentence: str = Field(description="the outcome in one sentence")
    outcome: Outcome = Field(description="promoted, rolled_back, held (resumable) or aborted")
    promotion: int = Field(description="number of the promotion; its record is promotions/<number>.jsonl")
    challenger_version: str = Field(description="registered version that was judged")
    challenger_digest: str = Field(description="its pinned digest")
    champion_version: str | None = Field(description="version that reigned; null for a first champion")
    states: tuple[StatePassed, ...] = Field(description="the states it went through, in order")
    frames_seen: int = Field(description="frames that the router answered meanwhile")
    frames_judged: int = Field(description="frames of the challenger that were judged, after thinning")
    fallbacks: int = Field(description="frames answered by the other arm than meant")
    lost: int = Field(description="frames that no arm answered")
    latency_ms: Percentiles = Field(description="of the challenger")
    champion_latency_ms: Percentiles = Field(description="of the champion on the same frames")
    evidence: tuple[EvidenceFigure, ...] = Field(description="the e-values, those for harm first")
    awaits_approval: Literal["canary", "promoting"] | None = Field(
        default=None, description="held because nobody has agreed to this state yet"
    )


@dataclass(frozen=True)
class RolloutEvent:
    """Where a promotion is, for whoever watches it live."""

    promotion: int
    state: str
    share: float
    num: int
    """Frames judged in this state."""
    num_needed: int
    """The least number it needs; 0 where nothing is counted."""
    evidence: tuple[EvidenceFigure, ...]
    text: str
    awaits: str = ""
    """The state that somebody is asked to agree to."""


OnEvent = Callable[[RolloutEvent], None]


def ignore(event: RolloutEvent) -> None:
    """The `OnEvent` of nobody watching."""
