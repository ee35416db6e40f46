from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.ci.agreement import hand_in_agreement, sign_agreement
from flows.errors import InputError, OutsideError
from flows.params_file import read_params
from flows.rollout.journal import open_journal
from flows.rollout.leases import Owner
from flows.rollout.tokens import check_token, make_key
from flows.settings import Project
from tests.adapters.github_server import GitHub, running_github

DIGEST = "a" * 64
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TCA_APPROVAL_KEY", "TCA_APPROVAL_PRIVATE_KEY", "GITHUB_ACTIONS", "GITHUB_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    make_key(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, key: Path) -> Iterator[GitHub]:
    with running_github() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


def test_who_approved_the_job_agrees_and_the_public_half_believes_it(
    monkeypatch: pytest.MonkeyPatch, key: Path, github: GitHub, tmp_path: Path
) -> None:
    github.approvals = [{"state": "approved", "user": {"login": name}} for name in ("ada", "bob", "ada")]
    monkeypatch.setenv("TCA_APPROVAL_PRIVATE_KEY", key.read_text())
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    token, who = sign_agreement("", DIGEST, 7, 60.0)
    assert who == "ada, bob"
    assert (tmp_path / "output").read_text() == f"token={token}\n"
    claims = check_token(token, key.with_name("key.pub"), DIGEST, 7, time.time())
    assert claims.sub == "ada, bob"
    with pytest.raises(InputError, match="not to 8"):
        check_token(token, key.with_name("key.pub"), DIGEST, 8, time.time())


def test_the_secret_leaves_no_file(monkeypatch: pytest.MonkeyPatch, key: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("TCA_APPROVAL_PRIVATE_KEY", key.read_text())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    sign_agreement("ada", DIGEST, 7, 60.0)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_reviewers_nobody_has_agreed(monkeypatch: pytest.MonkeyPatch, key: Path, github: GitHub) -> None:
    monkeypatch.setenv("TCA_APPROVAL_KEY", str(key))
    github.approvals = [{"state": "rejected", "user": {"login": "eve"}}]
    with pytest.raises(InputError, match="nobody has agreed"):
        sign_agreement("", DIGEST, 7, 60.0)


def test_outside_a_workflow_a_name_is_wanted_and_a_key(monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    with pytest.raises(InputError, match="nobody has agreed"):
        sign_agreement("", DIGEST, 7, 60.0)
    with pytest.raises(InputError, match="no key to sign with"):
        sign_agreement("ada", DIGEST, 7, 60.0)
    monkeypatch.setenv("TCA_APPROVAL_PRIVATE_KEY", "not a key")
    with pytest.raises(InputError, match="holds no private key"):
        sign_agreement("ada", DIGEST, 7, 60.0)


def test_a_github_that_does_not_say_who_is_no_agreement(
    monkeypatch: pytest.MonkeyPatch, key: Path, github: GitHub
) -> None:
    monkeypatch.setenv("TCA_APPROVAL_KEY", str(key))
    monkeypatch.setenv("GITHUB_TOKEN", "worthless")
    with pytest.raises(OutsideError, match="401"):
        sign_agreement("", DIGEST, 7, 60.0)


def test_an_agreement_is_handed_in_once_and_only_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, key: Path, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    monkeypatch.delenv("TCA_HOME", raising=False)
    monkeypatch.setenv("TCA_APPROVAL_KEY", str(key))
    token, _ = sign_agreement("ada", DIGEST, 1, 60.0)
    monkeypatch.setenv("TCA_APPROVAL_TOKEN", token)
    assert hand_in_agreement(project) is None  # nothing was ever promoted here
    with open_journal(project.journal) as journal:
        assert hand_in_agreement(project) is None  # nothing is open
        lease = journal.acquire(Owner("t", os.getpid(), "h"), 0.0, 10.0, 0)
        params = read_params(ROOT / "params.yaml", ["promote.approval=canary"]).promote.model_dump_json()
        entry = journal.open_promotion(lease, ("2", DIGEST), ("1", "b" * 64), params, 0.0)
        monkeypatch.setenv("TCA_APPROVAL_KEY", f"{key}.pub")
        assert "ada" in (hand_in_agreement(project) or "")
        assert hand_in_agreement(project) is None  # the job is run again
        assert [(one.who, one.how, one.agreed) for one in journal.approvals(entry.id)] == [("ada", "token", True)]
        monkeypatch.setenv("TCA_APPROVAL_TOKEN", token[:-4])
        with pytest.raises(InputError):
            hand_in_agreement(project)
