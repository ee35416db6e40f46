from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.comparison.average_precision import (
    RECALL_POINTS,
    average_precisions,
    mean_average_precision,
    precision_curve,
    rank,
)
from flows.comparison.matching import AREA_RANGES_PX, match_all
from flows.comparison.predictions import GroundTruth, LabelledFrame, Predictions, ground_truth, predictions


def once(truth: GroundTruth) -> np.ndarray:
    return np.ones((1, len(truth.images)), dtype=int)


def coco_precision(truth: GroundTruth, found: Predictions) -> np.ndarray:
    """Precision by the reference: (10 thresholds, 101 recalls, classes, all and three areas), -1 without objects."""
    from faster_coco_eval import COCO, COCOeval_faster

    def xywh(box: np.ndarray) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    annotations = [
        {"id": number, "image_id": int(image) + 1, "category_id": int(class_id) + 1, "bbox": xywh(box), "iscrowd": 0}
        | {"area": xywh(box)[2] * xywh(box)[3]}
        for number, (image, class_id, box) in enumerate(
            zip(truth.image_index, truth.class_ids, truth.boxes_xyxy, strict=True), start=1
        )
    ]
    detections = [
        {"image_id": int(image) + 1, "category_id": int(class_id) + 1, "bbox": xywh(box), "score": float(score)}
        for image, class_id, box, score in zip(
            found.image_index, found.class_ids, found.boxes_xyxy, found.scores, strict=True
        )
    ]
    images = [{"id": number + 1, "width": 600, "height": 600} for number in range(len(truth.images))]
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(truth.classes)]
    reference = COCO({"images": images, "annotations": annotations, "categories": categories})
    evaluation = COCOeval_faster(reference, reference.loadRes(detections), "bbox", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][..., -1]


@pytest.mark.parametrize("seed", range(15))
def test_equal_to_coco_overall_and_by_size(seed: int, make_truth, make_predictions) -> None:
    rng = np.random.default_rng(seed)
    shape = {"cameras": int(rng.integers(1, 6)), "frames": int(rng.integers(1, 8)), "classes": int(rng.integers(1, 5))}
    truth = make_truth(rng, **shape, most=int(rng.integers(1, 12)))
    found = make_predictions(rng, truth, found=rng.uniform(0.3, 1), jitter=rng.uniform(0.01, 0.15), most_false=20)
    reference = coco_precision(truth, found)
    for area, size in enumerate([None, *AREA_RANGES_PX]):
        ranking = rank(match_all(truth, found, AREA_RANGES_PX.get(size or "")))
        ours = np.nan_to_num(average_precisions(ranking, once(truth))[0], nan=-1)
        np.testing.assert_allclose(ours, reference[..., area].mean(axis=1).T, atol=1e-9)
        curve = [np.nan_to_num(precision_curve(ranking, one, 0), nan=-1) for one in range(len(truth.classes))]
        np.testing.assert_allclose(np.array(curve), reference[0, ..., area].T, atol=1e-9)


_CORNERS = st.integers(0, 60).map(lambda step: 4.0 * step)  # sides of 32 and 96 px, the limits of sizes, are among them
_BOXES = st.tuples(_CORNERS, _CORNERS, _CORNERS, _CORNERS).map(
    lambda box: [box[0], box[1], box[0] + max(box[2], 4.0), box[1] + max(box[3], 4.0)]
)
_SCORES = st.integers(1, 8).map(lambda step: step / 8)  # few, so that many tie


@st.composite
def scenes(draw: st.DrawFn) -> tuple[GroundTruth, Predictions]:
    """Few frames with whatever boxes: classes without objects, frames without either, ties of score and of overlap."""
    num_classes = draw(st.integers(1, 3))
    objects = st.lists(st.tuples(_BOXES, st.integers(0, num_classes - 1)), max_size=5)
    frames, boxes, scores, class_ids = [], [], [], []
    for number in range(draw(st.integers(1, 4))):
        labelled = draw(objects)
        frames.append(
            LabelledFrame(str(number), "cam", "clip", "day", [box for box, _ in labelled], [one for _, one in labelled])
        )
        again = draw(st.lists(st.sampled_from(labelled), max_size=5)) if labelled else []
        found = [*again, *draw(objects)]
        boxes.append([box for box, _ in found])
        class_ids.append([one for _, one in found])
        scores.append(draw(st.lists(_SCORES, min_size=len(found), max_size=len(found))))
    truth = ground_truth([f"class{number}" for number in range(num_classes)], frames)
    return truth, predictions(truth.images, boxes, scores, class_ids)


def assert_equal_to_coco(truth: GroundTruth, found: Predictions) -> None:
    reference = coco_precision(truth, found)
    for area, size in enumerate([None, *AREA_RANGES_PX]):
        ranking = rank(match_all(truth, found, AREA_RANGES_PX.get(size or "")))
        ours = np.nan_to_num(average_precisions(ranking, once(truth))[0], nan=-1)
        np.testing.assert_allclose(ours, reference[..., area].mean(axis=1).T, rtol=0, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_equal_to_coco_whatever_the_boxes(scene: tuple[GroundTruth, Predictions]) -> None:
    truth, found = scene
    if len(found.scores):  # the reference takes no empty list of detections
        assert_equal_to_coco(truth, found)


@pytest.mark.parametrize("num", [99, 100, 101, 250])
def test_equal_to_coco_where_detections_are_cut_off(num: int, make_truth) -> None:
    """Only the best hundred of a class and frame count; many of the same score stand at the edge."""
    rng = np.random.default_rng(num)
    truth = make_truth(rng, cameras=1, clips=1, frames=3, classes=2, most=30)
    boxes, scores, class_ids = [], [], []
    for index in range(len(truth.images)):
        here = truth.of(index)
        chosen = rng.integers(here.start, here.stop, num)
        boxes.append(truth.boxes_xyxy[chosen] + rng.integers(-2, 3, (num, 4)))
        scores.append(rng.integers(1, 6, num) / 5)
        class_ids.append(np.where(rng.random(num) < 0.9, 0, 1))
    assert_equal_to_coco(truth, predictions(truth.images, boxes, scores, class_ids))


def one_class(objects: list[int], hits: list[tuple[int, float, bool]]) -> tuple[GroundTruth, Predictions]:
    """Objects per image, and detections as (image, score, whether right), each right one on the next object."""
    frames = [
        LabelledFrame(f"{image}", "cam", "clip", "day", [[50 * k, 0, 50 * k + 40, 40] for k in range(num)], [0] * num)
        for image, num in enumerate(objects)
    ]
    boxes: list[list[list[float]]] = [[] for _ in objects]
    scores: list[list[float]] = [[] for _ in objects]
    num_right = [0] * len(objects)
    for image, score, right in hits:
        left = 50.0 * num_right[image] if right else 9000.0
        num_right[image] += right
        boxes[image].append([left, 0, left + 40, 40])
        scores[image].append(score)
    found = predictions([frame.image for frame in frames], boxes, scores, [[0] * len(part) for part in scores])
    return ground_truth(["car"], frames), found


@pytest.mark.parametrize(
    ("objects", "hits", "expected"),
    [
        ([0], [], np.nan),
        ([0], [(0, 0.9, False)], np.nan),
        ([2], [], 0.0),
        ([1], [(0, 0.9, False)], 0.0),
        ([1], [(0, 0.9, True)], 1.0),
        ([1], [(0, 0.9, True), (0, 0.8, False)], 1.0),
        ([1], [(0, 0.9, False), (0, 0.8, True)], 0.5),
        ([2], [(0, 0.9, True)], 51 / 101),
        ([1, 1], [(0, 0.9, True), (1, 0.8, False), (1, 0.7, True)], (51 + 50 * 2 / 3) / 101),
        # as floats, recall 7 / 20 lies below the recall point 35 * 0.01: 35 points are reached, not 36
        ([20], [(0, 0.9 - 0.01 * k, True) for k in range(7)], 35 / 101),
    ],
)
def test_worked_by_hand(objects: list[int], hits: list[tuple[int, float, bool]], expected: float) -> None:
    truth, found = one_class(objects, hits)
    value = average_precisions(rank(match_all(truth, found)), once(truth))[0, 0]
    np.testing.assert_allclose(value, np.full(10, expected), atol=1e-12)


def replicated(truth: GroundTruth, found: Predictions, weights: np.ndarray) -> tuple[GroundTruth, Predictions]:
    """Really copy every image as often as its weight says."""
    copies = [(index, copy) for index, weight in enumerate(weights) for copy in range(weight)]
    names = [f"{index}-{copy}" for index, copy in copies]
    frames = [
        LabelledFrame(name, "cam", "clip", "day", truth.boxes_xyxy[truth.of(index)], truth.class_ids[truth.of(index)])
        for name, (index, _) in zip(names, copies, strict=True)
    ]
    cut = [found.of(index) for index, _ in copies]
    parts = ([values[where] for where in cut] for values in (found.boxes_xyxy, found.scores, found.class_ids))
    return ground_truth(truth.classes, frames), predictions(names, *parts)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([None, *AREA_RANGES_PX]))
def test_a_weight_is_as_good_as_copies(seed: int, size: str | None, make_truth, make_predictions) -> None:
    rng = np.random.default_rng(seed)
    truth = make_truth(rng, cameras=2, clips=1, frames=3, classes=2)
    found = make_predictions(rng, truth)
    weights = rng.integers(0, 4, (3, len(truth.images)))
    weights[:, 0] = np.maximum(weights[:, 0], 1)
    area = AREA_RANGES_PX.get(size or "")
    weighted = average_precisions(rank(match_all(truth, found, area)), weights)
    for row, result in zip(weights, weighted, strict=True):
        copied_truth, copied = replicated(truth, found, row)
        expected = average_precisions(rank(match_all(copied_truth, copied, area)), once(copied_truth))[0]
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-14)  # only the order of summing differs


def test_more_weightings_than_a_block_are_the_same_one_by_one(make_truth, make_predictions) -> None:
    rng = np.random.default_rng(5)
    truth = make_truth(rng, cameras=3)
    ranking = rank(match_all(truth, make_predictions(rng, truth)))
    weights = rng.integers(0, 3, (37, len(truth.images)))
    together = average_precisions(ranking, weights)
    singly = np.concatenate([average_precisions(ranking, row[None]) for row in weights])
    np.testing.assert_allclose(together, singly, rtol=0, atol=1e-14)


def test_class_without_objects_is_left_out_of_the_mean() -> None:
    precisions = np.full((1, 3, 10), np.nan)
    assert np.isnan(mean_average_precision(precisions)).all()
    precisions[0, 0], precisions[0, 2] = 0.2, 0.6
    assert mean_average_precision(precisions) == pytest.approx([0.4])


def test_weights_of_another_width_are_refused(make_truth, make_predictions) -> None:
    truth = make_truth(np.random.default_rng(0), cameras=1)
    ranking = rank(match_all(truth, make_predictions(np.random.default_rng(1), truth)))
    with pytest.raises(ValueError, match=r"weights must be \(R, 16\), not \(1, 15\)"):
        average_precisions(ranking, np.ones((1, 15), dtype=int))


def test_recall_points_are_coco_s() -> None:
    assert len(RECALL_POINTS) == 101
    assert RECALL_POINTS[35] > 35 / 100


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_threads_change_nothing(num_threads: int, make_truth, make_predictions) -> None:
    rng = np.random.default_rng(6)
    truth = make_truth(rng, cameras=3)
    ranking = rank(match_all(truth, make_predictions(rng, truth)))
    weights = rng.integers(0, 3, (100, len(truth.images)))
    np.testing.assert_array_equal(
        average_precisions(ranking, weights, num_threads=num_threads), average_precisions(ranking, weights)
    )
