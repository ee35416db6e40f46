"""Traffic of one clip: which vehicles drive in which lane, where they are at a time, and who hides whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flows.dataset.rendering.camera import Camera, Point2
from flows.dataset.rendering.roads import Lane, Layout, Road
from flows.dataset.rendering.solids import Placed
from flows.dataset.rendering.vehicles import CLASSES, Body, draw_body, pick

# Beyond the first vehicle of each class, which every clip has in the middle of its view
CLASS_WEIGHTS = (70, 14, 5, 11)
MIN_GAP_M = 2.2
SWAY_M = 0.5


@dataclass(frozen=True)
class Vehicle:
    """A vehicle and its course: `along_m` at time 0 on a lane, driven at a constant speed and `sway` off its middle."""

    number: int
    body: Body
    road: Road
    lane: Lane
    along_m: float
    speed_m_s: float
    sway: float

    def placed(self, time_s: float) -> Placed:
        """The vehicle where it is at a time of the clip."""
        along = self.along_m + self.lane.direction * self.speed_m_s * time_s
        x, y, turn = self.road.at(along, self.lane.offset_m + SWAY_M * self.sway)
        heading = turn if self.lane.direction > 0 else turn + np.pi
        return Placed(self.body.solids, x, y, heading, self.body.length_m / 2, self.body.half_w)


@dataclass(frozen=True)
class _Slot:
    """A place for a vehicle at time 0; `off_m` is how far from the middle of the view it is half-way through."""

    off_m: float
    road: Road
    lane: Lane
    along_m: float
    speed_m_s: float


def draw_traffic(layout: Layout, duration_s: float, rng: np.random.Generator) -> list[Vehicle]:
    """The vehicles of a clip that lasts `duration_s`: about 4 to 9 of them in view at any time.

    On a crossing, one road drives and the other waits at its stop lines.
    """
    seen: dict[tuple[Road, Lane], list[float]] = defaultdict(list)
    for road, lane, along in layout.seen:
        seen[road, lane].append(along)
    spacing_m = 2.0 * len(layout.seen) / (4.5 + 4.5 * rng.random())
    driving = pick(rng, layout.roads)
    slots: list[_Slot] = []
    for (road, lane), points in seen.items():
        if road is driving:
            slots += _moving(road, lane, points, spacing_m, duration_s, rng)
        else:
            slots += _queue(layout, road, lane, points, rng)
    slots.sort(key=lambda slot: slot.off_m)
    vehicles = []
    for number, (class_id, slot) in enumerate(zip(_classes(len(slots), rng), slots, strict=True)):
        body, sway = draw_body(class_id, rng), rng.random() - 0.5
        vehicles.append(Vehicle(number, body, slot.road, slot.lane, slot.along_m, slot.speed_m_s, sway))
    return _without_collisions(vehicles)


def _moving(
    road: Road, lane: Lane, points: Sequence[float], spacing_m: float, duration_s: float, rng: np.random.Generator
) -> Iterator[_Slot]:
    """Places all along the stretch whose traffic comes into view within the clip."""
    speed = 6.0 + 6.0 * rng.random()
    travel = lane.direction * speed * duration_s
    middle = (min(points) + max(points)) / 2
    end = max(points) + 8 - min(travel, 0)
    along = min(points) - 8 - max(travel, 0) + spacing_m * rng.random()
    while along < end:
        yield _Slot(abs(along + travel / 2 - middle), road, lane, along, speed)
        along += max(7.0, spacing_m * (0.55 + 0.9 * rng.random()))


def _queue(
    layout: Layout, road: Road, lane: Lane, points: Sequence[float], rng: np.random.Generator
) -> Iterator[_Slot]:
    """Up to three places behind a stop line."""
    meeting = layout.meeting(road)
    assert meeting is not None, "only a crossing makes traffic wait"
    crossing_m, other = meeting
    back = 7.5
    for _ in range(int(rng.integers(4))):
        along = crossing_m - lane.direction * (other.half_w + back)
        if min(points) - 4 < along < max(points) + 4:
            yield _Slot(back, road, lane, along, 0.0)
        back += 8.0 + 3.0 * rng.random()


def _classes(count: int, rng: np.random.Generator) -> list[int]:
    first = [int(class_id) for class_id in rng.permutation(len(CLASSES))]
    deck = [class_id for class_id, weight in enumerate(CLASS_WEIGHTS) for _ in range(weight)]
    return (first + [pick(rng, deck) for _ in range(max(0, count - len(first)))])[:count]


def _without_collisions(vehicles: list[Vehicle]) -> list[Vehicle]:
    kept: list[Vehicle] = []
    for vehicle in vehicles:
        neighbours = [other for other in kept if (other.road, other.lane) == (vehicle.road, vehicle.lane)]
        room = [
            abs(other.along_m - vehicle.along_m) - (other.body.length_m + vehicle.body.length_m) / 2
            for other in neighbours
        ]
        if all(gap > MIN_GAP_M for gap in room):
            kept.append(vehicle)
    return kept


def far_to_near(camera: Camera, things: Sequence[Placed]) -> list[int]:
    """Indices in painter's order: whoever may hide another comes after it.

    Two footprints that do not overlap are parted by an edge of one of them; the one on the camera's side of that edge
    is in front. Where three hide each other in a ring, the farthest goes first.
    """
    eye = camera.position[:2]
    corners = [thing.footprint() for thing in things]
    distance = [-camera.distance_m((thing.x, thing.y, 0.0)) for thing in things]
    behind = {
        index: {
            other for other in range(len(things)) if other != index and _in_front(corners[index], corners[other], eye)
        }
        for index in range(len(things))
    }
    order: list[int] = []
    left = set(range(len(things)))
    while left:
        free = [index for index in left if not behind[index] & left] or list(left)
        chosen = min(free, key=lambda index: (distance[index], index))
        order.append(chosen)
        left.remove(chosen)
    return order


def _in_front(first: Sequence[Point2], second: Sequence[Point2], eye: Point2) -> bool:
    for a, b in zip(second, [*second[1:], *second[:1]], strict=True):
        inside = _side(a, b, second[0]) + _side(a, b, second[2])
        if inside and _side(a, b, eye) * inside < 0 and all(_side(a, b, c) * inside <= 0 for c in first):
            return True
    for a, b in zip(first, [*first[1:], *first[:1]], strict=True):
        inside = _side(a, b, first[0]) + _side(a, b, first[2])
        if inside and _side(a, b, eye) * inside >= 0 and all(_side(a, b, c) * inside <= 0 for c in second):
            return True
    return False


def _side(a: Point2, b: Point2, point: Point2) -> float:
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
