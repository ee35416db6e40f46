"""Who drives where, who hides whom, and what is labelled."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from flows.dataset.rendering.background import draw_background
from flows.dataset.rendering.camera import Camera
from flows.dataset.rendering.frame import MIN_SIDE_PX, MIN_VISIBLE, SceneBox, draw_frame
from flows.dataset.rendering.roads import Lane, Road
from flows.dataset.rendering.site import VIEWS, Site, draw_site
from flows.dataset.rendering.solids import Placed
from flows.dataset.rendering.traffic import Vehicle, draw_traffic, far_to_near
from flows.dataset.rendering.vehicles import CLASSES, draw_body
from flows.dataset.rendering.weather import LOOKS

SIZE_WH = (320, 192)


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def site(index: int) -> Site:
    return draw_site(index, SIZE_WH, generator(index))


def boxes_over_time(place: Site, vehicles: list[Vehicle], times_s: list[float]) -> list[dict[int, SceneBox]]:
    look = LOOKS["day"]
    background = draw_background(place, look, generator(1))
    frames = [draw_frame(place, background, look, vehicles, time_s, generator(2))[1] for time_s in times_s]
    return [{box.vehicle: box for box in boxes} for boxes in frames]


@pytest.mark.parametrize("index", range(len(VIEWS)))
def test_vehicles_of_a_lane_never_touch(index: int) -> None:
    vehicles = draw_traffic(site(index).layout, 4.0, generator(index + 100))
    assert len(vehicles) >= 4
    for first, second in combinations(vehicles, 2):
        if (first.road, first.lane) == (second.road, second.lane):
            assert first.speed_m_s == second.speed_m_s
            assert abs(first.along_m - second.along_m) > (first.body.length_m + second.body.length_m) / 2 + 2


@pytest.mark.parametrize("index", range(len(VIEWS)))
def test_a_vehicle_moves_along_its_lane_from_frame_to_frame(index: int) -> None:
    place = site(index)
    vehicles = draw_traffic(place.layout, 4.0, generator(5))
    before, after = boxes_over_time(place, vehicles, [1.5, 2.0])
    moving = {vehicle.number for vehicle in vehicles if vehicle.speed_m_s > 0} & before.keys() & after.keys()
    assert moving
    assert all(before[number].xyxy != after[number].xyxy for number in moving)
    assert all(before[number].class_id == after[number].class_id for number in moving)


def test_two_directions_drive_apart() -> None:
    road = Road((0.0, 0.0), 0.0, 0.0, (Lane(1.75, 1), Lane(-1.75, -1)))
    for lane in road.lanes:
        vehicle = Vehicle(0, draw_body(0, generator(1)), road, lane, 20.0, 8.0, 0.0)
        now, later = vehicle.placed(0.0), vehicle.placed(0.5)
        assert (later.y - now.y) * lane.direction == pytest.approx(4.0)
        assert now.direction((1.0, 0.0, 0.0))[1] == pytest.approx(lane.direction)


# a car ahead of a truck comes out from behind it the farther it drives to the side; at 4, 0.32 of it shows
@pytest.mark.parametrize(("sway", "labelled"), [(0.0, {1}), (4.0, {1}), (5.0, {0, 1})])
def test_a_vehicle_is_labelled_while_enough_of_it_shows(sway: float, labelled: set[int]) -> None:
    place, lane = site(0), Lane(1.75, 1)
    road = place.layout.roads[0]
    car, truck = (draw_body(CLASSES.index(name), generator(3)) for name in ("car", "truck"))
    far, near = Vehicle(0, car, road, lane, 36.0, 0.0, sway), Vehicle(1, truck, road, lane, 28.0, 0.0, 0.0)
    alone, both = (boxes_over_time(place, vehicles, [0.0])[0] for vehicles in ([far], [far, near]))
    assert set(alone) == {0} and alone[0].visible > 0.9
    assert set(both) == labelled
    assert all(both[number].visible < alone[number].visible for number in labelled & {0})


@pytest.mark.parametrize("index", range(len(VIEWS)))
def test_boxes_lie_inside_the_frame_and_show_enough(index: int) -> None:
    place = site(index)
    vehicles = draw_traffic(place.layout, 4.0, generator(9))
    for boxes in boxes_over_time(place, vehicles, [0.0, 3.5]):
        for box in boxes.values():
            x1, y1, x2, y2 = box.xyxy
            assert 0 <= x1 < x2 <= SIZE_WH[0] and 0 <= y1 < y2 <= SIZE_WH[1]
            assert min(x2 - x1, y2 - y1) >= MIN_SIDE_PX and box.visible >= MIN_VISIBLE


def placed(x: float, y: float, half_l: float = 2.0) -> Placed:
    return Placed((), x, y, 0.0, half_l, 0.9)


@pytest.mark.parametrize(
    ("things", "order"),
    [
        ([], []),
        ([placed(0, 10)], [0]),
        ([placed(0, 10), placed(0, 30)], [1, 0]),
        # a long truck whose middle is nearer than the car beside it, which the camera sees in front of it
        ([placed(4, 20, half_l=8), placed(0.5, 26)], [0, 1]),
    ],
)
def test_far_to_near(things: list[Placed], order: list[int]) -> None:
    camera = Camera(SIZE_WH, (-6.0, 0.0, 6.0), 0.2, 0.2, 1.0)
    assert far_to_near(camera, things) == order


def test_things_that_stand_in_each_other_are_still_all_drawn() -> None:
    camera = Camera(SIZE_WH, (0.0, 0.0, 6.0), 0.0, 0.2, 1.0)
    assert sorted(far_to_near(camera, [placed(0, 10), placed(0.2, 11), placed(-0.2, 9)])) == [0, 1, 2]


@pytest.mark.parametrize("class_id", range(len(CLASSES)))
def test_every_body_is_of_its_class_and_has_lights_at_both_ends(class_id: int) -> None:
    for seed in range(8):
        body = draw_body(class_id, generator(seed))
        glows = {panel.glow for part in body.solids for panel in part.panels}
        reach = max(abs(x) for part in body.solids for x, _, _ in part.corners)
        assert body.class_id == class_id and {"head", "tail"} <= glows
        assert reach == pytest.approx(body.length_m / 2, abs=0.2)
