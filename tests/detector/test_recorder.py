from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import threading

import numpy as np
import pytest

from bentos.detector import recorder as recorder_module
from bentos.detector.detector import Detections
from bentos.detector.recorder import FeatureRecord, Recorder, describe, read_records

FEATURES = {"brightness": 1.0, "contrast": 2.0, "sharpness": 3.0}


def found(num: int) -> Detections:
    boxes = np.tile(np.array([0, 0, 10, 20], dtype=np.float32), (num, 1))
    scores = np.linspace(0.4, 0.8, num, dtype=np.float32)
    return Detections(boxes, scores, np.zeros(num, dtype=np.int64) + 1, (100, 40), {})


def record(camera: str = "a", num: int = 2) -> FeatureRecord:
    return describe(found(num), FEATURES, camera=camera, model_version="7", classes=("car", "bus"), time_s=0.5)


def test_a_frame_without_detections_has_no_means() -> None:
    empty = record(num=0)
    assert (empty.num_detections, empty.mean_score, empty.mean_box_share) == (0, None, None)
    assert empty.class_counts == {"car": 0, "bus": 0}


def test_figures_of_a_frame() -> None:
    full = record()
    assert full.num_detections == 2
    assert full.mean_score == pytest.approx(0.6)
    assert full.mean_box_share == pytest.approx(200 / 4000)
    assert full.class_counts == {"car": 0, "bus": 2}
    assert full.time == "1970-01-01T00:00:00.500+00:00"
    assert (full.brightness, full.contrast, full.sharpness, full.width, full.height) == (1, 2, 3, 100, 40)


def test_one_frame_a_second_and_camera(tmp_path) -> None:
    recorder = Recorder(tmp_path)
    asked = [("a", 0.0), ("b", 0.1), ("a", 0.9), ("a", 1.0), ("b", 1.05), ("b", 1.2), ("a", 1.9)]
    assert [recorder.wants(*one) for one in asked] == [True, True, False, True, False, True, False]
    recorder.close()


def test_many_camera_names_do_not_fill_the_memory(tmp_path) -> None:
    recorder = Recorder(tmp_path)
    for index in range(25_000):
        recorder.wants(f"camera {index}", 0.0)
    assert len(recorder._last_s) <= 10_000
    recorder.close()


def test_what_is_recorded_is_read(tmp_path) -> None:
    recorder = Recorder(tmp_path / "new" / "folder")
    written = [record(camera) for camera in "abc"]
    for one in written:
        recorder.record(one)
    recorder.close()
    assert list(read_records(tmp_path / "new" / "folder")) == written


def test_files_are_rotated_and_the_oldest_go(tmp_path) -> None:
    recorder = Recorder(tmp_path, max_bytes=1, keep=3)
    for camera in "abcdefgh":
        recorder.record(record(camera))
    recorder.close()
    assert len(list(tmp_path.iterdir())) == 3
    assert [one.camera for one in read_records(tmp_path)] == ["f", "g", "h"]


def test_a_full_queue_drops_and_counts(tmp_path, monkeypatch) -> None:
    gate = threading.Event()
    original = Recorder._next_file
    monkeypatch.setattr(Recorder, "_next_file", lambda self: gate.wait(30) and original(self))
    recorder = Recorder(tmp_path)
    for _ in range(600):
        recorder.record(record())
    dropped = recorder.num_dropped
    gate.set()
    recorder.close()
    assert dropped >= 600 - 257
    assert len(list(read_records(tmp_path))) == 600 - dropped


def test_a_folder_that_vanishes_stops_nothing(tmp_path) -> None:
    folder = tmp_path / "records"
    recorder = Recorder(folder)
    folder.rmdir()
    recorder.record(record())
    recorder.close()
    assert recorder.num_dropped == 1


def test_a_half_written_last_line_is_passed_over_and_others_are_not(tmp_path) -> None:
    whole = record().model_dump_json() + "\n"
    (tmp_path / "features-1.jsonl").write_text(whole + whole[:30])
    assert len(list(read_records(tmp_path))) == 1
    (tmp_path / "features-1.jsonl").write_text(whole[:30] + "\n" + whole)
    with pytest.raises(ValueError, match="FeatureRecord"):
        list(read_records(tmp_path))
    assert list(read_records(tmp_path / "nowhere")) == []


def test_a_full_disk_is_said_once_and_costs_no_old_record(tmp_path, monkeypatch, caplog) -> None:
    recorder = Recorder(tmp_path, keep=3)
    recorder.record(record("old"))
    recorder.close()
    full = {"now": True}
    append = recorder_module._append

    def append_or_fail(path, line) -> None:
        if full["now"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(path, line)

    monkeypatch.setattr(recorder_module, "_append", append_or_fail)
    monkeypatch.setattr(logging.getLogger("bentos.detector"), "propagate", True)
    recorder = Recorder(tmp_path, keep=3)
    for _ in range(20):
        recorder.record(record("lost"))
    while recorder.num_dropped < 20:
        recorder._thread.join(timeout=0.001)
    full["now"] = False
    recorder.record(record("new"))
    recorder.close()
    assert [one.camera for one in read_records(tmp_path)] == ["old", "new"]
    assert [line.getMessage().partition(": ")[2] for line in caplog.records] == [
        "No space left on device; frames are answered, but no longer recorded",
        "recording goes on; 20 records are lost",
    ]


def test_a_line_that_did_not_fit_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    path = tmp_path / "features-1.jsonl"
    recorder_module._append(path, b"whole\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="No space left|File too large"):
            recorder_module._append(path, b"too long for it\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"whole\n"
