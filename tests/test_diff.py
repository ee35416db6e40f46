"""A tiny project with real git and DVC: one stage of each kind, two revisions, a remote and a fresh clone."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from dvc.cli import main
from typer.testing import CliRunner

from flows.ci.candidate import require_recorded_data
from flows.ci.outputs import pull_outputs, push_outputs
from flows.cli import app
from flows.diff import diff_project, read_stale
from flows.errors import GateRefused, InputError, ParamsError, ProjectError
from flows.settings import Project
from tests.projects import run

DVC_YAML = """
stages:
  train:
    cmd: python make.py train
    deps: [data, make.py]
    params: [train]
    outs: [artifacts/training]
    metrics: [reports/train.json]
  evaluate:
    cmd: python make.py evaluate
    deps: [artifacts/training]
    metrics: [reports/evaluate.json]
"""
MAKE = """
import json, pathlib, sys, yaml
rate = yaml.safe_load(open("params.yaml"))["train"]["rate"]
figure = {"value": rate, "lower": rate - 0.01, "upper": rate + 0.01}
pathlib.Path("artifacts").mkdir(exist_ok=True)
pathlib.Path("reports").mkdir(exist_ok=True)
report = {"passed": True, "sentence": f"{sys.argv[1]} at {rate}"}
if sys.argv[1] == "train":
    pathlib.Path("artifacts/training").write_text(str(rate))
    report["map50_95"] = rate
else:
    report["challenger"] = {"figures": {"map50_95": figure}}
pathlib.Path(f"reports/{sys.argv[1]}.json").write_text(json.dumps(report))
"""


@dataclass(frozen=True)
class Made:
    """A project with two commits; the second has another rate and one frame more."""

    root: Path

    @property
    def project(self) -> Project:
        return Project(self.root)

    def dvc(self, *arguments: str) -> None:
        with contextlib.chdir(self.root):  # in this process: loading DVC takes longer than what it does here
            assert main([*arguments]) == 0

    def commit(self, message: str) -> None:
        run(self.root, "git", "add", "--all")
        run(self.root, "git", "-c", "user.name=t", "-c", "user.email=t@e.org", "commit", "-qm", message)

    def write(self, file: str, text: str) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = Made(tmp_path_factory.mktemp("diff") / "project")
    for file, text in {
        "dvc.yaml": DVC_YAML,
        "make.py": MAKE,
        "params.yaml": "train: {rate: 0.4, epochs: 5}\n",
        "champion.json": '{"version": null, "digest": null}\n',
        ".gitignore": "/data\n/artifacts/\n/reports/\n",
        "data/images/a.jpg": "a",
    }.items():
        made.write(file, text)
    run(made.root, "git", "init", "-q")
    made.dvc("init", "-q")
    made.dvc("add", "-q", "data")
    made.dvc("repro", "-q")
    made.commit("first")
    made.write("data/images/b.jpg", "b")
    made.write("params.yaml", "train: {rate: 0.5}\n")
    made.write("champion.json", '{"version": "1", "digest": "d"}\n')
    made.dvc("add", "-q", "data")
    made.dvc("repro", "-q")
    made.commit("second")
    return made


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    shutil.copytree(original.root, tmp_path / "project", symlinks=True)
    return Made(tmp_path / "project")


def clone(made: Made, folder: Path) -> Made:
    run(folder, "git", "clone", "-q", str(made.root), "clone")
    return Made(folder / "clone")


def with_remote(made: Made, folder: Path) -> None:
    made.dvc("remote", "add", "-q", "--default", "store", str(folder / "store"))
    made.commit("a remote")


def test_a_tree_without_changes_differs_in_nothing(made: Made) -> None:
    found = diff_project(made.project, "HEAD")
    assert found.sentence.startswith("Nothing that defines a result differs from HEAD (")
    assert not found.notes and not found.stale


def test_a_revision_is_compared_through_the_cache(made: Made) -> None:
    found = diff_project(made.project, "HEAD~1")
    assert found.sentence.startswith("mAP50-95 .400 [.390, .410] → .500 [.490, .510]; params (2 keys) and data differ.")
    assert [(one.key, one.before, one.after) for one in found.params] == [
        ("train.rate", "0.4", "0.5"),
        ("train.epochs", "5", None),
    ]
    assert (found.data.frames_added, found.data.frames_removed) == (1, 0)
    assert (found.champion_before, found.champion_after) == (None, "1")
    assert [one.stage for one in found.verdicts] == ["train", "evaluate"]
    back = diff_project(made.project, "HEAD", "HEAD~1")
    assert [one.change for one in back.figures] == [-one.change for one in found.figures if one.change]


def test_what_lies_there_counts_and_is_told_from_what_the_lock_names(made: Made) -> None:
    report = json.loads((made.root / "reports/evaluate.json").read_text())
    report["challenger"]["figures"]["map50_95"]["value"] = 0.7
    (made.root / "reports/evaluate.json").unlink()  # it may be linked to the cache
    made.write("reports/evaluate.json", json.dumps(report))
    found = diff_project(made.project, "HEAD")
    assert "→ .700" in found.sentence
    assert "reports/evaluate.json is not the one that dvc.lock names" in found.notes
    assert "evaluate" in found.stale


def test_a_param_that_nobody_ran_with_makes_its_stage_stale(made: Made) -> None:
    made.write("params.yaml", "train: {rate: 0.6}\n")
    found = diff_project(made.project, "HEAD")
    assert list(found.stale) == ["train"]
    assert found.sentence.startswith("The results are the same; params (1 key) differ; train must run again.")


def test_a_fresh_clone_has_a_true_lock_and_says_which_reports_it_lacks(made: Made, tmp_path: Path) -> None:
    fresh = clone(made, tmp_path)
    assert read_stale(fresh.project) == {}
    found = diff_project(fresh.project, "HEAD~1")
    assert found.figures == ()
    assert found.sentence.startswith("Other results of train, evaluate; params (2 keys) and data differ.")
    assert sum("there is no default remote" in note for note in found.notes) == 2
    assert found.data.note is not None


def test_a_fresh_clone_knows_when_its_lock_is_of_other_data(made: Made, tmp_path: Path) -> None:
    fresh = clone(made, tmp_path)
    run(fresh.root, "git", "checkout", "-q", "HEAD~1", "--", "data.dvc")
    assert read_stale(fresh.project) == {"train": ["data modified"]}


def test_outputs_go_to_the_remote_and_come_back_where_nothing_is(made: Made, tmp_path: Path) -> None:
    with_remote(made, tmp_path)
    assert len(push_outputs(made.project).here) == 3
    fresh = clone(made, tmp_path)
    by_remote = diff_project(fresh.project, "HEAD", fetch=False)
    assert by_remote.notes  # offline nothing is here
    assert diff_project(fresh.project, "HEAD").notes == ()
    found = pull_outputs(fresh.project)
    assert (len(found.here), found.missing) == (3, ())
    assert (fresh.root / "artifacts/training").read_text() == "0.5"
    assert read_stale(fresh.project) == {}


def test_what_the_remote_has_not_got_is_left_out_and_named(made: Made, tmp_path: Path) -> None:
    with_remote(made, tmp_path)
    (tmp_path / "store").mkdir()
    fresh = clone(made, tmp_path)
    assert pull_outputs(fresh.project).missing == ("artifacts/training", "reports/train.json", "reports/evaluate.json")
    assert any("the default remote has not got it" in note for note in diff_project(fresh.project, "HEAD").notes)


def test_without_a_remote_the_cache_gives_back_what_was_removed(made: Made) -> None:
    shutil.rmtree(made.root / "reports")
    assert pull_outputs(made.project).missing == ()
    with pytest.raises(InputError, match="no default remote"):
        push_outputs(made.project)


def test_half_of_the_outputs_are_not_pushed(made: Made, tmp_path: Path) -> None:
    with_remote(made, tmp_path)
    (made.root / "artifacts/training").unlink()
    with pytest.raises(ProjectError, match="artifacts/training"):
        push_outputs(made.project)


def test_a_lock_in_the_middle_of_a_merge_is_named(made: Made) -> None:
    made.write("dvc.lock", "<<<<<<< HEAD\nstages: {}\n=======\n")
    with pytest.raises(ProjectError, match=r"dvc.lock is not what DVC writes"):
        pull_outputs(made.project)


def test_data_that_the_commit_does_not_name_are_refused(made: Made) -> None:
    assert require_recorded_data(made.project).endswith(".dir")
    made.write("data/images/c.jpg", "c")
    with pytest.raises(GateRefused, match="is not version"):
        require_recorded_data(made.project)
    made.dvc("add", "-q", "data")
    with pytest.raises(GateRefused, match=r"data.dvc names .*, the commit "):
        require_recorded_data(made.project)


@pytest.mark.parametrize("revision", ["no-such-branch", "--all", "HEAD~99", ""])
def test_a_revision_that_is_none_is_refused(made: Made, revision: str) -> None:
    with pytest.raises(InputError, match="is no git revision here"):
        diff_project(made.project, revision)


def test_a_params_file_that_is_none_is_named(made: Made) -> None:
    made.write("params.yaml", "a: [")
    with pytest.raises((ParamsError, InputError), match=r"params.yaml"):
        diff_project(made.project, "HEAD")


def test_without_git_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="not a git repository"):
        diff_project(Project(tmp_path), "HEAD")


def test_the_command_prints_text_markdown_or_json(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.root)
    monkeypatch.setattr("flows.settings.apply_environment", lambda _: None)

    def tca(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["diff", "HEAD~1", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "param       train.rate: 0.4 -> 0.5" in tca()
    target = tmp_path / "deep" / "diff.md"
    assert tca("HEAD", "--markdown", "--output", str(target)).strip() == str(target)
    assert target.read_text().startswith("### mAP50-95 .400 ")
    assert json.loads(tca("HEAD", "--json"))["champion_after"] == "1"
