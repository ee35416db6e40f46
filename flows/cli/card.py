"""`tca card`."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("card")(card)


def card(
    version: Annotated[
        str,
        typer.Argument(
            metavar="[VERSION]",
            help="A registered version, or champion, challenger, previous. Default: the model in artifacts/.",
        ),
    ] = "",
) -> None:
    """Write the model card: what a model is, how well it does and where not, what it is made from and meant for."""
    from flows.cards.versions import card_of_artifacts, card_of_version
    from flows.settings import apply_environment, find_project

    project = find_project()
    apply_environment(project)
    html, markdown = card_of_version(project, version) if version else card_of_artifacts(project)
    print(f"See: {html.relative_to(project.root)}; as text: {markdown.relative_to(project.root)}")
