from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from bentos.router.routing import Backend, Snapshot
from flows.adapters import router_admin
from flows.adapters.fake_traffic import FakeRegistry
from flows.adapters.local_traffic import LocalTraffic, service_name
from flows.adapters.processes import find_free_port, is_alive, read_services, spawn, stop
from flows.errors import Conflict, ServiceError
from flows.params import PromoteParams
from flows.rollout.controller import run_promotion
from flows.rollout.journal import open_journal
from flows.rollout.record import verify_record
from flows.rollout.traffic import Contender

PATIENCE_S = 30.0
A, B = "a" * 64, "b" * 64

STAND_IN = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, version, digest, fault = int(sys.argv[1]), *sys.argv[2:5]
BOX = {"class_id": 0, "class_name": "car", "confidence": 0.9, "box": {"x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 40.0}}

class Detector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(503 if fault == "unready" else 200, {"status": "ready"})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if fault == "slow":
            time.sleep(0.2)
        model = {"name": "stand-in", "version": version, "digest": digest}
        self.answer(200, {"request_id": self.headers.get("x-request-id"), "model": model, "detections": [BOX]})

    def answer(self, status, tree):
        body = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

if fault == "crash":
    sys.exit("no model here")
ThreadingHTTPServer(("127.0.0.1", port), Detector).serve_forever()
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Street:
    """A real router, stand-in detectors as processes, and cameras that send."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.faults: dict[str, str] = {}
        self.digests = {"1": A, "2": B}
        self.script = home / "stand_in.py"
        self.script.write_text(STAND_IN)
        port, admin_port = find_free_port(), find_free_port()
        self.url, self.admin_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
        argv = [sys.executable, "-m", "bentos.router", "--port", str(port), "--admin-port", str(admin_port)]
        argv += ["--state-dir", str(home / "router")]
        self.router_argv = argv
        self.router = spawn("router", argv, env=dict(os.environ), log=home / "logs" / "router.log", home=home)
        wait_for(self._answers)
        self.traffic = self.another_traffic()

    def another_traffic(self) -> LocalTraffic:
        return LocalTraffic(self.home, self.admin_url, self.home / "router", self._command)

    def _command(self, version: str, port: int) -> tuple[list[str], dict[str, str]]:
        fault = self.faults.get(version, "none")
        return [sys.executable, str(self.script), str(port), version, self.digests[version], fault], dict(os.environ)

    def _answers(self) -> bool:
        assert is_alive(self.router), Path(self.router.log).read_text()
        try:
            return httpx.get(f"{self.url}/livez", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        for record in read_services(self.home).values():
            stop(record, grace_s=5.0)


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    one = Street(tmp_path)
    yield one
    one.close()


def test_a_detector_is_started_once_and_found_by_whoever_comes_later(street: Street) -> None:
    assert street.traffic.find("1", A) is None
    backend = street.traffic.start("1", A)
    later = street.another_traffic()
    assert later.start("1", A) == later.find("1", A) == backend
    assert later.find("1", B) is None
    wait_for(lambda: later.is_ready(backend))
    later.warm_up(backend)
    assert later.is_alive(backend)
    later.stop(backend, grace_s=5.0)
    later.stop(backend, grace_s=5.0)
    assert not street.traffic.is_alive(backend)
    assert not street.traffic.is_ready(backend)
    assert service_name("1", A) not in read_services(street.home)


def test_another_model_than_the_pinned_one_is_refused(street: Street) -> None:
    street.digests["2"] = A
    backend = street.traffic.start("2", B)
    wait_for(lambda: street.traffic.is_ready(backend))
    with pytest.raises(ServiceError, match=f"version 2 answers with model digest {A[:12]}, expected {B[:12]}"):
        street.traffic.warm_up(backend)


def test_a_detector_that_is_not_there_answers_no_frame(street: Street) -> None:
    street.faults["1"] = "crash"
    backend = street.traffic.start("1", A)
    wait_for(lambda: not street.traffic.is_alive(backend))
    with pytest.raises(ServiceError, match="version 1 answers no frame"):
        street.traffic.warm_up(backend)
    with pytest.raises(ServiceError, match="version 1 ended while it started"):
        street.traffic.ensure_champion("1", A)


def test_the_routers_refusals_have_names(street: Street) -> None:
    now = street.traffic.routing()
    assert now.champion is None
    later = now.model_copy(update={"epoch": 3, "generation": 2})
    street.traffic.route(later)
    assert street.traffic.routing() == later
    with pytest.raises(Conflict, match="the router refuses"):
        street.traffic.route(later.model_copy(update={"epoch": 2, "share": 0.5}))
    with pytest.raises(ServiceError, match="with 400"):
        street.traffic.route(Snapshot.model_construct(**{**later.model_dump(), "epoch": -1}))
    assert street.traffic.observations(0)["observations"] == []
    assert street.traffic.stats()["requests_total"] == 0


def test_without_a_router_there_is_a_clear_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_admin, "PATIENCE_S", 0.0)
    traffic = LocalTraffic(tmp_path, "http://127.0.0.1:9", tmp_path, lambda version, port: ([], {}))
    with pytest.raises(ServiceError, match="tca serve"):
        traffic.routing()
    (tmp_path / "token").write_text("t")
    with pytest.raises(ServiceError, match="the router does not answer at http://127.0.0.1:9"):
        traffic.routing()


def test_a_router_that_is_started_again_is_waited_for(street: Street) -> None:
    snapshot = street.traffic.routing().model_copy(update={"epoch": 3, "generation": 2})
    street.traffic.route(snapshot)
    port, argv = street.admin_url.rpartition(":")[2], street.router_argv
    assert port in argv
    os.kill(street.router.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(street.router))
    street.router = spawn("router", argv, env=dict(os.environ), log=street.home / "log", home=street.home)
    street.traffic.route(snapshot.model_copy(update={"generation": 3}))
    assert street.traffic.routing().order == (3, 3)


def test_a_champion_is_served_and_replaced(street: Street) -> None:
    first = street.traffic.ensure_champion("1", A)
    assert street.traffic.ensure_champion("1", A) == first
    assert street.traffic.routing().champion == first
    second = street.traffic.ensure_champion("2", B)
    assert street.traffic.routing().champion == second
    assert not street.traffic.is_alive(first)
    reply = httpx.post(f"{street.url}/v1/detect", content=b"x", headers={"content-type": "image/jpeg"}, trust_env=False)
    assert reply.headers["x-served-version"] == "2"


def test_the_champion_of_an_open_promotion_is_not_replaced(street: Street) -> None:
    champion = street.traffic.ensure_champion("1", A)
    now = street.traffic.routing()
    street.traffic.route(now.model_copy(update={"generation": now.generation + 1, "promotion": 7}))
    with pytest.raises(Conflict, match="promotion 7 is open"):
        street.traffic.ensure_champion("2", B)
    assert street.traffic.routing().champion == champion


class Cameras(threading.Thread):
    """Cameras that send frames through the router until they are told to stop."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.done, self.statuses = url, threading.Event(), list[int]()

    def run(self) -> None:
        with httpx.Client(trust_env=False) as client:
            number = 0
            while not self.done.wait(0.01):
                headers = {"content-type": "image/jpeg", "x-camera-id": f"cam{number % 4}"}
                self.statuses.append(
                    client.post(f"{self.url}/v1/detect", content=b"frame", headers=headers).status_code
                )
                number += 1

    def stop(self) -> None:
        self.done.set()
        self.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("fault", "outcome", "reigns"),
    [("none", "promoted", "2"), ("slow", "rolled_back", "1"), ("crash", "rolled_back", "1")],
)
def test_a_promotion_between_real_processes(street: Street, fault: str, outcome: str, reigns: str) -> None:
    street.faults["2"] = fault
    params = PromoteParams(
        latency_budget_ms=150.0,
        max_slow_share=0.2,
        max_error_share=0.2,
        min_agreement=0.5,
        alpha=0.05,
        shadow_frames=12,
        canary_steps=[50],
        canary_frames=6,
        bake_frames=8,
        thin_s=0.0,
        state_deadline_s=60.0,
        drain_deadline_s=5.0,
    )
    registry = FakeRegistry(street.traffic.ensure_champion("1", A))
    cameras = Cameras(street.url)
    cameras.start()
    with open_journal(street.home / "rollout.db") as journal:
        challenger, champion = Contender("2", B), Contender("1", A)
        report = run_promotion(
            journal, street.traffic, registry, challenger, champion, params, street.home / "promotions"
        )
    cameras.stop()
    assert report.outcome == outcome, report.sentence
    assert registry.reigning is not None
    assert registry.reigning.version == reigns
    services = read_services(street.home)
    running = {name for name, record in services.items() if name.startswith("detector") and is_alive(record)}
    assert running == {service_name(reigns, street.digests[reigns])}
    routed = street.traffic.routing()
    assert (routed.mode, routed.champion and routed.champion.version, routed.candidate) == ("champion", reigns, None)
    assert set(cameras.statuses) == {200}
    assert verify_record(street.home / "promotions" / "1.jsonl").passed


@pytest.mark.parametrize("key", [None, "tca_1_secret"])
def test_warming_up_shows_the_key_and_says_where_a_missing_one_goes(tmp_path: Path, monkeypatch, key) -> None:
    monkeypatch.delenv("TCA_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("TCA_API_KEY", key)

    def answer(request: httpx.Request) -> httpx.Response:
        known = request.headers.get("x-api-key") == "tca_1_secret"
        return httpx.Response(200, json={"model": {"digest": "d"}}) if known else httpx.Response(401)

    traffic = LocalTraffic(tmp_path, "http://127.0.0.1:9", tmp_path, lambda version, port: ([], {}))
    traffic._client = httpx.Client(transport=httpx.MockTransport(answer))
    backend = Backend(version="1", digest="d", url="http://127.0.0.1:9")
    if key is None:
        with pytest.raises(ServiceError) as caught:
            traffic.warm_up(backend)
        assert "TCA_API_KEY" in str(caught.value)
    else:
        traffic.warm_up(backend)
