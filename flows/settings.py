"""Where things are, from the environment only: addresses, ports, the home of local services, and quiet libraries.

What defines a result is in params.yaml (`flows.params`), never here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flows.errors import InputError, ProjectError

TaskRunnerKind = Literal["local", "threads", "processes", "dask"]

_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "BENTOML_DO_NOT_TRACK": "True",
    "ORT_DISABLE_TELEMETRY": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "TQDM_DISABLE": "1",
}


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml and dvc.yaml, and the places inside it."""

    root: Path

    @property
    def params_file(self) -> Path:
        return self.root / "params.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def model(self) -> Path:
        return self.artifacts / "model"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def records(self) -> Path:
        """A hash-chained record and a report of each promotion."""
        return self.reports / "promotions"

    @property
    def champion_file(self) -> Path:
        return self.root / "champion.json"

    @property
    def home(self) -> Path:
        """State of local services: databases, journals, logs. Never versioned."""
        return Path(os.environ.get("TCA_HOME") or self.root / ".tca")

    @property
    def journal(self) -> Path:
        """The journal of promotions."""
        return self.home / "rollout.db"


@dataclass(frozen=True)
class Settings:
    """Addresses and ports, and who works. Environment: TCA_PORT, TCA_ADMIN_PORT, MLFLOW_TRACKING_URI, PREFECT_API_URL,
    TCA_TASK_RUNNER.
    """

    port: int
    admin_port: int
    tracking_uri: str
    prefect_api_url: str | None
    task_runner: TaskRunnerChoice


@dataclass(frozen=True)
class TaskRunnerChoice:
    """Who works on the shards of a stage; `address` is that of a Dask scheduler, empty for a cluster of our own.

    "local": threads of this process, without Prefect; "threads" and "processes": Prefect's task runners of these
    names; "dask": prefect-dask's.
    """

    kind: TaskRunnerKind
    address: str = ""


def find_project(start: Path | None = None) -> Project:
    """The nearest folder at or above `start` that holds params.yaml and dvc.yaml. Raises ProjectError."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return Project(folder)
    raise ProjectError(
        f"no project here: neither {start} nor a folder above it holds params.yaml and dvc.yaml",
        "Go to the folder of the project, or name it: tca -C FOLDER ...",
    )


def read_settings(project: Project) -> Settings:
    """Read the environment. Raises InputError when a port is not one."""
    port = _port("TCA_PORT", 3000)
    database = project.home / "mlflow.db"
    return Settings(
        port=port,
        admin_port=_port("TCA_ADMIN_PORT", port + 1),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}",
        prefect_api_url=os.environ.get("PREFECT_API_URL"),
        task_runner=read_task_runner(),
    )


def read_task_runner() -> TaskRunnerChoice:
    """TCA_TASK_RUNNER: local, threads, processes, dask or dask:ADDRESS. Raises InputError when it is none of them."""
    text = os.environ.get("TCA_TASK_RUNNER", "").strip() or "local"
    kind, colon, address = text.partition(":")
    for known in get_args(TaskRunnerKind):
        if kind == known and (not colon or (known == "dask" and address)):
            return TaskRunnerChoice(known, address)
    raise InputError(
        f"TCA_TASK_RUNNER={text} in the environment is no task runner",
        "Expected local, threads, processes, dask or dask:ADDRESS, e.g. dask:tcp://10.0.0.5:8786",
    )


def api_key_headers() -> dict[str, str]:
    """What a request to a guarded detector must carry: the key in TCA_API_KEY, if there is one."""
    key = os.environ.get("TCA_API_KEY", "").strip()
    return {"X-API-Key": key} if key else {}


def apply_environment(project: Project) -> None:
    """Keep the libraries quiet, offline and inside the project; what the user has set stays. Idempotent."""
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    for key, folder in {"PREFECT_HOME": "prefect", "BENTOML_HOME": "bentoml", "YOLO_CONFIG_DIR": "yolo"}.items():
        os.environ.setdefault(key, str(project.home / folder))
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    # DVC looks `python` up on PATH, and `bentoml build` looks for uv there.
    bin_dir = str(Path(sys.executable).parent)
    if bin_dir not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([bin_dir, os.environ.get("PATH", "")])


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise InputError(f"{variable}={text} in the environment is not a port", "Expected 1 to 65535")
    return int(text)
