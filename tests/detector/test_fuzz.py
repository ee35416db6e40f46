"""A small share of what `make test-chaos` sends: enough to see at once that a change opened a door."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

from bentos.detector.errors import RequestError
from bentos.detector.imaging import decode_image
from tests.chaos.bodies import bombs, damaged_bodies, forms
from tests.chaos.pictures import legal_pictures, problem_with_boxes
from tests.chaos.service import FRAME_PATH, ask, problem_with, send_raw
from tests.chaos.wire_cases import raw_requests

NUM_BODIES = 120
NUM_HEADERS = 130
QUICK_BYTES = 100_000


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_bodies_that_nobody_should_send_are_refused(served: tuple[str, Path]) -> None:
    small_forms = (one for one in forms() if len(one.data) < QUICK_BYTES)
    for body in chain(islice(damaged_bodies(NUM_BODIES, seed=1), NUM_BODIES), small_forms):
        headers = {"content-type": body.media.encode("latin-1")} if body.media else {}
        status, content, _ = ask(port_of(served[0]), "POST", FRAME_PATH, body.data, headers)
        assert status in body.statuses, (body.name, status, content)
        assert status == 200 or not problem_with(status, content), (body.name, content)


def test_headers_that_no_library_would_send_are_refused(served: tuple[str, Path]) -> None:
    for one in raw_requests(NUM_HEADERS, seed=1):
        status, content = send_raw(port_of(served[0]), one.data, timeout_s=15)
        assert status in one.statuses, (one.name, status, content)
        assert status in (100, 200) or not problem_with(status, content), (one.name, content)


def test_odd_but_legal_images_have_their_boxes(served: tuple[str, Path]) -> None:
    for one in legal_pictures():
        status, content, _ = ask(port_of(served[0]), "POST", FRAME_PATH, one.data, {"content-type": one.media})
        assert not problem_with_boxes(one, status, content), one.name


def test_bombs_end_as_what_they_are() -> None:
    for body in bombs(quick=True):
        try:
            decode_image(body.data)
            status = 200
        except RequestError as error:
            status = error.status
        assert status in body.statuses, body.name
