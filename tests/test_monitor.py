from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bentos.detector.recorder import FeatureRecord
from flows.dataset.manifest import TABLES, Manifest, write_manifest
from flows.monitor import DRIFT_EVENT, monitor

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
        "num_boxes": generator.poisson(4, NUM_FRAMES),
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
            time="2026-01-01T00:00:00Z",
            camera="cam01",
            model_version="1",
            width=640,
            height=384,
            brightness=light * generator.normal(100, 10),
            contrast=light * generator.normal(40, 4),
            sharpness=light**2 * generator.normal(300, 30),
            num_detections=int(generator.poisson(4)),
            mean_score=0.5,
            mean_box_share=0.02,
            class_counts={},
        ).model_dump_json()
        for _ in range(NUM_FRAMES)
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

    state = monitor(records="recorded", return_state=True)

    report = json.loads((project_dir / "reports" / "monitor.json").read_text(encoding="utf-8"))
    assert report["verdict"] == verdict
    assert report["passed"] == (verdict == "steady")
    assert report["features"][-1]["drifted"] is None  # no frame of the reference has a box
    assert state.message == report["sentence"]
    assert (state.name == "Refused") == (verdict == "drifted")
    assert "monitor_evidently.html" in (project_dir / "reports" / "monitor.html").read_text(encoding="utf-8")
    if verdict == "steady":
        assert emitted == []
        return
    (event,) = emitted
    assert event["event"] == DRIFT_EVENT
    assert event["resource"]["prefect.resource.id"].startswith("tca.model.")
    assert {"brightness", "contrast", "sharpness"} <= set(event["payload"]["features"])
    json.dumps(event)
