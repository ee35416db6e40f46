from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from flows.adapters.versioning import read_staleness_of_data
from flows.params_file import apply_overrides
from tests.projects import ROOT, copy_project, run

TCA = (sys.executable, "-m", "flows.cli")


def test_the_demo_data_render_to_the_version_that_is_committed(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    shutil.copy(ROOT / "data.dvc", project / "data.dvc")
    run(project, *TCA, "data", "render")
    assert (project / "data.dvc").read_bytes() == (ROOT / "data.dvc").read_bytes()
    assert read_staleness_of_data(project) == []


def test_broken_labels_stop_the_train_naming_file_and_line(tmp_path: Path, prefect_api: str) -> None:
    project = copy_project(tmp_path / "project")
    small = ("render.cameras=2", "render.clips_per_camera=4", "render.frames_per_clip=1", "render.size_wh=[192, 128]")
    apply_overrides(project / "params.yaml", small)
    run(project, *TCA, "data", "render")
    label = next((project / "data" / "labels" / "val").glob("*.txt"))
    good = label.read_text().splitlines()[0]
    bad = ("0 0.5 0.5 0.1 0.1 0.9", "0 nan 0.5 0.1 0.1", "0 0.5 0.5 -0.1 0.1", "9 0.5 0.5 0.1 0.1")
    label.write_text("\n".join([good, *bad]) + "\n")
    run(project, *TCA, "data", "version")
    env = {key: value for key, value in os.environ.items() if key != "TCA_HOME"}
    done = subprocess.run([*TCA, "release"], cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    page = (project / "reports" / "validate.html").read_text()
    for line in range(2, 2 + len(bad)):
        assert f"labels/val/{label.name}:{line}" in page
    assert not (project / "artifacts" / "training").exists()
