"""Labelling tasks: the frames that the two contradict each other on, in a format that Label Studio takes."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.comparison.predictions import GroundTruth, LabelledFrame, Predictions, ground_truth, predictions
from flows.comparison.tasks import (
    label_config,
    label_studio_tasks,
    most_doubtful,
    tasks_csv,
)
from tests.comparison.conftest import draw_predictions, draw_truth

SIZE_WH = (600, 500)


def frames(clips: list[str]) -> GroundTruth:
    """A frame for each clip named, with a car at (10, 20, 50, 60) in each."""
    return ground_truth(
        ["car", "bus"],
        [
            LabelledFrame(f"images/test/{number}.jpg", "cam", clip, "day", np.array([[10, 20, 50, 60]]), np.array([0]))
            for number, clip in enumerate(clips)
        ],
    )


def finds(truth: GroundTruth, boxes: list[list[tuple[int, int, float]]]) -> Predictions:
    """Per image: place (0 is the car's), class, confidence; what is served of it."""
    at = [[[10 + 100 * place, 20, 50 + 100 * place, 60] for place, _, _ in one] for one in boxes]
    scores = [np.array([score for _, _, score in one]) for one in boxes]
    classes = [np.array([kind for _, kind, _ in one], dtype=np.int64) for one in boxes]
    found = predictions(truth.images, [np.array(one).reshape(-1, 4) for one in at], scores, classes)
    return found.at_confidence(0.25)


def test_the_surer_the_contradiction_the_earlier_the_frame() -> None:
    truth = frames(["a", "b", "c", "d"])
    new = finds(truth, [[(0, 0, 0.9)], [(0, 0, 0.5)], [(0, 1, 0.8)], [(0, 0, 0.2)]])
    old = finds(truth, [[(0, 0, 0.4)], [], [(0, 0, 0.9)], []])
    chosen = most_doubtful(truth, new, old, num=10)
    # frame 2: bus .8 against car .9; frame 1: only the challenger, .5; frame 0 agrees; frame 3 serves nothing
    assert [(one.index, round(one.doubt, 6)) for one in chosen] == [(2, 1.7), (1, 0.5)]
    assert [(one.challenger_alone, one.other_alone) for one in chosen] == [(1, 1), (1, 0)]


def test_every_clip_has_its_turn_before_the_second_frame_of_any() -> None:
    truth = frames(["a", "a", "a", "b"])
    new = finds(truth, [[(1, 0, 0.9)], [(1, 0, 0.8)], [(1, 0, 0.7)], [(1, 0, 0.3)]])
    chosen = most_doubtful(truth, new, finds(truth, [[], [], [], []]), num=3)
    assert [one.index for one in chosen] == [0, 3, 1]


def test_without_a_champion_the_labels_are_the_other_side() -> None:
    truth = frames(["a", "b"])
    [missed] = most_doubtful(truth, finds(truth, [[(0, 0, 0.9)], []]), None, num=5)
    assert (missed.index, missed.doubt, missed.other_alone) == (1, 1.0, 1)


def test_a_task_holds_the_boxes_of_both_models_and_the_labels_in_percent() -> None:
    truth = frames(["a"])
    new, old = finds(truth, [[(0, 0, 0.9), (1, 1, 0.2)]]), finds(truth, [[(5, 1, 0.7)]])
    chosen = most_doubtful(truth, new, old, num=1)
    [task] = label_studio_tasks(chosen, truth, {"version 2": new, "version 1": old}, lambda _: SIZE_WH)
    assert task["data"] | {"doubt": 1.6} == {
        "image": "/data/local-files/?d=images/test/0.jpg", "file": "images/test/0.jpg", "camera": "cam", "clip": "a",
        "slice": "day", "rank": 1, "doubt": 1.6,
    }  # fmt: skip
    by_model = {one["model_version"]: one for one in task["predictions"]}
    assert list(by_model) == ["version 2", "version 1", "labels"]
    [region] = by_model["version 2"]["result"]  # the other box is below the served confidence
    assert region["value"] == {
        "x": pytest.approx(10 / 6, abs=1e-3), "y": 4.0, "width": pytest.approx(40 / 6, abs=1e-3), "height": 8.0,
        "rotation": 0, "rectanglelabels": ["car"],
    }  # fmt: skip
    assert (region["original_width"], region["original_height"], region["score"]) == (*SIZE_WH, 0.9)
    assert by_model["version 1"]["result"][0]["value"]["rectanglelabels"] == ["bus"]
    assert "score" not in by_model["labels"]
    assert "annotations" not in task  # what nobody has looked at is no annotation


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_regions_lie_in_the_frame_and_fit_the_labelling_interface(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = draw_truth(rng, cameras=2, frames=2)
    new, old = draw_predictions(rng, truth, jitter=0.5), draw_predictions(rng, truth, found=0.6)
    chosen = most_doubtful(truth, new, old, num=20)
    tasks = label_studio_tasks(chosen, truth, {"new": new, "old": old}, lambda _: (450, 450))
    interface = ET.fromstring(label_config(truth.classes))
    names = {one.get("value") for one in interface.iter("Label")}
    control, image = interface.find("RectangleLabels"), interface.find("Image")
    for task in tasks:
        regions = [region for one in task["predictions"] for region in one["result"]]
        assert len({region["id"] for region in regions}) == len(regions)
        for region in regions:
            assert (region["from_name"], region["to_name"]) == (control.get("name"), image.get("name"))
            value = region["value"]
            assert set(value["rectanglelabels"]) <= names
            assert min(value["x"], value["y"], value["width"], value["height"]) >= 0
            assert max(value["x"] + value["width"], value["y"] + value["height"]) <= 100.001


def test_names_with_special_letters_survive() -> None:
    truth = ground_truth(
        ['a "b" & <c>'],
        [LabelledFrame("images/test/a b#1.jpg", "cam", "x", "day", np.array([[0, 0, 9, 9]]), np.array([0]))],
    )
    new = finds(truth, [[]])
    chosen = most_doubtful(truth, new, None, num=1)
    [task] = label_studio_tasks(chosen, truth, {"new": new}, lambda _: SIZE_WH)
    assert task["data"]["image"] == "/data/local-files/?d=images/test/a%20b%231.jpg"
    assert next(ET.fromstring(label_config(truth.classes)).iter("Label")).get("value") == 'a "b" & <c>'


def test_the_csv_says_the_same() -> None:
    truth = frames(["a, with comma", "b"])
    new = finds(truth, [[(1, 0, 0.9)], [(1, 0, 0.5)]])
    chosen = most_doubtful(truth, new, finds(truth, [[], []]), num=2)
    rows = list(csv.DictReader(io.StringIO(tasks_csv(chosen, truth, has_champion=True))))
    assert [row["image"] for row in rows] == ["images/test/0.jpg", "images/test/1.jpg"]
    assert (rows[0]["clip"], rows[0]["doubt"], rows[0]["other"]) == ("a, with comma", "0.900", "champion")
