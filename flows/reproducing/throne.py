"""`python -m flows.reproducing.throne FILE`: register the champion of then in the registry of a reproduction's tree.

A process of its own, so that the registry is written by the MLflow that the tree's stages read it with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flows.adapters.registry import Registry
from flows.settings import Project, apply_environment, read_settings


def seat_champion(given: Path) -> None:
    """Register the package that the file names and make it the champion; its number is the tree's own."""
    content = json.loads(given.read_text(encoding="utf-8"))
    project = Project(Path(content["root"]))
    apply_environment(project)
    registry = Registry(read_settings(project).tracking_uri, content["name"], project.home, project.champion_file)
    with registry.run("package", {}) as log:
        version = registry.register(log.run_id, Path(content["package"]), content["digest"], content["tags"])
    registry.set_champion(version.version, content["digest"])


if __name__ == "__main__":
    seat_champion(Path(sys.argv[1]))
