"""What `tca data split` does: propose a split without leaks, and put it into effect if asked."""

from __future__ import annotations

from flows.adapters.versioning import add_data, read_staleness_of_data, require_repository
from flows.console import Console
from flows.dataset.layout import read_dataset
from flows.dataset.leakage.relocation import relocate, resplit_frames
from flows.dataset.leakage.repair import group_frames, propose_split
from flows.dataset.leakage.split_report import SplitChange, split_change, table_lines, write_proposal
from flows.dataset.manifest.manifest import build_manifest
from flows.errors import Conflict
from flows.params_file import read_params
from flows.provenance import read_data_md5
from flows.settings import Project

PROPOSAL = "split.csv"
console = Console()


def split_data(
    project: Project, apply: bool = False, keep: bool = False, whole_cameras: bool = False, seed: int | None = None
) -> SplitChange:
    """Propose a split by groups into reports/split.csv; with `apply` move the frames and version data/.

    Args:
        project: Whose data/.
        apply: Do it.
        keep: Move as few frames as possible.
        whole_cameras: Keep all frames of a named camera in one split.
        seed: Instead of that of params.yaml.

    Raises:
        Conflict: data/ has changes that no version holds, so that there would be no way back.
        DataError: There are too few groups.
    """
    params = read_params(project.params_file)
    if apply:
        require_repository(project.root)
        if read_staleness_of_data(project.root):
            raise Conflict("data/ has changes that no version holds", "Record them first: tca data version")
    dataset = read_dataset(project.data)
    with console.step("look") as shown:
        manifest = build_manifest(dataset, progress=shown.progress)
        shown.done(f"{len(manifest.images):,} frames, {len(manifest.boxes):,} boxes")
    with console.step("split") as shown:
        groups = group_frames(manifest, params.validate_.leakage, whole_cameras)
        proposal = propose_split(manifest, groups, params.seed if seed is None else seed, keep)
        frames = resplit_frames(dataset, proposal.splits, proposal.clips)
        change = split_change(manifest, proposal)
        write_proposal(project.reports / PROPOSAL, dataset.frames, frames, proposal)
        shown.done(change.sentence)
    _tell(change)
    if not apply:
        console.say(f"Nothing is moved. The proposal: {project.reports / PROPOSAL}. To do it: the same with --apply")
    elif frames == dataset.frames:
        console.say("Nothing to move")
    else:
        with console.step("move") as shown:
            relocate(dataset, frames, shown.progress)
            add_data(project.root, project.data)
            version = (read_data_md5(project.root) or "none")[:8]
            shown.done(f"{change.moved:,} frames moved, version {version}; commit data.dvc to keep it")
    return change


def _tell(change: SplitChange) -> None:
    for line in table_lines(change):
        console.say(line)
    if change.moves:
        console.say("moves: " + ", ".join(f"{count:,} {way}" for way, count in change.moves.items()))
    for note in change.notes:
        console.say(f"note: {note}")
