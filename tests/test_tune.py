"""Tuning around the search: which study a project means, what is refused, and its best values as a change."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from flows import evidence
from flows import tune as tune_flow
from flows.cli.tune import app as cli
from flows.console import Step
from flows.dataset.layout import Frame, read_dataset, write_data_yaml, write_frames
from flows.errors import (
    CheckpointError,
    DataError,
    InputError,
    MemoryShort,
    ParamsError,
    Preempted,
    ProjectError,
    ServiceError,
)
from flows.exporting.contest import Evidence
from flows.params import Params
from flows.params_file import apply_overrides, read_params
from flows.progress import silent
from flows.settings import Project
from flows.training.epochs import EpochMetrics
from flows.training.search.search import TrialFailed, TrialJob, TuneReport, search
from flows.training.search.store import JournalStore
from flows.training.search.study import open_study
from flows.tuning import latency
from flows.tuning import trial as tune_trial
from flows.tuning.apply import _yaml, propose, read_study, take_over, trials_table
from flows.tuning.study import StartWeights, facts_of, find_start_weights, find_storage, require_sense
from flows.tuning.trial import Trials

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """params.yaml and six frames; trials start from an architecture."""
    monkeypatch.delenv("TCA_TUNE_STORAGE", raising=False)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("start_from: champion", "start_from: model   "), "utf-8")
    frames = [
        Frame(f"images/{split}/a{n}.jpg", split, "c", "c", "", "") for split in ("train", "val") for n in range(3)
    ]
    for frame in frames:
        for path in (tmp_path / "data" / frame.image, tmp_path / "data" / frame.label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "data" / frame.image)
        (tmp_path / "data" / frame.label).write_text("0 0.5 0.5 0.2 0.2\n", "utf-8")
    write_data_yaml(tmp_path / "data", ("car",))
    write_frames(tmp_path / "data", frames)
    return Project(tmp_path)


def params_of(project: Project, *overrides: str) -> Params:
    return read_params(project.params_file, overrides)


def facts(project: Project, *overrides: str) -> dict[str, Any]:
    params = params_of(project, *overrides)
    return facts_of(params, read_dataset(project.data), None, StartWeights(params.train.model))


def quality(job: TrialJob) -> dict[str, float]:
    job.report(1, job.values["learning_rate"])
    return {"map50_95": job.values["learning_rate"], "latency_ms": 1000 * job.values["learning_rate"]}


@pytest.fixture
def searched(project: Project) -> Callable[..., TuneReport]:
    def run(*overrides: str) -> TuneReport:
        params = params_of(project, *overrides)
        study = open_study(find_storage(project), params.tune, params.train, facts(project, *overrides))
        return search(quality, study)

    return run


def test_the_journal_lies_in_the_project_unless_the_environment_names_another(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(find_storage(project), JournalStore)
    monkeypatch.setenv("TCA_TUNE_STORAGE", "postgresql://me:secret@db/tuning")
    assert find_storage(project).name == "PostgreSQL at db/tuning"
    monkeypatch.setenv("TCA_TUNE_STORAGE", "redis://me:secret@db")
    with pytest.raises(InputError) as caught:
        find_storage(project)
    assert "secret" not in str(caught.value)


def test_the_data_are_part_of_the_study(project: Project) -> None:
    before = facts(project)
    assert facts(project) == before
    (project.data / "labels/train/a1.txt").write_text("0 0.5 0.5 0.3 0.3\n", "utf-8")
    assert facts(project)["data"] != before["data"]
    (project.data / "labels/train/a1.txt").unlink()
    with pytest.raises(InputError, match=r"labels/train/a1.txt is missing"):
        facts(project)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["train.task=classify", "tune.objectives=[map50_95]"], ParamsError, "a classifier has no mAP50-95"),
        (
            ["train.task=segment", "tune.pruner=none", "tune.objectives=[map50_95, latency_ms]"],
            ParamsError,
            "latency_ms needs an export",
        ),
        (
            ["train.start_from=champion", "tune.space.model={choices: [yolo11n.yaml, yolo11s.yaml]}"],
            ParamsError,
            "trials start from the champion",
        ),
        (["tune.space.model={choices: [yolo11n.yaml, yolo11q.yaml]}"], CheckpointError, "tune.space.model: "),
    ],
)
def test_what_cannot_be_searched_is_refused_at_the_start(
    project: Project, overrides: list[str], error: type[InputError], message: str
) -> None:
    with pytest.raises(error) as caught:
        require_sense(project, params_of(project, *overrides))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("task", "start_from", "name"),
    [
        ("detect", "champion", "champion 0123456789abcdef"),
        ("detect", "model", "yolo11n.yaml"),
        ("segment", "champion", "yolo11n-seg.yaml"),  # champions detect
    ],
)
def test_a_study_starts_from_what_training_starts_from(project: Project, task: str, start_from: str, name: str) -> None:
    model = "yolo11n-seg.yaml" if task == "segment" else "yolo11n.yaml"
    overrides = (f"train.task={task}", f"train.start_from={start_from}", f"train.model={model}")
    registry: Any = SimpleNamespace(
        known_champion=lambda: SimpleNamespace(digest="0123456789abcdef0123"), download=lambda champion: Path("package")
    )
    start = find_start_weights(project, params_of(project, *overrides), registry)
    assert start.name == name
    assert start.checkpoint == (Path("package/model/weights.pt") if name.startswith("champion") else None)


def test_the_model_of_another_task_may_be_searched_while_a_champion_reigns(project: Project) -> None:
    space = "tune.space.model={choices: [yolo11n-seg.yaml, yolo11s-seg.yaml]}"
    require_sense(project, params_of(project, "train.task=segment", "train.start_from=champion", space))


def test_a_value_that_training_refuses_is_named_with_its_line(project: Project) -> None:
    write(project, "tune.space.optimizer={choices: [AdamW, Lion]}")
    lines = project.params_file.read_text("utf-8").splitlines()
    number = next(index for index, line in enumerate(lines, 1) if "Lion" in line)
    with pytest.raises(ParamsError) as caught:
        require_sense(project, params_of(project))
    assert str(caught.value).startswith(f"params.yaml:{number}: tune.space.optimizer: 'Lion'")


def test_the_best_values_are_a_small_change_of_the_file(project: Project, searched: Callable[..., TuneReport]) -> None:
    best = searched().best_params
    change = propose(project)
    lines = change.diff.splitlines()
    assert lines[:2] == ["--- a/params.yaml", "+++ b/params.yaml"]
    changed = [line for line in lines[2:] if line[0] in "+-"]
    differing = [key for key, value in best.items() if getattr(params_of(project).train, key) != value]
    assert len(changed) == 2 * len(differing)
    assert f"+  learning_rate: {best['learning_rate']}" in changed
    before = project.params_file.read_text("utf-8")
    take_over(project, change)
    after = project.params_file.read_text("utf-8")
    assert {key: getattr(params_of(project).train, key) for key in best} == best
    assert before.count("#") == after.count("#")
    assert propose(project).diff == ""  # still the same study: what it searches is not part of what defines it


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-05, "1.0e-05"),
        (0.0000123, "1.23e-05"),
        (0.5, "0.5"),
        (8, "8"),
        (True, "true"),
        ("AdamW", "AdamW"),
        ("my model's last.pt " * 9 + "ü", None),
        ("1e-05", None),
    ],
)
def test_a_value_is_written_as_what_it_is(value: Any, text: str | None) -> None:
    written = _yaml(value)
    assert yaml.safe_load(written) == value
    assert "\n" not in written
    assert text in (None, written)


def test_a_small_value_can_be_taken_over(project: Project, searched: Callable[..., TuneReport]) -> None:
    space = "tune.space={learning_rate: {choices: [0.00001]}}"
    searched(space)
    write(project, space)
    change = propose(project)
    assert "+  learning_rate: 1.0e-05" in change.diff
    take_over(project, change)
    assert params_of(project).train.learning_rate == 1e-05


def test_another_trial_can_be_taken(project: Project, searched: Callable[..., TuneReport]) -> None:
    report = searched("tune.pruner=none")
    write(project, "tune.pruner=none")
    other = next(row for row in report.trials if row.state == "complete" and row.number != report.best_number)
    assert propose(project, other.number).trial == other
    with pytest.raises(InputError, match="trial 99 of study .* does not exist"):
        propose(project, 99)


def test_a_pruned_trial_is_not_taken(project: Project, searched: Callable[..., TuneReport]) -> None:
    report = searched("tune.trials=12", "tune.pruner=median")
    write(project, "tune.trials=12")
    pruned = next(row for row in report.trials if row.state == "pruned")
    with pytest.raises(InputError, match=f"trial {pruned.number} of study .* is pruned"):
        propose(project, pruned.number)


def test_of_a_front_the_others_are_named(project: Project, searched: Callable[..., TuneReport]) -> None:
    overrides = ("tune.objectives=[map50_95, latency_ms]", "tune.pruner=none", "tune.trials=5")
    report = searched(*overrides)
    write(project, *overrides)
    change = propose(project)
    assert change.trial.number == report.front[0]
    assert ", ".join(map(str, report.front[1:])) in " ".join(change.notes)
    assert propose(project, report.front[-1]).trial.number == report.front[-1]


def test_the_study_of_other_data_or_space_is_not_taken(project: Project, searched: Callable[..., TuneReport]) -> None:
    searched()
    write(project, "tune.space.mosaic={low: 0.0, high: 0.5}")
    with pytest.raises(ProjectError, match=r"has no study of these data.*: tune.space differs from those of study"):
        propose(project)
    write(project, "tune.space.mosaic={low: 0.0, high: 1.0}")
    propose(project)
    (project.data / "labels/val/a0.txt").write_text("", "utf-8")
    with pytest.raises(ProjectError, match="data differs"):
        propose(project)


def test_without_a_study_it_says_so(project: Project) -> None:
    with pytest.raises(ProjectError, match="Run: tca tune"):
        read_study(project)


def test_the_table_has_a_line_for_each_attempt(project: Project, searched: Callable[..., TuneReport]) -> None:
    searched()
    report = read_study(project)
    lines = trials_table(report).splitlines()
    assert len(lines) == len(report.trials) + 3
    assert sum(line.endswith("best") for line in lines) == 1
    assert lines[-1].startswith(f"study {report.study}: 4 of 4 trials; best mAP50-95")
    assert json.loads(report.model_dump_json())["trials"][0]["params"] == report.trials[0].params


def test_from_a_shell_it_is_shown_then_written(
    project: Project, searched: Callable[..., TuneReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "dvc.yaml").touch()
    monkeypatch.chdir(project.root)
    best = searched().best_params
    shown = CliRunner().invoke(cli, ["show"])
    assert shown.exit_code == 0
    assert "4 of 4 trials" in shown.stdout
    assert json.loads(CliRunner().invoke(cli, ["show", "--json"]).stdout)["best_params"] == best
    before = project.params_file.read_text("utf-8")
    proposed = CliRunner().invoke(cli, ["apply"])
    assert f"+  learning_rate: {best['learning_rate']}" in proposed.stdout
    assert project.params_file.read_text("utf-8") == before
    wrong = CliRunner().invoke(cli, ["apply", "--trial", "-7", "--write"])
    assert wrong.exit_code == 2
    assert project.params_file.read_text("utf-8") == before
    assert CliRunner().invoke(cli, ["apply", "--write"]).exit_code == 0
    assert params_of(project).train.learning_rate == best["learning_rate"]


class FakeRuns:
    """What is told to MLflow, kept in a list."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    @contextmanager
    def run(self, stage: str, tags: dict[str, str], **more: Any) -> Iterator[FakeRuns]:
        self.told.append(("begin", more))
        yield self
        self.told.append(("end", None))

    def params(self, values: dict[str, Any]) -> None:
        self.told.append(("params", values))

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        self.told.append((f"metrics {step}", values))

    def tags(self, values: dict[str, str]) -> None:
        self.told.append(("tags", values))


@pytest.fixture
def trials(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[..., Any]], tuple[Trials, FakeRuns]]:
    """`trials(train)`: the trials of a project, with `train` for the training and no MLflow."""

    def make(train: Callable[..., Any]) -> tuple[Trials, FakeRuns]:
        params, runs = params_of(project, "tune.epochs=3"), FakeRuns()
        study = open_study(find_storage(project), params.tune, params.train, facts(project))
        run = SimpleNamespace(
            project=project, params=params, provenance=SimpleNamespace(tags=dict), shown=Step("tune", None),
            registry=lambda: SimpleNamespace(runs=runs),
        )  # fmt: skip
        monkeypatch.setattr(tune_trial, "train_apart", train)
        page = project.root / "reports" / "tune.html"
        return Trials(run, read_dataset(project.data), study, None, "parent", page), runs  # type: ignore[arg-type]

    return make


def epoch_of(number: int, score: float) -> EpochMetrics:
    zeros = dict.fromkeys(("map50", "precision", "recall", "learning_rate", "seconds", "images_per_s"), 0.0)
    return EpochMetrics(epoch=number, epochs=3, losses={}, score=score, map50_95=score, **zeros)


def test_a_trial_is_trained_with_its_values_and_told_to_a_nested_run(trials: Any) -> None:
    seen: list[Any] = []

    def train(dataset: Any, params: Any, seed: int, out_dir: Path, on_epoch: Any, *more: Any, **named: Any) -> Any:
        seen.append((params.learning_rate, params.epochs, out_dir.name))
        on_epoch(epoch_of(1, 0.25))
        return SimpleNamespace(passed=True, sentence="", score=0.5, map50_95=0.5)

    made, runs = trials(train)
    told: list[tuple[int, float]] = []
    job = TrialJob(4, 2, {"learning_rate": 0.0044}, lambda epoch, value: told.append((epoch, value)), silent)
    assert made.train(job) == {"map50_95": 0.5}
    assert seen == [(0.0044, 3, "trial2")]
    assert told == [(1, 0.25)]
    assert runs.told[0][1]["parent"] == "parent"
    assert runs.told[0][1]["job"].endswith("-2")
    assert dict(runs.told)["params"]["train.learning_rate"] == "0.0044"
    assert ("tags", {"tca.outcome": "complete"}) in runs.told


def test_a_pruned_trial_ends_its_run_well(trials: Any) -> None:
    def train(*arguments: Any, **named: Any) -> Any:
        raise optuna.TrialPruned

    made, runs = trials(train)
    with pytest.raises(optuna.TrialPruned):
        made.train(TrialJob(0, 0, {}, lambda epoch, value: None, silent))
    assert runs.told[-2:] == [("tags", {"tca.outcome": "pruned"}), ("end", None)]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryShort("no memory"), TrialFailed),
        (ServiceError("killed"), TrialFailed),
        (CheckpointError("damaged"), TrialFailed),
        (DataError("missing"), DataError),
        (Preempted("stop"), Preempted),
        (OSError("disk full"), OSError),
    ],
)
def test_a_trials_own_trouble_is_told_from_that_of_all(
    trials: Any, error: Exception, expected: type[Exception]
) -> None:
    def train(*arguments: Any, **named: Any) -> Any:
        raise error

    made, _ = trials(train)
    with pytest.raises(expected) as caught:
        made.train(TrialJob(0, 0, {}, lambda epoch, value: None, silent))
    assert str(caught.value).startswith(str(error))


def test_a_diverged_trial_is_not_tried_again(trials: Any) -> None:
    made, _ = trials(lambda *arguments, **named: SimpleNamespace(passed=False, sentence="the training diverged"))
    with pytest.raises(TrialFailed, match="diverged") as caught:
        made.train(TrialJob(0, 0, {}, lambda epoch, value: None, silent))
    assert not caught.value.again


def test_only_the_best_checkpoint_is_kept(trials: Any, searched: Callable[..., TuneReport]) -> None:
    made, _ = trials(lambda *arguments, **named: None)
    report = searched()
    for row in report.trials:
        made._folder(row.origin).mkdir(parents=True)
        made._folder(row.origin).with_suffix(".partial").mkdir()
    made.publish(report)
    assert {path.name.partition(".")[0] for path in made._folder(0).parent.iterdir()} == {f"trial{report.best_number}"}
    assert "Tuning" in made.page.read_text("utf-8")


def test_a_finished_study_is_joined_from_a_fresh_checkout(
    project: Project, searched: Callable[..., TuneReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own trials are all done elsewhere: nothing has made reports/ here."""
    searched()
    logged: list[Path] = []

    @contextmanager
    def no_mlflow(*whatever: Any) -> Iterator[Any]:
        yield SimpleNamespace(run_id="parent", artifact=logged.append)

    monkeypatch.setattr(tune_flow, "study_run", no_mlflow)
    run = SimpleNamespace(
        project=project, params=params_of(project), provenance=SimpleNamespace(data_md5=None), registry=lambda: None,
        step=lambda function: function, progress=silent, shown=Step("tune", None), table=lambda rows: None,
    )  # fmt: skip
    body = inspect.getclosurevars(tune_flow.tune.fn).nonlocals["made"].body
    assert body(run).num_complete + body(run).num_pruned == 4
    assert logged[0].read_text("utf-8").startswith("<!doctype html>")


def test_latency_is_that_of_an_export_judged_on_val_and_leaves_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, Evidence]] = []

    def export(checkpoint: Path, folder: Path, params: Any, name: str, size: int, evidence: Evidence, told: Any) -> Any:
        seen.append((folder, evidence))
        folder.rmdir()  # as an export puts its own folder there
        folder.mkdir()
        (folder / "model.json").touch()
        taken = SimpleNamespace(engine="onnx", precision="fp32", speed=SimpleNamespace(lone_p50_ms=4.5))
        return SimpleNamespace(candidates=[taken], engine="onnx", precision="fp32")

    monkeypatch.setattr(latency, "export_model", export)
    monkeypatch.setattr(evidence, "FrozenJudge", lambda dataset, judged: judged)
    run: Any = SimpleNamespace(project=project, params=params_of(project))
    dataset = read_dataset(project.data)
    for _ in range(2):
        assert latency.engine_latency_ms(run, dataset, Path("best.pt"), 64, silent) == 4.5
    (first, found), (second, _) = seen
    assert found.judge.split == "val"  # type: ignore[attr-defined]
    assert len(found.images) == 3
    assert first != second  # two workers may share the folder of a project
    assert list(first.parent.iterdir()) == []
    assert first.parent == project.home / "tune"


def write(project: Project, *overrides: str) -> None:
    apply_overrides(project.params_file, overrides)
