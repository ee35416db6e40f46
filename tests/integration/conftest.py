"""A small project that goes through the whole train with real processes: one for the session, used in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.adapters.processes import find_free_port
from flows.params_file import apply_overrides
from tests.projects import copy_project, run

SMALL = (
    *("render.cameras=6", "render.clips_per_camera=4", "render.frames_per_clip=5", "render.size_wh=[192, 128]"),
    *("train.epochs=1", "train.image_size=64", "train.batch=4", "train.mosaic=0.0"),
    *(
        "export.engine=openvino",
        "export.precision=fp32",
        "export.parity_frames=4",
        "evaluate.min_map50_95=0.0",
        "evaluate.margin=1.0",
        "evaluate.slice_margin=1.0",
        "evaluate.slice_rule=not-worse",
        "evaluate.precision_margin=1.0",
        "evaluate.recall_margin=1.0",
        "evaluate.calibration_margin=1.0",
    ),
    *("evaluate.replicates=100", "evaluate.min_units=2"),
    # What is tested here is the way, not the speed of a busy test machine.
    *("evaluate.max_latency_ms=2000.0", "evaluate.max_slowdown=10.0"),
    *("promote.latency_budget_ms=2000.0", "promote.shadow_frames=12", "promote.canary_steps=[50]"),
    *(
        "promote.canary_frames=12",
        "promote.bake_frames=12",
        "promote.min_agreement=0.01",
        "promote.max_error_share=0.2",
    ),
)


@dataclass(frozen=True)
class SmallProject:
    """A project folder with its own ports, and how to run commands in it."""

    root: Path
    env: dict[str, str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.env['TCA_PORT']}"

    def tca(self, *arguments: str, expect: int = 0) -> str:
        """Run `tca`, require its exit code, and return standard output."""
        argv = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(
            argv, cwd=self.root, env=self.env, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == expect, f"tca {arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def report(self, stage: str) -> dict:
        return json.loads((self.root / "reports" / f"{stage}.json").read_text())

    def run(self, *argv: str) -> str:
        return run(self.root, *argv, env=self.env).stdout


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Iterator[SmallProject]:
    root = copy_project(tmp_path_factory.mktemp("small") / "project")
    apply_overrides(root / "params.yaml", SMALL)
    homes = {"TCA_HOME", "BENTOML_HOME", "PREFECT_HOME", "YOLO_CONFIG_DIR", "MLFLOW_TRACKING_URI"}
    env = {key: value for key, value in os.environ.items() if key not in homes}
    env |= {"PREFECT_API_URL": prefect_api, "TCA_PORT": str(find_free_port()), "TCA_ADMIN_PORT": str(find_free_port())}
    project = SmallProject(root, env)
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "small")
    yield project
    project.tca("down")
