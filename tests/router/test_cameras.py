from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.router.cameras import MAX_CAMERAS, CameraSplit, rank

CAMERAS = [f"cam{index:02d}" for index in range(20)]


def split_of(*cameras: str) -> CameraSplit:
    split = CameraSplit()
    for camera in cameras:
        split.see(camera)
    return split


@pytest.mark.parametrize(
    ("num_cameras", "share", "expected"),
    [(0, 0.5, 0), (8, 0.0, 0), (1, 0.01, 1), (8, 0.1, 1), (8, 0.5, 4), (8, 0.49, 3), (8, 1.0, 8), (100, 0.29, 29)],
)
def test_a_share_takes_its_floor_but_at_least_one(num_cameras: int, share: float, expected: int) -> None:
    split = split_of(*(f"c{index}" for index in range(num_cameras)))
    split.adopt(1, share)
    assert len(split.taken) == expected


def test_the_smallest_ranks_are_taken() -> None:
    split = split_of(*CAMERAS)
    split.adopt(3, 0.25)
    assert set(split.taken) == set(sorted(CAMERAS, key=lambda camera: rank(3, camera))[:5])


def test_each_promotion_orders_the_cameras_anew() -> None:
    assert len({min(CAMERAS, key=lambda camera: rank(promotion, camera)) for promotion in range(20)}) > 5


def test_the_first_camera_to_turn_up_is_taken_when_none_was_seen() -> None:
    split = split_of()
    split.adopt(1, 0.1)
    split.see("cam01")
    split.see("cam02")
    assert list(split.taken) == ["cam01"]


def test_no_camera_named_is_no_camera() -> None:
    split = split_of("")
    split.adopt(1, 1.0)
    assert (split.num_seen, list(split.taken)) == (0, [])


def test_a_lower_share_lets_the_last_ones_go_first() -> None:
    split = split_of(*CAMERAS)
    split.adopt(1, 0.1)
    first = list(split.taken)
    split.adopt(1, 0.5)
    split.adopt(1, 0.1)
    assert list(split.taken) == first


def test_a_new_promotion_starts_anew() -> None:
    split = split_of(*CAMERAS)
    split.adopt(1, 1.0)
    split.adopt(2, 0.1)
    assert len(split.taken) == 2


def test_memory_is_bounded() -> None:
    split = split_of(*(f"c{index}" for index in range(MAX_CAMERAS + 5)))
    assert split.num_seen == MAX_CAMERAS


@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from(CAMERAS).map(lambda camera: ("see", camera)),
            st.floats(0, 1).map(lambda share: ("share", share)),
            st.just(("restart", "")),
        )
    ),
    promotion=st.integers(0, 10**6),
)
def test_within_a_promotion_the_set_only_grows(steps: list[tuple[str, str | float]], promotion: int) -> None:
    """New cameras, rising shares and restarts, in any order."""
    kept: list[bytes] = []
    split = CameraSplit(on_growth=kept.append)
    share, before = 0.0, set[str]()
    split.adopt(promotion, share)
    for step, value in steps:
        if step == "see":
            split.see(str(value))
        elif step == "share":
            share = max(share, float(value))
            split.adopt(promotion, share)
        else:
            split = CameraSplit(on_growth=kept.append)
            split.restore(kept[-1])
            split.adopt(promotion, share)
        assert before <= set(split.taken)
        before = set(split.taken)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"promotion": 1, "share": "x", "cameras": []}'])
def test_a_broken_record_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        CameraSplit().restore(text)
