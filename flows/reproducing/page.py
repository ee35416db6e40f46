"""The page of a reproduction: the verdict, what was compared, and what is not the same here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.page import folded, page, table, tiles

if TYPE_CHECKING:
    from flows.reproducing.reproduce import ReproduceReport

_STATES = {"same": "= same", "within": "~ within the interval", "differs": "x differs", "other": "may differ"}


def reproduce_page(report: ReproduceReport) -> str:
    """The report as one self-contained HTML page."""
    changes = f"and changes in {len(report.changed_files)} files" if report.changed_files else "nothing uncommitted"
    parts = [
        tiles(
            [
                ("Verdict", report.verdict, f"until {report.until}"),
                ("Commit", report.commit[:8], changes),
                ("Data", report.data_md5[:8], ""),
                ("Model", report.model_digest[:12], f"version {report.model_version}"),
            ]
        ),
        "<h2>Recorded and now</h2>",
        table(
            ("", "Recorded", "Now", "State"),
            [(one.name, one.recorded, one.rebuilt, _STATES[one.state]) for one in report.comparisons],
        ),
        "<h2>Not the same here</h2>",
        _listed(report.differences) or "<p>Nothing that shapes a result: the same packages, the same hardware.</p>",
    ]
    if report.other_packages:
        parts.append(folded(f"{len(report.other_packages)} other packages", _listed(report.other_packages)))
    if report.changed_files:
        parts.append(folded("Files with uncommitted changes", _listed(report.changed_files)))
    if report.notes:
        parts += ["<h2>Notes</h2>", _listed(report.notes)]
    parts.append(f"<footer>Finished {report.finished_at}; record {(report.record_digest or 'none')[:12]}</footer>")
    return page(f"Version {report.model_version}, made again", report.sentence, report.passed, "\n".join(parts))


def _listed(lines: tuple[str, ...]) -> str:
    return table(("What",), [(line,) for line in lines]) if lines else ""
