from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bentos.detector.recorder import FeatureRecord
from flows.dataset.manifest.manifest import TABLES, Manifest, write_manifest
from flows.errors import DataError, InputError
from flows.monitor import DRIFT_EVENT, find_weights, monitor
from flows.settings import Project

NUM_FRAMES = 120


def write_reference(folder: Path, generator: np.random.Generator) -> None:
    """A manifest of frames with normal light and no boxes."""
    filled = {
        "split": "train",
        "readable": True,
        "width": 640,
        "height": 384,
        "brightness": generator.normal(100, 10, NUM_FRAMES),
        "contrast": generator.normal(40, 4, NUM_FRAMES),
        "sharpness": generator.normal(300, 30, NUM_FRAMES),
        "underexposed": 0.0,
        "overexposed": 0.0,
        "num_boxes": generator.poisson(4, NUM_FRAMES),
        "camera": [f"cam{number % 2}" for number in range(NUM_FRAMES)],
        "clip": [f"c{number // 10}" for number in range(NUM_FRAMES)],
    }
    images = pd.DataFrame({"image": [f"{number}.jpg" for number in range(NUM_FRAMES)], **filled})
    blank = {name: "" if kind == "str" else 0 for name, kind in TABLES["images"].items()}
    images = images.assign(**{name: value for name, value in blank.items() if name not in images})
    images = images[list(TABLES["images"])].astype(TABLES["images"])
    empty = {name: pd.DataFrame(columns=list(TABLES[name])).astype(TABLES[name]) for name in ("boxes", "problems")}
    write_manifest(Manifest(images, **empty, thumbnails=np.zeros((NUM_FRAMES, 54, 96), dtype=np.uint8)), folder)


def write_recorded(folder: Path, generator: np.random.Generator, light: float) -> None:
    """As many recorded frames, `light` times as bright."""
    folder.mkdir(parents=True)
    lines = [
        FeatureRecord(
            time=f"2026-01-01T00:{number // 10:02d}:{number % 10:02d}Z",
            camera=f"cam{number % 2}",
            model_version="1",
            width=640,
            height=384,
            brightness=light * generator.normal(100, 10),
            contrast=light * generator.normal(40, 4),
            sharpness=light**2 * generator.normal(300, 30),
            num_detections=int(generator.poisson(4)),
            mean_score=0.5,
            mean_box_share=0.02,
            class_counts={"car": 3, "bus": 1},
        ).model_dump_json()
        for number in range(NUM_FRAMES)
    ]
    (folder / "features-0-1.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(("light", "verdict"), [(1.0, "steady"), (0.7, "drifted")])
def test_drift_is_reported_and_announced(
    project_dir: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch, light: float, verdict: str
) -> None:
    generator = np.random.default_rng(5)
    write_reference(project_dir / "artifacts" / "manifest", generator)
    write_recorded(project_dir / "recorded", generator, light)
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr("prefect.events.emit_event", lambda **event: emitted.append(event))
    monkeypatch.chdir(project_dir)

    state = monitor(current="records:recorded", return_state=True)

    report = json.loads((project_dir / "reports" / "monitor.json").read_text(encoding="utf-8"))
    assert report["verdict"] == verdict
    assert report["passed"] == (verdict == "steady")
    assert (report["reference"], report["current"], report["unit"]) == ("train", "production", "clip")
    assert (report["num_reference_units"], report["num_current_units"]) == (24, 24)
    (share,) = (one for one in report["features"] if (one["group"], one["name"]) == ("all", "mean_box_share"))
    assert share["drifted"] is None  # no frame of the reference has a box
    assert state.message == report["sentence"]
    assert (state.name == "Refused") == (verdict == "drifted")
    assert any("no images" in note for note in report["notes"])
    assert "monitor_evidently.html" in (project_dir / "reports" / "monitor.html").read_text(encoding="utf-8")
    if verdict == "steady":
        assert emitted == []
        return
    (event,) = emitted
    assert event["event"] == DRIFT_EVENT
    assert event["resource"]["prefect.resource.id"].startswith("tca.model.")
    assert {"brightness", "contrast", "sharpness"} <= set(event["payload"]["columns"])
    assert event["payload"]["distances"]["brightness (all)"] > 1
    assert event["payload"]["cameras"] == {}
    json.dumps(event)


def test_a_folder_is_compared_with_a_split_and_nothing_is_announced(
    project_dir: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(6)
    write_reference(project_dir / "artifacts" / "manifest", generator)
    (project_dir / "data").mkdir()
    (project_dir / "data" / "data.yaml").write_text("names: [car]\n")
    batch = project_dir / "new batch"
    batch.mkdir()
    for number in range(60):
        grey = generator.normal(180, 20, (48, 64)).clip(0, 255).astype(np.uint8)
        Image.fromarray(grey).save(batch / f"gate_a{number // 6}_{number:03d}.png")
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr("prefect.events.emit_event", lambda **event: emitted.append(event))
    monkeypatch.chdir(project_dir)

    state = monitor(current="new batch", regex=r"(?P<camera>gate)_(?P<clip>a\d+)", return_state=True)

    report = json.loads((project_dir / "reports" / "monitor.json").read_text(encoding="utf-8"))
    assert state.name == "Refused"
    assert (report["current"], report["unit"], report["num_current_units"]) == ("new batch", "clip", 10)
    assert {"brightness", "contrast", "sharpness"} <= {one["name"] for one in report["features"] if one["drifted"]}
    assert {"new batch has no labels: boxes were not compared", "new batch has no frame of cam0, cam1"} <= set(
        report["notes"]
    )
    assert any("no detector is trained yet" in note for note in report["notes"])
    assert emitted == []


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("nowhere", InputError, "'nowhere' is neither a split nor a folder"),
        ("records:nowhere", DataError, "no production frames are recorded in nowhere"),
        ("val", DataError, "tca validate"),
    ],
)
def test_what_is_not_there_is_an_error(
    project_dir: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch, given: str, error: type[Exception], words: str
) -> None:
    monkeypatch.chdir(project_dir)
    with pytest.raises(error, match=words):
        monitor(reference=given, current=given)


def test_the_exported_model_comes_before_the_last_training(tmp_path: Path) -> None:
    project = Project(tmp_path)
    assert find_weights(project) is None
    for place in ("training/best.pt", "model/weights.pt"):
        path = tmp_path / "artifacts" / place
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_weights(project) == path
