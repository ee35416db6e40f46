"""Machines that meet: what must be the same, and what is said when they do not come, differ, or cannot be found."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from flows.errors import Conflict, InputError, ServiceError, TcaError
from flows.training.launching.agent_order import Machine, Order, data_version
from flows.training.launching.meeting import ask_to_join, interface_of, own_address, receive_machines, split_rendezvous


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def order(
    tmp_path: Path, rendezvous: str, *, is_first: bool, nodes: int = 2, timeout_s: float = 60.0, code: str = "c0de"
) -> Order:
    host = "first" if is_first else "second"
    machine = Machine(
        host=host, nodes=nodes, backend="gloo", data_version="1234", code=code, torch="2", ultralytics="8"
    )
    return Order(
        is_first=is_first,
        num_nodes=nodes,
        num_processes=1,
        gpus=(),
        rendezvous=rendezvous,
        restarts=2,
        timeout_s=timeout_s,
        log_dir=tmp_path,
        machine=machine,
    )


def receive(first: Order, errors: list[TcaError]) -> None:
    try:
        with receive_machines(first):
            pass
    except TcaError as error:
        errors.append(error)


def test_machines_that_are_alike_get_the_same_terms(tmp_path: Path, port: int) -> None:
    rendezvous = f"127.0.0.1:{port}"
    with_first: list[TcaError] = []
    thread = threading.Thread(target=receive, args=(order(tmp_path, rendezvous, is_first=True), with_first))
    thread.start()
    terms = ask_to_join(order(tmp_path, rendezvous, is_first=False))
    thread.join()
    assert not with_first
    assert terms.restarts == 2
    assert len(terms.run_id) == 32


def test_a_difference_is_named_on_both(tmp_path: Path, port: int) -> None:
    rendezvous = f"127.0.0.1:{port}"
    with_first: list[TcaError] = []
    thread = threading.Thread(target=receive, args=(order(tmp_path, rendezvous, is_first=True), with_first))
    thread.start()
    told = "the code of this product on second is beef, on the first machine, first, c0de"
    with pytest.raises(InputError, match=told):
        ask_to_join(order(tmp_path, rendezvous, is_first=False, code="beef"))
    thread.join()
    assert told in str(with_first[0])


def test_who_waits_in_vain_says_how_many_came(tmp_path: Path, port: int) -> None:
    rendezvous = f"127.0.0.1:{port}"
    with_first: list[TcaError] = []
    first = order(tmp_path, rendezvous, is_first=True, nodes=3, timeout_s=1.0)
    thread = threading.Thread(target=receive, args=(first, with_first))
    thread.start()
    with pytest.raises(InputError, match="2 of 3 machines"):
        ask_to_join(order(tmp_path, rendezvous, is_first=False, nodes=3))
    thread.join()
    assert f"2 of 3 machines came to {rendezvous} within 1 s" in str(with_first[0])
    assert f"tca join {rendezvous}" in str(with_first[0])


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with (
            pytest.raises(Conflict, match=f"port {port} of this machine is in use"),
            receive_machines(order(tmp_path, f"127.0.0.1:{port}", is_first=True)),
        ):
            pass


def test_an_unknown_host_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"the host nowhere\.invalid of train\.distributed\.rendezvous"):
        own_address("nowhere.invalid:29400")


def test_a_rendezvous_where_nobody_listens_is_given_up(tmp_path: Path, port: int) -> None:
    with pytest.raises(ServiceError, match=rf"no training answers at 127\.0\.0\.1:{port} within 1 s"):
        ask_to_join(order(tmp_path, f"127.0.0.1:{port}", is_first=False, timeout_s=1.0))


def test_the_way_to_this_machine_is_its_loopback() -> None:
    assert own_address("127.0.0.1:29400") == "127.0.0.1"
    assert interface_of("127.0.0.1") == "lo"
    assert split_rendezvous("[fe80::1]:29400") == ("fe80::1", 29400)


def test_the_data_version_is_that_of_the_file_beside(tmp_path: Path) -> None:
    assert data_version(tmp_path / "data") == "unversioned"
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 12ab.dir\n  path: data\n", encoding="utf-8")
    assert data_version(tmp_path / "data") == "12ab"
