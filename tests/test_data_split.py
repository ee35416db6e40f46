from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import flows.cli.data_split  # noqa: F401 - registers the command
from flows import data_split
from flows.cli.data import app
from flows.data_split import split_data
from flows.dataset.layout import read_dataset
from flows.dataset.rendering.scene import render_dataset
from flows.errors import Conflict
from flows.params_data import RenderParams
from flows.settings import Project

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which two clips straddle, without DVC; the file `versioned` says what would be versioned."""
    found = Project(tmp_path)
    found.params_file.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    params = RenderParams(cameras=2, clips_per_camera=4, frames_per_clip=3, size_wh=[320, 192], jpeg_quality=85)
    render_dataset(found.data, params, seed=0)
    listing = found.data / "frames.csv"
    rows = listing.read_text().replace(",clip01,", ",clip03,")  # clip03 is val's
    listing.write_text(rows)
    monkeypatch.setattr(data_split, "require_repository", lambda root: None)
    monkeypatch.setattr(data_split, "read_staleness_of_data", lambda root: [])
    monkeypatch.setattr(data_split, "read_data_md5", lambda root: "0123456789.dir")
    monkeypatch.setattr(data_split, "add_data", lambda root, path: (root / "versioned").write_text(str(path)))
    return found


def test_a_proposal_is_written_and_nothing_moved(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    before = read_dataset(project.data).frames
    change = split_data(project)
    assert change.straddling == (2, 0)
    assert read_dataset(project.data).frames == before
    with (project.reports / "split.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == [frame.image for frame in before]
    assert sum(row["split"] != row["new_split"] for row in rows) == change.moved
    splits_of: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        splits_of.setdefault((row["camera"], row["clip"]), set()).add(row["new_split"])
    assert all(len(splits) == 1 for splits in splits_of.values())
    told = capfd.readouterr().err
    assert "2 straddle splits, then 0" in told
    assert "Nothing is moved" in told
    assert "boxes, car" in told
    assert not (project.root / "versioned").exists()


def test_applied_it_moves_the_frames_versions_them_and_has_nothing_more_to_do(project: Project) -> None:
    change = split_data(project, apply=True, keep=True)
    assert (project.root / "versioned").read_text() == str(project.data)
    after = read_dataset(project.data)
    assert {split: len(after.split(split)) for split in change.frames} == {
        split: counts[1] for split, counts in change.frames.items()
    }
    assert all((after.root / frame.image).is_file() and (after.root / frame.label).is_file() for frame in after.frames)
    (project.root / "versioned").unlink()
    again = split_data(project, apply=True, keep=True)
    assert (again.moved, again.straddling) == (0, (0, 0))
    assert not (project.root / "versioned").exists()


def test_few_frames_move_when_asked(project: Project) -> None:
    assert split_data(project, keep=True).moved < split_data(project).moved
    assert split_data(project, keep=True).moved <= 2 * 3  # the smaller half of each straddling clip


def test_changes_that_no_version_holds_are_not_overwritten(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_split, "read_staleness_of_data", lambda root: ["changed"])
    before = read_dataset(project.data).frames
    with pytest.raises(Conflict, match="Record them first: tca data version"):
        split_data(project, apply=True)
    assert read_dataset(project.data).frames == before


def test_the_command_prints_the_figures(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    done = CliRunner().invoke(app, ["split", "--keep", "--json"])
    assert done.exit_code == 0
    assert '"straddling":[2,0]' in done.stdout
