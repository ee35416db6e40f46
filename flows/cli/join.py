"""`tca join`."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("join")(join)


def join(
    rendezvous: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="The first machine's address. Default: params.yaml.")
    ] = "",
    nodes: Annotated[int | None, typer.Option(min=2, help="Machines in all. Default: params.yaml.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=0, help="Processes here; 0: one for each GPU. Default: params.yaml.")
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Wait for the next training after each.")] = False,
) -> None:
    """Take part in a training that runs on another machine (`tca train` with train.distributed.nodes over 1)."""
    from flows.join import join_training
    from flows.settings import apply_environment, find_project
    from flows.stopping import stopped_by_sigterm

    project = find_project()
    apply_environment(project)
    with stopped_by_sigterm():
        join_training(project, rendezvous, nodes, processes, forever=forever)
