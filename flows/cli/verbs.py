"""The stages as commands. Each is the flow of the same name, run here and now."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from flows.errors import InputError

Overrides = Annotated[
    list[str],
    typer.Option(
        "-S", "--set", metavar="KEY=VALUE", help="Set a value of params.yaml, e.g. train.epochs=5. Repeatable."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Run even when DVC calls the stage current.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object on standard output.")]
Drill = Annotated[
    str,
    typer.Option(
        metavar="FAULT",
        help="Rehearse a rollback: the challenger misbehaves from a given answer on. slow:150@300 = 150 ms late from "
        "the 300th answer; fail:0.5@300 = half of them fail.",
    ),
]

_MOST_DIFFERENCES = 20  # that --verify names

HELP = {
    "validate": "Check every frame and label; a broken or leaking set stops the train.",
    "train": "Train a YOLO11 model on the validated frames.",
    "tune": "Search training parameters with Optuna; hopeless trials are pruned.",
    "export": "Build every engine this machine can, prove each against PyTorch, take the fastest that loses little.",
    "evaluate": "Compare challenger and champion on the same frozen frames.",
    "package": "Build the bento and register the version.",
    "monitor": "Compare production, a split or a new batch with the training reference; name cameras that moved.",
}


def add_to(app: typer.Typer) -> None:
    """Register the commands in the order of the work."""
    own: dict[str, Callable[..., None]] = {"export": export, "evaluate": evaluate}
    for name in ("validate", "train", "export", "evaluate", "package"):
        command: Callable[..., None] = own[name] if name in own else _command(name)
        app.command(name, help=HELP[name])(command)
    app.command("promote", help="Bring the challenger to the throne under live traffic, on evidence.")(promote)
    app.command("monitor", help=HELP["monitor"])(monitor)
    app.command("release", help="The whole train: validate, train, export, evaluate, package, promote.")(release)


def export(
    engine: Annotated[
        str, typer.Option(metavar="KIND", help="Short for -S export.engine=: auto, tensorrt, openvino, onnxruntime.")
    ] = "",
    precision: Annotated[
        str, typer.Option(metavar="TYPE", help="Short for -S export.precision=: auto, fp32, fp16, bf16, int8.")
    ] = "",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Export the trained model."""
    named = {"export.engine": engine, "export.precision": precision}
    run_flow("export", [*overrides, *(f"{key}={value}" for key, value in named.items() if value)], force, as_json)


def evaluate(
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute the last verdict anew from what is kept; exit 1: it differs.")
    ] = False,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Compare challenger and champion."""
    if not verify:
        run_flow("evaluate", overrides, force, as_json)
        return
    if overrides or force or as_json:
        raise InputError("--verify stands alone: it takes all it needs from reports/evaluate.json")
    from flows.kept_evaluation import recompute
    from flows.settings import find_project

    found = recompute(find_project())
    print(found.kept.sentence)
    for line in found.differences[:_MOST_DIFFERENCES]:
        print(f"  {line}")
    if num := len(found.differences):
        print(f"does not hold: {num} figures differ")
        sys.exit(1)
    print("holds: computed anew from artifacts/evaluation, it is the same")


def promote(
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    drill: Drill = "",
    force: Annotated[bool, typer.Option("--force", help="Judge a challenger again that was judged before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Promote the registered challenger."""
    run_flow("promote", overrides, force, as_json, drill=drill)


def monitor(
    reference: Annotated[
        str,
        typer.Option(metavar="FRAMES", help="What to compare with: train, val, test, records[:FOLDER] or a folder."),
    ] = "train",
    current: Annotated[str, typer.Option(metavar="FRAMES", help="What to judge; the same choices.")] = "records",
    regex: Annotated[
        str,
        typer.Option(
            metavar="PATTERN", help="Where paths of a folder name camera, clip, slice: as in tca data import."
        ),
    ] = "",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Compare two sets of frames."""
    run_flow("monitor", overrides, force, as_json, reference=reference, current=current, regex=regex)


def release(
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    drill: Drill = "",
    until: Annotated[str, typer.Option(metavar="STAGE", help="Stop after this stage, e.g. package.")] = "promote",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run every stage that is stale, then promote."""
    run_flow("release", overrides, force, as_json, drill=drill, until=until)


def run_flow(name: str, overrides: list[str], force: bool, as_json: bool, **more: Any) -> None:
    """Run the flow `name` against the local API and end with its exit code."""
    from flows.early import check_early
    from flows.params_file import read_params
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    # What is wrong is said before anything heavy is loaded.
    params = read_params(project.params_file, overrides)
    check_early(name, params, project, **more)
    from importlib import import_module

    from flows.adapters import orchestrator, versioning
    from flows.console import log_to
    from flows.stages import TRACKED_STAGES

    if name in TRACKED_STAGES and not overrides:
        versioning.ask_staleness(project.root, name)  # it answers while Prefect is being imported
    with orchestrator.connected(project.home):
        module = import_module(f"flows.{name}")
        log_to(project.home / "logs" / "tca.log")
        getattr(module, name)(overrides=overrides, force=force, **more)
    from flows.stage import read_report

    report = read_report(project, name)
    if as_json:
        print(json.dumps(report, indent=1))
    sys.exit(0 if report["passed"] else 1)


def _command(name: str) -> Callable[..., None]:
    def command(overrides: Overrides = [], force: Force = False, as_json: AsJson = False) -> None:  # noqa: B006
        run_flow(name, overrides, force, as_json)

    return command
