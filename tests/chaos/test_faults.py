"""A worker that dies or hangs under load, a supervisor that dies, and a disk that is full."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos.load import Frame, post, session
from tests.chaos.pictures import JPEG, one_frame
from tests.chaos.service import FRAME_PATH, Service, ask, start, stop
from tests.detector.conftest import Services, write_fake

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

NUM_CAMERAS = 10
FRAMES_PER_CAMERA = 60
INTERVAL_S = 0.1
PATIENCE_S = 30.0
"""How long a camera tries again before it gives a frame up; recovery has to be much quicker."""
RECOVERY_S = 15.0
"""Start of a worker on a busy machine; two to three seconds on an idle one."""


class Outcome:
    """What became of the frames of all cameras: attempts that failed, frames that were given up."""

    def __init__(self) -> None:
        self.num_good = 0
        self.num_broken = 0
        self.num_refused = 0
        self.num_lost = 0


async def camera(url: str, frame: Frame, outcome: Outcome) -> None:
    """Send frames at a steady pace, each until it is answered."""
    async with session() as client:
        for _ in range(FRAMES_PER_CAMERA):
            deadline_s = time.monotonic() + PATIENCE_S
            while (status := (await post(client, url, frame))[0]) != 200 and time.monotonic() < deadline_s:
                outcome.num_broken += status == 0
                outcome.num_refused += status != 0
                await asyncio.sleep(0.05)
            outcome.num_good += status == 200
            outcome.num_lost += status != 200
            await asyncio.sleep(INTERVAL_S)


async def load_with(url: str, fault: Callable[[], None]) -> Outcome:
    """Ten cameras, and after a third of their time the fault."""
    outcome, frame = Outcome(), Frame(JPEG, one_frame())
    cameras = asyncio.gather(*(camera(url, frame, outcome) for _ in range(NUM_CAMERAS)))
    await asyncio.sleep(FRAMES_PER_CAMERA * INTERVAL_S / 3)
    await asyncio.to_thread(fault)
    await cameras
    return outcome


def said(service: Service, words: str) -> list[str]:
    return [line for line in service.log.read_text(errors="replace").splitlines() if words in line]


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> float:
    """Poll until it holds: how long it took, s."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < seconds, f"not after {seconds:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began_s


def is_ready(service: Service) -> bool:
    try:
        return ask(service.port, "GET", "/readyz")[0] == 200
    except OSError:
        return False


def test_a_killed_worker_is_replaced_and_no_frame_is_lost(services: Services, tmp_path: Path) -> None:
    service = start(services, write_fake(tmp_path / "model", '{"delay_ms": 10}'), tmp_path / "log")
    killed = service.worker.pid
    took_s: list[float] = []

    def fault() -> None:
        os.kill(killed, signal.SIGKILL)
        took_s.append(wait_until(lambda: is_ready(service), RECOVERY_S, "ready again"))

    outcome = asyncio.run(load_with(service.url, fault))
    print(f"SIGKILL: ready after {took_s[0]:.1f} s; {vars(outcome)}")
    assert outcome.num_lost == 0
    assert outcome.num_good == NUM_CAMERAS * FRAMES_PER_CAMERA
    assert outcome.num_broken <= NUM_CAMERAS, "more than what was under way"
    assert service.worker.pid != killed
    assert said(service, f"worker {killed} died by SIGKILL: starting another")
    assert said(service, f"worker {service.worker.pid} is ready, ")
    assert service.metric("detector_worker_restarts_total") == 1
    assert stop(service, services) == 0


def test_a_worker_that_hangs_is_replaced(services: Services, tmp_path: Path) -> None:
    service = start(services, write_fake(tmp_path / "model"), tmp_path / "log", DETECTOR_HANG_S="3")
    hung = service.worker.pid

    def fault() -> None:
        os.kill(hung, signal.SIGSTOP)
        wait_until(lambda: bool(said(service, "is ready, ")), 3 + RECOVERY_S, "another worker")

    outcome = asyncio.run(load_with(service.url, fault))
    print(f"SIGSTOP: {vars(outcome)}")
    assert outcome.num_lost == 0
    assert said(service, f"worker {hung} has not been well (/livez) for 3 s: killed")
    assert service.worker.pid != hung


def test_workers_that_die_again_and_again_are_given_up(services: Services, tmp_path: Path) -> None:
    service = start(services, write_fake(tmp_path / "model"), tmp_path / "log")
    process = services.processes[-1]
    for number in range(6):
        wait_until(lambda: bool(service.supervisor.children()), 20, "a worker")
        os.kill(service.worker.pid, signal.SIGKILL)
        wait_until(lambda n=number: len(said(service, "died by SIGKILL")) > n, 5, "noticed")  # type: ignore[misc]
    assert process.wait(timeout=10) == 3
    assert said(service, "6 deaths within 60 s, given up")


def test_no_orphan_keeps_the_port_when_the_supervisor_is_killed(services: Services, tmp_path: Path) -> None:
    service = start(services, write_fake(tmp_path / "model"), tmp_path / "log")
    worker = service.worker
    service.supervisor.kill()
    psutil.wait_procs([worker], timeout=5)
    assert not worker.is_running()
    with socket.create_server(("127.0.0.1", service.port)):
        pass


def test_stopping_under_load_loses_no_frame_that_was_accepted(services: Services, tmp_path: Path) -> None:
    """What was sent before SIGTERM is answered; what comes after is refused at once, instead of hanging."""
    service = start(services, write_fake(tmp_path / "model", '{"delay_ms": 100}'), tmp_path / "log")
    frame = Frame(JPEG, one_frame())

    async def scenario() -> list[int]:
        async with session() as client:
            sending = [asyncio.ensure_future(post(client, service.url, frame)) for _ in range(24)]
            await asyncio.sleep(0.15)
            service.supervisor.terminate()
            return [status for status, _ in await asyncio.gather(*sending)]

    assert asyncio.run(scenario()) == [200] * 24
    assert services.processes[-1].wait(timeout=30) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port), timeout=5)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB; the test is left out where nothing may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_recording_and_nothing_else(services: Services, tmp_path: Path, tiny_disk: Path) -> None:
    (tiny_disk / "filling").write_bytes(bytes(60_000))
    model = write_fake(tmp_path / "model")
    service = start(services, model, tmp_path / "log", DETECTOR_RECORD_DIR=str(tiny_disk / "records"))
    jpeg = one_frame()

    def send(count: int, first: int) -> None:
        for index in range(first, first + count):
            headers = {"content-type": JPEG, "x-camera-id": f"camera {index}"}
            assert ask(service.port, "POST", FRAME_PATH, jpeg, headers)[0] == 200

    send(60, 0)
    wait_until(lambda: bool(said(service, "no longer recorded")), 10, "said")
    send(60, 1000)
    assert len(said(service, "no longer recorded")) == 1
    (tiny_disk / "filling").unlink()
    send(1, 2000)
    wait_until(lambda: bool(said(service, "recording goes on")), 10, "said")
    assert stop(service, services) == 0
