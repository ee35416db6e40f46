"""Memory that this process may take, and what of it is free: the machine's, or what its containers leave."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Memory:
    """Bytes that all processes here may take together, and those that are still free."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class _Files:
    """How one version of control groups calls its figures."""

    limit: str
    used: str
    evictable: str


_V2 = _Files("memory.max", "memory.current", "inactive_file")
_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def read_memory(cgroups: Path = _CGROUPS, own: Path = _OWN) -> Memory:
    """The machine's memory, or less where a control group that this process is in (or one above it) limits it.

    The page cache counts as free: the kernel gives it up before it kills anybody.

    Args:
        cgroups: Where control groups are mounted, version 1 or 2.
        own: The kernel's list of the control groups of this process.
    """
    import psutil

    machine = psutil.virtual_memory()
    limits = [Memory(int(machine.total), int(machine.available)), *_limits(cgroups, own)]
    total = min(limit.total_bytes for limit in limits)
    return Memory(total, max(0, min(limit.free_bytes for limit in limits)))


def give_back_memory() -> None:
    """Hand freed memory back to the system: glibc keeps it otherwise. Elsewhere this does nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _limits(cgroups: Path, own: Path) -> Iterator[Memory]:
    for folder, files in _folders(cgroups, own):
        limit, used = _read_number(folder / files.limit), _read_number(folder / files.used)
        if limit is not None and used is not None:
            yield Memory(limit, limit - used + _read_evictable(folder / "memory.stat", files.evictable))


def _folders(cgroups: Path, own: Path) -> Iterator[tuple[Path, _Files]]:
    """The groups of this process, from its own up to the root; in a container the root is its own."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root, files = (cgroups, _V2) if controllers == "" else (cgroups / "memory", _V1)
        folder = Path(path.strip("/"))
        for level in (folder, *folder.parents):
            yield root / level, files


def _read_number(path: Path) -> int | None:
    """The number in a file; None where there is none, as in "max"."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _read_evictable(path: Path, key: str) -> int:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(value) for name, _, value in (line.partition(" ") for line in lines) if name == key), 0)
