from __future__ import annotations

import math

import pytest

from benchmarks.serving.limits import Target, least_ratio, limit, lone_bound_ms, ratio


def test_times_add_up_on_shared_cores_and_overlap_on_a_device_of_its_own() -> None:
    assert limit(100.0, 400.0, 2000.0, has_own_device=False) == pytest.approx(1 / (0.01 + 0.0025 + 0.0005))
    assert limit(100.0, 80.0, 2000.0, has_own_device=True) == 80.0


def test_a_lone_camera_may_take_a_quarter_and_5_ms_more_than_the_bare_loop() -> None:
    assert lone_bound_ms(8.0) == pytest.approx(15.0)


def test_who_delivers_nothing_is_infinitely_slower_and_never_the_best() -> None:
    assert ratio(100.0, 0.0) == math.inf
    assert ratio(0.0, 0.0) is None
    assert least_ratio({"a": ratio(100.0, 50.0), "b": ratio(100.0, 80.0), "c": math.inf}) == pytest.approx(1.25)
    assert least_ratio({"c": None}) is None


@pytest.mark.parametrize(
    ("sense", "got", "met"),
    [
        ("at least", 0.9, True),
        ("at least", 0.89, False),
        ("under", 0.9, False),
        ("under", 0.89, True),
        ("under", None, None),
    ],
)
def test_a_target_says_whether_it_is_met(sense: str, got: float | None, met: bool | None) -> None:
    target = Target("320 bf16", "efficiency", 0.9, got, sense)  # type: ignore[arg-type]
    assert target.is_met is met
    assert str(target).endswith({True: "met", False: "MISSED", None: "not measured"}[met])
