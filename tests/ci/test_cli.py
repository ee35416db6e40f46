from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.adapters.registry import ModelVersion
from flows.ci import candidate, telling
from flows.cli import app, verbs
from flows.errors import GateRefused
from flows.params_file import apply_overrides
from tests.adapters.github_server import running_github
from tests.ci.test_telling import report

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "TCA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "reports").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("ending", "ended", "code"),
    [
        (0, {"passed": True, "outcome": "promoted"}, 0),
        (1, {"outcome": "held", "awaits_approval": "canary"}, 0),
        (1, {"outcome": "held"}, 1),
        (1, {"outcome": "rolled_back"}, 1),
        (1, {"outcome": "aborted"}, 1),
    ],
)
def test_a_job_ends_well_where_it_promoted_or_a_person_must_agree(
    project: Path, monkeypatch: pytest.MonkeyPatch, ending: int, ended: dict[str, Any], code: int
) -> None:
    def run_flow(*_: Any, **__: Any) -> None:
        (project / "reports" / "promote.json").write_text(json.dumps(report() | ended))
        sys.exit(ending)

    monkeypatch.setattr(verbs, "run_flow", run_flow)
    done = CliRunner().invoke(app, ["ci", "promote"])
    assert done.exit_code == code
    assert "version 2 held" in done.output


def test_another_challenger_than_that_of_the_digest_is_refused_before_anything_is_done(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate, "registry_of", lambda _: Reigning())
    monkeypatch.setattr(verbs, "run_flow", lambda *_, **__: pytest.fail("it was run"))
    done = CliRunner().invoke(app, ["ci", "promote", "--digest", "a" * 64])
    assert isinstance(done.exception, GateRefused)


@pytest.mark.parametrize("ending", [2, 3, 130])
def test_what_never_came_to_a_verdict_keeps_its_exit_code(
    project: Path, monkeypatch: pytest.MonkeyPatch, ending: int
) -> None:
    monkeypatch.setattr(verbs, "run_flow", lambda *_, **__: sys.exit(ending))
    (project / "reports" / "promote.json").write_text(json.dumps(report(passed=True)))  # of the last time
    assert CliRunner().invoke(app, ["ci", "promote"]).exit_code == ending


@pytest.mark.parametrize(("approval", "waits"), [("none", []), ("canary", ["promote.approval_deadline_s=0"])])
def test_a_job_does_not_wait_for_a_person(
    project: Path, monkeypatch: pytest.MonkeyPatch, approval: str, waits: list[str]
) -> None:
    apply_overrides(project / "params.yaml", [f"promote.approval={approval}"])
    given: list[list[str]] = []

    def run_flow(_: str, overrides: list[str], *__: Any, **___: Any) -> None:
        given.append(overrides)
        apply_overrides(project / "params.yaml", overrides[1:])
        (project / "reports" / "promote.json").write_text(json.dumps(report()))

    monkeypatch.setattr(verbs, "run_flow", run_flow)
    before = (project / "params.yaml").read_text()
    CliRunner().invoke(app, ["ci", "promote", "-S", "promote.alpha=0.1"])
    assert given == [["promote.alpha=0.1", *waits]]
    assert (project / "params.yaml").read_text() == before


class Reigning:
    """A registry with a champion."""

    def champion(self) -> ModelVersion:
        return ModelVersion("2", "b" * 64, "", {})

    def by_alias(self, _: str) -> ModelVersion:
        return self.champion()


def test_the_throne_is_written_here_and_proposed_on_github(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "registry_of", lambda _: Reigning())
    done = CliRunner().invoke(app, ["ci", "throne"])
    assert "champion.json names version 2 now; commit it" in done.output
    written = (project / "champion.json").read_bytes()
    with running_github() as github:
        for name, value in github.environment().items():
            monkeypatch.setenv(name, value)
        assert f"{github.url}/pull/1" in CliRunner().invoke(app, ["ci", "throne"]).output
        assert github.branches["throne/version-2-main"]["champion.json"] == written
        github.branches["main"]["champion.json"] = written
        assert "names version 2 already" in CliRunner().invoke(app, ["ci", "throne"]).output


def test_a_comment_of_a_file_that_is_none_says_how_to_make_it(project: Path) -> None:
    done = CliRunner().invoke(app, ["ci", "comment", "no.md"])
    assert done.exit_code != 0
    assert "tca diff REV --markdown" in str(done.exception)
