"""How machines meet before they train together: who came, and whether all have the same code, data and libraries.

They meet in the TCP store of the first machine, which PyTorch's rendezvous then uses, too. The first goes on receiving
while it trains, so that another machine may take the place of one that was lost.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from flows.errors import Conflict, InputError, ServiceError
from flows.training.distributed.company import torch_distributed
from flows.training.launching.agent_order import Machine, Order

_POLL_S = 0.1
_READ = timedelta(seconds=60)


class Terms(BaseModel):
    """What the first machine answers to one that joins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str = ""
    restarts: int = 0
    refusal: str | None = None


@contextlib.contextmanager
def receive_machines(order: Order) -> Iterator[Terms]:
    """Wait for the other machines at HOST:PORT, which is this one, and receive later ones within the block.

    Raises:
        Conflict: The port is in use.
        InputError: A machine differs from this one.
        ServiceError: The host name is unknown, or not all machines came in time.
    """
    dist = torch_distributed()
    assert order.machine
    rendezvous = order.rendezvous
    host, port = _resolve(rendezvous)
    try:
        _probe(port)
        server = dist.TCPStore(host, port, is_master=True, multi_tenant=True, wait_for_workers=False, timeout=_READ)
    except OSError as error:
        raise _no_port(rendezvous, error) from None
    except RuntimeError as error:
        raise ServiceError(f"the rendezvous at {rendezvous} cannot be opened", str(error).splitlines()[0]) from None
    terms = Terms(run_id=uuid.uuid4().hex, restarts=order.restarts)
    reception = _Reception(dist.PrefixStore("meeting", server), order.machine, terms)
    reception.gather(order.num_nodes - 1, rendezvous, order.timeout_s)
    later = dist.PrefixStore("meeting", dist.TCPStore(host, port, is_master=False, timeout=_READ))
    over = threading.Event()
    thread = threading.Thread(target=reception.go_on, args=(later, over), daemon=True)
    thread.start()
    try:
        yield terms
    finally:
        over.set()
        thread.join()


class _Reception:
    def __init__(self, store: Any, first: Machine, terms: Terms) -> None:
        self._store, self._first, self._terms, self._came = store, first, terms, 0

    def gather(self, wanted: int, rendezvous: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._came < wanted:
            if (machine := self._next()) is not None:
                if refusal := self._first.difference(machine):
                    self._answer(range(1, self._came + 1), refusal)
                    raise InputError(refusal, "Make them the same on all machines, then start anew")
            elif time.monotonic() > deadline:
                told = f"{self._came + 1} of {wanted + 1} machines came to {rendezvous} within {timeout_s:g} s"
                self._answer(range(1, self._came + 1), told)
                raise ServiceError(
                    told,
                    f"Start on each other machine: tca join {rendezvous}. Do they reach this address, port included? "
                    "More time: train.distributed.timeout_s",
                )
            else:
                time.sleep(_POLL_S)
        self._answer(range(1, self._came + 1), None)

    def go_on(self, store: Any, over: threading.Event) -> None:
        self._store = store
        with contextlib.suppress(RuntimeError):
            while not over.wait(_POLL_S * 5):
                if (machine := self._next()) is not None:
                    self._answer([self._came], self._first.difference(machine))

    def _next(self) -> Machine | None:
        key = f"machine/{self._came + 1}"
        if not self._store.check([key]):
            return None
        self._came += 1
        return Machine.model_validate_json(self._store.get(key))

    def _answer(self, numbers: Any, refusal: str | None) -> None:
        for number in numbers:
            answer = self._terms.model_copy(update={"refusal": refusal})
            self._store.set(f"answer/{number}", answer.model_dump_json())
        if refusal:
            time.sleep(1.0)  # or the store would be gone before it is read


def ask_to_join(order: Order) -> Terms:
    """Offer this machine to the first one at HOST:PORT; returns when all have come.

    Raises:
        InputError: Something differs from the first machine.
        ServiceError: Nobody answers there in time.
    """
    dist = torch_distributed()
    assert order.machine
    rendezvous, timeout_s = order.rendezvous, order.timeout_s
    host, port = _resolve(rendezvous)
    wait = timedelta(seconds=timeout_s)
    try:
        store = dist.PrefixStore("meeting", dist.TCPStore(host, port, is_master=False, timeout=wait))
        number = store.add("number", 1)
        store.set(f"machine/{number}", order.machine.model_dump_json())
        store.wait([f"answer/{number}"], wait + timedelta(seconds=5))
        terms = Terms.model_validate_json(store.get(f"answer/{number}"))
    except RuntimeError:
        raise ServiceError(
            f"no training answers at {rendezvous} within {timeout_s:g} s",
            f"Is tca train running on the first machine with train.distributed.rendezvous: {rendezvous}, and is the "
            "port open from here?",
        ) from None
    if terms.refusal:
        raise InputError(f"the first machine refuses: {terms.refusal}", "Make them the same on all machines")
    return terms


def own_address(rendezvous: str) -> str:
    """The address of this machine from which it reaches HOST:PORT; nothing is sent. Raises ServiceError."""
    host, port = _resolve(rendezvous)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port or 9))
        except OSError as error:
            raise ServiceError(f"there is no way from here to {rendezvous}: {error}") from None
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    """The network interface that has this address."""
    import psutil

    named = psutil.net_if_addrs().items()
    return next((name for name, entries in named if any(entry.address == address for entry in entries)), None)


def split_rendezvous(rendezvous: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [ADDRESS]:PORT."""
    host, _, port = rendezvous.rpartition(":")
    return host.strip("[]"), int(port)


def _resolve(rendezvous: str) -> tuple[str, int]:
    host, port = split_rendezvous(rendezvous)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServiceError(
            f"the host {host} of train.distributed.rendezvous cannot be found: {error.strerror}",
            "Expected the name or address of the first machine, as all machines know it",
        ) from None
    return str(found[0][4][0]), port


def _probe(port: int) -> None:
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("", port))


def _no_port(rendezvous: str, error: OSError) -> Conflict | ServiceError:
    _, port = split_rendezvous(rendezvous)
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"port {port} of this machine is in use", "Choose another in train.distributed.rendezvous, on all machines"
        )
    return ServiceError(f"port {port} cannot be opened here: {error.strerror}")
