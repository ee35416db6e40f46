"""Whether this commit may be promoted: its dvc.lock is true, and the challenger is the model that it names."""

from __future__ import annotations

from flows.adapters import versioning
from flows.adapters.data_versions import current_version, parse_data_dvc
from flows.adapters.registry import CHALLENGER, ModelVersion, Registry
from flows.adapters.revisions import find_commit, read_file_at
from flows.diff import read_stale
from flows.errors import GateRefused, ProjectError
from flows.serving import registry_of
from flows.settings import Project
from flows.stage import read_report


def require_challenger(project: Project) -> dict[str, str]:
    """Version and digest of the model that this commit names, if it may be promoted or reigns already.

    Raises:
        GateRefused: dvc.lock is not true of this tree, or another model is the challenger.
        ProjectError: The package's report is not here, or the registry does not know the model.
    """
    stale = read_stale(project)
    if stale:
        stage, reasons = next(iter(stale.items()))
        raise GateRefused(
            f"dvc.lock is not true of this tree: {stage} ({reasons[0]})",
            "Make it so: tca release --until package; tca ci push; then commit dvc.lock and set the tag there",
        )
    digest = str(read_report(project, "package")["model_digest"])
    registry = registry_of(project)
    version = _registered(registry, digest)
    champion, challenger = registry.reigning(), registry.by_alias(CHALLENGER)
    state = _state(champion, challenger, digest, f"this commit names version {version}")
    return {"version": version, "digest": digest, "state": state}


def require_digest(project: Project, digest: str) -> None:
    """Raises GateRefused unless the model of this digest still is the challenger, or reigns already."""
    registry = registry_of(project)
    _state(registry.champion(), registry.by_alias(CHALLENGER), digest, f"asked for is the digest {digest[:12]}")


def require_recorded_data(project: Project) -> str:
    """The version of data/, if it is the one that the last commit names.

    Raises:
        GateRefused: data/ or data.dvc is another.
    """
    told = read_file_at(project.root, find_commit(project.root, "HEAD"), "data.dvc")
    committed, lying = parse_data_dvc(told or b""), current_version(project.root)
    if committed is None or committed.md5 != lying.md5:
        name = committed.id if committed else "none"
        raise GateRefused(f"data.dvc names {lying.id}, the commit {name}", "See what differs: tca data diff HEAD")
    if reasons := versioning.read_staleness_of_data(project.root):
        raise GateRefused(f"data/ is not version {lying.id} ({reasons[0]})", "See what differs: tca data diff HEAD")
    return lying.md5


def _state(champion: ModelVersion | None, challenger: ModelVersion | None, digest: str, asked: str) -> str:
    if champion is not None and champion.digest == digest:
        return "champion"
    if challenger is None or challenger.digest != digest:
        other = f"version {challenger.version}" if challenger else "none"
        raise GateRefused(
            f"{asked}, but the challenger is {other}",
            "Set the tag at the commit of the challenger, or register this model again: tca package --force",
        )
    return "challenger"


def _registered(registry: Registry, digest: str) -> str:
    found = next((one.version for one in registry.versions() if one.digest == digest), None)
    if found is None:
        raise ProjectError(
            f"the registry does not know the model {digest[:12]} of this commit",
            "Check MLFLOW_TRACKING_URI; or register it there: tca package --force",
        )
    return found
