from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.adapters.registry import ModelVersion
from flows.ci import candidate
from flows.ci.candidate import require_challenger, require_digest
from flows.errors import GateRefused, ProjectError, TcaError
from flows.settings import Project

OURS, OTHER = "a" * 64, "b" * 64


@dataclass
class FakeRegistry:
    """As much of a registry as is asked: versions, and who reigns and who challenges."""

    digests: dict[str, str] = field(default_factory=lambda: {"1": OTHER, "2": OURS})
    reigns: str | None = "1"
    challenger: str | None = "2"
    agrees_with_git: bool = True

    def versions(self) -> list[ModelVersion]:
        return [ModelVersion(version, digest, "", {}) for version, digest in self.digests.items()]

    def by_alias(self, alias: str) -> ModelVersion | None:
        assert alias == "challenger"
        return next((one for one in self.versions() if one.version == self.challenger), None)

    def reigning(self) -> ModelVersion | None:
        if not self.agrees_with_git:
            raise ProjectError("champion.json names version 9, but the registry has version 1")
        return self.champion()

    def champion(self) -> ModelVersion | None:
        return next((one for one in self.versions() if one.version == self.reigns), None)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "package.json").write_text(json.dumps({"model_digest": OURS}))
    return Project(tmp_path)


def ask(
    monkeypatch: pytest.MonkeyPatch, project: Project, registry: FakeRegistry, stale: dict[str, list[str]] | None = None
) -> dict[str, str]:
    monkeypatch.setattr(candidate, "registry_of", lambda _: registry)
    monkeypatch.setattr(candidate, "read_stale", lambda _: stale or {})
    return require_challenger(project)


@pytest.mark.parametrize(
    ("registry", "state"),
    [
        (FakeRegistry(), "challenger"),
        (FakeRegistry(reigns=None), "challenger"),
        # The same tag again, after it was promoted.
        (FakeRegistry(reigns="2"), "champion"),
        (FakeRegistry(reigns="2", challenger=None), "champion"),
    ],
)
def test_the_model_of_the_commit_may_be_promoted_or_reigns(
    monkeypatch: pytest.MonkeyPatch, project: Project, registry: FakeRegistry, state: str
) -> None:
    assert ask(monkeypatch, project, registry) == {"version": "2", "digest": OURS, "state": state}


@pytest.mark.parametrize(
    ("registry", "stale", "error", "said"),
    [
        (FakeRegistry(), {"train": ["data modified"]}, GateRefused, r"not true of this tree: train \(data modified\)"),
        (
            FakeRegistry(challenger="1", reigns=None),
            {},
            GateRefused,
            "names version 2, but the challenger is version 1",
        ),
        (FakeRegistry(challenger=None), {}, GateRefused, "the challenger is none"),
        (FakeRegistry(digests={"1": OTHER}), {}, ProjectError, "does not know the model aaaaaaaaaaaa"),
        (FakeRegistry(agrees_with_git=False), {}, ProjectError, "champion.json names version 9"),
    ],
)
def test_anything_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    project: Project,
    registry: FakeRegistry,
    stale: dict[str, list[str]],
    error: type[TcaError],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        ask(monkeypatch, project, registry, stale)


def test_a_challenger_that_came_after_the_check_is_not_promoted_in_its_place(
    monkeypatch: pytest.MonkeyPatch, project: Project
) -> None:
    registry = FakeRegistry()
    monkeypatch.setattr(candidate, "registry_of", lambda _: registry)
    require_digest(project, OURS)
    registry.digests["3"], registry.challenger = "c" * 64, "3"
    with pytest.raises(GateRefused, match="asked for is the digest aaaaaaaaaaaa, but the challenger is version 3"):
        require_digest(project, OURS)
    registry.reigns = "2"
    require_digest(project, OURS)  # the job is run again after it has promoted


def test_without_the_package_report_nobody_knows_which_model(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    (project.reports / "package.json").unlink()
    with pytest.raises(ProjectError, match=r"no reports/package\.json"):
        ask(monkeypatch, project, FakeRegistry())
