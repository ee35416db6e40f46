"""Labelled frames and two detectors on them, drawn so that the truth about both is known.

Cameras differ in how hard they are (for both detectors) and in how much better one of the two is there; clips of a
camera, and objects, differ too. That is what makes frames of a camera resemble one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from flows.comparison.matching import IOU_THRESHOLDS, Matches
from flows.comparison.predictions import (
    Floats,
    GroundTruth,
    Ints,
    LabelledFrame,
    Predictions,
    ground_truth,
    predictions,
)

CLASSES = ("car", "truck", "bus")
CONDITIONS = ("day", "night")
_BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
_CELL_PX = 400.0  # objects lie in cells of their own, so that no box meets another object


@dataclass(frozen=True)
class World:
    """Standard deviations are on the scale of the latent by which a detector sees an object."""

    cameras: int
    clips: int = 2  # of each camera, by turns day and night
    frames: int = 8  # of each clip
    objects: float = 4.0  # of a frame, on average
    false_boxes: float = 2.0  # the same
    quality: float = 1.0  # of the champion
    sd_camera: float = 0.6
    sd_gap: float = 0.25  # between cameras, of how much better the challenger is
    sd_clip_gap: float = 0.0  # the same between clips of a camera
    sd_clip: float = 0.3
    sd_object: float = 0.7
    sd_detector: float = 0.5  # what the two do not share


@dataclass(frozen=True)
class Detections:
    """One detector's boxes, flat."""

    image_index: Ints  # (D,)
    class_ids: Ints  # (D,)
    scores: Floats  # (D,)
    ious: Floats  # (D,) with the object; 0: there is none
    objects: Ints  # (D,) index of the object, -1: there is none


@dataclass(frozen=True)
class Scene:
    """What there is to see, and what the two saw."""

    cameras: Ints  # (num_images,)
    clips: Ints  # (num_images,) number of the clip within its camera
    object_images: Ints  # (num_objects,)
    object_classes: Ints  # (num_objects,)
    challenger: Detections
    champion: Detections

    @property
    def num_images(self) -> int:
        return len(self.cameras)


def draw_scene(rng: np.random.Generator, world: World, gain: float, gain_at_night: float = 0.0) -> Scene:
    """Draw both detectors on the same frames; the challenger's quality is higher by `gain`, and more so at night."""
    cameras = np.repeat(np.arange(world.cameras), world.clips * world.frames)
    clips = np.tile(np.repeat(np.arange(world.clips), world.frames), world.cameras)
    ease = rng.normal(0, world.sd_camera, world.cameras)[cameras]
    ease = ease + rng.normal(0, world.sd_clip, (world.cameras, world.clips))[cameras, clips]
    gap = gain + gain_at_night * (clips % len(CONDITIONS) == 1) + rng.normal(0, world.sd_gap, world.cameras)[cameras]
    gap = gap + rng.normal(0, world.sd_clip_gap, (world.cameras, world.clips))[cameras, clips]
    images = np.repeat(np.arange(len(cameras)), rng.poisson(world.objects, len(cameras)))
    classes = rng.integers(0, len(CLASSES), len(images))
    seen = world.quality + ease[images] + rng.normal(0, world.sd_object, len(images))
    num_false = rng.poisson(world.false_boxes, (2, len(cameras)))
    champion = _detect(rng, seen, images, classes, num_false[0], world)
    challenger = _detect(rng, seen + gap[images], images, classes, num_false[1], world)
    return Scene(cameras, clips, images, classes, challenger, champion)


def _detect(
    rng: np.random.Generator, seen: Floats, images: Ints, classes: Ints, num_false: Ints, world: World
) -> Detections:
    latent = seen + rng.normal(0, world.sd_detector, len(seen))
    found = np.flatnonzero(latent > 0)
    ious = np.clip(1 - 0.5 * np.exp(-0.7 * latent[found] + rng.normal(0, 0.2, len(found))), 0.3, 0.98)
    scores = _sigmoid(1.3 * latent[found] - 0.6 + rng.normal(0, 0.4, len(found)))
    false_images = np.repeat(np.arange(len(num_false)), num_false)
    nothing = len(false_images)
    return Detections(
        image_index=np.concatenate([images[found], false_images]),
        class_ids=np.concatenate([classes[found], rng.integers(0, len(CLASSES), nothing)]),
        scores=np.concatenate([scores, _sigmoid(rng.normal(-1.2, 1.0, nothing))]),
        ious=np.concatenate([ious, np.zeros(nothing)]),
        objects=np.concatenate([found, np.full(nothing, -1)]),
    )


def matches(scene: Scene, found: Detections) -> Matches:
    """The result of matching, known without it: no box meets an object but its own."""
    order = np.lexsort((-found.scores, found.class_ids))
    hit = found.ious[order] >= IOU_THRESHOLDS[:, None]
    keys = scene.object_classes * scene.num_images + scene.object_images
    num_objects = np.bincount(keys, minlength=len(CLASSES) * scene.num_images).reshape(len(CLASSES), scene.num_images)
    return Matches(
        num_images=scene.num_images,
        image_index=found.image_index[order],
        class_ids=found.class_ids[order],
        scores=found.scores[order],
        hit=hit,
        ignored=np.zeros_like(hit),
        num_objects=num_objects,
    )


def tables(scene: Scene) -> tuple[GroundTruth, Predictions, Predictions]:
    """The same as labelled boxes, and boxes of the challenger and the champion that overlap them as drawn."""
    sides = 24.0 + 130.0 * ((np.arange(len(scene.object_images)) * 0.618) % 1)  # small, medium and large by turns
    left = _CELL_PX * np.arange(len(sides))
    boxes = np.stack([left, np.zeros_like(left), left + sides, sides], axis=1)
    names = [f"{index:06d}" for index in range(scene.num_images)]
    starts = np.searchsorted(scene.object_images, np.arange(scene.num_images + 1))
    frames = [
        LabelledFrame(
            image=names[index],
            camera=f"cam{scene.cameras[index]:02d}",
            clip=f"clip{scene.clips[index]:02d}",
            slice=CONDITIONS[scene.clips[index] % len(CONDITIONS)],
            boxes_xyxy=boxes[starts[index] : starts[index + 1]],
            class_ids=scene.object_classes[starts[index] : starts[index + 1]],
            time=(_BEGIN + timedelta(hours=int(scene.clips[index]), seconds=index % 60)).isoformat(),
        )
        for index in range(scene.num_images)
    ]
    truth = ground_truth(CLASSES, frames)
    return truth, _boxes(names, scene.challenger, boxes), _boxes(names, scene.champion, boxes)


def _boxes(names: list[str], found: Detections, objects_xyxy: Floats) -> Predictions:
    """Boxes moved sideways until they overlap their object as drawn; false ones lie below all objects."""
    sides = np.where(found.objects >= 0, (objects_xyxy[:, 2] - objects_xyxy[:, 0])[found.objects], 50.0)
    moved = sides * (1 - found.ious) / (1 + found.ious)
    left = np.where(found.objects >= 0, objects_xyxy[found.objects, 0] + moved, _CELL_PX * np.arange(len(sides)))
    top = np.where(found.objects >= 0, 0.0, 10 * _CELL_PX)
    boxes = np.stack([left, top, left + sides, top + sides], axis=1)
    order = np.argsort(found.image_index, kind="stable")
    cuts = np.searchsorted(found.image_index[order], np.arange(1, len(names)))
    columns = (np.split(values[order], cuts) for values in (boxes, found.scores, found.class_ids))
    return predictions(names, *columns)


def _sigmoid(values: Floats) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-values))
