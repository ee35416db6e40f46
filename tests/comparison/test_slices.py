from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.matching import match_all
from flows.comparison.predictions import LabelledFrame, ground_truth, predictions
from flows.comparison.slices import SliceTable


def only(truth, found, members):
    """The frames of one slice as tables of their own."""
    chosen = np.flatnonzero(members)
    frames = [
        LabelledFrame(
            truth.images[i], "cam", "clip", "day", truth.boxes_xyxy[truth.of(i)], truth.class_ids[truth.of(i)]
        )
        for i in chosen
    ]
    parts = ([getattr(found, key)[found.of(i)] for i in chosen] for key in ("boxes_xyxy", "scores", "class_ids"))
    return ground_truth(truth.classes, frames), predictions([truth.images[i] for i in chosen], *parts)


def test_no_objects_no_figures(params) -> None:
    truth = ground_truth(["car"], [LabelledFrame("a", "cam", "clip", "day", np.zeros((0, 4)), np.zeros(0, dtype=int))])
    assert SliceTable(truth, predictions(["a"], [np.zeros((0, 4))], [[]], [[]]), None, params).figures() == ()


def test_a_slice_equals_its_frames_alone(make_truth, make_predictions, params) -> None:
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    new, old = make_predictions(rng, truth), make_predictions(rng, truth, found=0.6)
    figures = {(one.kind, one.name): one for one in SliceTable(truth, new, old, params).figures()}
    assert {kind for kind, _ in figures} == {"slice", "camera", "class", "size"}
    for kind, values in (("slice", truth.slices), ("camera", truth.cameras)):
        for name in set(values):
            members = np.array([one == name for one in values])
            alone, found = only(truth, new, members)
            once = np.ones((1, len(alone.images)), dtype=int)
            expected = mean_average_precision(average_precisions(rank(match_all(alone, found)), once))[0]
            assert figures[kind, name].challenger.value == pytest.approx(expected)
            assert figures[kind, name].num_objects == len(alone.class_ids)
    one = figures["class", "class0"]
    assert one.difference.value == pytest.approx(one.challenger.value - one.champion.value)
    sizes = [figures["size", name].num_objects for name in ("small", "medium", "large")]
    assert sum(sizes) == len(truth.class_ids)


def test_a_slice_of_few_cameras_takes_finer_units_and_says_so(make_truth, make_predictions, params) -> None:
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    found = make_predictions(rng, truth)
    units = {
        (one.kind, one.name): (one.unit, one.challenger.num_units)
        for one in SliceTable(truth, found, None, params).figures()
    }
    assert units["class", "class0"] == ("camera", 8)
    assert units["slice", "day"] == ("block", 12)  # 2 cameras, 4 clips
    finer = SliceTable(truth, found, None, params.model_copy(update={"min_units": 4})).figures()
    assert next((one.unit, one.challenger.num_units) for one in finer if one.name == "day") == ("clip", 4)


def test_frames_of_unknown_slice_and_camera_are_no_part(make_truth, make_predictions, params) -> None:
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    nothing = ("",) * len(truth.images)
    truth = replace(truth, slices=nothing, cameras=nothing)
    told: list[int] = []
    figures = SliceTable(truth, make_predictions(rng, truth), None, params).figures(lambda done, *_: told.append(done))
    assert {one.kind for one in figures} == {"class", "size"}
    assert told == list(range(1, len(figures) + 1))


@pytest.mark.parametrize(
    ("words", "conditions"),
    [
        (("day", "night", "rain", "fog"), set()),
        (("day-dry", "night-dry", "night-rain", "day-rain"), {"any day", "any night", "any dry", "any rain"}),
        (("day", "night", "night_rain", "night fog"), {"any night"}),
        (("night", "night-rain", "night-fog", "night-snow"), set()),  # all of it
        (("", "", "night-rain", "rain"), {"any rain"}),
    ],
)
def test_conditions_that_slices_share_are_parts_too(
    words: tuple[str, ...], conditions: set[str], make_truth, make_predictions, params
) -> None:
    rng = np.random.default_rng(0)
    truth = make_truth(rng, cameras=4)
    truth = replace(truth, slices=tuple(words[index % 4] for index in range(len(truth.images))))
    figures = SliceTable(truth, make_predictions(rng, truth), None, params).figures()
    named = {one.name: one.num_objects for one in figures if one.kind == "slice"}
    assert {name for name in named if name.startswith("any ")} == conditions
    for condition in conditions:
        shared = [word for word in set(words) if condition.removeprefix("any ") in word]
        assert named[condition] == sum(named[word] for word in shared)
