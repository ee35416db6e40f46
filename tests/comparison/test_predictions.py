from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from flows.comparison.predictions import LabelledFrame, check_aligned, detect_frames, ground_truth, predictions
from flows.errors import DataError

NOTHING = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=int))


def test_no_frames_are_refused() -> None:
    with pytest.raises(DataError, match="no frames"):
        ground_truth(["car"], [])


def test_image_without_boxes_keeps_its_place() -> None:
    one = (np.array([[1.0, 2, 3, 4]]), np.array([0.5]), np.array([0]))
    found = predictions(["a", "b", "c"], *zip(NOTHING, one, NOTHING, strict=True))
    assert [found.of(index) for index in range(3)] == [slice(0, 0), slice(0, 1), slice(1, 1)]
    assert found.image_index.tolist() == [1]


def test_at_confidence_keeps_equal_and_higher() -> None:
    found = predictions(["a", "b"], [np.zeros((2, 4)), np.zeros((1, 4))], [[0.25, 0.9], [0.1]], [[0, 1], [0]])
    served = found.at_confidence(0.25)
    assert served.scores.tolist() == [0.25, 0.9]
    assert served.offsets.tolist() == [0, 2, 2]


def test_detections_are_renumbered_by_name_and_those_of_foreign_classes_go() -> None:
    boxes = np.arange(12.0).reshape(3, 4)
    found = predictions(["a", "b"], [boxes[:2], boxes[2:]], [[0.9, 0.8], [0.7]], [[0, 1], [2]])
    same = found.in_classes((" Bus", "tram", "car"), ("car", "bus"))
    assert same.class_ids.tolist() == [1, 0]
    assert same.offsets.tolist() == [0, 1, 2]
    assert same.boxes_xyxy.tolist() == boxes[[0, 2]].tolist()
    assert same.scores.tolist() == [0.9, 0.7]
    assert found.in_classes(("x", "y", "z"), ("x", "y", "z")).digest() == found.digest()


def test_image_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        predictions(["a", "a"], *zip(NOTHING, NOTHING, strict=True))


def test_parts_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match="do not belong together"):
        predictions(["a"], [np.zeros((2, 4))], [[0.5, 0.5]], [[0]])


def test_unknown_class_in_labels_is_refused() -> None:
    frame = LabelledFrame("a", "cam", "clip", "day", np.zeros((1, 4)), np.array([3]))
    with pytest.raises(DataError, match=r"class ids 3 to 3, but the data has 1 classes: car"):
        ground_truth(["car"], [frame])


@pytest.mark.parametrize(
    ("images", "class_id", "message"),
    [
        (["a"], 0, "1 missing and 0 extra, first b"),
        (["a", "b", "c"], 0, "0 missing and 1 extra, first c"),
        (["b", "a"], 0, "first the order"),
        (["a", "b"], 2, "challenger: predicts class ids 2 to 2"),
        (["a", "b"], -1, "challenger: predicts class ids -1 to -1"),
    ],
)
def test_predictions_of_other_frames_or_classes_are_refused(images: list[str], class_id: int, message: str) -> None:
    frames = [LabelledFrame(image, "cam", "clip", "day", *NOTHING[::2]) for image in ("a", "b")]
    num = len(images)
    found = predictions(images, [np.zeros((1, 4))] * num, [np.array([0.5])] * num, [np.array([class_id])] * num)
    with pytest.raises(DataError, match=message):
        check_aligned(ground_truth(["car", "bus"], frames), found, "challenger")


def test_digest_follows_the_content(make_truth, make_predictions) -> None:
    truth = make_truth(np.random.default_rng(0), cameras=1)
    found = make_predictions(np.random.default_rng(1), truth)
    again = make_predictions(np.random.default_rng(1), truth)
    assert found.digest() == again.digest()
    assert replace(found, scores=found.scores * 0.999).digest() != found.digest()
    assert replace(truth, slices=truth.slices[::-1]).digest() == truth.digest()  # one camera, one slice
    assert replace(truth, cameras=("x", *truth.cameras[1:])).digest() != truth.digest()


@dataclass(frozen=True)
class Found:
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray


class ByteCounter:
    """Finds one box as wide as the file is long."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, images: list[bytes], *, conf: float, max_det: int) -> list[Found]:
        assert (conf, max_det) == (0.001, 100)
        self.batches.append(len(images))
        return [
            Found(np.array([[0, 0, len(one), 1]], np.float32), np.array([0.5], np.float32), np.array([0]))
            for one in images
        ]


def test_every_file_goes_through_the_detector_once_and_in_order(tmp_path: Path) -> None:
    names = [f"images/test/{number}.jpg" for number in range(5)]
    (tmp_path / "images/test").mkdir(parents=True)
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * (number + 1))
    detector, seen = ByteCounter(), []
    found = detect_frames(detector, tmp_path, names, lambda *step: seen.append(step[:2]), batch_size=2)
    assert found.images == tuple(names)
    assert found.boxes_xyxy[:, 2].tolist() == [1, 2, 3, 4, 5]
    assert detector.batches == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images/test/0\.jpg: cannot be read"):
        detect_frames(ByteCounter(), tmp_path, ["images/test/0.jpg"])
