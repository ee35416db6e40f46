"""What `tca data history` does: the versions of data/ in git's history, and the models that were trained on them."""

from __future__ import annotations

from typing import Any

from flows.adapters.data_versions import DataVersion, cache_folder, count_frames, read_history
from flows.adapters.registry import CHAMPION
from flows.console import Console
from flows.data_describe import size_text
from flows.data_versions import project_registry, recorded_version
from flows.errors import TcaError
from flows.settings import Project, read_settings

console = Console()


def read_data_history(project: Project) -> dict[str, Any]:
    """Each version, newest first, with the one that is not committed; no file of any version is opened but its list.

    Raises:
        ProjectError: This is no git repository, or no DVC repository.
    """
    cache = cache_folder(project.root)
    history, recorded = read_history(project.root), recorded_version(project)
    if recorded and (not history or history[0].md5 != recorded.md5):
        history = [recorded, *history]
    models, champion, note = _models(project)
    frames = [count_frames(cache, version.md5) for version in history]
    rows = []
    for position, (version, number) in enumerate(zip(history, frames, strict=True)):
        before = frames[position + 1] if position + 1 < len(frames) else 0
        rows.append(
            _row(version)
            | {
                "frames": number,
                "frames_more": None if number is None or before is None else number - before,
                "models": models.get(version.md5, []),
                "is_current": position == 0 and recorded is not None and version.md5 == recorded.md5,
                "is_champions": version.md5 == champion,
            }
        )
    return {"versions": rows, "models_known": note is None, "note": note}


def history_text(found: dict[str, Any]) -> str:
    """A table for a person."""
    if not found["versions"]:
        return "no version of data/ yet: tca data render, or tca data import"
    rows = [("version", "date", "frames", "change", "size", "models", "who: what")]
    for one in found["versions"]:
        told = f"{one['author']}: {one['subject']}" if one["commit"] else "not committed: git commit data.dvc keeps it"
        frames = "-" if one["frames"] is None else f"{one['frames']:,}"
        change = "-" if one["frames_more"] is None else f"{one['frames_more']:+,}"
        marks = ", ".join([*one["models"], *(["champion"] if one["is_champions"] else [])])
        date = (one["date"] or "")[:10] or "-"
        star = "*" if one["is_current"] else " "
        rows.append((f"{star} {one['id']}", date, frames, change, size_text(one["size_bytes"]), marks or "-", told))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append("* what data.dvc names now. Go to another: tca data checkout VERSION; compare: tca data diff VERSION")
    return "\n".join([*lines, *([f"note: {found['note']}"] if found["note"] else [])])


def _row(version: DataVersion) -> dict[str, Any]:
    origin = version.introduction
    return {
        "id": version.id,
        "version": version.md5,
        "commit": origin.commit if origin else None,
        "date": origin.date if origin else None,
        "author": origin.author if origin else None,
        "subject": origin.subject if origin else None,
        "num_files": version.num_files,
        "size_bytes": version.size_bytes,
    }


def _models(project: Project) -> tuple[dict[str, list[str]], str | None, str | None]:
    """Model versions by data version, the champion's data version, and why nothing is known of them."""
    settings = read_settings(project)
    if settings.tracking_uri.startswith(f"sqlite:///{project.home}") and not (project.home / "mlflow.db").exists():
        return {}, None, None  # nothing was trained here yet; to ask would make a database
    registry = project_registry(project)
    try:
        versions, champion = registry.versions(), registry.by_alias(CHAMPION)
    except TcaError as error:
        return {}, None, f"which models were trained on them is not known: {error.message}"
    models: dict[str, list[str]] = {}
    for one in versions:
        models.setdefault(one.tags.get("tca.data_md5", ""), []).append(f"v{one.version}")
    return models, champion.tags.get("tca.data_md5") if champion else None, None
