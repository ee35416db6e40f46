"""How long the bootstrap of a paired evaluation takes: by weights, and by evaluating every replicate anew.

Both get the same replicates of the same synthetic data; that they agree is checked before anything is reported.
"""

from __future__ import annotations

import argparse
import functools
import resource
import sys
import time
from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Size:
    """How much there is to evaluate."""

    cameras: int
    clips: int  # of each camera
    frames: int  # of each clip
    classes: int = 4
    most_false: int = 40  # false detections of a frame; their number is drawn evenly up to it
    most_anew: int = 100  # replicates evaluated anew a round


SIZES = {
    "small": Size(8, 2, 8),  # the test split of the demo data
    "medium": Size(16, 4, 16),
    "large": Size(40, 5, 25, classes=80, most_false=188, most_anew=1),  # 5,000 frames, about 500,000 detections
}
FRAME_WH = (640, 384)
TOLERANCE = 1e-9
_HEADERS = (
    "data", "images", "detections", "replicates", "both models s", "memory MB", "weighted ms each",
    "re-evaluated ms each", "times faster", "COCO in C++ ms each", "times faster", "largest difference",
)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One turn: all replicates by weights, then some of them anew, in this project's code and in COCO's."""

    pair_s: float  # two models, matching and all replicates, as a comparison does it
    memory_mb: float  # most that the process has held until then
    weighted_s: float
    anew_s: float  # per replicate
    coco_s: float | None  # per replicate; None: not installed
    difference: float  # largest absolute difference of mAP50-95


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = new_parser("evaluator", (__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", default=",".join(SIZES), help=f"of {','.join(SIZES)} (default: %(default)s)")
    parser.add_argument("--replicates", type=int, default=2000, help="by weights (default: %(default)s)")
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
        rng = np.random.default_rng(given.seed)
        truth = draw_truth(rng, SIZES[size])
        models = [draw_found(rng, truth, SIZES[size]) for _ in range(2)]
        units = unit_of_image(truth, "camera", np.ones(len(truth.images), dtype=bool), 2)
        draw = functools.partial(bootstrap_weights, units, given.replicates)
        num_anew = min(given.anew, SIZES[size].most_anew)
        turns = [_take_turn(truth, models, draw, given.seed + turn, num_anew) for turn in range(given.rounds)]
        figures[size] = _figures(truth, models[0], turns, given.replicates)
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


def draw_truth(rng: np.random.Generator, size: Size) -> GroundTruth:
    """Random objects in the frames of all cameras."""
    frames = []
    for number in range(size.cameras * size.clips * size.frames):
        camera, clip = number // (size.clips * size.frames), number // size.frames % size.clips
        boxes, class_ids = _draw_boxes(rng, int(rng.integers(0, 13)), size.classes)
        name = f"images/test/cam{camera:02d}_c{clip:02d}_{number % size.frames:04d}.jpg"
        frames.append(LabelledFrame(name, f"cam{camera:02d}", f"c{clip:02d}", "day", boxes, class_ids))
    return ground_truth([f"class {number}" for number in range(size.classes)], frames)


def draw_found(rng: np.random.Generator, truth: GroundTruth, size: Size) -> Predictions:
    """A model that finds most objects, displaced, with a long tail of false detections."""
    boxes, scores, class_ids = [], [], []
    for index in range(len(truth.images)):
        objects, classes = truth.boxes_xyxy[truth.of(index)], truth.class_ids[truth.of(index)]
        seen = rng.random(len(objects)) < 0.85
        sides = np.tile(objects[seen, 2:] - objects[seen, :2], 2)
        moved = objects[seen] + rng.normal(0, 0.05, sides.shape) * sides
        false, false_classes = _draw_boxes(rng, int(rng.integers(0, size.most_false + 1)), size.classes)
        boxes.append(np.vstack([moved, false]))
        scores.append(np.concatenate([rng.beta(4, 2, len(moved)), rng.beta(1, 8, len(false))]))
        class_ids.append(np.concatenate([classes[seen], false_classes]))
    return predictions(truth.images, boxes, scores, class_ids)


def _draw_boxes(
    rng: np.random.Generator, num: int, num_classes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    low = rng.uniform((0, 0), FRAME_WH, (num, 2))
    return np.hstack([low, low + rng.uniform(8, 120, (num, 2))]), rng.integers(0, num_classes, num)


def _take_turn(
    truth: GroundTruth, models: Sequence[Predictions], draw: Callable[[int], Weights], seed: int, num_anew: int
) -> Turn:
    seconds, values = [], []
    weights = draw(seed)
    for found in models:
        began = time.perf_counter()
        values.append(mean_average_precision(average_precisions(rank(match_all(truth, found)), weights)))
        seconds.append(time.perf_counter() - began)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found, weighted, weighted_s = models[0], values[0], seconds[0]
    anew_s, anew = _each(functools.partial(evaluate_anew, truth, found), weights[:num_anew])
    difference = float(np.abs(anew - weighted[:num_anew]).max())
    if read_version("faster-coco-eval") is None:
        return Turn(sum(seconds), memory_mb, weighted_s, anew_s, None, difference)
    coco_s, coco = _each(functools.partial(evaluate_with_coco, truth, found), weights[:num_anew])
    difference = max(difference, float(np.abs(coco - weighted[:num_anew]).max()))
    return Turn(sum(seconds), memory_mb, weighted_s, anew_s, coco_s, difference)


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
        "pair_s": median(turn.pair_s for turn in turns),
        "memory_mb": max(turn.memory_mb for turn in turns),
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
        size, str(of["num_images"]), str(of["num_detections"]), str(of["replicates"]), f"{of['pair_s']:.2f}",
        f"{of['memory_mb']:.0f}", f"{of['weighted_ms_each']:.2f}", f"{of['anew_ms_each']:.1f}",
        f"{of['speedup']:.0f}", *coco, f"{of['difference']:.0e}",
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
