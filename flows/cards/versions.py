"""Cards of registered versions, and of the model that lies in artifacts/."""

from __future__ import annotations

from pathlib import Path

from flows.adapters.registry import CHALLENGER, CHAMPION, PREVIOUS
from flows.cards.card import HTML, MARKDOWN, make_card, write_card_files, write_version_card
from flows.cards.sources import gather_background, read_sources
from flows.errors import ProjectError
from flows.params_file import read_params
from flows.serving import registry_of
from flows.settings import Project


def card_of_version(project: Project, version: str) -> tuple[Path, Path]:
    """Write the card of a version, or of the one that an alias names, to reports/cards/; its HTML and Markdown.

    Raises:
        ProjectError: There is no such version.
        OutsideError: The registry does not answer.
    """
    registry = registry_of(project)
    if version in (CHAMPION, CHALLENGER, PREVIOUS):
        found = registry.by_alias(version)
        if found is None:
            raise ProjectError(f"there is no {version} yet", "See: tca status")
    else:
        found = registry.get(version)
    return write_version_card(project.reports, registry.download(found), found.version)


def card_of_artifacts(project: Project) -> tuple[Path, Path]:
    """Write the card of the model in artifacts/, registered or not, to reports/card.html and card.md.

    Raises:
        ProjectError: No model was exported.
    """
    background = gather_background(project, read_params(project.params_file))
    card = make_card(read_sources(project.model, project.reports, background))
    return write_card_files(card, project.reports / HTML, project.reports / MARKDOWN)
