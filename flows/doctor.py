"""`tca doctor`: what this machine has, and what that means for training, export and serving.

Nothing heavy is imported: versions come from package metadata, so the answer is there at once.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import util
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from flows.adapters.processes import read_services
from flows.errors import InputError
from flows.machine import (
    Gpu,
    count_cores,
    is_port_free,
    read_cpu_flags,
    read_gpus,
    read_held_ports,
    read_memory_gb,
    read_version,
)
from flows.memory import read_memory
from flows.settings import Project, read_settings
from flows.training.loop.arguments import find_compiler

Mark = Literal["ok", "note", "missing"]

VENV_GB, TRAINING_GB, MEMORY_GB = 7.0, 2.0, 4.0  # disk of the environment and of a training; memory of a training
_ADDRESSES = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "AUTH")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `ok` as needed, `note` worth knowing, `missing` something to install or mend."""

    name: str
    mark: Mark
    value: str
    meaning: str


def examine(project: Project) -> dict[str, Any]:
    """Look at this machine.

    Returns:
        `findings`: name, mark, value and meaning of each; `outlook`: a sentence each for training, export and serving;
        `num_missing`: how many findings are marked missing.
    """
    gpus, flags = read_gpus(), read_cpu_flags()
    findings = [*_machine(project), _processor(flags), _gpu(gpus), *_engines(gpus), *_tools(project)]
    findings += [_pins(project), *_ports(project), *environment_findings(os.environ)]
    return {
        "findings": [asdict(one) for one in findings],
        "outlook": _outlook(gpus, flags),
        "num_missing": sum(one.mark == "missing" for one in findings),
    }


def findings_text(found: dict[str, Any]) -> str:
    """The same for a person, as wide as the terminal."""
    width = max(60, min(shutil.get_terminal_size((110, 24)).columns, 120))
    lines: list[str] = []
    for one in found["findings"]:
        head = f"{one['mark']:<8} {one['name']:<20} "
        text = f"{one['value']}: {one['meaning']}" if one["meaning"] else one["value"]
        lines += textwrap.wrap(
            text, width, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False
        )
    lines.append("")
    for stage, sentence in found["outlook"].items():
        lines += textwrap.wrap(f"{stage:<9}{sentence}", width, subsequent_indent=" " * 9, break_on_hyphens=False)
    count = found["num_missing"]
    return "\n".join([*lines, "", f"{count} missing, see above" if count else "nothing is missing"])


def mask_credentials(address: str) -> str:
    """`address` with `***` for user and password, if it has them."""
    parts = urlsplit(address)
    if "@" not in parts.netloc:
        return address
    return urlunsplit(parts._replace(netloc=f"***@{parts.netloc.rsplit('@', 1)[1]}"))


def environment_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """What is set that changes where things are; credentials are never shown."""
    defaults = {
        "MLFLOW_TRACKING_URI": "a sqlite file in the project",
        "PREFECT_API_URL": "a local server, started on first use",
    }
    for name in _ADDRESSES:
        if name not in environment:
            yield Finding(name, "ok", "not set", defaults[name])
        elif "://" not in environment[name] and name == "PREFECT_API_URL":
            yield Finding(
                name, "missing", mask_credentials(environment[name]), "not an address; expected http://HOST:PORT/api"
            )
        else:
            yield Finding(name, "note", mask_credentials(environment[name]), "used in place of the local one")
    for name in sorted(environment):
        if name.startswith("TCA_") and name != "TCA_VERBOSE":
            secret = any(word in name for word in _SECRET_WORDS)
            yield Finding(
                name,
                "note",
                "set, not shown" if secret else mask_credentials(environment[name]),
                "from the environment",
            )


def _machine(project: Project) -> Iterator[Finding]:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if good else "missing", version, "" if good else "3.11 or newer is needed")
    cores = count_cores()
    yield Finding(
        "cores", "ok" if cores >= 2 else "note", str(cores), "" if cores >= 2 else "training and serving will share one"
    )
    memory_gb = read_memory_gb()
    enough = memory_gb >= MEMORY_GB
    remedy = f"below {MEMORY_GB:.0f} GB: set train.cache to none and train.batch low"
    yield Finding("memory", "ok" if enough else "note", f"{memory_gb:.1f} GB", "" if enough else remedy)
    yield _disk(project)


def _disk(project: Project) -> Finding:
    free_gb = shutil.disk_usage(project.root).free / 1e9
    installed = (project.root / ".venv").is_dir()
    needed_gb = TRAINING_GB if installed else VENV_GB + TRAINING_GB
    what = f"a training with its records needs about {TRAINING_GB:.0f} GB"
    if not installed:
        what = f".venv needs {VENV_GB:.0f} GB, {what}"
    return Finding("disk", "ok" if free_gb >= needed_gb else "missing", f"{free_gb:.1f} GB free", what)


def _processor(flags: frozenset[str]) -> Finding:
    if "amx_bf16" in flags:
        return Finding(
            "processor",
            "ok",
            "AMX, AVX-512",
            "OpenVINO may compute in bf16, which is faster; export measures what it changes",
        )
    if "avx512f" in flags:
        return Finding("processor", "ok", "AVX-512, no AMX", "fp32 and int8 run well")
    if "avx2" in flags:
        return Finding("processor", "ok", "AVX2", "enough to train and serve; AVX-512 or AMX would serve more frames")
    known = platform.machine()
    return Finding("processor", "note", known, "no AVX instructions were found: expect slow inference")


def _gpu(gpus: list[Gpu]) -> Finding:
    if not gpus:
        return Finding("gpu", "note", "none", "training, export and serving run on the processor")
    shown = "; ".join(f"{gpu.name}, {gpu.memory}, compute capability {gpu.compute_capability}" for gpu in gpus)
    return Finding("gpu", "ok", shown, f"driver {gpus[0].driver}")


def _engines(gpus: list[Gpu]) -> Iterator[Finding]:
    for package, use in (
        ("torch", "training"),
        ("openvino", "engine on a processor"),
        ("onnxruntime", "engine anywhere"),
    ):
        version = read_version(package)
        yield Finding(
            package,
            "ok" if version else "missing",
            version or "not installed",
            use if version else f"{use}; run: make install",
        )
    present = util.find_spec("tensorrt") is not None
    if present and gpus:
        yield Finding("tensorrt", "ok", read_version("tensorrt") or "present", "engine on this GPU")
    elif present:
        yield Finding("tensorrt", "note", read_version("tensorrt") or "present", "of no use without a GPU")
    elif gpus:
        remedy = "fastest engine on this GPU; install: .venv/bin/uv pip install 'tensorrt>=10.13'"
        yield Finding("tensorrt", "missing", "not installed", remedy)
    else:
        yield Finding("tensorrt", "ok", "not installed", "not needed without a GPU")


def _tools(project: Project) -> Iterator[Finding]:
    git = shutil.which("git")
    repository = (project.root / ".git").exists()
    value = "present" if repository else "present, but this is no repository"
    remedy = "" if repository else "results will carry no commit; run: git init"
    yield (
        Finding("git", "ok" if repository else "note", value, remedy)
        if git
        else Finding("git", "missing", "not installed", "results carry its commit (Debian: apt-get install git)")
    )
    compiler = find_compiler()
    yield Finding(
        "c++ compiler",
        "ok" if compiler else "note",
        compiler or "not installed",
        "" if compiler else "train.compile needs it on a processor (Debian: apt-get install g++)",
    )
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    yield Finding(
        "uv",
        "ok" if uv else "missing",
        "present" if uv else "not installed",
        "" if uv else "bentoml build needs it; run: make install",
    )
    versioned = (project.root / "data.dvc").is_file()
    yield Finding(
        "data",
        "ok" if versioned else "note",
        "versioned" if versioned else "not versioned yet",
        "" if versioned else "run: tca data render",
    )


def _pins(project: Project) -> Finding:
    constraints = project.root / "constraints.txt"
    if not constraints.is_file():
        return Finding("packages", "note", "no constraints.txt", "there are no pins to compare with")
    lines = constraints.read_text(encoding="utf-8").splitlines()
    pins = dict(
        line.split(";")[0].strip().split("==", 1) for line in lines if "==" in line and not line.startswith("#")
    )
    other = [
        f"{name} {read_version(name) or 'absent'}" for name, version in pins.items() if read_version(name) != version
    ]
    if not other:
        return Finding("packages", "ok", f"{len(pins)} as pinned", "")
    shown = ", ".join(other[:3]) + (", ..." if len(other) > 3 else "")
    return Finding("packages", "note", f"{len(other)} of {len(pins)} not as pinned", f"{shown}; run: make install")


def _ports(project: Project) -> Iterator[Finding]:
    try:
        settings = read_settings(project)
    except InputError as error:
        yield Finding("ports", "missing", error.message, error.remedy or "")
        return
    ours = read_held_ports(read_services(project.home).values())
    for name, port, variable in (
        ("port", settings.port, "TCA_PORT"),
        ("admin port", settings.admin_port, "TCA_ADMIN_PORT"),
    ):
        if port in ours:
            yield Finding(name, "ok", str(port), f"held by our {ours[port]}")
        elif is_port_free(port):
            yield Finding(name, "ok", str(port), "free")
        else:
            yield Finding(name, "missing", str(port), f"in use by another program; stop it, or set {variable}")


def _outlook(gpus: list[Gpu], flags: frozenset[str]) -> dict[str, str]:
    tensorrt = bool(gpus) and util.find_spec("tensorrt") is not None
    engines = [name for name, there in (("TensorRT", tensorrt), ("OpenVINO", bool(read_version("openvino")))) if there]
    engines += ["ONNX Runtime"] if read_version("onnxruntime") else []
    if not engines:
        return {"training": "not possible yet", "export": "no engine is installed", "serving": "no engine is installed"}
    where = (
        f"on {len(gpus)} GPU{'s' if len(gpus) > 1 else ''}"
        if gpus
        else "on the processor; the demo's sizes are made for that"
    )
    able = all(float(gpu.compute_capability) >= 8 for gpu in gpus) if gpus else "amx_bf16" in flags
    free_gb = read_memory().free_bytes / 1e9
    settings = f"train.precision auto is {'bf16' if able else 'fp32'}; {free_gb:.0f} GB of memory are free"
    precision = " (bf16 possible)" if engines[0] == "OpenVINO" and "amx_bf16" in flags else ""
    return {
        "training": f"{where}; {settings}" if read_version("torch") else "not possible: PyTorch is not installed",
        "export": f"engines that can be built here: {', '.join(engines)}",
        "serving": f"with {engines[0]}{precision}",
    }
