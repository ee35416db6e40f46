"""What became of replayed frames: the running tally and the report made of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Second(BaseModel):
    """One second of the replay, by the scheduled moment of its frames."""

    model_config = ConfigDict(frozen=True)

    second: int
    sent: int
    good: int
    p99_ms: float | None


class Percentiles(BaseModel):
    """Latency from the scheduled moment to the whole answer, of the frames with a 2xx, ms."""

    model_config = ConfigDict(frozen=True)

    p50: float
    p95: float
    p99: float


class ReplayReport(BaseModel):
    """What became of the frames."""

    model_config = ConfigDict(frozen=True)

    source: str
    url: str
    cameras: list[str]
    fps: float = Field(description="frames a second of each camera")
    seconds: float = Field(description="from the first scheduled frame to the end")
    sent: int
    exactly_once: int = Field(description="request ids with exactly one 2xx")
    answered: dict[str, int] = Field(description="answers by HTTP status")
    failed: int = Field(description="answered, but not with a 2xx")
    lost: int = Field(description="sent, but never answered")
    unsent: int = Field(description="scheduled, but the cameras were too far behind")
    rate_per_s: float = Field(description="frames with a 2xx a second")
    latency_ms: Percentiles | None = Field(description="null: no frame had a 2xx")
    served_by: dict[str, int] = Field(description="2xx by X-Served-By and version")
    errors: dict[str, int] = Field(description="why frames were lost")
    notes: list[str] = Field(description="files that were left out")
    timeline: list[Second]

    def text(self) -> str:
        """The report for a person."""
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(self.answered.items())) or "none"
        served = ", ".join(f"{count} by {who}" for who, count in sorted(self.served_by.items()))
        lines = [
            f"{self.exactly_once} of {self.sent} frames answered, {self.lost} lost, {self.failed} refused or failed"
            + (f", {self.unsent} not sent in time" if self.unsent else ""),
            f"answers    {statuses}" + (f"   ({served})" if served else ""),
            f"rate       {self.rate_per_s:.1f} frames/s from {len(self.cameras)} cameras over {self.seconds:.1f} s",
        ]
        if self.latency_ms is not None:
            latency = self.latency_ms
            lines.append(f"latency    p50 {latency.p50:.1f}   p95 {latency.p95:.1f}   p99 {latency.p99:.1f} ms")
        lines += [f"lost       {count} x {reason}" for reason, count in sorted(self.errors.items())]
        return "\n".join([*lines, *(f"note       {note}" for note in self.notes)])


class Tally:
    """Counts while the frames travel. Seconds are counted from the start of the replay."""

    def __init__(self) -> None:
        self.num_sent = self.num_unsent = 0
        self.seconds = 0.0
        self._errors: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()
        self._served_by: Counter[str] = Counter()
        self._good: Counter[str] = Counter()
        self._latencies_ms: list[float] = []
        self._sent_by_second: Counter[int] = Counter()
        self._latencies_by_second: defaultdict[int, list[float]] = defaultdict(list)

    def count_sent(self, due_s: float) -> None:
        """A frame scheduled at `due_s` goes out."""
        self.num_sent += 1
        self._sent_by_second[int(due_s)] += 1

    def count_lost(self, reason: str) -> None:
        """A frame had no answer."""
        self._errors[reason] += 1

    def count_refused(self, status: int) -> None:
        """A frame had an answer, but not a 2xx."""
        self._statuses[status] += 1

    def count_good(self, status: int, request_id: str, due_s: float, latency_ms: float, served_by: str) -> None:
        """A frame had a 2xx; `request_id` is the one that the answer carries."""
        self._statuses[status] += 1
        self._good[request_id] += 1
        self._served_by[served_by] += 1
        self._latencies_ms.append(latency_ms)
        self._latencies_by_second[int(due_s)].append(latency_ms)

    def note(self) -> str:
        """A short live figure."""
        recent = sorted(self._latencies_ms[-200:])
        p99 = f"p99 {quantile(recent, 0.99):.0f} ms" if recent else "no answer yet"
        num_not_good = self.num_sent - len(self._latencies_ms)
        return f"{p99}, {num_not_good} without a good answer" if num_not_good else p99

    def report(
        self, *, source: str, url: str, fps: float, cameras: list[str], notes: list[str], id_prefix: str
    ) -> ReplayReport:
        """The tally as a report; only ids that begin with `id_prefix` are ours."""
        latencies_ms = sorted(self._latencies_ms)
        p50, p95, p99 = (quantile(latencies_ms, share) for share in (0.50, 0.95, 0.99))
        num_answered = sum(self._statuses.values())
        return ReplayReport(
            source=source,
            url=url,
            cameras=cameras,
            fps=fps,
            seconds=round(self.seconds, 3),
            sent=self.num_sent,
            exactly_once=sum(count == 1 for name, count in self._good.items() if name.startswith(id_prefix)),
            answered={str(status): count for status, count in self._statuses.items()},
            failed=num_answered - len(latencies_ms),
            lost=self.num_sent - num_answered,
            unsent=self.num_unsent,
            rate_per_s=round(len(latencies_ms) / self.seconds, 2) if self.seconds else 0.0,
            latency_ms=Percentiles(p50=p50, p95=p95, p99=p99) if latencies_ms else None,
            served_by=dict(self._served_by),
            errors=dict(self._errors),
            notes=notes,
            timeline=[self._second(second) for second in sorted(self._sent_by_second)],
        )

    def _second(self, second: int) -> Second:
        latencies_ms = sorted(self._latencies_by_second[second])
        p99_ms = quantile(latencies_ms, 0.99) if latencies_ms else None
        return Second(second=second, sent=self._sent_by_second[second], good=len(latencies_ms), p99_ms=p99_ms)


def quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least `share` of `ordered` do not exceed; NaN of nothing."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3) if ordered else math.nan


def write_report(path: Path, report: ReplayReport) -> None:
    """Replace `path` in one step, so that a reader never sees half a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
