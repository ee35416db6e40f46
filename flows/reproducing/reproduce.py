"""Reproduce: make a registered version again from its record, in a tree of its own, and say whether it is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from flows.adapters.registry import ModelVersion
from flows.adapters.worktree import fresh_worktree
from flows.console import Console
from flows.errors import InputError
from flows.reproducing.compare import Comparison, Verdict, judge_rebuild, list_differences
from flows.reproducing.given import Given, find_version, gather, read_or_derive, require_one_machine, require_whole
from flows.reproducing.page import reproduce_page
from flows.reproducing.record import Record
from flows.reproducing.tree import fill_tree
from flows.reproducing.work import Workplace, build_environment, installed_in, read_rebuilt, run_stage
from flows.serving import registry_of
from flows.settings import Project

# The data are the recorded ones by their md5, so that validating them again would say nothing new.
STAGES = ("train", "export", "evaluate")
console = Console()


class ReproduceReport(BaseModel):
    """One attempt to make a version again. It is written where a model came of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    passed: bool = Field(description="identical or equivalent")
    sentence: str = Field(description="the verdict in one sentence")
    verdict: Verdict = Field(description="identical, equivalent or different, see `compare.Judgement`")
    model_version: str = Field(description="registered version")
    model_digest: str = Field(description="sha256 that its model.json carries")
    record_digest: str | None = Field(description="of its record; null: made from tags and reports, as it has none")
    commit: str = Field(description="git commit that was checked out")
    changed_files: tuple[str, ...] = Field(description="files with uncommitted changes that were applied to it")
    data_md5: str = Field(description="version of the data")
    until: str = Field(description="last stage that ran")
    comparisons: tuple[Comparison, ...] = Field(description="what was recorded, and what came of it now")
    differences: tuple[str, ...] = Field(description="packages that shape a result and hardware that differ")
    other_packages: tuple[str, ...] = Field(description="other packages that differ")
    notes: tuple[str, ...] = Field(description="what else to know")
    kept: str | None = Field(description="folder of the tree, where it was to be kept")
    finished_at: str = Field(description="ISO-8601, UTC")


def reproduce_version(
    project: Project,
    version: str,
    until: str = "",
    *,
    start: Path | None = None,
    overrides: Sequence[str] = (),
    keep: bool = False,
    environment: bool = False,
) -> ReproduceReport:
    """Make `version` again and compare; the report goes to reports/reproduce-VERSION.json and .html.

    Args:
        until: Last stage: train, export or evaluate; empty: train, and on to evaluate only where the weights differ,
            because only a figure with an interval tells whether that matters.
        start: The checkpoint that the training started from, where it is not at its place any more.
        overrides: Other values for params.yaml, like `train.distributed.nodes=1`, where this machine needs them.
        keep: Leave the tree where it is.
        environment: Build the recorded environment first, where it is not the one that runs here.

    Raises:
        InputError: There is no such version or stage; the record lacks something, or was changed.
        OutsideError: The data are not to be had, or a stage failed.
    """
    if until not in ("", *STAGES):
        raise InputError(
            f"--until {until}: there is nothing to compare after that", "Expected train, export or evaluate"
        )
    registry = registry_of(project)
    with console.step("record") as shown:
        found = find_version(registry, version)
        record = require_whole(found, read_or_derive(found, registry))
        require_one_machine(record, overrides)
        commit = str(record.source.commit)
        given = replace(gather(project, registry, record, start), overrides=tuple(overrides))
        changes = f" and {len(record.source.changed)} changed files" if record.source.changed else ""
        shown.done(f"version {found.version}: commit {commit[:8]}{changes}, data {str(record.data_md5)[:8]}")
    with fresh_worktree(project.root, commit, keep) as tree:
        with console.step("tree") as shown:
            fill_tree(project, tree, record, given, shown.progress)
            shown.done(f"{tree.root}{'' if keep else ', removed afterwards'}")
        place = Workplace(tree.root, tree.home, None)
        if environment and list_differences(record.environment, installed_in(place))[0]:
            with console.step("environment") as shown:
                place = build_environment(place, tree.folder / "venv", record.environment)
                shown.done(f"built from {'constraints.txt' if record.environment.constraints_sha256 else 'the record'}")
        report = _rebuild(project, place, found, record, given, until)
        if keep:
            report = report.model_copy(update={"kept": str(tree.folder)})
    _write(project, report)
    return report


def _rebuild(
    project: Project, place: Workplace, version: ModelVersion, record: Record, given: Given, until: str
) -> ReproduceReport:
    """Run the stages one after the other, as far as the question needs."""
    last = until or "train"
    run_stages(place, STAGES[: STAGES.index(last) + 1])
    now = installed_in(place)
    judgement = judge_rebuild(record.results, read_rebuilt(place))
    if not until and judgement.verdict == "different" and record.results.frozen_map50_95:
        last = "evaluate"
        console.say("note: the weights differ; on to evaluate, whose figure has an interval")
        run_stages(place, STAGES[1:])
        judgement = judge_rebuild(record.results, read_rebuilt(place))
    shaping, beside = list_differences(record.environment, now)
    return ReproduceReport(
        passed=judgement.verdict != "different",
        sentence=tell(version.version, judgement.verdict, judgement.reason, shaping, last),
        verdict=judgement.verdict,
        model_version=version.version,
        model_digest=version.digest,
        record_digest=record.digest or None,
        commit=str(record.source.commit),
        changed_files=record.source.changed,
        data_md5=str(record.data_md5),
        until=last,
        comparisons=judgement.comparisons,
        differences=shaping,
        other_packages=beside,
        notes=tuple(list_notes(record, given)),
        kept=None,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def list_notes(record: Record, given: Given) -> Iterator[str]:
    """What was not as it was, beside packages and hardware."""
    if not record.digest:
        yield "the version has no record of its own: its tags and reports were taken for one"
    if given.overrides:
        yield f"params.yaml with other values: {', '.join(given.overrides)}"
    if given.checkpoint is not None:
        yield f"started from {given.checkpoint}, whose digest is the recorded one"


def run_stages(place: Workplace, stages: Sequence[str]) -> None:
    """Run stages of the tree, which show themselves. Raises OutsideError when one fails."""
    for name in stages:
        run_stage(place, name)


def tell(version: str, verdict: Verdict, reason: str, differences: Sequence[str], until: str) -> str:
    """The verdict in one sentence."""
    heads = {
        "identical": f"version {version} is reproduced exactly",
        "equivalent": f"version {version} is reproduced within its interval",
        "different": f"version {version} is not reproduced",
    }
    sentence = f"{heads[verdict]}: {reason}"
    if verdict != "identical" and differences:
        sentence += f"; not the same here: {'; '.join(differences)}"
    if verdict == "different" and until == "train":
        sentence += f"; whether it matters: tca reproduce {version} --until evaluate"
    return sentence


def report_text(report: ReproduceReport) -> str:
    """The report for a person: a line for each comparison, then where to look."""
    marks = {"same": "=", "within": "~", "differs": "x", "other": " "}
    rows = [("", "", "recorded", "now"), *((marks[o.state], o.name, o.recorded, o.rebuilt) for o in report.comparisons)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    differing = [f"  differs: {one}" for one in report.differences]
    if report.other_packages:
        differing.append(f"  differs: {len(report.other_packages)} packages that do not shape a result")
    kept = [f"kept: {report.kept}; remove it: rm -r {report.kept} && git worktree prune"] if report.kept else []
    page = f"page: reports/reproduce-{report.model_version}.html"
    return "\n".join([report.sentence, *lines, *differing, *(f"  note: {note}" for note in report.notes), *kept, page])


def _write(project: Project, report: ReproduceReport) -> None:
    project.reports.mkdir(exist_ok=True)
    path = project.reports / f"reproduce-{report.model_version}"
    for suffix, text in ((".json", report.model_dump_json(indent=1) + "\n"), (".html", reproduce_page(report))):
        draft = path.with_name(f"{path.name}{suffix}.draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path.with_name(f"{path.name}{suffix}"))
