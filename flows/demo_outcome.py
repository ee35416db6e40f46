"""What the demo shows at its end: a line for each version, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flows.adapters.registry import ACCURACY
from flows.serving import registry_of
from flows.settings import Project

HEADERS = ("", "version", "mAP50-95", "p50 ms", "p99 ms", "verdict and why")


def outcome_text(project: Project, address: str) -> str:
    """The table of versions with accuracy, latency and verdict, and the commands for what comes next."""
    registry = registry_of(project)
    champion = registry.champion()
    accuracy = {one.version: one.tags.get(ACCURACY, "") for one in registry.versions()}
    reigning = champion.version if champion else ""
    reports = _reports(project)
    rows = [_row(report, _latency_ms(report, reports), accuracy, reigning) for report in reports]
    widths = [max(len(row[column]) for row in [HEADERS, *rows]) for column in range(len(HEADERS))]
    lines = [_line(row, widths) for row in [HEADERS, *rows]]
    frame = next((project.data / "images" / "test").iterdir()).relative_to(project.root)
    return "\n".join(
        [
            "",
            *lines,
            "",
            _frames(project),
            f"Call it:   curl --data-binary @{frame} -H 'content-type: image/jpeg' {address}/v1/detect",
            "Look:      .venv/bin/tca ui        (versions, promotions, reports, data docs)",
            "Stop:      .venv/bin/tca down",
        ]
    )


def _row(
    report: dict[str, Any], latency_ms: dict[str, float | None], accuracy: dict[str, str], reigning: str
) -> tuple[str, ...]:
    version = report["challenger_version"]
    role = "champion" if version == reigning else "previous" if report["passed"] else "rejected"
    p50, p99 = _ms(latency_ms["p50"]), _ms(latency_ms["p99"])
    return (role, f"v{version}", accuracy.get(version, ""), p50, p99, report["sentence"])


def _latency_ms(report: dict[str, Any], reports: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    # A first champion is not watched while it comes to the throne, but later as the other arm.
    own: dict[str, float | None] = report["latency_ms"]
    if own["p50"] is not None:
        return own
    version = report["challenger_version"]
    return next((one["champion_latency_ms"] for one in reports if one["champion_version"] == version), own)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _reports(project: Project) -> list[dict[str, Any]]:
    paths = sorted(project.records.glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _frames(project: Project) -> str:
    path = project.reports / "replay.json"
    if not path.exists():
        return ""
    replay = json.loads(path.read_text(encoding="utf-8"))
    lost = replay["sent"] - replay["exactly_once"]
    return f"Cameras:   {replay['sent']:,} frames sent while the last challenger was judged, {lost} lost\n"
