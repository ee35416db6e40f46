from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flows.adapters.processes import (
    REGISTER,
    end_children,
    find_free_port,
    forget,
    is_alive,
    read_services,
    register,
    require_free_port,
    spawn,
    stop,
)
from flows.errors import Conflict, ServiceError

SLEEPER = "import signal, sys; print('up', flush=True); signal.pause()"
STUBBORN = SLEEPER.replace("print", "signal.signal(signal.SIGTERM, signal.SIG_IGN); print") + "; signal.pause()"


def start(home: Path, code: str, name: str = "one"):
    record = spawn(
        name, [sys.executable, "-c", code], env=dict(os.environ), log=home / "logs" / f"{name}.log", home=home
    )
    log = Path(record.log)
    while "up" not in log.read_text():
        assert is_alive(record)
    return record


def test_a_process_is_registered_lives_and_stops(tmp_path: Path) -> None:
    record = start(tmp_path, SLEEPER)
    assert read_services(tmp_path) == {"one": record}
    assert is_alive(record)
    stop(record)
    assert not is_alive(record)
    forget(tmp_path, "one")
    assert read_services(tmp_path) == {}


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    record = start(tmp_path, STUBBORN)
    stop(record, grace_s=0.2)
    assert not is_alive(record)


def test_a_later_owner_of_the_pid_is_not_taken_for_the_service(tmp_path: Path) -> None:
    record = start(tmp_path, SLEEPER)
    assert not is_alive(replace(record, started_at=record.started_at - 100, birth=""))
    place, _, ticks = record.birth.rpartition(" ")
    assert not is_alive(replace(record, birth=f"{place} {int(ticks) - 1}"))
    assert not is_alive(replace(record, birth=f"another-boot {ticks}"))
    stop(record)


def test_setting_the_clock_ends_no_service(tmp_path: Path) -> None:
    record = start(tmp_path, SLEEPER)
    assert is_alive(replace(record, started_at=record.started_at - 3600))
    stop(record)


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, "up", flush=True)
child.wait()
"""


@pytest.mark.parametrize("killed", [True, False], ids=["found dead", "stopped"])
def test_what_a_dead_service_left_behind_is_ended(tmp_path: Path, killed: bool) -> None:
    argv = [sys.executable, "-c", PARENT, STUBBORN]
    record = spawn("one", argv, env=dict(os.environ), log=tmp_path / "log", home=tmp_path)
    deadline = time.monotonic() + 20
    while (tmp_path / "log").read_text().count("up") < 2:
        assert time.monotonic() < deadline
    child = int((tmp_path / "log").read_text().split()[0])
    if killed:
        os.kill(record.pid, signal.SIGKILL)
        while is_alive(record):
            assert time.monotonic() < deadline
        end_children(replace(record, birth="another-boot 1"))
        assert _runs(child), "the number is not ours after another boot"
        end_children(record)
    else:
        stop(record)
    while _runs(child):
        assert time.monotonic() < deadline


def _runs(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_same_name_is_replaced_and_others_are_kept(tmp_path: Path) -> None:
    record = start(tmp_path, SLEEPER)
    register(tmp_path, replace(record, name="two"))
    register(tmp_path, replace(record, address="elsewhere"))
    assert {one.name: one.address for one in read_services(tmp_path).values()} == {"one": "elsewhere", "two": ""}
    stop(record)


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="could not be started"):
        spawn("none", ["/no/such/program"], env={}, log=tmp_path / "log", home=tmp_path)


def test_a_port_in_use_names_the_setting() -> None:
    port = find_free_port()
    require_free_port(port, "TCA_PORT")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with pytest.raises(Conflict, match=f"port {port} is in use.*TCA_PORT"):
            require_free_port(port, "TCA_PORT")


def test_of_two_that_start_the_same_one_runs(tmp_path: Path) -> None:
    record = start(tmp_path, SLEEPER)
    again = spawn(
        "one", [sys.executable, "-c", SLEEPER], env=dict(os.environ), log=tmp_path / "log", home=tmp_path, once=True
    )
    assert again == record
    assert read_services(tmp_path) == {"one": record}
    assert (tmp_path / "log").read_text() == "", "the second one has begun"
    stop(record)
    later = spawn(
        "one", [sys.executable, "-c", SLEEPER], env=dict(os.environ), log=tmp_path / "log", home=tmp_path, once=True
    )
    assert later != record
    assert is_alive(later)
    stop(later)


KILLED_BEFORE = """
import os, signal, sys
from pathlib import Path
from flows.adapters import processes

processes._enter = lambda home, record, once: (print(record.pid, flush=True), os.kill(os.getpid(), signal.SIGKILL))
home = Path(sys.argv[1])
processes.spawn("one", [sys.executable, "-c", sys.argv[2]], env=dict(os.environ), log=home / "log", home=home)
"""


def test_who_starts_a_process_and_dies_before_writing_it_down_leaves_no_orphan(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE, str(tmp_path), SLEEPER], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 20
    while Path(f"/proc/{done.stdout.strip()}/cmdline").exists():
        assert time.monotonic() < deadline, "it waits for ever, or has begun"
        time.sleep(0.01)
    assert (tmp_path / "log").read_text() == ""
    assert read_services(tmp_path) == {}


def test_a_process_reads_nothing_of_what_began_it(tmp_path: Path) -> None:
    code = "import sys; print(repr(sys.stdin.read()), sys.argv[1:], 'up', flush=True)"
    argv = [sys.executable, "-c", code, "with space", "$HOME", "a'b"]
    spawn("one", argv, env=dict(os.environ), log=tmp_path / "log", home=tmp_path)
    deadline = time.monotonic() + 20
    while "up" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
    assert (tmp_path / "log").read_text().startswith("'' ['with space', '$HOME', \"a'b\"]")


def test_a_register_that_cannot_be_written_starts_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / f"{REGISTER}.draft").mkdir()
    with pytest.raises(ServiceError, match="register of services cannot be written"):
        spawn("one", [sys.executable, "-c", SLEEPER], env=dict(os.environ), log=tmp_path / "log", home=home)
    assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("text", ["", "[{]", json.dumps([{"name": "one"}])])
def test_a_damaged_register_is_said_so(tmp_path: Path, text: str) -> None:
    (tmp_path / REGISTER).write_text(text)
    with pytest.raises(ServiceError, match="register of services is damaged.*Stop what runs by hand"):
        read_services(tmp_path)
