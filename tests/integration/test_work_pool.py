"""A deployment of infra/prefect.yaml on a real server: a process worker trains in its checkout."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flows.params_file import apply_overrides
from tests.projects import copy_project, run

pytestmark = pytest.mark.deep

TINY = (
    *("render.cameras=6", "render.clips_per_camera=4", "render.frames_per_clip=5", "render.size_wh=[192, 128]"),
    *("train.epochs=2", "train.image_size=64", "train.batch=8", "train.threads=1", "train.precision=fp32"),
)
POOL = "tca"


@dataclass(frozen=True)
class Checkout:
    """A project with deployments on the server, and commands that run in it as a person would type them."""

    root: Path
    env: dict[str, str]

    def prefect(self, *arguments: str) -> str:
        return run(self.root, sys.executable, "-m", "prefect", *arguments, env=self.env).stdout

    def work_on(self, deployment: str) -> UUID:
        """Ask for a run of `deployment`, let a worker take it, and return its id."""
        asked = self.prefect("deployment", "run", f"{deployment}/{deployment}")
        found = re.search(r"UUID: ([0-9a-f-]{36})", asked)
        assert found, asked
        self.prefect("worker", "start", "--pool", POOL, "--run-once")
        return UUID(found[1])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Checkout:
    place = tmp_path_factory.mktemp("pool")
    root = copy_project(place / "project")
    apply_overrides(root / "params.yaml", TINY)
    homes = {"TCA_HOME", "BENTOML_HOME", "YOLO_CONFIG_DIR", "MLFLOW_TRACKING_URI"}
    env = {key: value for key, value in os.environ.items() if key not in homes}
    env |= {"PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(place / "prefect"), "TCA_PROJECT": str(root)}
    made = Checkout(root, env)
    for command in (("data", "render"), ("validate",)):
        run(root, sys.executable, "-m", "flows.cli", *command, env=env)
    made.prefect("work-pool", "create", POOL, "--type", "process")
    made.prefect("--no-prompt", "deploy", "--name", "train", "--prefect-file", "infra/prefect.yaml")
    return made


def read_run(run_id: UUID) -> tuple[Any, list[Any]]:
    """The state of a flow run, and the artifacts that it and its tasks left."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
        mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        return state, client.read_artifacts(artifact_filter=mine)


@pytest.mark.timeout(900)
def test_a_worker_trains_in_its_checkout_and_not_again_what_is_current(checkout: Checkout) -> None:
    state, artifacts = read_run(checkout.work_on("train"))
    assert state.is_completed(), state.message
    report = json.loads((checkout.root / "reports" / "train.json").read_text(encoding="utf-8"))
    assert (report["passed"], report["epochs"]) == (True, 2)
    assert any(report["sentence"] in str(artifact.data) for artifact in artifacts), artifacts
    assert {artifact.type for artifact in artifacts} >= {"markdown", "progress"}
    assert (checkout.root / "artifacts" / "training" / "best.pt").is_file()
    assert "train:" in (checkout.root / "dvc.lock").read_text(encoding="utf-8")
    state, _ = read_run(checkout.work_on("train"))
    assert state.name == "Cached"
