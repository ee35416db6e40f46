"""A stage: a Prefect flow that asks DVC whether it has anything to do, does it, and leaves report, lock and artifacts.

One wrapper for all verbs, so that `tca <verb>`, `dvc repro` and a Prefect deployment do the same and leave the same.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from flows.adapters import orchestrator, versioning
from flows.adapters.registry import Registry
from flows.console import Console, Step
from flows.errors import ProjectError, TcaError
from flows.params import Params
from flows.params_file import apply_overrides
from flows.provenance import Provenance, collect_provenance
from flows.settings import Project, Settings, apply_environment, find_project, read_settings

# Prefect reads the environment when it is imported, so the environment comes first.
try:
    apply_environment(find_project())
except ProjectError:  # imported outside a project (a worker, a test): the flow itself will say so when it runs
    apply_environment(Project(Path.cwd()))

from prefect import Flow, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from flows.artifacts import PublishedProgress, publish_table, publish_verdict

P = ParamSpec("P")
R = TypeVar("R")
Gate = Literal["stop", "record"]

console = Console()


@dataclass(frozen=True)
class StageRun:
    """What a stage's body works with."""

    name: str
    project: Project
    params: Params
    settings: Settings
    provenance: Provenance
    shown: Step
    force: bool
    published: PublishedProgress = field(default_factory=PublishedProgress)

    def step(self, function: Callable[P, R], *, retries: int = 0) -> Callable[P, R]:
        """`function` as a Prefect task; `retries` with growing pauses where something outside can fail."""
        options: dict[str, Any] = {"retry_delay_seconds": exponential_backoff(2)} if retries else {}

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            # Prefect looks for futures in every field of every argument: with 100,000 frames that takes a minute.
            def work() -> R:
                return function(*args, **kwargs)

            return task(name=function.__name__, cache_policy=NO_CACHE, retries=retries, **options)(work)()

        return call

    @property
    def mapper(self) -> Callable[[Callable[[Any], Any], Iterable[Any]], Generator[Any, None, None]] | None:
        """How shards are mapped over the task runner of TCA_TASK_RUNNER; None: over threads of this process."""
        choice = self.settings.task_runner
        if choice.kind == "local":
            return None
        from flows.task_runners import map_over

        return partial(map_over, choice)

    def progress(self, done: int, total: int, note: str) -> None:
        """A `flows.progress.Progress`: on the terminal at once, in Prefect as an artifact every few seconds."""
        self.shown.progress(done, total, note)
        self.published.update(done, total, note)

    def table(self, rows: list[dict[str, Any]]) -> None:
        """Show `rows` as a Prefect table artifact of this stage."""
        publish_table(self.name, rows)

    def registry(self) -> Registry:
        """The model registry of this project."""
        name, project = self.params.package.name, self.project
        return Registry(self.settings.tracking_uri, name, project.home, project.champion_file)

    def report_of(self, stage: str) -> dict[str, Any]:
        """The report of a stage that this one builds on. Raises ProjectError when it has not run."""
        return read_report(self.project, stage)


def stage(
    *, gate: Gate = "stop", tracked: bool = True, composite: bool = False
) -> Callable[[Callable[..., Any]], Flow[..., Any]]:
    """Make a flow of a body that takes a `StageRun` and returns a frozen report with `passed` and `sentence`.

    A report with a method `highlights` gives further lines for the terminal.

    Args:
        gate: With "stop" a report that did not pass is written but not recorded in dvc.lock, so that nothing builds on
            it; with "record" the verdict is a result like any other, and a later stage refuses to go on.
        tracked: Whether the stage is one of dvc.yaml.
        composite: Whether it consists of other stages, which show themselves.
    """

    def decorate(body: Callable[..., Any]) -> Flow[..., Any]:
        made = _Stage(body.__name__, body, gate, tracked, composite)

        def run(overrides: list[str] | None = None, force: bool = False, **options: Any) -> State[Any]:
            return _run(made, overrides or [], force, options)

        # Prefect shows and checks the parameters of the signature: ours, then what the body takes beside its run.
        ours = list(inspect.signature(run, eval_str=True).parameters.values())[:2]
        bodys = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
        run.__signature__ = inspect.Signature([*ours, *bodys])  # type: ignore[attr-defined]
        return flow(name=made.name, description=inspect.getdoc(body))(run)

    return decorate


def read_report(project: Project, stage_name: str) -> dict[str, Any]:
    """reports/<stage>.json. Raises ProjectError when the stage has not run."""
    path = project.reports / f"{stage_name}.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ProjectError(
            f"{stage_name} has not run: there is no reports/{path.name}", f"Run: tca {stage_name}"
        ) from None
    except ValueError:
        raise ProjectError(f"reports/{path.name} is not JSON", f"Run: tca {stage_name} --force") from None


def main(entry: Flow[..., Any], gate: Gate = "stop") -> None:
    """`python -m flows.<verb>`: run the flow; exit 0 done, 1 a gate said no, 2 wrong input, 3 something outside."""
    parser = argparse.ArgumentParser(prog=f"python -m flows.{entry.name}", description=entry.description)
    parser.add_argument(
        "-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="write into params.yaml"
    )
    parser.add_argument("--force", action="store_true", help="run even when DVC calls the stage current")
    arguments = parser.parse_args()
    try:
        project = find_project()
        with orchestrator.connected(project.home):
            entry(overrides=arguments.overrides, force=arguments.force)
        refused = gate == "stop" and not read_report(project, entry.name)["passed"]
    except TcaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(1 if refused else 0)


@dataclass(frozen=True)
class _Stage:
    """A body and how it is treated; see `stage`."""

    name: str
    body: Callable[..., Any]
    gate: Gate
    tracked: bool
    composite: bool

    @property
    def is_recorded_here(self) -> bool:
        """Whether we ask DVC and record in dvc.lock; started by DVC, that is its own business."""
        return self.tracked and not versioning.is_run_by_dvc()


def _run(made: _Stage, overrides: list[str], force: bool, options: dict[str, Any]) -> State[Any]:
    project = find_project()
    logging.getLogger("tca").setLevel(logging.INFO)
    params, changes = apply_overrides(project.params_file, overrides)
    for change in changes:
        console.say(change)
    with console.group(made.name) if made.composite else console.step(made.name) as shown:
        if made.is_recorded_here and not _is_stale(project, made.name, force):
            sentence = read_report(project, made.name)["sentence"]
            shown.done(f"current: {sentence}")
            return Completed(name="Cached", message=sentence)
        provenance = collect_provenance(project, params)
        run = StageRun(made.name, project, params, read_settings(project), provenance, shown, force)
        report = _work(made, run, options)
        shown.done(report.sentence)
    for line in getattr(report, "highlights", tuple)():
        console.say(line)
    publish_verdict(made.name, report.passed, report.sentence)
    return Completed(name=None if report.passed else "Refused", message=report.sentence)


def _work(made: _Stage, run: StageRun, options: dict[str, Any]) -> Any:
    started = time.monotonic()
    report = made.body(run, **options)
    write_report(run.project, made.name, report, run.provenance, time.monotonic() - started)
    if made.is_recorded_here and (report.passed or made.gate == "record"):
        versioning.commit_stage(run.project.root, made.name)
    return report


def _is_stale(project: Project, name: str, force: bool) -> bool:
    stale = versioning.read_staleness(project.root, name)
    own = stale.pop(name, None)
    if stale:
        before, reasons = next(iter(stale.items()))
        if before == "data":
            raise ProjectError(
                f"data/ is not the version that data.dvc names ({reasons[0]})", "Record it: tca data version"
            )
        raise ProjectError(
            f"{name} builds on {before}, which is stale ({reasons[0]})", f"Run: tca {before}, or all: tca release"
        )
    return force or own is not None


def write_report(project: Project, name: str, report: Any, provenance: Provenance, seconds: float) -> None:
    """Write reports/<stage>.json, whole or not at all: the report's fields, then where it comes from."""
    project.reports.mkdir(exist_ok=True)
    content = {
        "stage": name,
        **report.model_dump(mode="json"),
        "seconds": round(seconds, 3),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "provenance": provenance.model_dump(mode="json"),
    }
    path = project.reports / f"{name}.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
