"""Local services as processes that outlive the command that started them, and the register of which they are."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
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
    """One started process, and what tells it from a later owner of the same pid."""

    name: str
    pid: int
    started_at: float
    """Seconds since the epoch, by the machine's clock as it is set now."""
    address: str
    log: str
    birth: str = ""
    """Boot, PID namespace and moment within the boot, where the kernel says so: setting the clock changes none."""


_WAIT_FOR_WORD = 'read -r word && exec "$@" </dev/null'
"""Shell: begins only once whoever started it has written it down; if that one dies first, it ends, and is no orphan."""


def spawn(
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    home: Path,
    address: str = "",
    once: bool = False,
) -> ServiceRecord:
    """Start `argv` in a session of its own, output to `log`, and enter it in the register under `home`.

    With `once`, a living process of that name is returned instead, also one that somebody else started just then.

    Raises:
        ServiceError: The program could not be started at all, or not be entered.
    """
    if shutil.which(argv[0]) is None:
        raise ServiceError(f"{name} could not be started: there is no program {argv[0]}")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _WAIT_FOR_WORD, name, *argv],
                env=dict(env),
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
    except OSError as error:
        raise ServiceError(f"{name} could not be started: {error}") from error
    assert process.stdin is not None
    started_at, birth = _birth(process.pid) or (time.time(), "")
    record = ServiceRecord(name, process.pid, started_at, address, str(log), birth)
    with process.stdin:  # closed without a word, it ends
        registered = _enter(home, record, once)
        if registered == record:
            _CHILDREN[process.pid] = process
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(b"begin\n")
                process.stdin.flush()
            return record
    process.wait()
    return registered


def is_alive(record: ServiceRecord) -> bool:
    """Whether the very process of `record` still runs (not a zombie, not a later owner of its pid)."""
    if (child := _CHILDREN.get(record.pid)) is not None and child.poll() is not None:
        return False
    born = _birth(record.pid)
    if born is None:
        return False
    started_at, birth = born
    return birth == record.birth if birth and record.birth else abs(started_at - record.started_at) < 1.0


def stop(record: ServiceRecord, grace_s: float = 10.0) -> None:
    """SIGTERM, then after `grace_s` SIGKILL to the whole process group. Returns when it is gone, its children with it.

    Raises:
        ServiceError: It is still there five seconds after SIGKILL.
    """
    for sig, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        if not is_alive(record):
            break
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
    end_children(record, patience_s=2.0)


def end_children(record: ServiceRecord, patience_s: float = 0.0) -> None:
    """SIGKILL, after `patience_s`, to what a service left behind that is gone itself: workers hold ports and memory."""
    place = _place()
    if not place or not record.birth.startswith(place) or _birth(record.pid) is not None:
        return  # it lives, or the number is another's: of another boot or container, or given out anew
    deadline = time.monotonic() + patience_s
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(record.pid, 0)
            time.sleep(0.02)
        os.killpg(record.pid, signal.SIGKILL)


def register(home: Path, record: ServiceRecord) -> None:
    """Enter `record`, replacing one of the same name. Raises ServiceError when it cannot be written."""
    _enter(home, record, once=False)


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


def _birth(pid: int) -> tuple[float, str] | None:
    """When a process began, as `started_at` and as `birth`; None when there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time()), _moment(pid)
    except psutil.NoSuchProcess:
        return None


def _moment(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{_place()} {fields[19]}" if _place() else ""  # starttime, the 22nd field of proc(5)


@functools.cache
def _place() -> str:
    """Boot and PID namespace, within which a number means one process at a time; "" where the kernel tells neither."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _enter(home: Path, record: ServiceRecord, once: bool) -> ServiceRecord:
    """Enter `record`, unless `once` and a living one of the same name is there: then that one. Returns who is in."""
    with _locked(home):
        known = {other.name: other for other in _read(home)}
        present = known.get(record.name)
        if once and present is not None and is_alive(present):
            return present
        _write(home, [*(other for other in known.values() if other.name != record.name), record])
    return record


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / f"{REGISTER}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ServiceError(
            f"the register of services cannot be written: {error.strerror}", f"Check disk and rights of {home}"
        ) from error


def _read(home: Path) -> list[ServiceRecord]:
    path = home / REGISTER
    try:
        return [ServiceRecord(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ServiceError(
            f"the register of services is damaged: {error}", f"Stop what runs by hand, then remove {path}"
        ) from error


def _write(home: Path, records: Sequence[ServiceRecord]) -> None:
    draft = home / f"{REGISTER}.draft"
    with draft.open("w", encoding="utf-8") as sink:
        json.dump([asdict(record) for record in records], sink, indent=1)
        sink.flush()
        os.fsync(sink.fileno())
    draft.replace(home / REGISTER)
