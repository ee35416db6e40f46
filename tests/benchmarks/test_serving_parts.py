from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from benchmarks.serving.compare import _count
from benchmarks.serving.frames import weigh
from benchmarks.serving.lineup import PEERS, multipart
from benchmarks.serving.pace import Part, time_left_s
from benchmarks.serving.peers.common import suppress
from benchmarks.serving.process import parse_stages, stage_means
from benchmarks.serving.profiling import leaf_shares
from bentos.detector.boxes import suppress as our_suppress


def test_frames_get_the_weight_of_a_camera_s() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    sink = BytesIO()
    Image.fromarray(noise).save(sink, "JPEG", quality=95)
    weighed = weigh(sink.getvalue(), 30_000)
    assert 25_000 < len(weighed) <= 30_000
    assert Image.open(BytesIO(weighed)).size == (320, 240)


def test_the_peers_suppression_is_the_usual_one() -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 200, (60, 2))
    found = np.hstack(
        [low, low + rng.uniform(20, 80, (60, 2)), rng.uniform(0.3, 1, (60, 1)), rng.integers(0, 3, (60, 1))]
    ).astype(np.float32)
    assert suppress(found, 0.6) == our_suppress(found[:, :4], found[:, 4], found[:, 5].astype(np.int64), 0.6).tolist()


def test_boxes_are_counted_in_whatever_they_are_wrapped() -> None:
    boxes = [{"name": "car", "confidence": 0.9, "box": [0, 0, 1, 1]}] * 2
    assert _count({"detections": boxes}) == 2
    assert _count([boxes]) == 2
    assert _count({"outputs": [{"data": ['[{"confidence": 0.5, "box": []}]']}]}) == 1
    assert _count({"detections": [], "model": {"name": "x"}}) == 0


def test_stages_are_means_between_two_readings_of_the_metrics() -> None:
    def metrics(num: int) -> str:
        return (
            f'detector_stage_seconds_sum{{model_version="a",stage="decode"}} {0.004 * num}\n'
            f'detector_stage_seconds_count{{model_version="a",stage="decode"}} {num}.0\n'
            f'detector_batch_frames_sum{{model_version="a"}} {3.0 * num}\n'
            f'detector_batch_frames_count{{model_version="a"}} {num}.0\n'
            "python_gc_objects_total 3\n"
        )

    means = stage_means(parse_stages(metrics(10)), parse_stages(metrics(30)))
    assert {key: round(value, 6) for key, value in means.items()} == {"batch": 3.0, "decode": 4.0}


def test_profile_counts_the_function_that_ran() -> None:
    lines = ["main (a.py:1);infer (b.py:2) 30", "main (a.py:1);infer (b.py:9) 10", "main (a.py:1) 60", ""]
    assert leaf_shares(lines) == {"main (a.py)": 0.6, "infer (b.py)": 0.4}


def test_time_left_follows_what_planned_time_has_cost() -> None:
    plan = [Part("a", 120), Part("b", 60), Part("c", 60)]
    assert time_left_s(plan, 0, 0) == 240
    assert time_left_s(plan, 1, 360) == 240  # the first part took three times as long


def test_an_upload_is_whole() -> None:
    request = multipart("image")(b"\xff\xd8jpeg")
    head, body = request.split(b"\r\n\r\n", 1)
    assert f"content-length: {len(body)}".encode() in head
    assert b'name="image"' in body
    assert b"\xff\xd8jpeg" in body


def test_every_peer_is_a_module_of_its_own_name_and_way() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert {peer.way for peer in PEERS} == {"default", "mended", "engine"}
    modules = {peer.module for peer in PEERS}
    assert {peer.module for peer in PEERS if peer.way == "engine"} == modules
