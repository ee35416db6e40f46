"""How long the bootstrap of a paired evaluation takes: by weights, and by evaluating every replicate anew.

Both get the same replicates of the same synthetic data; that they agree is checked before anything is reported.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import Result, median, new_parser, publish, read_machine, read_versions
from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.matching import match_all
from flows.comparison.predictions import GroundTruth, LabelledFrame, Predictions, ground_truth, predictions
from flows.comparison.resampling import bootstrap_weights, unit_of_image
from flows.machine import read_version

Weights = npt.NDArray[np.int32]
SIZES = {"small": (8, 2, 8), "medium": (16, 4, 16), "large": (40, 5, 25)}
"""Cameras, clips of each, frames of each clip. Small is the test split of the demo data, large is COCO val2017's."""
NUM_CLASSES = 4
FRAME_WH = (640, 384)
TOLERANCE = 1e-9
_HEADERS = (
    "data", "images", "detections", "replicates", "weighted s", "weighted ms each", "re-evaluated ms each",
    "times faster", "COCO in C++ ms each", "times faster", "largest difference",
)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One turn: all replicates by weights, then some of them anew, in this project's code and in COCO's."""

    weighted_s: float
    anew_s: float  # per replicate
    coco_s: float | None  # per replicate; None: not installed
    difference: float  # largest absolute difference of mAP50-95


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = new_parser("evaluator", (__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", default="small,medium", help=f"of {','.join(SIZES)} (default: %(default)s)")
    parser.add_argument("--replicates", type=int, default=1000, help="by weights (default: %(default)s)")
    parser.add_argument("--anew", type=int, default=10, help="replicates evaluated anew a round (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data and replicates (default: %(default)s)")
    given = parser.parse_args()
    sizes = given.sizes.split(",")
    if unknown := set(sizes) - set(SIZES):
        parser.error(f"--sizes {','.join(sorted(unknown))}: choose from {', '.join(SIZES)}")
    return given, sizes


def main() -> int:
    given, sizes = _parse()
    machine = read_machine()
    rows, figures = [], {}
    for size in sizes:
        truth, found = draw_data(np.random.default_rng(given.seed), *SIZES[size])
        units = unit_of_image(truth, "camera", np.ones(len(truth.images), dtype=bool), 2)
        draw = functools.partial(bootstrap_weights, units, given.replicates)
        turns = [_take_turn(truth, found, draw, given.seed + turn, given.anew) for turn in range(given.rounds)]
        figures[size] = _figures(truth, found, turns, given.replicates)
        rows.append(_row(size, figures[size]))
    worst = max(figures[size]["difference"] for size in sizes)
    speedup = " and ".join(f"{figures[size]['speedup']:.0f} times ({size})" for size in sizes)
    result = Result(
        name="evaluator",
        sentence=f"A replicate by weights is {speedup} as fast as evaluating it anew, and equal to within {worst:.0e}.",
        headers=_HEADERS,
        rows=rows,
        settings={name: getattr(given, name) for name in ("rounds", "replicates", "anew", "seed")},
        figures=figures,
        machine=machine,
        versions=read_versions("numpy", "faster-coco-eval"),
    )
    if worst > TOLERANCE:
        print(f"error: the ways differ by {worst:.3g}, more than {TOLERANCE:g}: no timing counts", file=sys.stderr)
        return 1
    publish(result, given.results)
    return 0


def draw_data(rng: np.random.Generator, cameras: int, clips: int, frames: int) -> tuple[GroundTruth, Predictions]:
    """Random objects, and a model that finds most of them, displaced, with a long tail of false detections."""
    labelled, boxes, scores, class_ids = [], [], [], []
    for number in range(cameras * clips * frames):
        camera, clip = number // (clips * frames), number // frames % clips
        objects, classes = _draw_boxes(rng, int(rng.integers(0, 13)))
        name = f"images/test/cam{camera:02d}_c{clip:02d}_{number % frames:04d}.jpg"
        labelled.append(LabelledFrame(name, f"cam{camera:02d}", f"c{clip:02d}", "day", objects, classes))
        seen = rng.random(len(objects)) < 0.85
        size = np.tile(objects[seen, 2:] - objects[seen, :2], 2)
        moved = objects[seen] + rng.normal(0, 0.05, size.shape) * size
        false, false_classes = _draw_boxes(rng, int(rng.integers(0, 41)))
        boxes.append(np.vstack([moved, false]))
        scores.append(np.concatenate([rng.beta(4, 2, len(moved)), rng.beta(1, 8, len(false))]))
        class_ids.append(np.concatenate([classes[seen], false_classes]))
    truth = ground_truth([f"class {number}" for number in range(NUM_CLASSES)], labelled)
    return truth, predictions(truth.images, boxes, scores, class_ids)


def _draw_boxes(rng: np.random.Generator, num: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    low = rng.uniform((0, 0), FRAME_WH, (num, 2))
    return np.hstack([low, low + rng.uniform(8, 120, (num, 2))]), rng.integers(0, NUM_CLASSES, num)


def _take_turn(
    truth: GroundTruth, found: Predictions, draw: Callable[[int], Weights], seed: int, num_anew: int
) -> Turn:
    began = time.perf_counter()
    weights = draw(seed)
    weighted = mean_average_precision(average_precisions(rank(match_all(truth, found)), weights))
    weighted_s = time.perf_counter() - began
    anew_s, anew = _each(functools.partial(evaluate_anew, truth, found), weights[:num_anew])
    difference = float(np.abs(anew - weighted[:num_anew]).max())
    if read_version("faster-coco-eval") is None:
        return Turn(weighted_s, anew_s, None, difference)
    coco_s, coco = _each(functools.partial(evaluate_with_coco, truth, found), weights[:num_anew])
    return Turn(weighted_s, anew_s, coco_s, max(difference, float(np.abs(coco - weighted[:num_anew]).max())))


def _each(evaluate: Callable[[Weights], float], weights: Weights) -> tuple[float, npt.NDArray[np.float64]]:
    """Seconds for one weighting, and the figure of each."""
    began = time.perf_counter()
    values = np.array([evaluate(row) for row in weights])
    return (time.perf_counter() - began) / len(weights), values


def evaluate_anew(truth: GroundTruth, found: Predictions, weights: Weights) -> float:
    """Evaluate one replicate from its boxes: copy the images that were drawn, match, rank and average them."""
    copied_truth, copied = _copy(truth, found, weights)
    once = np.ones((1, len(copied_truth.images)), dtype=np.int32)
    return float(mean_average_precision(average_precisions(rank(match_all(copied_truth, copied)), once))[0])


def evaluate_with_coco(truth: GroundTruth, found: Predictions, weights: Weights) -> float:
    """The same with the COCO protocol's implementation in C++ (faster-coco-eval), as a script around it would."""
    from faster_coco_eval import COCO, COCOeval_faster

    copied_truth, copied = _copy(truth, found, weights)
    annotations = [{"id": number, "iscrowd": 0, **entry} for number, entry in enumerate(_entries(copied_truth), 1)]
    detections = [
        {**entry, "score": score} for entry, score in zip(_entries(copied), copied.scores.tolist(), strict=True)
    ]
    images = [{"id": number, "width": 800, "height": 600} for number in range(1, len(copied_truth.images) + 1)]
    categories = [{"id": number, "name": name} for number, name in enumerate(truth.classes, 1)]
    reference = COCO({"images": images, "annotations": annotations, "categories": categories})
    evaluation = COCOeval_faster(reference, reference.loadRes(detections), "bbox", print_function=lambda *_: None)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
    evaluation.params.maxDets = [100]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # (10, 101, num_classes), -1 for a class without objects
    return float(precision[..., (precision >= 0).all(axis=(0, 1))].mean())


def _copy(truth: GroundTruth, found: Predictions, weights: Weights) -> tuple[GroundTruth, Predictions]:
    copies = [(index, copy) for index, weight in enumerate(weights) for copy in range(weight)]
    names = [f"{index}-{copy}" for index, copy in copies]
    frames = [
        LabelledFrame(name, "", "", "", truth.boxes_xyxy[truth.of(index)], truth.class_ids[truth.of(index)])
        for name, (index, _) in zip(names, copies, strict=True)
    ]
    cut = [found.of(index) for index, _ in copies]
    parts = ([values[where] for where in cut] for values in (found.boxes_xyxy, found.scores, found.class_ids))
    return ground_truth(truth.classes, frames), predictions(names, *parts)


def _entries(boxes: GroundTruth | Predictions) -> list[dict[str, Any]]:
    sizes = boxes.boxes_xyxy[:, 2:] - boxes.boxes_xyxy[:, :2]
    xywh = np.hstack([boxes.boxes_xyxy[:, :2], sizes]).tolist()
    columns = (boxes.image_index.tolist(), boxes.class_ids.tolist(), xywh, sizes.prod(axis=1).tolist())
    return [
        {"image_id": image + 1, "category_id": class_id + 1, "bbox": box, "area": area}
        for image, class_id, box, area in zip(*columns, strict=True)
    ]


def _figures(truth: GroundTruth, found: Predictions, turns: list[Turn], replicates: int) -> dict[str, Any]:
    """Medians over the turns; ratios are formed within a turn."""
    with_coco = [turn for turn in turns if turn.coco_s is not None]
    return {
        "num_images": len(truth.images),
        "num_objects": len(truth.class_ids),
        "num_detections": len(found.scores),
        "replicates": replicates,
        "weighted_s": median(turn.weighted_s for turn in turns),
        "weighted_ms_each": median(1000 * turn.weighted_s / replicates for turn in turns),
        "anew_ms_each": median(1000 * turn.anew_s for turn in turns),
        "speedup": median(turn.anew_s * replicates / turn.weighted_s for turn in turns),
        "coco_ms_each": median(1000 * (turn.coco_s or 0) for turn in with_coco) if with_coco else None,
        "coco_speedup": median((turn.coco_s or 0) * replicates / turn.weighted_s for turn in with_coco)
        if with_coco
        else None,
        "difference": max(turn.difference for turn in turns),
    }


def _row(size: str, of: dict[str, Any]) -> list[str]:
    coco = [f"{of['coco_ms_each']:.1f}", f"{of['coco_speedup']:.0f}"] if of["coco_speedup"] else ["not installed", "–"]
    return [
        size, str(of["num_images"]), str(of["num_detections"]), str(of["replicates"]), f"{of['weighted_s']:.2f}",
        f"{of['weighted_ms_each']:.2f}", f"{of['anew_ms_each']:.1f}", f"{of['speedup']:.0f}", *coco,
        f"{of['difference']:.0e}",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
