from __future__ import annotations

from pathlib import Path

import pytest

from flows.params_file import read_params
from flows.provenance import collect_provenance, read_data_md5
from flows.settings import Project
from tests.projects import run


def collect(root: Path):
    return collect_provenance(Project(root), read_params(root / "params.yaml"))


def test_a_clean_tree_names_its_commit(project_dir: Path) -> None:
    found = collect(project_dir)
    assert found.git_commit == run(project_dir, "git", "rev-parse", "HEAD").stdout.strip()
    assert found.git_dirty is False
    assert found.tags()["tca.git_dirty"] == "False"
    assert "tca.data_md5" not in found.tags()


@pytest.mark.parametrize(("name", "dirty"), [("params.yaml", True), ("champion.json", False)])
def test_what_the_train_writes_itself_does_not_make_the_tree_dirty(project_dir: Path, name: str, dirty: bool) -> None:
    with (project_dir / name).open("a") as sink:
        sink.write("\n")
    assert collect(project_dir).git_dirty is dirty


def test_without_git_there_is_no_commit(tmp_path: Path, project_dir: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "params.yaml").write_bytes((project_dir / "params.yaml").read_bytes())
    found = collect(tmp_path / "bare")
    assert found.git_commit is None
    assert found.git_dirty is None


@pytest.mark.parametrize("content", [None, "", "outs: []\n", "outs: [{path: data}]\n"])
def test_data_without_a_version_have_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "data.dvc").write_text(content)
    assert read_data_md5(tmp_path) is None
