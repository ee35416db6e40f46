"""Small projects for tests: a copy of what a project consists of, and commands that must succeed in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_project(target: Path) -> Path:
    """Copy what a project consists of, commit it, and initialise DVC."""
    target.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("flows", "bentos", "infra"):
        shutil.copytree(ROOT / folder, target / folder, ignore=ignore)
    for name in ("params.yaml", "dvc.yaml", "champion.json", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, target / name)
    (target / "champion.json").write_text('{"version": null, "digest": null}\n', encoding="utf-8")
    run(target, "git", "init", "-q")
    run(target, sys.executable, "-m", "dvc", "init", "-q")
    run(target, "git", "add", "-A")
    run(target, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "project")
    return target


def run(cwd: Path, *argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done
