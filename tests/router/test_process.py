"""The real process: `python -m bentos.router`."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp

from bentos.router.__main__ import main


async def spawn(state: Path, *more: str) -> tuple[asyncio.subprocess.Process, str, str]:
    """Start a router on free ports; returns the process and its public and admin address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bentos.router", "--port", "0", "--admin-port", "0", "--state-dir", str(state), *more,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while b"listening on" not in (line := await process.stderr.readline()):
            assert line, "the router ended before it listened"
    words = line.decode().replace(",", "").split()
    return process, words[words.index("on") + 1], words[-1]


async def test_sigterm_finishes_what_is_in_flight(tmp_path: Path, champion: Any) -> None:
    process, url, admin = await spawn(tmp_path)
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
