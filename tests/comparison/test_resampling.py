from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.matching import match_all
from flows.comparison.predictions import LabelledFrame, ground_truth, predictions
from flows.comparison.resampling import (
    Estimate,
    bootstrap_blocks,
    bootstrap_weights,
    holm,
    jackknife,
    jackknife_weights,
    label_swap_p_value,
    p_worse,
    percentile_interval,
    short,
    unit_of_image,
)


def everywhere(truth) -> np.ndarray:
    return np.ones(len(truth.images), dtype=bool)


def means_without(values: np.ndarray) -> np.ndarray:
    """The mean of all, then of all but one each."""
    return np.concatenate([[values.mean()], (values.sum() - values) / (len(values) - 1)])


def test_jackknife_weights_leave_one_unit_out() -> None:
    assert jackknife_weights(np.array([0, 0, -1, 1])).tolist() == [[1, 1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=30))
def test_jackknife_of_a_mean_is_the_textbook_interval(values: list[float]) -> None:
    data = np.array(values)
    estimate = jackknife(means_without(data), 0.05, 6)
    assert estimate.standard_error == pytest.approx(data.std(ddof=1) / np.sqrt(len(data)), abs=1e-9)


def test_jackknife_t_quantile_is_that_of_a_table() -> None:
    estimate = jackknife(means_without(np.arange(8.0)), 0.05, 6)
    assert (estimate.upper - estimate.value) / estimate.standard_error == pytest.approx(
        1.894579, abs=1e-6
    )  # t(7), 95 %


@pytest.mark.parametrize("samples", [[0.5], [0.5, 0.4, 0.6, 0.5, 0.5, 0.5], [0.5, *[0.4] * 5, np.nan], [np.nan] * 9])
def test_too_few_units_give_no_interval(samples: list[float]) -> None:
    estimate = jackknife(np.array(samples), 0.05, 6)
    assert estimate.lower is estimate.upper is estimate.standard_error is None
    assert p_worse(estimate) is None


def test_cameras_as_units_cover_and_frames_do_not() -> None:
    """Cameras differ from one another (sd 1) as much as frames of one camera do: the true mean is 0."""
    rng = np.random.default_rng(0)
    covered = {"camera": 0, "frame": 0}
    for _ in range(1000):
        frames = rng.normal(size=(8, 1)) + rng.normal(size=(8, 16))
        for unit, values in (("camera", frames.mean(axis=1)), ("frame", frames.ravel())):
            estimate = jackknife(means_without(values), 0.05, 6)
            covered[unit] += estimate.lower <= 0 <= estimate.upper
    assert 0.87 <= covered["camera"] / 1000 <= 0.93  # two bounds of 95 %
    assert covered["frame"] / 1000 < 0.5


def test_equal_models_are_rarely_called_worse(make_truth, make_predictions) -> None:
    """The whole way through matching: two draws of one model; at alpha 5 % about 5 in 100 look worse."""
    worse = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        truth = make_truth(rng, frames=3, classes=2)
        weights = jackknife_weights(unit_of_image(truth, "camera", everywhere(truth), 6))
        maps = [
            mean_average_precision(average_precisions(rank(match_all(truth, make_predictions(rng, truth))), weights))
            for _ in range(2)
        ]
        worse += jackknife(maps[0] - maps[1], 0.05, 6).upper < 0
    assert worse <= 12  # P(more | 5 %) is about .001


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.9, 0.9], [1.0, 1.0]),
    ],
)
def test_holm(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("value", "error", "p"), [(0.0, 0.0, 1.0), (-0.1, 0.0, 0.0), (0.0, 0.1, 0.5), (-0.1894579, 0.1, 0.05)]
)
def test_p_worse(value: float, error: float, p: float) -> None:
    estimate = Estimate(value=value, lower=-1, upper=1, standard_error=error, num_units=8)
    assert p_worse(estimate) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("camera", [0, 0, 0, 0, -1, 1]), ("clip", [0, 0, 0, 0, -1, 1]), ("block", [0, 0, 1, 1, -1, 2])],
)
def test_units(unit: str, expected: list[int]) -> None:
    clips = [("a", "1")] * 4 + [("a", "2"), ("b", "1")]
    nothing = (np.zeros((0, 4)), np.zeros(0, dtype=int))
    truth = ground_truth(["car"], [LabelledFrame(str(i), *clip, "day", *nothing) for i, clip in enumerate(clips)])
    members = np.array([True, True, True, True, False, True])
    assert unit_of_image(truth, unit, members, 2).tolist() == expected


def test_blocks_are_minutes_of_a_camera_where_times_are_known() -> None:
    """Frames a second apart lie in one block; a clip without times is cut evenly."""
    rows = [
        ("a", "1", "2026-03-02T12:00:58+01:00"),
        ("a", "1", "2026-03-02T12:00:59+01:00"),
        ("a", "2", "2026-03-02T12:00:30+01:00"),  # another clip of the same minute
        ("a", "1", "2026-03-02T12:01:01+01:00"),
        ("b", "1", "2026-03-02T11:00:58+00:00"),  # the same moment at another camera
        ("c", "1", ""),
        ("c", "1", "2026-03-02T12:00:00"),
        ("d", "1", "noon"),
    ]
    nothing = (np.zeros((0, 4)), np.zeros(0, dtype=int))
    frames = [
        LabelledFrame(str(number), camera, clip, "day", *nothing, time=time)
        for number, (camera, clip, time) in enumerate(rows)
    ]
    units = unit_of_image(ground_truth(["car"], frames), "block", np.ones(len(rows), dtype=bool), 2, block_s=60)
    assert units[:5].tolist() == [0, 0, 0, 1, 2]
    assert units[5] not in units[:5]
    assert units[7] not in units[:7]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 600), min_size=1, max_size=40), st.sampled_from([0.5, 7.0, 60.0]))
def test_frames_of_one_block_are_never_further_apart_than_it_is_long(seconds: list[int], block_s: float) -> None:
    nothing = (np.zeros((0, 4)), np.zeros(0, dtype=int))
    start = datetime(2026, 3, 2, tzinfo=UTC)
    frames = [
        LabelledFrame(str(number), "a", "1", "day", *nothing, time=(start + timedelta(seconds=second)).isoformat())
        for number, second in enumerate(seconds)
    ]
    units = unit_of_image(ground_truth(["car"], frames), "block", np.ones(len(frames), dtype=bool), 6, block_s=block_s)
    for unit in set(units.tolist()):
        members = [second for second, own in zip(seconds, units, strict=True) if own == unit]
        assert max(members) - min(members) < block_s


def test_clips_of_the_same_name_differ_between_cameras(make_truth) -> None:
    truth = make_truth(np.random.default_rng(0))
    assert unit_of_image(truth, "clip", everywhere(truth), 6).max() + 1 == 16


def test_bootstrap_draws_whole_units_and_follows_the_seed() -> None:
    units = np.array([0, 0, 1, 2, -1])
    weights = bootstrap_weights(units, 50, 7)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 4] == 0).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (weights == bootstrap_weights(units, 50, 7)).all()
    assert (weights != bootstrap_weights(units, 50, 8)).any()


def test_replicates_in_blocks_are_those_of_one_draw_and_progress_is_told(make_truth, make_predictions) -> None:
    units = np.array([0, 0, 1, 2, -1, 3])
    drawn = np.random.default_rng(7).multinomial(4, np.full(4, 1 / 4), size=600)
    blocks = list(bootstrap_blocks(units, 600, 7))
    assert max(len(block) for block in blocks) < 600
    assert (np.concatenate(blocks) == np.where(units >= 0, drawn[:, units], 0)).all()
    truth = make_truth(np.random.default_rng(0), cameras=12, clips=1, frames=1)
    matches = [match_all(truth, make_predictions(np.random.default_rng(seed), truth)) for seed in (1, 2)]
    told: list[tuple[int, int]] = []
    by_camera = unit_of_image(truth, "camera", everywhere(truth), 6)
    label_swap_p_value(
        *matches, by_camera, permutations=600, seed=0, progress=lambda done, total, _: told.append((done, total))
    )
    assert told[-1] == (600, 600)
    assert len(told) == len(blocks)


def test_percentiles_leave_undefined_replicates_out() -> None:
    assert percentile_interval(np.array([]), 0.05) is None
    assert percentile_interval(np.array([np.nan, np.nan, 1.0]), 0.05) is None
    assert percentile_interval(np.array([0.0, 1.0, np.nan]), 0.25) == (0.25, 0.75)


def test_a_model_is_interchangeable_with_itself_and_not_with_a_better_one(make_truth, make_predictions) -> None:
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    units = unit_of_image(truth, "camera", everywhere(truth), 6)
    good = match_all(truth, make_predictions(rng, truth, found=0.95, jitter=0.02))
    poor = match_all(truth, make_predictions(rng, truth, found=0.5, jitter=0.10))
    assert label_swap_p_value(good, good, units, permutations=256, seed=0) == 1.0
    assert label_swap_p_value(good, poor, units, permutations=256, seed=0) == 2 / 256  # no swap, and all swapped
    assert label_swap_p_value(good, poor, units, permutations=99, seed=0) <= 3 / 99


def test_swapping_labels_equals_evaluating_swapped_predictions(make_truth, make_predictions) -> None:
    """Three units, one of which is swapped, by really exchanging the boxes."""
    rng = np.random.default_rng(3)
    truth = make_truth(rng, cameras=3, clips=1, frames=4)
    models = [make_predictions(rng, truth, found=share) for share in (0.9, 0.6)]
    units = unit_of_image(truth, "camera", everywhere(truth), 2)
    once = np.ones((1, len(truth.images)), dtype=int)
    gaps = []
    for swap in range(8):
        picks = [[(swap >> units[image] & 1) ^ side for image in range(len(truth.images))] for side in (0, 1)]
        mixed = [
            predictions(
                truth.images,
                *(
                    [getattr(models[m], key)[models[m].of(i)] for i, m in enumerate(pick)]
                    for key in ("boxes_xyxy", "scores", "class_ids")
                ),
            )
            for pick in picks
        ]
        scores = [mean_average_precision(average_precisions(rank(match_all(truth, one)), once))[0] for one in mixed]
        gaps.append(abs(scores[0] - scores[1]))
    expected = np.mean(np.array(gaps) >= gaps[0] - 1e-12)
    matches = [match_all(truth, model) for model in models]
    assert label_swap_p_value(*matches, units, permutations=8, seed=0) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (None, False, "–"),
        (float("nan"), False, "–"),
        (0.5634, False, ".563"),
        (0.0, True, "+.000"),
        (-0.0052, True, "-.005"),
        (-0.05, False, "-.050"),
        (0.9999, False, "1.000"),
        (1.0, True, "+1.000"),
    ],
)
def test_short(value: float | None, signed: bool, text: str) -> None:
    assert short(value, signed) == text
