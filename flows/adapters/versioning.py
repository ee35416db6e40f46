"""DVC, through its own command: what is stale and why, and recording what a stage has made.

DVC runs as a process of its own because it takes locks and keeps state that a long-lived flow should not hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flows.errors import Conflict, InputError, OutsideError, ProjectError


def is_run_by_dvc() -> bool:
    """Whether `dvc repro` started this process: the repository is locked then, and DVC records the outputs itself."""
    return "DVC_STAGE" in os.environ


def read_staleness(root: Path, stage: str) -> dict[str, list[str]]:
    """Each stale stage among `stage` and what it builds on, with the reasons; empty when all is current.

    Raises:
        ProjectError: There is no DVC repository, or no such stage.
        OutsideError: DVC failed.
    """
    return parse_status(json.loads(run_dvc(root, *_status_of(stage)) or "{}"))


def ask_staleness(root: Path, stage: str) -> None:
    """Start asking in the background; the next `read_staleness` of the stage takes that answer."""
    if (root / ".dvc").is_dir():
        _ASKED[root, _status_of(stage)] = _start(root, _status_of(stage))


def read_staleness_of_data(root: Path) -> list[str]:
    """How data/ differs from the version that data.dvc names; empty when it does not. Raises OutsideError."""
    if not (root / "data.dvc").exists():
        return ["not versioned yet"]
    return parse_status(json.loads(run_dvc(root, "status", "--json", "data.dvc") or "{}")).get("data", [])


def parse_status(status: dict[str, Any]) -> dict[str, list[str]]:
    """Turn the JSON of `dvc status` into stage name to readable reasons."""
    stale: dict[str, list[str]] = {}
    for name, entries in status.items():
        reasons = stale.setdefault(name.removesuffix(".dvc"), [])
        for entry in entries:
            if isinstance(entry, str):
                reasons.append(entry)
                continue
            for kind, changed in entry.items():
                thing = {"changed deps": "", "changed outs": "output "}.get(kind, f"{kind} ")
                reasons += [f"{thing}{path} {_state(state)}" for path, state in changed.items()]
    return stale


def commit_stage(root: Path, stage: str) -> None:
    """Record the stage's current inputs and outputs in dvc.lock. Raises OutsideError."""
    run_dvc(root, "commit", "--force", "--quiet", stage)


def add_data(root: Path, path: Path) -> None:
    """Version `path` (data.dvc). Raises OutsideError."""
    run_dvc(root, "add", "--quiet", str(path.relative_to(root)))


def require_repository(root: Path) -> None:
    """Raises ProjectError when `root` is not a DVC repository."""
    if not (root / ".dvc").is_dir():
        raise ProjectError(f"{root} is not versioned with DVC", "Run: git init && dvc init")


def run_dvc(root: Path, *arguments: str) -> str:
    """What a DVC command prints.

    Raises:
        Conflict: Another command holds DVC's lock.
        InputError: dvc.yaml or params.yaml is not what DVC reads.
        OutsideError: DVC failed.
    """
    require_repository(root)
    process = _ASKED.pop((root, arguments), None) or _start(root, arguments)
    stdout, stderr = process.communicate()
    if process.returncode == 0:
        return stdout
    message = _first_error(stderr)
    if "lock" in message and "acquire" in message:
        raise Conflict("DVC is locked by another command", "Wait for it to end, then run this again")
    if "not found" in message and "stage" in message.lower():
        raise ProjectError(f"dvc.yaml: {message}")
    if "dvc.yaml" in message or "params.yaml" in message:
        raise InputError(message)
    raise OutsideError(f"dvc {arguments[0]} failed: {message}", f"See: dvc {' '.join(arguments)}")


def _status_of(stage: str) -> tuple[str, ...]:
    return ("status", "--json", "--with-deps", stage)


def _start(root: Path, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.Popen(argv, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


_ASKED: dict[tuple[Path, tuple[str, ...]], subprocess.Popen[str]] = {}


def _first_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no reason given"])[0]


def _state(state: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in state.items()) if isinstance(state, dict) else str(state)
