"""Our service and its peers, taking turns on the same model file, the same frames and the same client."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.loopback import Tally, closed_loop, detect_request
from benchmarks.serving.climb import Climb
from benchmarks.serving.ladder import FIRST_SHARE, Cameras, Effort, climb_to
from benchmarks.serving.limits import ratio
from benchmarks.serving.lineup import Peer, serving
from benchmarks.serving.models import Model
from benchmarks.serving.process import running

OURS = "this service"
_WARM_S = 2.0
_NUM_CHECKED = 4
_CONNECTIONS = 8  # of the closed loop


@dataclass(frozen=True)
class Turn:
    """One turn of one service. `num_boxes`: what it found on the first frames, so that all do the same work."""

    closed: Tally
    climb: Climb
    num_boxes: int


@dataclass(frozen=True)
class PeerRound:
    """Ours before and after, the peers between, by name; `failures` have the reason."""

    ours: tuple[Turn, Turn]
    turns: dict[str, Turn]
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def our_rate(self) -> float:
        """Mean of both turns."""
        return sum(turn.climb.rate for turn in self.ours) / 2

    def ratio_to(self, name: str) -> float | None:
        """How many times as fast ours is; infinite where only the peer has no rate that passes."""
        return ratio(self.our_rate, self.turns[name].climb.rate)


def measure_peers(
    model: Model, images: Sequence[bytes], num_cameras: int, peers: Sequence[Peer], effort: Effort,
    begin: Callable[[str], None],
) -> PeerRound:  # fmt: skip
    """One round: ours, each peer, ours."""
    begin(OURS)
    before = _our_turn(model, images, num_cameras, effort)
    turns, failures = {}, {}
    for peer in peers:
        begin(peer.name)
        try:
            turns[peer.name] = _peer_turn(peer, model, images, num_cameras, effort)
        except (RuntimeError, OSError) as error:
            failures[peer.name] = str(error).strip().splitlines()[-1][:300]
    begin(f"{OURS} again")
    return PeerRound((before, _our_turn(model, images, num_cameras, effort)), turns, failures)


def _our_turn(model: Model, images: Sequence[bytes], num_cameras: int, effort: Effort) -> Turn:
    cameras = Cameras.of(images, num_cameras, lambda image: detect_request(image, "cam"))
    with running(model.folder) as service:
        return _measure(service.port, cameras, effort)


def _peer_turn(peer: Peer, model: Model, images: Sequence[bytes], num_cameras: int, effort: Effort) -> Turn:
    cameras = Cameras.of(images, num_cameras, peer.encode)
    with serving(peer, model) as port:
        return _measure(port, cameras, effort)


def _measure(port: int, cameras: Cameras, effort: Effort) -> Turn:
    num_boxes = count_boxes(port, cameras.requests[0][:_NUM_CHECKED])
    closed_loop(port, cameras.mixed, len(cameras.requests), _WARM_S)
    closed = closed_loop(port, cameras.mixed, _CONNECTIONS, effort.closed_s)
    if not closed.rate:
        raise RuntimeError(f"answers nothing but {dict(closed.statuses)} under load")
    found = climb_to(port, cameras, FIRST_SHARE * closed.rate, effort.peer_resolution, effort)
    return Turn(closed, found, num_boxes)


def count_boxes(port: int, requests: Sequence[bytes]) -> int:
    """Boxes that a service answers to some requests. Raises RuntimeError for an answer other than 200."""
    total = 0
    for request in requests:
        head, body = request.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", lines[0].split()[1], body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"answers {answer.status}: {content[:200].decode(errors='replace')}")
        total += _count(json.loads(content))
    return total


def _count(answer: object) -> int:
    """Boxes of an answer: they are the innermost objects that have a `confidence`, in whatever they are wrapped."""
    if isinstance(answer, dict):
        return 1 if "confidence" in answer else sum(map(_count, answer.values()))
    if isinstance(answer, list):
        return sum(map(_count, answer))
    if isinstance(answer, str) and answer[:1] in ("[", "{"):
        return _count(json.loads(answer))
    return 0
