"""Running the stages of another tree with its own code, and the environment that they run in."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import flows
from bentos.detector.contract import SPEC_FILE
from flows.errors import GateRefused, OutsideError, ProjectError
from flows.provenance import describe_hardware, read_installed
from flows.reproducing.collect import read_epochs, read_json, read_results
from flows.reproducing.record import Environment, Results
from flows.reproducing.tree import THRONE
from flows.settings import Project

# Addresses and homes of the project's own services, and whatever would lead Python or git elsewhere.
_OURS = ("TCA_", "MLFLOW_", "PREFECT_", "BENTOML_", "YOLO_", "DVC_", "DETECTOR_", "GIT_", "PYTHON")
_KEPT = ("TCA_VERBOSE",)
_GRACE_S = 15.0


@dataclass(frozen=True)
class Workplace:
    """A tree, the home of its services, and its own interpreter; None: the one that runs here."""

    root: Path
    home: Path
    python: Path | None

    @property
    def interpreter(self) -> str:
        """The interpreter that its stages run in."""
        return str(self.python or sys.executable)

    def environment(self, code: Path) -> dict[str, str]:
        """Environment variables for a process of the tree that runs `code`."""
        kept = {key: value for key, value in os.environ.items() if key in _KEPT or not key.startswith(_OURS)}
        # DVC_STAGE: the stages neither ask DVC nor record with it, so that the cache stays as it is.
        return {**kept, "PYTHONPATH": str(code), "TCA_HOME": str(self.home), "DVC_STAGE": "reproduce"}


def run_stage(place: Workplace, name: str) -> None:
    """Run a stage by the tree's own command line; it shows itself on standard error.

    Raises:
        GateRefused: Its gate said no, which it had not when the version was made.
        OutsideError: It failed.
    """
    if name == "train" and (place.home / THRONE).is_file():
        _run(place, Path(flows.__file__).parents[1], "flows.reproducing.throne", str(place.home / THRONE))
        (place.home / THRONE).unlink()
    code = _run(place, place.root, "flows.cli", name, allowed=(1,))
    if code == 1 and name != "evaluate":  # evaluate's verdict may be another; its figures are compared
        raise GateRefused(f"{name} refused what it had passed when the version was made", "See above")


def read_rebuilt(place: Workplace) -> Results:
    """The figures of what the tree's stages have made so far."""
    project = Project(place.root)
    model, evaluation = project.model / SPEC_FILE, project.reports / "evaluate.json"
    return read_results(
        read_json(project.reports / "train.json"),
        read_json(evaluation) if evaluation.is_file() else None,
        read_json(model) if model.is_file() else None,
        read_epochs(project.artifacts / "training" / "epochs.csv"),
    )


def installed_in(place: Workplace) -> Environment:
    """Python, packages and hardware of the workplace."""
    import platform

    python, packages = platform.python_version(), read_installed()
    if place.python is not None:
        ask = (
            "import json, platform; from flows.provenance import read_installed; "
            "print(json.dumps([platform.python_version(), read_installed()]))"
        )
        env = place.environment(Path(flows.__file__).parents[1])
        done = subprocess.run(
            [place.interpreter, "-P", "-c", ask], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OutsideError(f"the environment that was built does not work: {_last_line(done.stderr)}")
        python, packages = json.loads(done.stdout)
    return Environment(
        python=python,
        packages=packages,
        constraints_sha256=None,
        hardware=describe_hardware(),
    )


def build_environment(place: Workplace, folder: Path, recorded: Environment) -> Workplace:
    """A venv with the recorded Python and packages: those of the tree's constraints.txt, or of the record.

    Raises:
        OutsideError: uv could not get Python or a package.
    """
    requirements = place.root / "constraints.txt"
    if recorded.constraints_sha256 is None:
        requirements = folder.with_name("requirements.txt")
        lines = [f"{name}=={version}" for name, version in recorded.packages.items() if name != "its-camera-ai"]
        requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    python = folder / "bin" / "python"
    _uv("venv", "--quiet", "--no-project", "--python", recorded.python, str(folder))
    _uv("pip", "install", "--quiet", "--no-deps", "--python", str(python), "--requirement", str(requirements))
    return replace(place, python=python)


def _uv(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "uv", *arguments], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise OutsideError(
            f"the recorded environment cannot be built: uv {arguments[0]}: {_last_line(done.stderr)}",
            "Without --environment the packages that are installed here are taken",
        )


def _run(place: Workplace, code: Path, module: str, *arguments: str, allowed: Sequence[int] = ()) -> int:
    argv = [place.interpreter, "-P", "-m", module, *arguments]
    # A session of its own: whatever it has started ends with it, before the tree is removed.
    process = subprocess.Popen(
        argv, cwd=place.root, env=place.environment(code), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        status = process.wait()
    except BaseException:
        _end(process)
        raise
    if status == 2:
        raise ProjectError(f"{arguments[0]} found its input wrong in the tree of that commit", "See above")
    if status and status not in allowed:
        raise OutsideError(f"{module} {arguments[0]} failed in the tree (exit {status})", "See above")
    return status


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")
