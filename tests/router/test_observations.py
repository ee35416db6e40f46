from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.router.messages import Reply
from bentos.router.observations import Answer, Observation, ObservationRing, read_detections
from bentos.router.routing import Backend

BACKEND = Backend(version="3", digest="d", url="http://127.0.0.1:4000")
GOOD = b'{"detections": [{"class_id": 1, "confidence": 0.5, "box": {"x1": 1, "y1": 2.5, "x2": 3, "y2": 4}}]}'


def observation(answer: Answer | None = None) -> Observation:
    return Observation(5.0, 7, "shadow", "cam01", "id-1", "champion", False, answer, None)


def answer(status: int = 200, body: bytes = GOOD, error: str | None = None) -> Answer:
    return Answer("champion", BACKEND, status, 12.3456, error, Reply(status, [], body) if status else None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b'{"detections": []}', []), (GOOD, [[1.0, 2.5, 3.0, 4.0, 0.5, 1]])],
)
def test_detections_are_read(body: bytes, expected: list[list[float]]) -> None:
    assert read_detections(body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"detections": [{}]}', b'{"detections": 3}', b'{"detections": [{"box": [1]}]}']
)
def test_what_is_no_answer_of_a_detector_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_detections(body)


def test_an_observation_says_what_each_arm_answered() -> None:
    ring = ObservationRing(clock=lambda: 1.0)
    ring.record(observation(answer()))
    page = orjson.loads(ring.read(0, 10))
    assert page == {
        "next": 1_000_001,
        "dropped": 0,
        "observations": [
            {
                "seq": 1_000_001,
                "time": 5.0,
                "promotion": 7,
                "mode": "shadow",
                "camera": "cam01",
                "request_id": "id-1",
                "served_by": "champion",
                "fallback": False,
                "champion": {
                    "version": "3",
                    "status": 200,
                    "latency_ms": 12.346,
                    "error": None,
                    "detections": [[1.0, 2.5, 3.0, 4.0, 0.5, 1]],
                },
                "candidate": None,
            }
        ],
    }


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (answer(status=0, error="no connection"), "no connection"),
        (answer(status=503, error="status 503"), "status 503"),
        (answer(status=400, body=b"{}"), None),
    ],
)
def test_an_arm_without_a_good_answer_has_no_detections(given: Answer, error: str | None) -> None:
    ring = ObservationRing()
    ring.record(observation(given))
    arm = orjson.loads(ring.read(0, 1))["observations"][0]["champion"]
    assert (arm["detections"], arm["error"]) == ([], error)


def test_a_200_that_is_no_answer_is_an_error_of_its_arm() -> None:
    ring = ObservationRing()
    ring.record(observation(answer(body=b"<html>")))
    assert orjson.loads(ring.read(0, 1))["observations"][0]["champion"]["error"].startswith("malformed answer")


@given(capacity=st.integers(1, 8), bursts=st.lists(st.integers(0, 12), max_size=8), limit=st.integers(1, 5))
def test_every_observation_is_read_once_or_counted_as_dropped(capacity: int, bursts: list[int], limit: int) -> None:
    ring = ObservationRing(capacity, clock=lambda: 2.0)
    after, read, dropped = 0, list[int](), 0
    for burst in [*bursts, 0]:
        for _ in range(burst):
            ring.record(observation())
        while True:
            page = orjson.loads(ring.read(after, limit))
            read += [entry["seq"] for entry in page["observations"]]
            dropped += page["dropped"]
            after = page["next"]
            if not page["observations"]:
                break
    assert len(read) + dropped == sum(bursts)
    assert read == sorted(set(read))


def test_a_reader_of_an_earlier_run_goes_on_with_the_new_one() -> None:
    earlier, later = ObservationRing(clock=lambda: 1.0), ObservationRing(clock=lambda: 2.0)
    earlier.record(observation())
    after = orjson.loads(earlier.read(0, 10))["next"]
    later.record(observation())
    page = orjson.loads(later.read(after, 10))
    assert (len(page["observations"]), page["dropped"]) == (1, 0)


def test_a_clock_set_back_hides_nothing() -> None:
    ring = ObservationRing(clock=lambda: 1.0)
    ring.record(observation())
    assert len(orjson.loads(ring.read(9_999_999, 10))["observations"]) == 1
