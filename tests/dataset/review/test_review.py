from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.layout import Dataset
from flows.dataset.review.classes import ClassMap
from flows.dataset.review.record import KINDS, Case, Kind, Review
from flows.dataset.review.review import review_labels
from flows.geometry import iou_xyxy
from tests.dataset.review.review_scenes import (
    CLASSES,
    Corners,
    Scenes,
    detected,
    draw_scenes,
    make_params,
    plant_faults,
    witness,
)

CAR, TRUCK, BUS = range(3)
PLACE = (100.0, 100.0, 160.0, 150.0)
ELSEWHERE = (300.0, 100.0, 360.0, 150.0)


def review(scenes: Scenes, **changes: object) -> Review:
    return review_labels(scenes.dataset, scenes.manifest, scenes.detections, witness(), make_params(**changes))


def one_frame(labels: list[object], *found: tuple[int, float, tuple[float, float, float, float]]) -> Scenes:
    """A frame of its own behind enough sound ones that the reference is believed."""
    scenes = draw_scenes(0, 60)
    scenes.labels.append(labels)  # type: ignore[arg-type]
    scenes.detections[scenes.name(60)] = detected(*found)
    return scenes


def of_last(found: Review) -> list[tuple[Kind, int, str, str]]:
    name = "images/train/f0060.jpg"
    return [(one.kind, one.line, one.label_class, one.proposed_class) for one in found.cases if one.image == name]


def is_at(case: Case, image: str, corners: Corners) -> bool:
    return case.image == image and float(iou_xyxy([case.found_xyxy[0]], [corners])[0, 0]) > 0.5


def average_precision(hits: list[bool], num_planted: int) -> float:
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precisions * np.array(hits)).sum() / num_planted)


@pytest.mark.parametrize(
    ("labels", "found", "expected"),
    [
        pytest.param([], [], [], id="nothing labelled, nothing seen"),
        pytest.param([], [(CAR, 0.2, PLACE)], [], id="an empty frame and a guess"),
        pytest.param([], [(CAR, 0.8, PLACE), (CAR, 0.7, ELSEWHERE)], [("empty_frame", 0, "", "car")], id="empty frame"),
        pytest.param([(CAR, PLACE)], [(CAR, 0.8, PLACE)], [], id="agreement"),
        pytest.param(
            [(CAR, PLACE)], [(CAR, 0.8, PLACE), (BUS, 0.7, ELSEWHERE)], [("missing", 0, "", "bus")], id="missing"
        ),
        pytest.param([(CAR, PLACE)], [(CAR, 0.8, PLACE), (BUS, 0.2, ELSEWHERE)], [], id="a guess of a missing one"),
        pytest.param([(CAR, PLACE)], [(CAR, 0.8, PLACE), (BUS, 0.7, (110, 110, 140, 140))], [], id="part of a vehicle"),
        pytest.param([(BUS, PLACE)], [(CAR, 0.85, PLACE)], [("wrong_class", 1, "bus", "car")], id="another class"),
        pytest.param([(BUS, PLACE)], [(CAR, 0.45, PLACE), (BUS, 0.4, PLACE)], [], id="torn between two classes"),
        pytest.param(
            [(CAR, PLACE)],
            [(CAR, 0.85, (100.0, 100.0, 160.0, 205.0))],
            [("badly_located", 1, "car", "car")],
            id="badly located",
        ),
        pytest.param([(CAR, ELSEWHERE)], [], [], id="one label not found proves nothing"),
    ],
)
def test_cases_of_one_frame(labels: list[object], found: list[object], expected: list[object]) -> None:
    assert of_last(review(one_frame(labels, *found))) == expected  # type: ignore[arg-type]


def test_sound_labels_give_no_case() -> None:
    found = review(draw_scenes(1))
    assert found.cases == ()
    assert found.sentence == f"120 frames with {found.num_labels:,} labels: stand-in contradicts none of the labels."
    assert all(one.doubted_share == 0 for one in found.agreement)


@functools.cache
def spoilt(seed: int) -> tuple[Scenes, Review]:
    """300 frames with 3 % of the labels dropped, swapped and shifted each, and all cases found in them."""
    scenes = draw_scenes(seed, 300)
    plant_faults(scenes, seed)
    return scenes, review(scenes, min_score=0.0)


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_planted_faults_rank_first(kind: Kind, seed: int) -> None:
    scenes, found = spoilt(seed)
    cases = found.of(kind)
    if kind == "missing":
        hits = [any(is_at(case, *one) for one in scenes.dropped) for case in cases]
        num_planted = len(scenes.dropped)
    else:
        hits = [(case.image, case.line) in scenes.planted[kind] for case in cases]
        num_planted = len(scenes.planted[kind])
    assert num_planted >= (2 if kind == "empty_frame" else 30)
    assert average_precision(hits, num_planted) > 0.9


@pytest.mark.parametrize("seed", [2, 3])
def test_listed_cases_are_mostly_planted_ones(seed: int) -> None:
    scenes, found = spoilt(seed)
    true = {
        (image, line) for kind in ("wrong_class", "badly_located", "spurious") for image, line in scenes.planted[kind]
    }
    listed = {(case.image, case.line) for case in found.cases if case.line and case.score >= 0.3}
    assert len(listed - true) <= 0.05 * len(listed)


def test_share_of_swapped_labels_lies_in_the_interval() -> None:
    scenes = draw_scenes(4, 300)
    dice = np.random.default_rng(4)
    num_swapped = 0
    for labels in scenes.labels:
        for position, (class_id, corners) in enumerate(labels):
            if class_id == CAR and dice.random() < 0.2:
                labels[position] = (BUS, corners)
                num_swapped += 1
    bus = {one.class_name: one for one in review(scenes).agreement}["bus"]
    assert bus.lower is not None
    assert bus.upper is not None
    assert bus.lower < num_swapped / bus.num_labels < bus.upper
    assert max(bus.looks_like, key=lambda name: bus.looks_like[name]) in ("bus", "car")


def test_far_vehicles_that_it_never_finds_are_no_labels_of_nothing() -> None:
    scenes = draw_scenes(5)
    far = (600.0, 370.0, 608.0, 376.0)
    for labels in scenes.labels:
        labels.append((CAR, far))
    assert review(scenes).of("spurious") == ()


def test_a_reference_that_sees_nothing_is_said_to_be_blind() -> None:
    scenes = draw_scenes(5, 20)
    scenes.detections = {name: detected() for name in scenes.detections}
    found = review(scenes)
    assert found.sentence.endswith("stand-in clearly sees only 0 of them, so it cannot judge the labels.")
    assert found.cases == ()


def test_labels_of_a_class_that_it_does_not_know_are_left_alone() -> None:
    scenes = draw_scenes(6)
    for labels in scenes.labels:
        labels[:] = [(BUS, corners) for _, corners in labels]
    map_without_bus = ClassMap({0: CAR, 1: TRUCK}, {"car": ("car",), "truck": ("lorry",)}, ("bus",))
    stranger = witness(class_map=map_without_bus)
    found = review_labels(scenes.dataset, scenes.manifest, scenes.detections, stranger, make_params())
    assert found.cases == ()
    assert found.num_labels_judged == 0
    assert any("does not know bus" in note for note in found.notes)


def test_frames_that_it_has_not_seen_or_whose_labels_have_faults_are_left_out() -> None:
    scenes = draw_scenes(7, 10)
    scenes.labels[0] = []
    manifest = scenes.manifest
    manifest.problems.loc[0] = ["data/labels/train/f0000.txt", 3, "label_syntax", "4 columns"]
    seen = {name: one for name, one in scenes.detections.items() if name != scenes.name(1)}
    found = review_labels(scenes.dataset, manifest, seen, witness(), make_params())
    assert (found.num_images, found.num_images_left_out) == (8, 2)
    assert found.of("empty_frame") == ()


def test_no_frame_at_all() -> None:
    scenes = draw_scenes(8, 2)
    found = review_labels(scenes.dataset, scenes.manifest, {}, witness(), make_params())
    assert (found.num_images, found.num_images_left_out, found.cases) == (0, 2, ())
    assert [one.doubted_share for one in found.agreement] == [None] * 3


def test_a_reference_of_ours_is_said_to_know_the_labels() -> None:
    scenes = draw_scenes(9, 5)
    ours = witness(is_ours=True, scores_every_class=False)
    notes = review_labels(scenes.dataset, scenes.manifest, scenes.detections, ours, make_params()).notes
    assert any("trained the reference" in note for note in notes)
    assert any("best class of a place only" in note for note in notes)


def test_names_the_label_file_and_line() -> None:
    scenes = one_frame([(CAR, ELSEWHERE), (BUS, PLACE)], (CAR, 0.85, PLACE), (CAR, 0.8, ELSEWHERE))
    case = review(scenes).of("wrong_class")[0]
    assert (case.file, case.line) == ("data/labels/train/f0060.txt", 2)
    assert case.sentence == "labelled bus, looks like a car: 0.85 against nothing for bus"
    assert case.label_xyxy == PLACE


def test_the_same_input_gives_the_same_review() -> None:
    scenes = draw_scenes(10)
    plant_faults(scenes, 10)
    assert review(scenes) == review(scenes)
    assert isinstance(scenes.dataset, Dataset)
    assert scenes.dataset.classes == CLASSES


corners = st.tuples(st.floats(0, 600), st.floats(0, 350), st.floats(0, 90), st.floats(0, 90)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
frame = st.tuples(
    st.lists(st.tuples(st.integers(0, 2), corners), max_size=6),
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.05, 1), corners), max_size=6),
)


@settings(deadline=None)
@given(st.lists(frame, min_size=1, max_size=4))
def test_whatever_is_found_scores_are_probabilities_and_places_exist(frames: list[Any]) -> None:
    scenes = Scenes([], [labels for labels, _ in frames], {})
    scenes.detections = {scenes.name(i): detected(*found) for i, (_, found) in enumerate(frames)}
    found = review(scenes, min_score=0.0, min_conf=0.05, min_labels=1)
    for case in found.cases:
        index = int(case.image[-8:-4])
        assert 0 <= case.score <= 1
        assert 0 <= case.line <= len(frames[index][0])
        assert (case.line == 0) == (case.kind in ("empty_frame", "missing")) == (case.label_xyxy is None)
    assert sum(found.num_cases.values()) == len(found.cases)
    assert sum(one.num_labels for one in found.agreement) == found.num_labels
