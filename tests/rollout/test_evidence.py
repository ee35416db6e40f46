from __future__ import annotations

import itertools

import numpy as np
import pytest

from flows.params import PromoteParams
from flows.rollout.evidence import (
    Evidence,
    Tally,
    add_samples,
    bake_error_limit,
    bake_slow_limit,
    enter_state,
    error_certificate,
    harm_figures,
    no_evidence,
    read_in,
)
from flows.rollout.observations import Reading, Sample

NUMBERS = itertools.count(1)


def pair(
    failed=False, ms=30.0, champion_failed=False, champion_ms=30.0, agreement=0.9, mode="shadow", window=None
) -> Sample:
    both = not failed and champion_failed is False
    return Sample(
        0,
        mode,
        failed,
        None if failed else ms,
        champion_failed,
        None if champion_failed else champion_ms,
        agreement if both else None,
        next(NUMBERS) if window is None else window,
    )


def baked(failed=False, ms=30.0, window=None) -> Sample:
    return Sample(
        *(0, "champion", failed, None if failed else ms, None, None, None), next(NUMBERS) if window is None else window
    )


def gather(params: PromoteParams, samples: list[Sample], mode: str = "shadow") -> Evidence:
    return add_samples(no_evidence(params), samples, mode, params)


def deciding(evidence: Evidence, params: PromoteParams) -> set[str]:
    return {figure.metric for figure in harm_figures(evidence, params) if figure.decides}


def test_without_frames_nothing_decides(params) -> None:
    assert deciding(no_evidence(params), params) == set()
    assert not error_certificate(no_evidence(params), params).decides
    assert all(figure.value is None for figure in harm_figures(no_evidence(params), params))


@pytest.mark.parametrize(
    ("num", "of_frame", "expected"),
    [
        (200, {}, set()),
        (20, {"ms": 130.0}, {"latency"}),
        (20, {"failed": True}, {"errors"}),
        (20, {"agreement": 0.0}, {"agreement"}),
        (20, {"agreement": 0.45}, set()),
        (200, {"ms": 130.0, "champion_ms": 140.0}, set()),  # a slow machine
        (200, {"failed": True, "champion_failed": True}, set()),  # an outage
        (200, {"failed": True, "champion_failed": None}, set()),  # not paired: nobody knows
    ],
)
def test_only_what_the_challenger_does_alone_is_harm(params, num: int, of_frame, expected: set[str]) -> None:
    assert deciding(gather(params, [pair(**of_frame) for _ in range(num)]), params) == expected


def test_a_burst_is_one_observation(params) -> None:
    for frame, mode in ((pair, "shadow"), (baked, "champion")):
        slow = [frame(ms=130.0, window=at // 50) for at in range(100)]
        errors = [frame(failed=True, window=at // 50) for at in range(100)]
        assert deciding(gather(params, slow, mode), params) == set()
        assert deciding(gather(params, errors, mode), params) == set()


def test_a_burst_that_is_looked_at_twice_is_still_one(params) -> None:
    frames = [pair(failed=True, ms=130.0, window=at // 10) for at in range(40)]
    frames += [pair(ms=130.0, window=at // 10) for at in range(40, 80)]
    in_parts = no_evidence(params)
    for frame in frames:
        in_parts = add_samples(in_parts, [frame], "shadow", params)
    assert in_parts == gather(params, frames)


def test_a_challenger_that_fails_in_bursts_is_found_and_all_its_errors_count(params) -> None:
    """In one window of ten half of its frames fail: 5 % of all."""
    strict = params.model_copy(update={"max_error_share": 0.01})
    frames = [pair(failed=at // 16 % 10 == 0 and at % 2 == 0, window=at // 16) for at in range(3200)]
    evidence = gather(strict, frames)
    assert evidence.errors == Tally(3200, 160)
    assert deciding(evidence, strict) == {"errors"}
    assert not error_certificate(evidence, strict).decides


def test_a_challenger_that_finds_nothing_any_more_is_found_however_good_it_was(params) -> None:
    evidence = gather(params, [pair(agreement=1.0) for _ in range(2000)])
    assert deciding(add_samples(evidence, [pair(agreement=0.0)] * 60, "canary", params), params) == {"agreement"}


@pytest.mark.parametrize("step", [100_000, -100_000])
def test_a_clock_that_is_set_stops_no_window(params, step: int) -> None:
    set_once = [pair(window=5), pair(window=5 + step)]
    frames = [pair(ms=130.0, window=at // 8 + 6 + (step if step < 0 else 0)) for at in range(400)]
    assert deciding(gather(params, set_once + frames), params) == {"latency"}


def test_a_window_counts_once_it_is_over(params) -> None:
    open_window = gather(params, [pair(ms=130.0, window=3) for _ in range(9)])
    assert open_window.slow_windows.shares.ln_e == 0.0
    closed = add_samples(open_window, [pair(window=4)], "shadow", params)
    assert closed.slow_windows.shares.ln_e > 0
    assert (closed.slow_windows.trials, closed.slow_windows.events) == (1, 0)
    late = add_samples(closed, [pair(ms=130.0, window=3)], "shadow", params)
    assert (late.slow_windows.number, late.slow_windows.trials, late.slow_windows.events) == (4, 2, 1)


def test_a_new_champion_is_judged_by_itself_while_it_bakes(params) -> None:
    outage = Sample(1, "champion", True, None, True, None, None)
    assert deciding(gather(params, [baked(ms=130.0) for _ in range(20)], "champion"), params) == {"bake latency"}
    assert deciding(gather(params, [baked(failed=True) for _ in range(20)], "champion"), params) == {"bake errors"}
    assert deciding(gather(params, [outage] * 200, "champion"), params) == set()


def test_a_machine_that_was_slow_for_the_champion_too_is_no_harm_in_the_bake(params) -> None:
    noisy = [pair(ms=130.0, champion_ms=130.0) for _ in range(10)] + [pair() for _ in range(30)]
    bake = [baked(ms=ms) for ms in [130.0, 30.0, 30.0, 30.0] * 15]
    assert deciding(gather(params, noisy + bake), params) == set()
    assert deciding(gather(params, [pair() for _ in range(160)] + bake), params) == {"bake latency"}


@pytest.mark.parametrize(
    ("champion", "of_errors", "of_slow"),
    [
        (Tally(), 0.1, 0.05),
        (Tally(20, 0), 0.1, 0.2057),  # few frames: the champion may be slower than it seemed
        (Tally(1000, 0), 0.1, 0.05),
        (Tally(1000, 100), 0.1, 0.1242),
        (Tally(100, 20), 0.3092, 0.3092),
        (Tally(100, 100), 0.999, 0.999),
    ],
)
def test_the_limits_of_the_bake(params, champion: Tally, of_errors: float, of_slow: float) -> None:
    evidence = no_evidence(params).model_copy(update={"champion_errors": champion, "champion_slow": champion})
    assert bake_error_limit(evidence, params) == pytest.approx(of_errors, abs=1e-4)
    assert bake_slow_limit(evidence, params) == pytest.approx(of_slow, abs=1e-4)


def test_how_the_champion_fares_is_learnt_in_the_shadow_where_all_cameras_are(params) -> None:
    slow = {"champion_ms": 130.0, "champion_failed": False}
    evidence = gather(params, [pair(**slow), pair(**slow, mode="canary"), pair(champion_failed=True, mode="canary")])
    assert (evidence.champion_slow, evidence.champion_errors) == (Tally(1, 1), Tally(1, 0))


def test_frames_of_another_mode_are_evidence_but_do_not_count_for_the_state(params) -> None:
    evidence = gather(params, [pair()] * 3 + [pair(mode="canary")] * 2, "canary")
    assert (evidence.in_state, evidence.errors.trials) == (2, 5)
    assert enter_state(evidence).in_state == 0
    assert enter_state(evidence).errors.trials == 5


def test_frames_that_are_not_paired_do_not_count_for_the_state(params) -> None:
    evidence = gather(params, [pair(champion_failed=None, champion_ms=None)] * 3)
    assert (evidence.in_state, evidence.errors.trials) == (0, 3)


@pytest.mark.parametrize(
    ("outcomes", "run", "champion_run"),
    [
        ([], 0, 0),
        ([(True, False)] * 4, 4, 0),
        ([(True, False), (False, False), (True, None)], 1, 0),
        ([(True, True)] * 6, 0, 6),
        ([(True, False), (None, False), (True, False)], 2, 0),
        ([(None, True), (None, None), (None, True)], 0, 2),
    ],
)
def test_failures_in_a_row(params, outcomes, run: int, champion_run: int) -> None:
    evidence = read_in(no_evidence(params), Reading(1, outcomes=tuple(outcomes)), "shadow", params)
    assert (evidence.failures_in_row, evidence.champion_failures_in_row) == (run, champion_run)


def test_evidence_survives_being_written(params) -> None:
    evidence = gather(params, [pair(), pair(ms=150.0), pair(failed=True), pair(agreement=0.123456)])
    assert Evidence.model_validate_json(evidence.model_dump_json()) == evidence


def test_percentiles_are_right_to_two_percent(params) -> None:
    latencies_ms = np.random.default_rng(0).lognormal(3, 0.5, 500)
    evidence = gather(params, [pair(ms=float(ms), champion_ms=50.0) for ms in latencies_ms])
    for share in (0.5, 0.99):
        expected = np.quantile(latencies_ms, share, method="inverted_cdf")
        assert evidence.latencies.percentile_ms(share) == pytest.approx(expected, rel=0.02)
    assert no_evidence(params).latencies.percentile_ms(0.5) is None


def simulate(params: PromoteParams, seed: int, error: float, slow: float, shared: float, num: int) -> bool:
    """Whether a look after every frame ever finds harm; `shared` frames are slow for both arms."""
    rng = np.random.default_rng(seed)
    evidence = no_evidence(params)
    for _ in range(num):
        both = rng.random() < shared
        sample = pair(
            failed=bool(rng.random() < error),
            ms=150.0 if both or rng.random() < slow else 30.0,
            champion_failed=bool(rng.random() < params.max_error_share),
            champion_ms=150.0 if both or rng.random() < params.max_slow_share else 30.0,
            agreement=float(rng.beta(2, 2)),
        )
        evidence = add_samples(evidence, [sample], "shadow", params)
        if deciding(evidence, params):
            return True
    return False


@pytest.mark.parametrize("shared", [0.0, 0.3])
def test_an_equal_challenger_at_all_limits_is_hardly_ever_harmed(params, shared: float) -> None:
    alarms = sum(
        simulate(params, seed, params.max_error_share, params.max_slow_share, shared, 150) for seed in range(40)
    )
    assert alarms / 40 <= params.alpha


@pytest.mark.parametrize(("error", "slow"), [(0.5, 0.0), (0.0, 0.5)])
def test_a_bad_challenger_is_found_also_on_a_noisy_machine(params, error: float, slow: float) -> None:
    assert all(simulate(params, seed, error, slow, 0.1, 120) for seed in range(10))
