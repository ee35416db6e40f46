"""What a job tells GitHub: a comment, the page of the run, outputs for later jobs, a pull request for the throne."""

from __future__ import annotations

from typing import Any

from flows.adapters import github
from flows.adapters.registry import write_pointer
from flows.changes.text import escape
from flows.errors import OutsideError, ProjectError
from flows.serving import registry_of
from flows.settings import Project

MARKER = "tca-diff"


def tell_pull_request(text: str) -> str:
    """Put Markdown on the pull request of this workflow, or else on the page of the run, and say where it went."""
    run = github.read_workflow()
    if run is None:
        return "not in a workflow: nothing was written"
    if run.pull_request is None:
        github.write_summary(text)
        return "no pull request: it is on the page of the run"
    try:
        return github.keep_comment(run, run.pull_request, MARKER, text)
    except OutsideError as error:
        github.write_summary(text)
        return f"it is on the page of the run only: {error}"


def propose_throne(project: Project) -> str:
    """Open a pull request that makes champion.json of the default branch name the champion of the registry.

    A promotion in a job moves the alias, but the job's tree is gone afterwards: only git can tell the next tree.

    Raises:
        ProjectError: There is no champion.
        OutsideError: GitHub or the registry does not answer.
    """
    champion = registry_of(project).champion()
    if champion is None:
        raise ProjectError("there is no champion", "See: tca status")
    write_pointer(project.champion_file, champion.version, champion.digest)
    run = github.read_workflow()
    if run is None:
        return f"not in a workflow: {project.champion_file.name} names version {champion.version} now; commit it"
    title = f"Version {champion.version} reigns"
    body = (
        f"The registry's champion is version {champion.version}, digest `{champion.digest}`.\n\n"
        "What trains on from the champion, or is compared with it, reads this file."
    )
    content, branch = project.champion_file.read_bytes(), f"throne/version-{champion.version}"
    path = str(project.champion_file.relative_to(project.root))
    address = github.propose_file(run, path, content, branch, title, body)
    return address or f"the default branch names version {champion.version} already"


def tell_promotion(report: dict[str, Any]) -> None:
    """Hand the outcome of a promotion to later jobs, and show it on the page of the run."""
    waits_for = report.get("awaits_approval") or ""
    github.write_outputs(
        {
            "outcome": str(report["outcome"]),
            "promotion": str(report["promotion"]),
            "version": str(report["challenger_version"]),
            "awaits": str(waits_for),
        }
    )
    github.write_summary(promotion_markdown(report))


def promotion_markdown(report: dict[str, Any]) -> str:
    """The outcome, the states and the evidence of a promotion."""
    rows = ["| state | s | why |", "| --- | --- | --- |"]
    rows += [f"| {one['state']} | {one['seconds']:.1f} | {escape(one['reason'])} |" for one in report["states"]]
    rows += ["", "| evidence | frames | value | limit | e | decides at |", "| --- | --- | --- | --- | --- | --- |"]
    for one in (one for one in report["evidence"] if one["num"]):
        value = "–" if one["value"] is None else f"{one['value']:.4g}"
        rows.append(
            f"| {escape(one['metric'])} | {one['num']:,} | {value} | {one['limit']:.4g} | {one['e_value']:.3g} | "
            f"{one['e_needed']:.4g} |"
        )
    return "\n".join([f"### Promotion {report['promotion']}: {escape(report['sentence'])}", "", *rows, ""])
