"""What a person sees of a running command: one line a step, live while it runs, final when it ends.

On a terminal the line moves; elsewhere a step says at most every ten seconds where it is.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_LOG = logging.getLogger("tca")
_QUIET_PERIOD_S = 10.0


@dataclass
class Step:
    """A running step. `total` 0 means that nobody knows how long it will be."""

    label: str
    live: RichProgress | None
    started: float = field(default_factory=time.monotonic)
    summary: str = ""
    _spoken: float = field(default_factory=time.monotonic)
    _counted_from: tuple[float, int] | None = None
    _last: tuple[int, int] = (0, 0)

    def progress(self, done: int, total: int, note: str) -> None:
        """A `flows.progress.Progress`: move the bar and show `note`."""
        if self.live is not None:
            self.live.update(self.live.task_ids[0], completed=done, total=total or None, note=note)
            return
        before, total_before = self._last
        if self._counted_from is None or done < before or total != total_before:  # other work, at another pace
            self._counted_from = (time.monotonic(), done)
        self._last = (done, total)
        if time.monotonic() - self._spoken > _QUIET_PERIOD_S:
            self._spoken = time.monotonic()
            _say(f"{self.label} {done}/{total or '?'}  {note}{self._left(done, total)}")

    def milestone(self, text: str) -> None:
        """A line of its own while the step goes on."""
        _LOG.info("%s: %s", self.label.strip(), text)
        line = f"{'':<{len(self.label)}} {text}"
        if self.live is not None:
            self.live.console.print(line, markup=False, highlight=False)
        else:
            _say(line)

    def done(self, summary: str) -> None:
        """What the final line says."""
        self.summary = summary

    def _left(self, done: int, total: int) -> str:
        # Counted from the first call: what came before was loading.
        since, first = self._counted_from or (self.started, 0)
        if not first < done < total:
            return ""
        return f", {clock((time.monotonic() - since) / (done - first) * (total - done))} left"


class Console:
    """Prints to standard error, so that standard output holds nothing but what was asked for."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._number, self._count = 0, 0

    def expect(self, count: int) -> None:
        """Number the steps to come as [1/count]."""
        self._number, self._count = 0, count

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show a step while the body runs, and its `summary` with the time taken when it ends well."""
        self._number += 1
        label = f"[{self._number}/{self._count}] {name:<10}" if self._count else f"{name:<16}"
        with self._live(label) as live:
            step = Step(label, live)
            _LOG.info("%s starts", name)
            yield step
        _LOG.info("%s ends: %s", name, step.summary)
        if not self.quiet:
            _say(f"{label} {step.summary:<70} {clock(time.monotonic() - step.started):>6}")

    @contextmanager
    def group(self, name: str) -> Iterator[Step]:
        """A step that consists of others, which show themselves."""
        step = Step(name, None)
        yield step
        _LOG.info("%s ends: %s", name, step.summary)

    def say(self, text: str) -> None:
        """A line of its own."""
        _LOG.info("%s", text)
        if not self.quiet:
            _say(text)

    @contextmanager
    def _live(self, label: str) -> Iterator[RichProgress | None]:
        if self.quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn(label.replace("[", r"\[")),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=RichConsole(stderr=True), transient=True) as live:
            live.add_task("", total=None, note="")
            yield live


def log_to(path: Path) -> None:
    """Write what happens to `path`, and not to the terminal, where the steps already say it.

    To be called after Prefect is imported, which sets up logging of its own.
    """
    if not os.environ.get("TCA_VERBOSE"):
        logging.getLogger().setLevel(logging.ERROR)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _LOG.handlers[:] = [handler]
    _LOG.propagate = False
    _LOG.setLevel(logging.INFO)


def clock(seconds: float) -> str:
    """`9 s`, `1:12` or `2:03:10`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
