"""The ground of a view: verge, pavement, asphalt, and the paint on it."""

from __future__ import annotations

from itertools import pairwise

from PIL import ImageDraw

from flows.dataset.rendering.painting import FINE, fill
from flows.dataset.rendering.roads import Lane, Layout, Road
from flows.dataset.rendering.solids import Colour, shade
from flows.dataset.rendering.weather import Look

ASPHALT: Colour = (92, 93, 96)
PAVEMENT: Colour = (158, 154, 146)
KERB: Colour = (190, 188, 182)
GRASS: Colour = (98, 122, 66)
GRAVEL: Colour = (132, 122, 98)
PAVING: Colour = (142, 138, 130)
WHITE: Colour = (226, 226, 220)
YELLOW: Colour = (222, 184, 70)


class GroundPainter:
    """Draws the roads of a layout on a canvas FINE times as fine as the frame."""

    def __init__(self, draw: ImageDraw.ImageDraw, layout: Layout, look: Look) -> None:
        self.draw, self.layout, self.look = draw, layout, look

    def paint(self) -> None:
        """All roads: first their sides, then their asphalt, then their markings, so that they join where they meet."""
        for road in self.layout.roads:
            self._sides(road)
        for road in self.layout.roads:
            self._asphalt(road)
        for road in self.layout.roads:
            for stretch in self._open_stretches(road):
                self._lines(road, stretch)
            self._crossing(road)

    def _strip(
        self, road: Road, left_m: float, right_m: float, colour: Colour, stretch: tuple[float, float] | None = None
    ) -> None:
        """A strip between two offsets, in quads short enough to follow the road."""
        along, end = stretch or (road.start_m, road.end_m)
        step = 2.0 if road.curvature else 6.0
        while along < end:
            upto = min(along + step, end)
            corners = ((along, left_m), (along, right_m), (upto, right_m), (upto, left_m))
            fill(self.draw, self.layout.camera.outline(road.ground(*corner) for corner in corners), colour, FINE)
            along = upto

    def _sides(self, road: Road) -> None:
        half = road.half_w
        if self.layout.urban:
            for beyond, colour in ((9.0, GRASS), (3.4, PAVEMENT), (0.22, KERB)):
                self._strip(road, -half - beyond, half + beyond, colour)
        else:
            self._strip(road, -half - 1.4, half + 1.4, GRAVEL)

    def _asphalt(self, road: Road) -> None:
        base = shade(ASPHALT, 0.80) if self.look.wet else ASPHALT
        self._strip(road, -road.half_w, road.half_w, base)
        worn = shade(base, 1.10 if self.look.wet else 0.95)
        for lane in road.lanes:
            for wheel in (-0.85, 0.85):
                middle = lane.offset_m + wheel
                self._strip(road, middle - 0.3, middle + 0.3, worn)

    def _lines(self, road: Road, stretch: tuple[float, float]) -> None:
        for side in (-1, 1):
            edge = side * (road.half_w - 0.35)
            self._strip(road, edge - 0.08, edge + 0.08, WHITE, stretch)
        lanes = sorted(road.lanes, key=lambda lane: lane.offset_m)
        for left, right in pairwise(lanes):
            self._divider(road, left, right, stretch)

    def _divider(self, road: Road, left: Lane, right: Lane, stretch: tuple[float, float]) -> None:
        """A double line between directions, dashes between lanes of one direction."""
        middle = (left.offset_m + right.offset_m) / 2
        if left.direction != right.direction:
            for line in (middle - 0.16, middle + 0.16):
                self._strip(road, line - 0.07, line + 0.07, YELLOW if self.layout.urban else WHITE, stretch)
            return
        along, end = stretch
        while along < end:
            self._strip(road, middle - 0.09, middle + 0.09, WHITE, (along, min(along + 3, end)))
            along += 8

    def _open_stretches(self, road: Road) -> list[tuple[float, float]]:
        meeting = self.layout.meeting(road)
        if meeting is None:
            return [(road.start_m, road.end_m)]
        middle, other = meeting
        gap = other.half_w + 6.0
        return [(road.start_m, middle - gap), (middle + gap, road.end_m)]

    def _crossing(self, road: Road) -> None:
        """Stop lines and zebra crossings on both arms of the road."""
        meeting = self.layout.meeting(road)
        if meeting is None:
            return
        middle, other = meeting
        for side in (-1, 1):
            near, far, line = (middle + side * (other.half_w + beyond) for beyond in (1.6, 4.6, 5.6))
            offset = -road.half_w + 0.5
            while offset < road.half_w - 0.5:
                self._strip(road, offset, offset + 0.5, WHITE, (min(near, far), max(near, far)))
                offset += 1.0
            lanes = [lane.offset_m for lane in road.lanes if lane.direction == -side]
            self._strip(road, min(lanes) - 1.6, max(lanes) + 1.6, WHITE, (line - 0.25, line + 0.25))
