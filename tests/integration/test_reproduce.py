"""A version that went on from a champion, trained in a dirty tree, is made again: real git, DVC, MLflow, training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, file_sha256, write_spec
from flows.adapters.data_versions import cache_folder, open_version
from flows.adapters.registry import ModelVersion
from flows.errors import InputError, OutsideError, ProjectError
from flows.params_file import apply_overrides, read_params
from flows.provenance import collect_provenance
from flows.reproducing.collect import collect_record
from flows.reproducing.record import RECORD_TAG, read_record, write_record
from flows.reproducing.reproduce import reproduce_version
from flows.serving import registry_of
from flows.settings import Project
from tests.projects import copy_project, run

pytestmark = [pytest.mark.deep, pytest.mark.train, pytest.mark.timeout(900)]

SMALL = (
    *("render.cameras=6", "render.clips_per_camera=4", "render.frames_per_clip=5", "render.size_wh=[192, 128]"),
    *("train.epochs=1", "train.image_size=64", "train.batch=4"),
)


@dataclass(frozen=True)
class Dirty:
    """A project whose second version was trained with code that is not committed."""

    project: Project
    env: dict[str, str]

    def tca(self, *arguments: str, expect: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "flows.cli", *arguments]
        env = {**self.env, **more}
        done = subprocess.run(argv, cwd=self.project.root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == expect, f"tca {arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def state(self) -> dict[str, object]:
        """What a reproduction must leave alone."""
        root = self.project.root
        return {
            "status": run(root, "git", "status", "--porcelain").stdout,
            "trees": run(root, "git", "worktree", "list").stdout,
            "champion": self.project.champion_file.read_text(),
            "versions": [one.version for one in registry_of(self.project).versions()],
            "cache": sorted(path.name for path in cache_folder(root).rglob("*")),
            "artifacts": sorted(str(path) for path in self.project.artifacts.rglob("*")),
        }


def package_lightly(project: Project) -> ModelVersion:
    """Register what was trained, without the minute that export, evaluation and the bento take."""
    folder = project.artifacts / "package"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    (folder / "reports").mkdir()
    shutil.copy(project.artifacts / "training" / "best.pt", folder / "model" / "weights.pt")
    shutil.copy(project.reports / "train.json", folder / "reports" / "train.json")
    figure = {"value": 0.5, "lower": None, "upper": None}
    challenger = {"figures": {"map50_95": figure}, "predictions_sha256": "none"}
    evaluation = {"challenger": challenger, "ground_truth_sha256": "none", "champion_version": None}
    (folder / "reports" / "evaluate.json").write_text(json.dumps(evaluation))
    spec = write_spec(
        folder / "model",
        ModelSpec(
            name="its-camera-detector",
            classes=("car",),
            input=InputSpec(size_wh=(64, 64)),
            thresholds=Thresholds(conf=0.25, iou=0.6, max_det=10),
            top_k=10,
            engine=EngineSpec(kind="fake", file="weights.pt"),
            files={"weights.pt": file_sha256(folder / "model" / "weights.pt")},
        ),
    )
    params, registry = read_params(project.params_file), registry_of(project)
    provenance = collect_provenance(project, params)
    record = write_record(folder, collect_record(project, params, provenance, registry, folder))
    tags = {**provenance.tags(), RECORD_TAG: record.digest}
    with registry.run("package", tags) as log:
        return registry.register(log.run_id, folder, spec.digest, tags)


def edit_code(root: Path) -> None:
    """Change what a training does, partly in a file that git does not know yet."""
    (root / "flows" / "more_seed.py").write_text("MORE_SEED = 7\n")
    train = root / "flows" / "train.py"
    text = train.read_text().replace("run.params.seed", "(run.params.seed + MORE_SEED)")
    assert "MORE_SEED" in text
    train.write_text(text.replace("\nfrom flows.stage", "\nfrom flows.more_seed import MORE_SEED\nfrom flows.stage", 1))


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Iterator[Dirty]:
    root = copy_project(tmp_path_factory.mktemp("dirty") / "project")
    apply_overrides(root / "params.yaml", SMALL)
    run(root, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "small")
    homes = {"TCA_HOME", "BENTOML_HOME", "PREFECT_HOME", "YOLO_CONFIG_DIR", "MLFLOW_TRACKING_URI"}
    env = {key: value for key, value in os.environ.items() if key not in homes}
    env |= {"PREFECT_API_URL": prefect_api, "TMPDIR": str(tmp_path_factory.mktemp("trees"))}
    made = Dirty(Project(root), env)
    made.tca("data", "render")
    made.tca("train", DVC_STAGE="by hand")
    first = package_lightly(made.project)
    registry_of(made.project).set_champion(first.version, first.digest)
    edit_code(root)
    made.tca("train", "-S", "train.learning_rate=0.004", DVC_STAGE="by hand")
    package_lightly(made.project)
    yield made


def test_a_version_is_made_again_bit_for_bit_and_nothing_else_is_touched(dirty: Dirty) -> None:
    before = dirty.state()
    report = json.loads(dirty.tca("reproduce", "challenger", "--json").stdout)
    assert report["verdict"] == "identical"
    assert report["model_version"] == "2"
    assert report["until"] == "train"
    assert set(report["changed_files"]) == {"flows/more_seed.py", "flows/train.py"}
    assert report["differences"] == report["other_packages"] == []
    trained = json.loads((dirty.project.reports / "train.json").read_text())
    assert trained["started_from"].startswith("weights.pt ")
    weights = report["comparisons"][0]
    assert weights["recorded"] == weights["rebuilt"] == trained["weights_sha256"][:12]
    assert "reproduced exactly" in (dirty.project.reports / "reproduce-2.html").read_text()
    assert dirty.state() == before
    assert list(Path(dirty.env["TMPDIR"]).glob("tca-*")) == []


def test_an_interrupted_reproduction_leaves_nothing_behind(dirty: Dirty) -> None:
    before = dirty.state()
    argv = [sys.executable, "-m", "flows.cli", "reproduce", "1"]
    process = subprocess.Popen(argv, cwd=dirty.project.root, env=dirty.env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(line.startswith("tree") for line in process.stderr)
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert dirty.state() == before
    assert list(Path(dirty.env["TMPDIR"]).glob("tca-*")) == []


def test_a_record_names_the_champion_that_the_training_went_on_from(dirty: Dirty) -> None:
    registry = registry_of(dirty.project)
    first, second = registry.get("1"), registry.get("2")
    record = read_record(registry.download(second), second.tags[RECORD_TAG])
    assert record is not None
    assert record.champion is not None
    assert (record.champion.version, record.champion.digest) == ("1", first.digest)
    assert record.start.kind == "champion"
    assert record.start.sha256 == file_sha256(registry.download(first) / "model" / "weights.pt")
    assert "learning_rate: 0.004" in (record.params_yaml or "")


def test_a_changed_report_is_refused(dirty: Dirty) -> None:
    registry = registry_of(dirty.project)
    path = registry.download(registry.get("2")) / "reports" / "train.json"
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"weights_sha256", b"weights_sha255"))
    try:
        with pytest.raises(InputError, match=r"reports/train\.json is not what was registered"):
            reproduce_version(dirty.project, "2")
    finally:
        path.write_bytes(sound)


def test_data_that_are_not_here_are_named_with_the_way_to_fetch_them(dirty: Dirty) -> None:
    md5 = collect_provenance(dirty.project, read_params(dirty.project.params_file)).data_md5
    files = open_version(dirty.project.root, str(md5))
    stored = files.path_of("data.yaml")
    stored.rename(stored.with_suffix(".away"))
    try:
        with pytest.raises(OutsideError, match=r"1 files of data version .* tca data pull"):
            reproduce_version(dirty.project, "2")
    finally:
        stored.with_suffix(".away").rename(stored)
    assert "reproduce" not in run(dirty.project.root, "git", "worktree", "list").stdout


@pytest.mark.parametrize(
    ("version", "until", "said"),
    [
        ("9", "", "there is no version 9"),
        ("2", "package", "Expected train, export or evaluate"),
    ],
)
def test_what_cannot_be_asked_for_is_said(dirty: Dirty, version: str, until: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        reproduce_version(dirty.project, version, until)


def test_a_record_that_lacks_something_is_said_at_once(dirty: Dirty) -> None:
    registry = registry_of(dirty.project)
    package_dir = registry.download(registry.get("1"))
    path = package_dir / "record.json"
    sound = path.read_bytes()
    record = read_record(package_dir)
    assert record is not None
    sealed = write_record(package_dir, record.model_copy(update={"lacks": ("there is no git commit",)}))
    registry.tag("1", {RECORD_TAG: sealed.digest})
    try:
        with pytest.raises(ProjectError, match="version 1 cannot be made again: there is no git commit"):
            reproduce_version(dirty.project, "1")
    finally:
        path.write_bytes(sound)
        registry.tag("1", {RECORD_TAG: record.digest})
