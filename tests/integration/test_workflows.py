"""The workflows on a small project: a first champion, a pull request, and a promotion that a person must agree to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.adapters.processes import find_free_port
from flows.params_file import apply_overrides
from tests.adapters.github_server import READS, GitHub, running_github
from tests.integration.conftest import SMALL
from tests.integration.workflows import Ran, Runner, may_run, needs_of, outside, read_jobs
from tests.projects import copy_project, run

pytestmark = [pytest.mark.deep, pytest.mark.timeout(1800)]
AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.org")


@dataclass
class City:
    """A developer's tree, the machine that promotes, a machine of GitHub's, and GitHub itself."""

    tree: Path
    env: dict[str, str]
    own: Runner
    hosted: Runner
    github: GitHub
    key: Path

    def tca(self, *arguments: str) -> str:
        return run(self.tree, sys.executable, "-m", "flows.cli", *arguments, env=self.env).stdout

    def commit(self, message: str, tag: str = "") -> None:
        run(self.tree, "git", "add", "--all")
        run(self.tree, "git", *AUTHOR, "commit", "--quiet", "--message", message)
        if tag:
            run(self.tree, "git", "tag", tag)

    def promote(self, tag: str) -> dict[str, Ran]:
        """All jobs of promote.yaml in their order, as their conditions have it."""
        done: dict[str, Ran] = {}
        known = {"vars": {"TCA_APPROVAL_KEY": f"{self.key}.pub"}, "github": {"token": "token-that-writes"}}
        for name, job in read_jobs("promote.yaml").items():
            needs = {other: done[other].seen for other in needs_of(job) if other in done}
            if not may_run(job, needs):
                continue
            secrets = {"TCA_APPROVAL_PRIVATE_KEY": self.key.read_text()} if name == "agree" else {}
            runner = self.hosted if name == "agree" else self.own
            done[name] = runner.job("promote.yaml", name, tag, needs=needs, secrets=secrets, **known)
            assert done[name].passed, done[name].printed
        return done


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Iterator[City]:
    folder = tmp_path_factory.mktemp("city")
    tree = copy_project(folder / "tree")
    apply_overrides(tree / "params.yaml", SMALL)
    shared = f"sqlite:///{folder}/mlflow.db"
    homes = {"BENTOML_HOME", "PREFECT_HOME", "YOLO_CONFIG_DIR"}
    env = {key: value for key, value in outside(os.environ).items() if key not in homes}
    env |= {"PREFECT_API_URL": prefect_api, "MLFLOW_TRACKING_URI": shared}
    with running_github() as github:
        ports = {"TCA_PORT": str(find_free_port()), "TCA_ADMIN_PORT": str(find_free_port())}
        machine = env | ports | {"TCA_HOME": str(folder / "home")} | github.environment()
        del machine["GITHUB_TOKEN"]
        made = City(
            tree,
            env,
            Runner(tree, folder / "own", machine),
            Runner(tree, folder / "hosted", machine),
            github,
            folder / "approval",
        )
        made.tca("promotion", "key", str(made.key))
        made.tca("data", "remote", "add", "store", str(folder / "store"))
        made.tca("data", "render")
        made.commit("data")
        yield made
        if made.own.folder.exists():
            run(made.own.folder, sys.executable, "-m", "flows.cli", "down", env=machine)


@contextmanager
def cameras(city: City) -> Iterator[None]:
    """Frames until the body ends; none may be lost."""
    report = city.tree.parent / "replay.json"
    address = f"http://127.0.0.1:{city.own.env['TCA_PORT']}"
    sends = ("--url", address, "--cameras", "6", "--fps", "3", "--json", str(report))
    argv = [sys.executable, "-m", "flows.adapters.replay", "data", *sends]
    process = subprocess.Popen(argv, cwd=city.tree, env=city.env)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    found = json.loads(report.read_text())
    assert found["sent"] == found["exactly_once"] > 0


def release(city: City, message: str, tag: str) -> None:
    city.tca("release", "--until", "package")
    city.tca("ci", "push")
    city.commit(message, tag)


def test_1_a_tag_makes_a_first_champion_and_proposes_the_throne(city: City) -> None:
    release(city, "first model", "promote-1")
    done = city.promote("promote-1")
    assert list(done) == ["candidate", "begin", "throne"]
    assert done["candidate"].outputs["version"] == "1"
    assert done["begin"].outputs | {"promotion": ""} == {"outcome": "promoted", "awaits": "", "promotion": ""}
    assert "version 1 is the first champion" in done["begin"].summary
    assert "every hash and verdict holds" in done["begin"].printed
    (pull,) = city.github.pulls
    champion = json.loads(city.github.branches[pull["head"]]["champion.json"])
    assert (champion["version"], champion["digest"]) == ("1", done["candidate"].outputs["digest"])
    (city.tree / "champion.json").write_bytes(city.github.branches[pull["head"]]["champion.json"])
    city.commit("Version 1 reigns")


def test_2_a_pull_request_is_told_what_it_changes(city: City) -> None:
    run(city.tree, "git", "branch", "base")
    apply_overrides(city.tree / "params.yaml", ["train.learning_rate=0.001", "promote.approval=canary"])
    release(city, "slower learning", "promote-2")
    known = {"github": {"base_ref": "base", "token": "token-that-writes"}}
    city.hosted.env = {**city.hosted.env, "GITHUB_REF": "refs/pull/12/merge"}
    ran = city.hosted.job("pull_request.yaml", "difference", "promote-2", **known)
    assert ran.passed, ran.printed
    (comment,) = city.github.comments
    assert comment["body"].startswith("<!-- tca-diff -->\n### mAP50-95 ")
    assert "train.learning\\_rate" in comment["body"]
    assert "dvc.lock is true of this tree" in ran.printed
    again = city.hosted.job("pull_request.yaml", "difference", "promote-2", **known)
    assert len(city.github.comments) == 1
    assert again.summary == ""


def test_3_of_a_fork_the_page_of_the_run_has_it(city: City) -> None:
    known = {"github": {"base_ref": "base", "token": READS}}
    ran = city.hosted.job("pull_request.yaml", "difference", "promote-2", **known)
    assert ran.passed, ran.printed
    assert ran.summary.startswith("### mAP50-95 ")
    assert "token of a fork" in ran.printed


def test_4_a_lock_that_is_not_true_is_named_and_never_promoted(city: City) -> None:
    run(city.tree, "git", "checkout", "--quiet", "-b", "stale")
    apply_overrides(city.tree / "params.yaml", ["train.epochs=2"])
    city.commit("more epochs, and nobody trained", "promote-stale")
    run(city.tree, "git", "checkout", "--quiet", "-")
    known = {"github": {"base_ref": "base", "token": READS}}
    ran = city.hosted.job("pull_request.yaml", "difference", "promote-stale", **known)
    assert ran.passed, "it informs, it does not stop"
    assert "params.yaml train modified" in ran.printed
    assert "train must run again" in ran.summary
    refused = city.own.job("promote.yaml", "candidate", "promote-stale")
    assert not refused.passed
    assert "dvc.lock is not true of this tree: train" in refused.printed


def test_5_a_person_agrees_and_the_record_says_who(city: City) -> None:
    city.github.approvals = [{"state": "approved", "user": {"login": "ada"}}]
    with cameras(city):
        done = city.promote("promote-2")
    assert list(done) == ["candidate", "begin", "agree", "go-on", "throne"]
    assert done["begin"].outputs["outcome"] == "held"
    assert done["begin"].outputs["awaits"] == "canary"
    assert done["go-on"].outputs["outcome"] == "promoted"
    record = city.own.folder / "reports" / "promotions" / f"{done['begin'].outputs['promotion']}.jsonl"
    approvals = [line for line in map(json.loads, record.read_text().splitlines()) if line["kind"] == "approval"]
    assert [(one["who"], one["how"], one["agreed"]) for one in approvals] == [("ada", "token", True)]
    assert [one["title"] for one in city.github.pulls] == ["Version 1 reigns", "Version 2 reigns"]


def test_6_the_tag_of_another_model_than_the_challenger_is_refused(city: City) -> None:
    refused = city.own.job("promote.yaml", "candidate", "promote-1")
    assert not refused.passed
    assert "champion.json names" in refused.printed
