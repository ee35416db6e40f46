"""Local services as processes that outlive the command that started them, and the register of which they are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.errors import Conflict, ServiceError

REGISTER = "services.json"


@dataclass(frozen=True)
class ServiceRecord:
    """One started process. `started_at` (seconds since the epoch) tells it from a later owner of the same pid."""

    name: str
    pid: int
    started_at: float
    address: str
    log: str


def spawn(
    name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, home: Path, address: str = ""
) -> ServiceRecord:
    """Start `argv` in a session of its own, output to `log`, and enter it in the register under `home`.

    Raises:
        ServiceError: The program could not be started at all.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as sink:
            process = subprocess.Popen(
                list(argv), env=dict(env), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
    except OSError as error:
        raise ServiceError(f"{name} could not be started: {error}") from error
    _CHILDREN[process.pid] = process
    record = ServiceRecord(name, process.pid, _create_time(process.pid) or time.time(), address, str(log))
    register(home, record)
    return record


def is_alive(record: ServiceRecord) -> bool:
    """Whether the very process of `record` still runs (not a zombie, not a later owner of its pid)."""
    if (child := _CHILDREN.get(record.pid)) is not None and child.poll() is not None:
        return False
    created = _create_time(record.pid)
    return created is not None and abs(created - record.started_at) < 1.0


def stop(record: ServiceRecord, grace_s: float = 10.0) -> None:
    """SIGTERM, then after `grace_s` SIGKILL to the whole process group. Returns when it is gone.

    Raises:
        ServiceError: It is still there five seconds after SIGKILL.
    """
    for sig, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        if not is_alive(record):
            return
        with contextlib.suppress(ProcessLookupError):
            if sig is signal.SIGKILL:
                os.killpg(record.pid, sig)
            else:
                os.kill(record.pid, sig)
        deadline = time.monotonic() + patience_s
        while is_alive(record) and time.monotonic() < deadline:
            time.sleep(0.02)
    if is_alive(record):
        raise ServiceError(f"{record.name} (process {record.pid}) did not stop", f"See {record.log}")


def register(home: Path, record: ServiceRecord) -> None:
    """Enter `record`, replacing one of the same name."""
    with _locked(home):
        kept = [other for other in _read(home) if other.name != record.name]
        _write(home, [*kept, record])


def forget(home: Path, name: str) -> None:
    """Take `name` out of the register; nothing happens when it is not there."""
    with _locked(home):
        _write(home, [record for record in _read(home) if record.name != name])


def read_services(home: Path) -> dict[str, ServiceRecord]:
    """What is registered, dead or alive, by name."""
    return {record.name: record for record in _read(home)}


def find_free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, setting: str) -> None:
    """Raises Conflict, naming `setting` as the way to another port, when `port` is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Conflict(
                f"port {port} is in use", f"Stop what listens there, or choose another with {setting}"
            ) from None


_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


def _create_time(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{REGISTER}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(home: Path) -> list[ServiceRecord]:
    try:
        return [ServiceRecord(**entry) for entry in json.loads((home / REGISTER).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []


def _write(home: Path, records: Sequence[ServiceRecord]) -> None:
    draft = home / f"{REGISTER}.draft"
    draft.write_text(json.dumps([asdict(record) for record in records], indent=1), encoding="utf-8")
    draft.replace(home / REGISTER)
