from __future__ import annotations

import numpy as np
import pytest

from flows.params import PromoteParams
from flows.rollout.evidence import (
    Evidence,
    Tally,
    add_samples,
    bake_limit,
    enter_state,
    error_certificate,
    harm_figures,
    no_evidence,
    read_in,
)
from flows.rollout.observations import Reading, Sample


def pair(failed=False, ms=30.0, champion_failed=False, champion_ms=30.0, agreement=0.9, mode="shadow") -> Sample:
    both = not failed and champion_failed is False
    return Sample(
        1,
        mode,
        failed,
        None if failed else ms,
        champion_failed,
        None if champion_failed else champion_ms,
        agreement if both else None,
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
    ("samples", "expected"),
    [
        ([pair()] * 200, set()),
        ([pair(ms=130.0)] * 20, {"latency"}),
        ([pair(failed=True)] * 20, {"errors"}),
        ([pair(agreement=0.0)] * 20, {"agreement"}),
        ([pair(agreement=0.45)] * 20, set()),
        ([pair(ms=130.0, champion_ms=140.0)] * 200, set()),  # a slow machine
        ([pair(failed=True, champion_failed=True)] * 200, set()),  # an outage
        ([pair(failed=True, champion_failed=None)] * 200, set()),  # not paired: nobody knows
    ],
)
def test_only_what_the_challenger_does_alone_is_harm(params, samples, expected: set[str]) -> None:
    assert deciding(gather(params, samples), params) == expected


def test_a_new_champion_is_judged_by_itself_while_it_bakes(params) -> None:
    slow = Sample(1, "champion", False, 130.0, None, None, None)
    failed = Sample(1, "champion", True, None, None, None, None)
    outage = Sample(1, "champion", True, None, True, None, None)
    assert deciding(gather(params, [slow] * 20, "champion"), params) == {"bake latency"}
    assert deciding(gather(params, [failed] * 20, "champion"), params) == {"bake errors"}
    assert deciding(gather(params, [outage] * 200, "champion"), params) == set()


def test_a_machine_that_was_slow_for_the_champion_too_is_no_harm_in_the_bake(params) -> None:
    noisy = [pair(ms=130.0, champion_ms=130.0)] * 10 + [pair()] * 30
    baked = [Sample(1, "champion", False, ms, None, None, None) for ms in [130.0, 30.0, 30.0, 30.0] * 15]
    assert deciding(gather(params, noisy + baked), params) == set()
    assert deciding(gather(params, [pair()] * 40 + baked), params) == {"bake latency"}


@pytest.mark.parametrize(("champion", "expected"), [(Tally(), 0.05), (Tally(100, 5), 0.05), (Tally(100, 100), 0.999)])
def test_the_limit_of_the_bake(params, champion: Tally, expected: float) -> None:
    assert bake_limit(champion, 0.05, params) == expected


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
