"""What a flow shows in Prefect: its progress, a table of its figures, its verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)


@dataclass
class PublishedProgress:
    """Progress as a Prefect artifact, not renewed more often than a person would look."""

    every_s: float = 5.0
    _artifact: UUID | None = None
    _at: float = float("-inf")

    def update(self, done: int, total: int, note: str) -> None:
        """Publish the share done, in percent, unless that was done a moment ago."""
        now = time.monotonic()
        if not total or (now - self._at < self.every_s and done < total):
            return
        self._at = now
        percent = min(100.0, 100.0 * done / total)
        if self._artifact is None:
            self._artifact = cast(UUID, create_progress_artifact(percent, description=note))
        else:
            update_progress_artifact(self._artifact, percent, description=note)


def publish_table(stage: str, rows: list[dict[str, Any]]) -> None:
    """Show `rows` as the figures of `stage`."""
    create_table_artifact(rows, key=f"{stage}-figures", description=f"Figures of {stage}")


def publish_verdict(stage: str, passed: bool, sentence: str) -> None:
    """Show how `stage` ended."""
    verdict = "passed" if passed else "refused"
    create_markdown_artifact(f"**{verdict}**: {sentence}", key=f"{stage}-verdict", description=f"Verdict of {stage}")


def publish_report(stage: str, markdown: str) -> None:
    """Show the report of `stage`; Markdown of a few kB, with links to what is larger."""
    create_markdown_artifact(markdown, key=f"{stage}-report", description=f"Report of {stage}")
