"""What `tca data diff` does, and what the report of a training says about its data and the champion's."""

from __future__ import annotations

from collections.abc import Sequence

from flows.adapters.data_versions import VersionFiles, open_version
from flows.adapters.registry import ModelVersion
from flows.console import Console
from flows.data_versions import named, open_snapshot, open_working, snapshot_of, version_of
from flows.dataset.report.pictures import Detail
from flows.dataset.versions.difference import DataDifference, compare_snapshots
from flows.dataset.versions.page import difference_page, frames_to_draw
from flows.dataset.versions.snapshot import Snapshot
from flows.errors import TcaError
from flows.page import write_page
from flows.progress import Progress, silent
from flows.settings import Project
from flows.training.reproducibility import DataDifferenceSummary

PAGE = "data_diff.html"
console = Console()


def diff_data(project: Project, first: str, second: str = "", detail: Detail = "reduced") -> DataDifference:
    """Compare two versions, the second being data/ as it is where it is empty; the page goes to reports/.

    Raises:
        InputError: There is no such version, or no data/.
        OutsideError: One is neither in the cache nor in the default remote.
    """
    with console.step("data diff") as shown:
        old = version_of(project, first)
        before = open_snapshot(project, old, named(old, first), shown.progress)
        if second:
            new = version_of(project, second)
            after = open_snapshot(project, new, named(new, second), shown.progress)
        else:
            after, _ = open_working(project, shown.progress)
        found = compare_snapshots(before, after, shown.progress)
        _fetch_pictures(project, old.md5, before, [one.before for one in frames_to_draw(found)], shown.progress)
        if second:
            _fetch_pictures(project, new.md5, after, [one.after for one in frames_to_draw(found)], shown.progress)
        write_page(project.reports / PAGE, difference_page(found, before, after, detail))
        shown.done(found.sentence)
    return found


def difference_text(found: DataDifference) -> str:
    """The difference for a person, one line each."""
    counts = found.counts
    lines = [
        f"from        {found.before}: {found.num_frames_before:,} frames",
        f"to          {found.after}: {found.num_frames_after:,} frames",
        f"difference  {found.sentence}",
    ]
    boxes = {
        "added": counts.boxes_added,
        "removed": counts.boxes_removed,
        "moved": counts.boxes_moved,
        "of another class": counts.boxes_relabelled,
    }
    if any(boxes.values()):
        lines.append("boxes       " + ", ".join(f"{number:,} {word}" for word, number in boxes.items() if number))
    for title, names, word in (
        ("classes", found.classes_added, "added"),
        ("classes", found.classes_removed, "removed"),
        ("cameras", found.cameras_added, "added"),
        ("cameras", found.cameras_removed, "removed"),
    ):
        if names:
            lines.append(f"{title:<12}{word}: {', '.join(names)}")
    return "\n".join([*lines, f"page        reports/{PAGE}"])


def difference_to_champion(
    project: Project, md5: str | None, champion: ModelVersion | None, progress: Progress = silent
) -> DataDifferenceSummary:
    """How the recorded version `md5` differs from the one that the champion was trained on.

    It reads the cache of this machine alone, and never fails: where it cannot be said, the sentence says why.
    """
    if champion is None:
        return DataDifferenceSummary(sentence="there is no champion to compare the data with")
    theirs = champion.tags.get("tca.data_md5", "")
    if md5 is None or not theirs:
        lacking = "these data have" if md5 is None else f"the champion's version {champion.version} names"
        return DataDifferenceSummary(sentence=f"not comparable with the champion's data: {lacking} no data version")
    if md5 == theirs:
        return DataDifferenceSummary(champion_data=theirs, sentence=f"the same data as the champion's ({theirs[:8]})")
    try:
        before, after = (snapshot_of(open_version(project.root, one), one[:8]) for one in (theirs, md5))
        found = compare_snapshots(before, after, progress)
    except (TcaError, OSError) as error:
        reason = error.message if isinstance(error, TcaError) else f"{error.strerror} {error.filename}"
        told = f"other data than the champion's ({theirs[:8]}); how they differ cannot be said: {reason}"
        return DataDifferenceSummary(champion_data=theirs, sentence=told)
    return DataDifferenceSummary(
        champion_data=theirs,
        sentence=f"{found.sentence}, since the champion's version {theirs[:8]}",
        frames_added=found.counts.frames_added,
        frames_removed=found.counts.frames_removed,
        frames_changed=found.counts.frames_changed,
        frames_moved=found.counts.frames_moved,
        frames_relabelled=found.counts.frames_relabelled,
        classes_added=found.classes_added,
        classes_removed=found.classes_removed,
        cameras_added=found.cameras_added,
        cameras_removed=found.cameras_removed,
    )


def _fetch_pictures(
    project: Project, md5: str, version: Snapshot, images: Sequence[str | None], progress: Progress
) -> None:
    """Bring the images to draw into the cache; without them, the page says that they are missing."""
    from flows.adapters.data_versions_transfer import fetch_files

    wanted = [image for image in images if image is not None and image in version.md5_of]
    if not wanted or all(version.path_of(image).exists() for image in wanted):
        return
    files = VersionFiles(md5, version.md5_of, version.path_of(wanted[0]).parents[1])
    try:
        fetch_files(project.root, files, wanted, progress)
    except TcaError as error:
        console.say(f"note: some pictures are missing: {error.message}")
