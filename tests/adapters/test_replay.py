"""Replayed cameras against a real HTTP server in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image

from flows.adapters.replay import main, replay
from flows.adapters.replay_report import quantile
from flows.errors import DataError, InputError, ServiceError


class Service:
    """Answers POST /v1/detect as `behave` (called with the number of the frame) says: a status, or 0 to hang up."""

    def __init__(self) -> None:
        self.behave = lambda number: 200
        self.own_id: str | None = None
        self.hold_first_s = 0.0
        self.ids: list[str] = []
        self.cameras: Counter[str] = Counter()
        self.keys: set[str | None] = set()
        self.peers: set[object] = set()
        self.got_some = threading.Event()

    async def detect(self, request: web.Request) -> web.Response:
        await request.read()
        number = len(self.ids)
        self.ids.append(request.headers["X-Request-ID"])
        self.cameras[request.headers["X-Camera-ID"]] += 1
        self.keys.add(request.headers.get("X-API-Key"))
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        if len(self.ids) >= 3:
            self.got_some.set()
        if number == 0 and self.hold_first_s:
            await asyncio.sleep(self.hold_first_s)
        status = self.behave(number)
        if status == 0:
            request.transport.abort()
        headers = {
            "X-Request-ID": self.own_id or self.ids[number],
            "X-Served-By": "champion" if number % 2 else "candidate",
            "X-Served-Version": "4",
        }
        return web.json_response({}, status=status or 200, headers=headers)

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        app = web.Application()
        app.router.add_post("/v1/detect", self.detect)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self.loop.run_until_complete(runner.setup())
        self.loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.started.set()
        self.loop.run_forever()
        self.loop.run_until_complete(runner.cleanup())

    def __enter__(self) -> Service:
        self.loop, self.started = asyncio.new_event_loop(), threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        self.started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        yield service


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (32, 24), (index * 80, 0, 0)).save(folder / f"{index}.jpg")
    return folder


@pytest.mark.parametrize("key", [None, "tca_1_secret"])
def test_the_key_of_the_environment_is_shown(service: Service, frames: Path, monkeypatch, key) -> None:
    monkeypatch.delenv("TCA_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("TCA_API_KEY", key)
    replay(frames, service.url, 1, 40.0, 0.1)
    assert service.keys == {key}


def test_every_scheduled_frame_is_sent_once_on_one_connection_a_camera(service: Service, frames: Path) -> None:
    report = replay(frames, service.url + "/", 2, 20.0, 0.5)
    assert (report.sent, report.exactly_once, report.lost, report.failed, report.unsent) == (20, 20, 0, 0, 0)
    assert len(set(service.ids)) == 20 and len(service.peers) == 2
    assert service.cameras == {"cam01": 10, "cam02": 10}
    assert report.answered == {"200": 20}
    assert report.served_by == {"champion 4": 10, "candidate 4": 10}
    assert report.latency_ms is not None
    assert 0 < report.latency_ms.p50 <= report.latency_ms.p95 <= report.latency_ms.p99
    assert [(second.second, second.sent, second.good) for second in report.timeline] == [(0, 20, 20)]
    assert report.text().startswith("20 of 20 frames answered, 0 lost, 0 refused or failed\n")


def test_refusals_are_counted_by_status(service: Service, frames: Path) -> None:
    service.behave = lambda number: 503 if number % 4 == 0 else 200
    report = replay(frames, service.url, 1, 40.0, 0.5)
    assert (report.answered, report.failed, report.lost, report.exactly_once) == ({"200": 15, "503": 5}, 5, 0, 15)


def test_frames_without_an_answer_are_lost(service: Service, frames: Path) -> None:
    service.behave = lambda number: 0 if number % 5 == 0 else 200
    report = replay(frames, service.url, 1, 40.0, 0.5)
    assert (report.sent, report.lost, report.exactly_once) == (20, 4, 16)
    assert sum(report.errors.values()) == 4


def test_answers_to_another_id_are_not_counted_as_ours(service: Service, frames: Path) -> None:
    service.own_id = "not-yours"
    report = replay(frames, service.url, 1, 20.0, 0.5)
    assert (report.answered, report.exactly_once) == ({"200": 10}, 0)


def test_without_a_good_answer_there_is_no_latency(service: Service, frames: Path) -> None:
    service.behave = lambda number: 500
    report = replay(frames, service.url, 1, 20.0, 0.2)
    assert (report.latency_ms, report.rate_per_s, report.failed) == (None, 0.0, 4)
    assert report.timeline[0].p99_ms is None


def test_latency_counts_from_the_scheduled_moment(service: Service, frames: Path) -> None:
    """The first answer takes 300 ms; the frames due meanwhile waited too, though each was answered at once."""
    service.hold_first_s = 0.3
    report = replay(frames, service.url, 1, 50.0, 0.4)
    assert (report.sent, report.exactly_once) == (20, 20)
    assert report.latency_ms is not None and report.latency_ms.p50 > 90


def test_it_stops_when_told(service: Service, frames: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    report = replay(
        frames, service.url, 2, 20.0, None, service.got_some.is_set, lambda *progress: seen.append(progress)
    )
    assert report.sent == report.exactly_once >= 3


def test_it_runs_outside_the_main_thread(service: Service, frames: Path) -> None:
    reports = []
    thread = threading.Thread(target=lambda: reports.append(replay(frames, service.url, 1, 20.0, 0.1)))
    thread.start()
    thread.join()
    assert reports[0].exactly_once == 2


@pytest.mark.parametrize(
    ("url", "cameras", "fps", "seconds"),
    [
        ("http://127.0.0.1:1", 0, 1.0, 1.0),
        ("http://127.0.0.1:1", 1, 0.0, 1.0),
        ("http://127.0.0.1:1", 1, float("nan"), 1.0),
        ("http://127.0.0.1:1", 1, 1.0, -1.0),
        ("127.0.0.1:3000", 1, 1.0, 1.0),
        ("http://[", 1, 1.0, 1.0),
        ("", 1, 1.0, 1.0),
    ],
)
def test_wrong_input_is_refused(frames: Path, url: str, cameras: int, fps: float, seconds: float) -> None:
    with pytest.raises(InputError):
        replay(frames, url, cameras, fps, seconds)


def test_nobody_there_says_what_to_do(frames: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ServiceError, match="tca serve"):
            replay(frames, url, 1, 1.0, 1.0)


def test_a_missing_source_is_refused(service: Service, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        replay(tmp_path / "nowhere", service.url, 1, 1.0, 1.0)


@pytest.mark.parametrize("ending", ["signal", "file"])
def test_as_a_process_it_reports_when_it_is_told_to_stop(
    service: Service, frames: Path, tmp_path: Path, ending: str
) -> None:
    result, until = tmp_path / "made" / "replay.json", tmp_path / "until"
    argv = [sys.executable, "-m", "flows.adapters.replay", str(frames), "--url", service.url]
    options = ["--cameras", "2", "--fps", "20", "--json", str(result), "--until-file", str(until)]
    process = subprocess.Popen([*argv, *options])
    assert service.got_some.wait(60)
    if ending == "signal":
        process.send_signal(signal.SIGTERM)
    else:
        until.touch()
    assert process.wait(30) == 0
    report = json.loads(result.read_text())
    assert report["sent"] == report["exactly_once"] >= 3
    assert [path.name for path in result.parent.iterdir()] == ["replay.json"]


def test_as_a_process_it_ends_with_the_exit_code_of_its_error(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(frames), "--url", "nowhere"]) == 2
    assert "not the address of a service" in capsys.readouterr().err


def test_as_a_process_it_prints_without_a_file(
    service: Service, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(frames), "--url", service.url, "--cameras", "1", "--fps", "20", "--seconds", "0.1"]) == 0
    assert capsys.readouterr().out.startswith("2 of 2 frames answered")


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([7.0], 0.5, 7.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), ([1.0, 2.0], 0.99, 2.0)]
)
def test_quantile(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected
