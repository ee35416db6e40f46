"""Facts about this machine: cores, memory, processor, GPUs, ports, installed versions. Cheap, and without opinions."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from flows.adapters.processes import ServiceRecord, is_alive
from flows.memory import read_memory

_GPU_QUERY = ("--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader")


@dataclass(frozen=True)
class Gpu:
    """What nvidia-smi says of one GPU."""

    name: str
    memory: str
    driver: str
    compute_capability: str


def read_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists; none where there is no such program or it fails."""
    try:
        done = subprocess.run(["nvidia-smi", *_GPU_QUERY], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(done.stdout)


def parse_gpus(csv: str) -> list[Gpu]:
    """Turn nvidia-smi's lines of name, memory, driver and compute capability into `Gpu`s."""
    rows = [[cell.strip() for cell in line.split(",")] for line in csv.splitlines() if line.strip()]
    return [Gpu(*row) for row in rows if len(row) == 4]


def read_cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The instruction sets that the kernel names; empty where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(
        next((line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))), "").split()
    )


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_memory_gb() -> float:
    """Memory that this process may use: the machine's, or what its container leaves of it."""
    return read_memory().total_bytes / 1e9


def read_version(package: str) -> str | None:
    """The installed version of `package`, from its metadata; None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def read_held_ports(records: Iterable[ServiceRecord]) -> dict[int, str]:
    """The TCP ports on which living services (or their child processes) listen, with the service's name."""
    import psutil

    held: dict[int, str] = {}
    for record in filter(is_alive, records):
        try:
            service = psutil.Process(record.pid)
            family = [service, *service.children(recursive=True)]
            sockets = [one for process in family for one in process.net_connections(kind="tcp")]
        except psutil.Error:
            continue
        held |= {one.laddr.port: record.name for one in sockets if one.status == psutil.CONN_LISTEN}
    return held


def is_port_free(port: int) -> bool:
    """Whether nobody listens on this machine's `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
