from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from flows.dataset.review.matching import compare_labels
from flows.dataset.review.trust import learn_trust, measure_sight, size_bins, wilson_interval
from tests.dataset.review.review_scenes import Scenes, draw_scenes, plant_faults, witness

CAR, TRUCK = 0, 1


def compared(scenes: Scenes):  # type: ignore[no-untyped-def]
    return compare_labels(scenes.dataset, scenes.manifest, scenes.detections, witness().class_map, 640)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_is_wilsons(counts: tuple[int, int]) -> None:
    hits, number = counts
    expected = binomtest(hits, number).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, number) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        wilson_interval(0, 0)


def test_sizes() -> None:
    assert size_bins(np.array([0.0, 11.9, 12.0, 95.9, 96.0, 4000.0])).tolist() == [0, 0, 1, 6, 7, 7]


def test_a_class_that_labels_contradict_counts_less() -> None:
    scenes = draw_scenes(1)
    sound = learn_trust(compared(scenes).labels, 3, 0.4)
    for labels in scenes.labels:  # half of what it calls a truck is labelled car
        labels[:] = [(CAR if c == TRUCK and i % 2 else c, corners) for i, (c, corners) in enumerate(labels)]
    spoilt = learn_trust(compared(scenes).labels, 3, 0.4)
    assert sound.word.min() > 0.95
    assert spoilt.word[TRUCK] == pytest.approx(0.5, abs=0.1)
    assert spoilt.thresholds[CAR] < sound.thresholds[CAR]


def test_what_it_hardly_finds_predicts_what_it_misses() -> None:
    """A reference of which scores fade out towards nothing: as many are missed as the tail says, none suspected."""
    scenes = draw_scenes(2, 300)
    dice = np.random.default_rng(2)
    for found in scenes.detections.values():
        found.scores[:] = dice.beta(3, 1.5, len(found.scores))
    for name, found in scenes.detections.items():
        keep = found.scores >= 0.05
        scenes.detections[name] = type(found)(found.boxes_xyxy[keep], found.scores[keep], found.class_ids[keep])
    sights, nothing = measure_sight(compared(scenes), scenes.dataset.classes, frozenset({0, 1, 2}), 30, 0.85)
    assert any(one.judged for one in sights)
    assert nothing.max() == 0


def test_labels_of_nothing_exceed_what_it_misses() -> None:
    scenes = draw_scenes(3, 300)
    plant_faults(scenes, 3)
    both = compared(scenes)
    sights, nothing = measure_sight(both, scenes.dataset.classes, frozenset({0, 1, 2}), 30, 0.85)
    suspected = {
        (both.images["image"][both.labels.image_index[row]], int(both.labels.line[row]))
        for row in np.flatnonzero(nothing > 0.5)
    }
    assert len(suspected & scenes.planted["spurious"]) > 0.9 * len(scenes.planted["spurious"])
    assert not any(one.judged for one in sights if one.num_labels < 30)


def test_one_vehicle_missed_all_through_a_clip_counts_once() -> None:
    scenes = draw_scenes(4, 300)
    plant_faults(scenes, 4)
    manifest = scenes.manifest
    manifest.images["clip"] = "standing"
    both = compare_labels(scenes.dataset, manifest, scenes.detections, witness().class_map, 640)
    sights, nothing = measure_sight(both, scenes.dataset.classes, frozenset({0, 1, 2}), 30, 0.85)
    assert max(one.num_not_found for one in sights) > 30
    assert max(one.num_clips_not_found for one in sights) == 1
    assert nothing.max() == 0
