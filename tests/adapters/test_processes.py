from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.adapters.processes import (
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
    assert not is_alive(replace(record, started_at=record.started_at - 100))
    stop(record)


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
