from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import ServiceError
from flows.rollout.observations import Reading, Sample, Thinning, read_page

CAR = [0.0, 0.0, 100.0, 100.0, 0.9, 0]


def arm(version: str, **changes: Any) -> dict[str, Any]:
    good = {"version": version, "status": 200, "latency_ms": 30.0, "error": None, "detections": [CAR]}
    return {**good, **changes}


def entry(**changes: Any) -> dict[str, Any]:
    good = {
        "seq": 5,
        "time": 1000.0,
        "promotion": 7,
        "mode": "shadow",
        "camera": "cam1",
        "request_id": "r",
        "served_by": "champion",
        "fallback": False,
        "champion": arm("1"),
        "candidate": arm("2"),
    }
    return {**good, **changes}


def read(*entries: Any, period_s: float = 0.0) -> Reading:
    page = {"next": 9, "dropped": 0, "observations": list(entries)}
    return read_page(page, promotion=7, version="2", thinning=Thinning(period_s))


def test_an_empty_page_moves_the_cursor_only() -> None:
    assert read() == Reading(cursor=9)


def test_a_pair_of_good_answers() -> None:
    assert read(entry()).samples == (Sample(5, "shadow", False, 30.0, False, 30.0, 1.0),)


BROKEN = [
    {"candidate": arm("2", latency_ms=None)},
    {"candidate": arm("2", latency_ms=math.nan)},
    {"candidate": arm("2", latency_ms=-1.0)},
    {"candidate": arm("2", latency_ms="30")},
    {"candidate": arm("2", latency_ms=0.004)},  # seconds
    {"candidate": arm("2", latency_ms=10**400)},
    {"time": 10**400},
    {"candidate": arm("2", status=None)},
    {"candidate": arm("2", status=True)},
    {"candidate": arm("2", detections=None)},
    {"candidate": arm("2", detections=[[1, 2]])},
    {"candidate": arm("2", detections=[[math.nan] * 6])},
    {"candidate": arm("3")},
    {"candidate": {"status": 200}},
    {"candidate": "2"},
    {"champion": arm("1", latency_ms=None)},
    {"champion": None, "candidate": None},
    {"champion": arm("2")},
    {"mode": "something"},
    {"camera": None},
    {"time": None},
    {"seq": "5"},
]


@pytest.mark.parametrize("changes", BROKEN, ids=[str(one)[:60] for one in BROKEN])
def test_what_is_missing_nan_or_misnamed_is_unusable_never_good(changes: dict[str, Any]) -> None:
    reading = read(entry(**changes))
    assert reading.samples == ()
    assert (reading.num_frames, reading.num_asked, reading.num_unusable) == (1, 1, 1)


FAILED = arm("2", status=500, error="status 500", latency_ms=None)


@pytest.mark.parametrize(
    ("changes", "failed", "champion_failed"),
    [
        ({"candidate": FAILED}, True, False),
        ({"candidate": arm("2", status=0, error="no connection")}, True, False),
        ({"candidate": arm("2", status=503)}, True, False),
        ({"candidate": arm("2", error="malformed answer: no detections")}, True, False),
        ({"candidate": arm("2", status=400)}, True, False),  # the champion took the same frame
        ({"candidate": FAILED, "champion": arm("1", status=503)}, True, True),
        ({"champion": arm("1", status=503)}, False, True),
        ({"champion": arm("1", status=400)}, False, None),
        ({"champion": arm("1", status=429)}, False, None),
        ({"champion": None}, False, None),
    ],
)
def test_who_failed(changes: dict[str, Any], failed: bool, champion_failed: bool | None) -> None:
    (sample,) = read(entry(**changes)).samples
    assert (sample.failed, sample.champion_failed) == (failed, champion_failed)
    assert (sample.latency_ms is None) == failed
    assert (sample.agreement is None) == (failed or champion_failed is not False)


@pytest.mark.parametrize(
    "changes",
    [
        {"candidate": arm("2", status=400), "champion": arm("1", status=400)},  # the client's fault
        {"candidate": arm("2", status=400), "champion": None},  # nobody knows whose
        {"candidate": None},  # no copy was sent
        {"candidate": arm("2", status=429)},  # the client sends more than it may
        {"candidate": arm("2", status=429), "champion": None},
        {"mode": "champion", "champion": arm("1", status=500)},  # the standby of a hold is not on trial
    ],
)
def test_what_says_nothing_about_the_challenger_is_not_judged(changes: dict[str, Any]) -> None:
    reading = read(entry(**changes))
    assert (reading.samples, reading.num_unusable, reading.num_frames) == ((), 0, 1)


def test_a_canary_is_not_judged_on_cameras_of_the_champion() -> None:
    failed = arm("1", status=500)
    stands_in = entry(mode="canary", champion=failed, served_by="candidate", fallback=True)
    assert (read(stands_in).samples, read(stands_in).outcomes) == ((), ((False, True),))
    own = entry(mode="canary", candidate=FAILED, served_by="champion", fallback=True)
    assert [sample.failed for sample in read(own, entry(mode="canary", served_by="candidate")).samples] == [True, False]
    assert read(entry(mode="canary", candidate=None)).num_asked == 0


def test_a_client_that_sends_too_much_harms_no_challenger() -> None:
    limited = entry(candidate=arm("2", status=429), champion=None, served_by="candidate")
    reading = read(*[limited] * 50)
    assert (reading.samples, reading.num_lost, reading.num_unusable) == ((), 0, 0)
    assert set(reading.outcomes) == {(None, None)}


def test_after_the_switch_the_challenger_is_in_the_champions_slot() -> None:
    baked = entry(mode="champion", champion=arm("2", latency_ms=44.0), candidate=None)
    assert read(baked).samples == (Sample(5, "champion", False, 44.0, None, None, None),)


def test_frames_of_other_promotions_are_not_ours() -> None:
    assert read(entry(promotion=6), entry(promotion=None), "noise").num_frames == 0


def test_fallbacks_and_lost_frames_are_counted() -> None:
    dead = arm("1", status=0)
    reading = read(entry(fallback=True), entry(champion=dead, candidate=None), entry(served_by="nobody"))
    assert (reading.num_fallbacks, reading.num_lost, reading.num_frames) == (1, 1, 3)
    assert reading.outcomes == ((False, False), (None, True), (False, False))


@pytest.mark.parametrize(
    "page", [{}, {"next": 1, "dropped": 0}, {"next": None, "dropped": 0, "observations": []}, {"observations": {}}, []]
)
def test_another_kind_of_page_is_refused(page) -> None:
    with pytest.raises(ServiceError, match="observations"):
        read_page(page, 7, "2", Thinning(0))


def test_thinning_keeps_a_frame_per_camera_and_period_but_every_outcome() -> None:
    entries = [entry(time=1000 + t / 10, camera=camera) for t in range(40) for camera in ("cam1", "cam2")]
    reading = read(*entries, period_s=0.5)
    assert len(reading.samples) == 2 * 4  # the frames of the last two seconds wait for others of that time
    assert (len(reading.outcomes), reading.num_asked) == (80, 80)


def test_frames_of_four_periods_make_a_window() -> None:
    entries = [entry(time=1000 + t / 10, camera=f"cam{t}") for t in range(60)]
    windows = [sample.window for sample in read(*entries, period_s=0.25).samples]
    assert windows[:40] == [1000] * 10 + [1001] * 10 + [1002] * 10 + [1003] * 10
    assert {sample.window for sample in read(*entries).samples} == {None}


def test_a_slow_frame_is_judged_as_often_as_a_quick_one() -> None:
    """Every fifth frame of a camera is slow, and told of after three that came later."""
    told = [(at / 10 + (0.4 if at % 5 == 0 else 0.03), at) for at in range(3000)]
    thinning, samples = Thinning(0.25), []
    for _, at in sorted(told):
        one = entry(time=1000 + at / 10, candidate=arm("2", latency_ms=400.0 if at % 5 == 0 else 30.0))
        page = {"next": at, "dropped": 0, "observations": [one]}
        samples += read_page(page, promotion=7, version="2", thinning=thinning).samples
    slow = [sample.latency_ms == 400.0 for sample in samples]
    assert len(slow) > 900
    assert sum(slow) / len(slow) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
def test_frames_are_judged_on_after_the_clock_was_set(step_s: float) -> None:
    thinning, num = Thinning(0.25), 0
    for at in range(200):
        time_s = 10_000 + at / 10 + (step_s if at == 100 or (at > 100 and step_s < 0) else 0.0)
        page = {"next": at, "dropped": 0, "observations": [entry(time=time_s)]}
        num += len(read_page(page, promotion=7, version="2", thinning=thinning).samples)
    assert num > 45


def test_thinning_lets_a_clock_go_back() -> None:
    thinning = Thinning(1.0)
    assert [thinning.lets_through("a", t) for t in (10.0, 10.5, 5.0, 5.5, 6.0)] == [True, False, True, False, True]


def test_two_looks_add_up() -> None:
    one, two = read(entry(fallback=True)), read(entry(seq=6), entry(candidate="x"))
    both = one.plus(two)
    assert [sample.seq for sample in both.samples] == [5, 6]
    assert (both.num_frames, both.num_fallbacks, both.num_unusable) == (3, 1, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(sorted(entry())), JSON), st.dictionaries(st.sampled_from(sorted(arm("2"))), JSON)
)
def test_no_observation_breaks_the_reader(changes: dict[str, Any], arm_changes: dict[str, Any]) -> None:
    reading = read({**entry(candidate={**arm("2"), **arm_changes}), **changes, "promotion": 7})
    assert reading.num_frames == 1
    for sample in reading.samples:
        assert Sample(*sample.row()) == sample
