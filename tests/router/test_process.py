"""The real process: `python -m bentos.router`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bentos.router.__main__ import main

Spawn = Callable[..., Awaitable[tuple[asyncio.subprocess.Process, str, str]]]


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """Start a router with these options on free ports; returns the process and its public and admin address."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*options: str) -> tuple[asyncio.subprocess.Process, str, str]:
        given = options or ("--port", "0", "--admin-port", "0")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bentos.router", "--state-dir", str(tmp_path), *given, stderr=asyncio.subprocess.PIPE
        )
        started.append(process)
        assert process.stderr is not None
        async with asyncio.timeout(30):
            while b"listening on" not in (line := await process.stderr.readline()):
                assert line, "the router ended before it listened"
        words = line.decode().replace(",", "").split()
        return process, words[words.index("on") + 1], words[-1]

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def stoppable() -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A detector that is a process of its own, and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.fake_backend", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    yield process, f"http://127.0.0.1:{int(await process.stdout.readline())}"
    process.kill()
    await process.wait()


async def test_sigterm_finishes_what_is_in_flight(spawn: Spawn, tmp_path: Path, champion: Any) -> None:
    process, url, admin = await spawn()
    token = (tmp_path / "token").read_text().strip()
    snapshot = {
        "epoch": 1, "generation": 1, "mode": "champion", "share": 0, "promotion": None,
        "champion": champion.backend(), "candidate": None,
    }  # fmt: skip
    async with aiohttp.ClientSession() as client:
        async with client.put(f"{admin}/routing", json=snapshot, headers={"authorization": f"Bearer {token}"}) as done:
            assert done.status == 200
        champion.gate = asyncio.Event()
        frame = asyncio.ensure_future(client.post(f"{url}/v1/detect", data=b"frame"))
        async with asyncio.timeout(20):
            while not champion.num_waiting:
                await asyncio.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while b"draining" not in await process.stderr.readline():
            pass
        champion.gate.set()
        response = await frame
        assert (response.status, response.headers["connection"]) == (200, "close")
        await response.read()
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_router_killed_under_load_goes_on_where_it_was_and_no_frame_stays_unanswered(
    spawn: Spawn, tmp_path: Path, champion: Any, candidate: Any
) -> None:
    """SIGKILL in a canary, then a new process on the same state and ports. Cameras repeat what was not answered."""
    process, url, admin = await spawn()
    ports = "--port", url.rpartition(":")[2], "--admin-port", admin.rpartition(":")[2]
    order = {"authorization": f"Bearer {(tmp_path / 'token').read_text().strip()}"}
    snapshot = {
        "epoch": 3, "generation": 9, "mode": "canary", "share": 0.5, "promotion": 5,
        "champion": champion.backend(), "candidate": candidate.backend(),
    }  # fmt: skip
    answers: Counter[str] = Counter()
    stop = asyncio.Event()
    async with aiohttp.ClientSession() as client, asyncio.timeout(60):

        async def ask(what: str) -> dict[str, Any]:
            async with client.get(admin + what, headers=order) as response:
                return dict(await response.json())

        async def street(camera: str) -> None:
            for number in itertools.count():
                name = f"{camera}-{number}"
                while not answers[name]:
                    with contextlib.suppress(aiohttp.ClientError):
                        headers = {"x-camera-id": camera, "x-request-id": name}
                        async with client.post(f"{url}/v1/detect", data=b"frame", headers=headers) as response:
                            await response.read()
                            answers[name] += response.status == 200
                if stop.is_set():
                    return

        async with client.put(f"{admin}/routing", json=snapshot, headers=order) as done:
            assert done.status == 200
        cameras = [asyncio.ensure_future(street(f"cam{number}")) for number in range(6)]
        while len(taken := (await ask("/stats"))["canary_cameras"]) < 3:
            pass
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        process, _, _ = await spawn(*ports)
        assert await ask("/routing") == snapshot
        while (await ask("/stats"))["requests_total"] < 60:
            pass
        assert set((await ask("/stats"))["canary_cameras"]) == set(taken)
        stop.set()
        await asyncio.gather(*cameras)
    assert set(answers.values()) == {1}
    process.terminate()
    assert await process.wait() == 0


@pytest.mark.parametrize("mode", ["champion", "shadow", "canary"])
async def test_a_champion_that_is_stopped_loses_no_frame_and_is_used_again_when_it_goes_on(
    spawn: Spawn, tmp_path: Path, stoppable: tuple[asyncio.subprocess.Process, str], candidate: Any, mode: str
) -> None:
    """SIGSTOP: it accepts connections and answers nothing. SIGCONT: it answers copies, then users."""
    champion, champion_url = stoppable
    ports = "--port", "0", "--admin-port", "0"
    _, url, admin = await spawn(*ports, "--candidate-timeout-ms", "250")
    order = {"authorization": f"Bearer {(tmp_path / 'token').read_text().strip()}"}
    snapshot = {
        "epoch": 1, "generation": 1, "mode": mode, "share": 0, "promotion": 1,
        "champion": {"version": "1", "digest": "", "url": champion_url}, "candidate": candidate.backend(),
    }  # fmt: skip
    async with aiohttp.ClientSession() as client, asyncio.timeout(60):

        async def served_by() -> str:
            async with client.post(f"{url}/v1/detect", data=b"frame") as response:
                assert response.status == 200, await response.text()
                return response.headers["x-served-by"]

        async with client.put(f"{admin}/routing", json=snapshot, headers=order) as done:
            assert done.status == 200
        assert await served_by() == "champion"
        champion.send_signal(signal.SIGSTOP)
        assert [await served_by() for _ in range(5)] == ["candidate"] * 5
        champion.send_signal(signal.SIGCONT)
        while await served_by() != "champion":
            pass


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux tells the limits of another process")
async def test_many_users_do_not_end_at_the_soft_limit_of_open_files(spawn: Spawn) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        process, _, _ = await spawn()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_port_in_use_is_named(tmp_path: Path, caplog: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["--port", str(port), "--admin-port", "0", "--state-dir", str(tmp_path)]) == 3
    assert str(port) in caplog.text and "--port" in caplog.text


def test_a_broken_state_directory_is_input_that_is_wrong(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "routing.json").write_text("{")
    assert main(["--port", "0", "--admin-port", "0", "--state-dir", str(tmp_path)]) == 2
    assert "routing.json" in caplog.text
