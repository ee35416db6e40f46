"""The workflows, as far as a parser sees them: every step is a make or tca command that exists, and nothing leaks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flows.cli import app
from tests.integration.workflows import holds

UsageError: Any = typer.BadParameter.__base__  # of the Click that Typer carries
ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
OUTPUTS = {  # what a command hands on in $GITHUB_OUTPUT
    "tca ci challenger": {"version", "digest"},
    "tca ci promote": {"outcome", "promotion", "version", "awaits"},
    "tca ci token": {"token"},
}


def load(path: Path) -> dict[Any, Any]:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def jobs() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    for path in WORKFLOWS:
        content = load(path)
        for name, job in content["jobs"].items():
            yield path.name, name, job, content


def steps() -> Iterator[Any]:
    for workflow, name, job, _ in jobs():
        for number, step in enumerate(job["steps"]):
            yield pytest.param(job, step, id=f"{workflow}:{name}:{number}")


def named(workflow: str) -> dict[Any, Any]:
    return load(ROOT / ".github" / "workflows" / workflow)


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.M))


def command_of(run: str) -> list[str]:
    """The words of a step's command, with a value in place of each variable."""
    return [re.sub(r"\$\{?([A-Z_]+)\}?", "1", word) for word in shlex.split(run)]


@pytest.mark.parametrize(("job", "step"), steps())
def test_every_step_is_one_command_that_also_runs_here(job: dict[str, Any], step: dict[str, Any]) -> None:
    if "uses" in step:
        pinned = r"actions/[a-z-]+@[0-9a-f]{40}"
        assert re.fullmatch(pinned, step["uses"]), "only what GitHub itself maintains, by commit: tags can be moved"
        return
    run = step["run"].strip()
    assert "\n" not in run
    assert not EXPRESSION.search(run), "a value in a command line is read by the shell: hand it over in env"
    assert not re.search(r"[|;&<>`]|\$\(", run), "no shell beside the command"
    words = command_of(run)
    if words[0] == "make":
        assert set(words[1:]) <= make_targets()
        return
    assert words[0] == ".venv/bin/tca"
    require_command(words[1:])


def require_command(words: list[str]) -> None:
    """Fail unless `tca` has this command with these options and arguments."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("tca", [], resilient_parsing=True)
    while words and hasattr(command, "get_command") and command.get_command(context, words[0]) is not None:
        command = command.get_command(context, words[0])
        words = words[1:]
        if hasattr(command, "get_command"):
            context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
    if hasattr(command, "get_command"):
        pytest.fail(f"tca has no command {words}")
    try:
        command.make_context(command.name, words, parent=context)
    except UsageError as error:
        pytest.fail(f"tca {command.name} {words}: {error.message}")


def test_a_command_that_is_mistyped_would_be_found() -> None:
    for words in (["ci", "chalenger"], ["ci", "check", "--dat"], ["ci", "token"], ["diff", "a", "b", "c"]):
        with pytest.raises(pytest.fail.Exception):
            require_command(words)


@pytest.mark.parametrize(("job", "step"), steps())
def test_every_variable_of_a_command_is_set(job: dict[str, Any], step: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{?([A-Z_]+)", step.get("run", "")))
    assert used <= {*job.get("env", {}), *step.get("env", {})}


@pytest.mark.parametrize("workflow", [path.name for path in WORKFLOWS])
def test_what_one_job_takes_from_another_is_what_that_one_gives(workflow: str) -> None:
    found = named(workflow)["jobs"]
    for name, job in found.items():
        needs = job.get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
        assert set(needs) <= set(found)
        own = {step["id"]: step for step in job["steps"] if "id" in step}
        text = yaml.safe_dump(job)
        for other, output in re.findall(r"needs\.([\w-]+)\.outputs\.(\w+)", text):
            assert other in needs, f"{name} reads of {other} and does not wait for it"
            assert output in found[other]["outputs"]
        for step, output in re.findall(r"steps\.([\w-]+)\.outputs\.(\w+)", text):
            command = " ".join(own[step]["run"].split()[:3]).replace(".venv/bin/", "")
            assert output in OUTPUTS[command]


def test_outputs_are_those_that_the_commands_write() -> None:
    text = "".join(
        (ROOT / path).read_text(encoding="utf-8")
        for path in ("flows/cli/ci.py", "flows/ci/telling.py", "flows/ci/agreement.py")
    )
    for names in OUTPUTS.values():
        assert all(f'"{name}"' in text for name in names)


# Rights


@pytest.mark.parametrize("workflow", [path.name for path in WORKFLOWS])
def test_a_workflow_reads_and_only_single_jobs_write(workflow: str) -> None:
    content = named(workflow)
    assert content["permissions"] == {"contents": "read"}
    triggers = content[True]  # YAML 1.1 reads `on` so
    assert "pull_request_target" not in triggers and "workflow_run" not in triggers
    for name, job in content["jobs"].items():
        assert "timeout-minutes" in job, name
        rights = job.get("permissions", {})
        assert "write-all" not in str(rights)
        writes = {right for right, level in rights.items() if level == "write"}
        assert writes == {
            ("pull_request.yaml", "difference"): {"pull-requests"},
            ("promote.yaml", "throne"): {"contents", "pull-requests"},
        }.get((workflow, name), set())


def test_the_token_goes_to_the_one_step_that_needs_it() -> None:
    for workflow, name, job, content in jobs():
        assert "GITHUB_TOKEN" not in {*content.get("env", {}), *job.get("env", {})}, (workflow, name)
        for step in job["steps"]:
            if "GITHUB_TOKEN" in step.get("env", {}):
                assert re.match(r"\.venv/bin/tca ci (comment|token|throne)", step["run"])


def test_other_secrets_go_to_single_steps_too_and_no_credentials_stay_in_the_checkout() -> None:
    for workflow, name, job, content in jobs():
        assert "secrets." not in str([content.get("env"), job.get("env")]), (workflow, name)
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, (workflow, name)


def test_nobody_but_the_protected_environment_can_sign() -> None:
    for workflow, name, job, content in jobs():
        if "TCA_APPROVAL_PRIVATE_KEY" in yaml.safe_dump([job, content.get("env", {})]):
            assert (workflow, name, job["environment"]) == ("promote.yaml", "agree", "production")
            assert "self-hosted" not in job["runs-on"], "the machine that promotes must not be able to agree"


def test_a_fork_reaches_no_machine_of_ours() -> None:
    for workflow, name, job, content in jobs():
        if "self-hosted" in job["runs-on"]:
            assert set(content[True]) == {"push"}, (workflow, name)
            assert set(content[True]["push"]) == {"tags"}


# Promotion


def test_promotions_queue_and_are_never_cancelled() -> None:
    content = named("promote.yaml")
    assert content["concurrency"] == {"group": "promote", "cancel-in-progress": False}


def test_services_outlive_the_job_that_started_them_and_records_the_checkout() -> None:
    content = named("promote.yaml")
    assert content["env"]["RUNNER_TRACKING_ID"] == ""
    for name, job in content["jobs"].items():
        if "self-hosted" in job["runs-on"]:
            assert job["steps"][0]["with"]["clean"] is False, name


def test_nothing_is_promoted_before_the_candidate_was_found_to_be_that_of_the_tag() -> None:
    found = named("promote.yaml")["jobs"]
    assert found["begin"]["needs"] == "candidate"
    assert [step["run"] for step in found["candidate"]["steps"] if step.get("id")] == [".venv/bin/tca ci challenger"]
    assert not any("continue-on-error" in step for job in found.values() for step in job["steps"])
    for name in ("begin", "go-on"):
        (step,) = (step for step in found[name]["steps"] if step.get("id") == "promote")
        assert step["run"].endswith('--digest "$DIGEST"')
        assert step["env"]["DIGEST"] == "${{ needs.candidate.outputs.digest }}"
    assert found["agree"]["if"] == "needs.begin.outputs.awaits != ''"
    assert "agree" in found["go-on"]["needs"]


def test_the_throne_is_proposed_only_by_a_promotion_whose_record_holds() -> None:
    condition = named("promote.yaml")["jobs"]["throne"]["if"]
    for before, begin, go_on, expected in (
        ("promoted", "success", "skipped", True),
        ("promoted", "failure", "skipped", False),
        ("held", "success", "success", True),
        ("held", "success", "failure", False),
    ):
        later = "promoted" if go_on != "skipped" else ""
        needs = {
            "begin": {"result": begin, "outputs": {"outcome": before}},
            "go-on": {"result": go_on, "outputs": {"outcome": later}},
        }
        assert holds(condition, needs=needs) is expected


def test_history_is_there_where_it_is_looked_at() -> None:
    for workflow, name, job, _ in jobs():
        commands = " ".join(step.get("run", "") for step in job["steps"])
        if re.search(r"tca (diff|ci check --data)|make test|tca ci challenger", commands):
            assert job["steps"][0]["with"]["fetch-depth"] == 0, (workflow, name)
