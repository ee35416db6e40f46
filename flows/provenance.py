"""What a result was made from: enough to make it again."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from flows.machine import read_cpu_flags
from flows.params import Params
from flows.settings import Project

# Written by the train itself: they follow a result, they do not define it, so they do not make the tree dirty.
WRITTEN_BY_US = ("dvc.lock", "champion.json")
ABSENT = "absent"  # instead of a version
_PACKAGES = (
    "torch",
    "ultralytics-opencv-headless",
    "openvino",
    "onnx",
    "onnxruntime",
    "numpy",
    "bentoml",
    "mlflow",
    "dvc",
)
# Sums are rounded in the order that the widest vectors give them. The first that a processor has is named.
_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "sve": "SVE", "asimd": "NEON"}


class Provenance(BaseModel):
    """Where a result comes from. `None`: there is none (no commit yet, no versioned data)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    git_commit: str | None = Field(description="commit of the working tree")
    git_dirty: bool | None = Field(description="whether tracked files differ from it (dvc.lock, champion.json aside)")
    data_md5: str | None = Field(description="md5 of the data as data.dvc names it")
    params_digest: str = Field(description="sha256 over params.yaml's values, 16 hex digits")
    dvc_lock_sha256: str | None = Field(description="sha256 of dvc.lock before the stage ran, 16 hex digits")
    seed: int = Field(description="seed of all random draws")
    versions: dict[str, str] = Field(description="Python and the packages that shape a result")
    hardware: str = Field(description="processor, cores, vector instructions, GPU")

    def tags(self) -> dict[str, str]:
        """Flat tags for MLflow."""
        flat = self.model_dump(exclude={"versions"})
        tags = {f"tca.{key}": str(value) for key, value in flat.items() if value is not None}
        return tags | {f"tca.version.{name}": version for name, version in self.versions.items()}


def collect_provenance(project: Project, params: Params) -> Provenance:
    """Look at git, data.dvc, dvc.lock and this machine."""
    lock = project.root / "dvc.lock"
    return Provenance(
        git_commit=_git(project.root, "rev-parse", "HEAD"),
        git_dirty=_is_dirty(project.root),
        data_md5=read_data_md5(project.root),
        params_digest=params.digest(),
        dvc_lock_sha256=hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.exists() else None,
        seed=params.seed,
        versions={"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        hardware=describe_hardware(),
    )


def read_installed() -> dict[str, str]:
    """Every installed package with its version, by its normalised name."""
    found = {
        re.sub(r"[-_.]+", "-", str(one.metadata["Name"])).lower(): one.version
        for one in metadata.distributions()
        if one.metadata["Name"]
    }
    return dict(sorted(found.items()))


def read_data_md5(root: Path) -> str | None:
    """The data version: the md5 that data.dvc names."""
    try:
        return str(yaml.safe_load((root / "data.dvc").read_text(encoding="utf-8"))["outs"][0]["md5"])
    except (FileNotFoundError, KeyError, IndexError, TypeError):
        return None


@cache
def describe_hardware() -> str:
    """Processor, usable cores, vector instructions and GPU in one line."""
    flags = read_cpu_flags()
    vectors = [name for flag, name in _VECTORS.items() if flag in flags][:1]
    parts = [_processor(), f"{len(os.sched_getaffinity(0))} cores", *vectors]
    gpus = _run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    return ", ".join([*parts, *(gpus.splitlines() if gpus else ["no GPU"])])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _is_dirty(root: Path) -> bool | None:
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if status is None else any(line[2:].strip() not in WRITTEN_BY_US for line in status.splitlines())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ABSENT


def _git(root: Path, *arguments: str) -> str | None:
    return _run(["git", "-C", str(root), *arguments])


def _run(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None
