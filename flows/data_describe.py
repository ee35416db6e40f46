"""What `tca data describe` does: count what is in a version, and say where it came from."""

from __future__ import annotations

from typing import Any

from flows.adapters.data_versions import Introduction, VersionFiles, introduction_of, list_missing, size_of
from flows.console import Console
from flows.data_versions import open_snapshot, open_working, recorded_version, snapshot_of, version_of
from flows.dataset.versions.description import DataDescription, describe_snapshot, description_lines
from flows.settings import Project

console = Console()


def describe_data(project: Project, revision: str = "") -> dict[str, Any]:
    """Everything about the version that `revision` means, or about data/ as it is where it is empty.

    Raises:
        InputError: There is no such version, or no data/.
        OutsideError: It is neither in the cache nor in the default remote.
    """
    with console.step("data describe") as shown:
        if revision:
            version = version_of(project, revision)
            snapshot = open_snapshot(project, version, version.id, shown.progress)
            files = VersionFiles(version.md5, snapshot.md5_of, snapshot.path_of("data.yaml").parents[1])
        else:
            _, files = open_working(project, shown.progress)
            snapshot = snapshot_of(files, "data/")
        counts = describe_snapshot(snapshot, shown.progress)
        shown.done(f"{counts.num_frames:,} frames, {counts.num_boxes:,} boxes")
    recorded = recorded_version(project)
    origin = introduction_of(project.root, files.md5)
    return {
        "version": files.md5,
        "id": files.md5[:8],
        "working": not revision,
        "recorded": recorded.md5 if recorded else None,
        "differs_from_data_dvc": None if revision else recorded is None or recorded.md5 != files.md5,
        "commit": _origin(origin),
        "size_bytes": size_of(files),
        "num_files": len(files.md5_of),
        "num_files_missing": len(list_missing(files, list(files.md5_of))),
        **counts.model_dump(mode="json"),
    }


def description_text(found: dict[str, Any]) -> str:
    """The same for a person."""
    counts = DataDescription(**{name: found[name] for name in DataDescription.model_fields})
    absent = f", {found['num_files_missing']:,} not on this machine" if found["num_files_missing"] else ""
    lines = [f"version     {_version(found)}"]
    if commit := found["commit"]:
        lines.append(
            f"from        {commit['commit'][:8]}  {commit['date'][:10]}  {commit['author']}: {commit['subject']}"
        )
    elif not found["differs_from_data_dvc"]:
        lines.append("from        no commit yet: git commit data.dvc keeps it")
    lines.append(f"size        {size_text(found['size_bytes'])} in {found['num_files']:,} files{absent}")
    return "\n".join([*lines, *description_lines(counts)])


def size_text(num_bytes: int | None) -> str:
    """`39.5 MB`; `-` where nobody knows."""
    if num_bytes is None:
        return "-"
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _version(found: dict[str, Any]) -> str:
    if not found["working"]:
        return str(found["id"])
    if not found["differs_from_data_dvc"]:
        return f"{found['id']}: data/ is the version that data.dvc names"
    if found["recorded"] is None:
        return "none yet: tca data version makes one"
    return f"none: data/ differs from {found['recorded'][:8]} of data.dvc (what: tca data diff {found['recorded'][:8]})"


def _origin(origin: Introduction | None) -> dict[str, str] | None:
    if origin is None:
        return None
    return {"commit": origin.commit, "date": origin.date, "author": origin.author, "subject": origin.subject}
