"""Models that are compared: loaded as they serve, sent over the frozen frames once, timed in turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bentos.detector.detector import Detector
from bentos.detector.errors import EngineUnavailable as EngineNotHere
from bentos.detector.errors import ModelRefused
from flows.adapters.registry import ModelVersion
from flows.comparison.engine_latency import NUM_PAIRS, DetectOne, EngineTimes, time_side_by_side
from flows.comparison.predictions import MAX_DETECTIONS, GroundTruth, Predictions, class_key, detect_frames
from flows.dataset.layout import Dataset
from flows.errors import DataError, EngineUnavailable, ProjectError
from flows.frozen import check_classes
from flows.progress import Progress
from flows.stage import StageRun


def find_champion(run: StageRun) -> tuple[ModelVersion | None, Path | None]:
    """The reigning champion and its model directory; nothing while there is none."""
    registry = run.registry()
    champion = registry.reigning()
    return champion, None if champion is None else registry.download(champion) / "model"


@contextmanager
def loaded(model_dir: Path, dataset: Dataset, *, reigns: bool = False) -> Iterator[Detector]:
    """The detector in `model_dir`, given back at the end.

    Who `reigns` may know other classes than the data of today, but not only others.

    Raises:
        DataError: It knows other classes than the data.
        ProjectError: model.json or a file that it names is missing, damaged or changed.
        EngineUnavailable: Its engine does not run here.
    """
    detector = _load(model_dir)
    try:
        if not reigns:
            check_classes(detector.spec.classes, dataset)
        elif len(classes_lacking(detector, dataset)) == len(dataset.classes):
            raise DataError(
                f"the champion knows {', '.join(detector.spec.classes)}, the data {', '.join(dataset.classes)}: they "
                "have no class in common",
                "Another product needs a name of its own: set package.name",
            )
        yield detector
    finally:
        detector.close()


def classes_lacking(detector: Detector, dataset: Dataset) -> tuple[str, ...]:
    """Classes of the data that the detector does not know."""
    known = {class_key(name) for name in detector.spec.classes}
    return tuple(name for name in dataset.classes if class_key(name) not in known)


def detect_with(detector: Detector, dataset: Dataset, truth: GroundTruth, progress: Progress) -> Predictions:
    """What the detector finds in every frozen frame, from a low confidence on, in the classes of the data."""
    max_det = min(MAX_DETECTIONS, detector.spec.top_k)
    found = detect_frames(detector, dataset.root, truth.images, progress, max_det=max_det)
    return found.in_classes(detector.spec.classes, dataset.classes)


def time_in_turns(
    new: Detector, old: Detector | None, frames: Sequence[bytes], num_pairs: int = NUM_PAIRS
) -> EngineTimes:
    """Time both on the same frames, one frame at a time; `old` is None where there is no champion."""
    return time_side_by_side(_alone(new), None if old is None else _alone(old), frames, num_pairs=num_pairs)


def frames_to_time(dataset: Dataset, truth: GroundTruth) -> list[bytes]:
    """Frozen frames from all over the split, as the bytes that a client would send."""
    step = max(1, len(truth.images) // NUM_PAIRS)
    try:
        return [(dataset.root / image).read_bytes() for image in truth.images[::step][:NUM_PAIRS]]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})", "Run: tca validate") from None


def _load(model_dir: Path) -> Detector:
    try:
        return Detector.load(model_dir)
    except ModelRefused as error:
        raise ProjectError(str(error)) from None
    except EngineNotHere as error:
        raise EngineUnavailable(str(error), "Re-export here: tca export") from None


def _alone(detector: Detector) -> DetectOne:
    return lambda frame: detector.detect([frame])
