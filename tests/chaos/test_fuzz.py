"""Ten thousand bodies and headers that nobody should send, and the odd ones that somebody may."""

from __future__ import annotations

import http.client
import os
import queue
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest

from tests.chaos.bodies import ANY_ANSWER, Body, bombs, damaged_bodies, forms
from tests.chaos.pictures import large_pictures, legal_pictures, one_frame, problem_with_boxes
from tests.chaos.service import FRAME_PATH, Service, ask, problem_with, send_raw, start
from tests.chaos.wire_cases import raw_requests
from tests.detector.conftest import Services, write_fake

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

SEED = int(os.environ.get("CHAOS_SEED", "20260101"))
NUM_BODIES = int(os.environ.get("CHAOS_BODIES", "7000"))
NUM_HEADERS = int(os.environ.get("CHAOS_HEADERS", "3000"))
GROWTH_MB = 64.0
"""What the heap may still grow by after the warm-up: fragments, and the largest images' arenas."""
NUM_SLOW = 400


@pytest.fixture
def service(services: Services, tmp_path: Path) -> Iterator[Service]:
    """A fake model, and in the end the same worker as in the beginning, with nothing unforeseen in its log."""
    started = start(services, write_fake(tmp_path / "model"), tmp_path / "log", DETECTOR_BODY_TIMEOUT_S="5")
    worker = started.worker.pid
    yield started
    assert started.worker.pid == worker
    assert ask(started.port, "GET", "/readyz")[0] == 200
    text = started.log.read_text(errors="replace")
    assert "Traceback" not in text, text[text.index("Traceback") - 500 :][:3000]


class Sender:
    """Sends bodies on a connection of its own, which is used again until the service closes it."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def send(self, body: Body) -> tuple[int, bytes]:
        """Status and content of the final answer: who is told to come back comes back, so that every body is read."""
        deadline_s = time.monotonic() + 60
        status, content = self._attempt(body)
        while status == 503 and not problem_with(status, content) and time.monotonic() < deadline_s:
            time.sleep(0.01)
            status, content = self._attempt(body)
        return status, content

    def _attempt(self, body: Body) -> tuple[int, bytes]:
        headers = {"content-type": body.media.encode("latin-1")} if body.media else {}
        for _ in range(2):
            try:
                self._connection.request("POST", FRAME_PATH, body.data, headers)  # type: ignore[arg-type]
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (ConnectionError, http.client.HTTPException):  # closed for idling, or within the body by a 413
                self._connection.close()
        return 0, b""


def send_all(service: Service, bodies: Iterable[Body], num_clients: int = 4) -> tuple[Counter[int], list[str]]:
    """Statuses, and what was wrong."""
    free: queue.SimpleQueue[Sender] = queue.SimpleQueue()
    for _ in range(num_clients):
        free.put(Sender(service.port))
    statuses: Counter[int] = Counter()
    wrong: list[str] = []

    def send(body: Body) -> None:
        sender = free.get()
        status, content = sender.send(body)
        free.put(sender)
        statuses[status] += 1
        problem = "" if status == 200 else problem_with(status, content) if status else "no answer"
        if status not in body.statuses:
            problem = problem or f"status {status}, expected {sorted(body.statuses)}: {content[:200]!r}"
        if problem:
            wrong.append(f"{body.name}: {problem}")

    with ThreadPoolExecutor(num_clients) as pool:
        list(pool.map(send, bodies))
    return statuses, wrong


def test_damaged_bodies_bombs_and_forms_are_refused_and_leave_no_trace(service: Service) -> None:
    hostile = list(chain(bombs(), forms()))
    warm_up = chain(hostile, damaged_bodies(NUM_BODIES // 7, SEED))
    statuses, wrong = send_all(service, warm_up)
    before_mb = service.rss_mb()
    more, more_wrong = send_all(service, chain(damaged_bodies(NUM_BODIES * 6 // 7, SEED + 1), hostile))
    after_mb = service.rss_mb()
    print(f"fuzzed bodies: {dict(statuses + more)}; {before_mb:.0f} MB after the warm-up, {after_mb:.0f} MB at the end")
    assert wrong + more_wrong == []
    assert sum((statuses + more).values()) >= NUM_BODIES
    assert set(statuses + more) <= ANY_ANSWER
    assert after_mb - before_mb < GROWTH_MB


def test_headers_that_no_library_would_send(service: Service) -> None:
    before_mb, statuses, wrong = service.rss_mb(), Counter[int](), []
    raw = list(raw_requests(NUM_HEADERS, SEED))
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda one: send_raw(service.port, one.data, timeout_s=20), raw)
        for one, (status, body) in zip(raw, answers, strict=True):
            statuses[status] += 1
            if status in (0, 100, 200):
                problem = "" if status in one.statuses or status == 0 else f"status {status}"
            else:
                problem = problem_with(status, body)
                if status not in one.statuses:
                    problem = problem or f"status {status}, expected {sorted(one.statuses)}: {body[:200]!r}"
            if problem:
                wrong.append(f"{one.name}: {problem}")
    after_mb = service.rss_mb()
    print(f"fuzzed headers: {dict(statuses)}; {before_mb:.0f} MB before, {after_mb:.0f} MB at the end")
    assert wrong == []
    assert statuses[0] < NUM_HEADERS // 50, "too many connections ended without an answer"
    assert after_mb - before_mb < GROWTH_MB


@pytest.mark.parametrize("large", [False, True], ids=["small", "8k"])
def test_odd_but_legal_images_have_their_boxes(service: Service, large: bool) -> None:
    wrong = []
    for one in large_pictures() if large else legal_pictures():
        status, body, _ = ask(service.port, "POST", FRAME_PATH, one.data, {"content-type": one.media})
        if problem := problem_with_boxes(one, status, body):
            wrong.append(f"{one.name}: {problem}")
    assert wrong == []


def test_good_frames_are_answered_among_clients_that_dawdle(service: Service) -> None:
    """Half of them send a header, half a body, a few bytes now and then; all are dropped in the end."""
    jpeg = one_frame()
    head = b"POST /v1/detect HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\n"
    slow = [socket.create_connection(("127.0.0.1", service.port), timeout=30) for _ in range(NUM_SLOW)]
    for index, connection in enumerate(slow):
        connection.sendall(head + (b"content-length: 100000\r\n\r\n" if index % 2 else b""))
    worst_s, deadline_s, num_good = 0.0, time.monotonic() + 4.0, 0
    while time.monotonic() < deadline_s:
        for connection in slow[num_good % 7 :: 7]:
            connection.sendall(b"x")
        began_s = time.monotonic()
        status, body, _ = ask(service.port, "POST", FRAME_PATH, jpeg, {"content-type": "image/jpeg"})
        worst_s = max(worst_s, time.monotonic() - began_s)
        num_good += 1
        assert status == 200, body
    print(f"{num_good} good frames among {NUM_SLOW} slow connections, the slowest took {worst_s * 1000:.0f} ms")
    assert worst_s < 2.0
    endings = Counter(ending_of(connection) for connection in slow)
    assert set(endings) == {408}, endings
    assert service.worker.num_fds() < 100


def ending_of(connection: socket.socket) -> int:
    """The status with which a slow client is sent away."""
    with connection:
        answer = b""
        while part := connection.recv(4096):
            answer += part
        return int(answer.split()[1]) if answer else 0
