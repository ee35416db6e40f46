"""Runs the jobs of a workflow as GitHub would, step by step, with real commands in real checkouts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.projects import ROOT, run

_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
_NAME = re.compile(r"\b(?:needs|steps|github|vars|secrets)(?:\.[\w-]+)+")


@dataclass
class Ran:
    """How a job ended, what it handed on, and what stands on the page of its run."""

    passed: bool
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    printed: str = ""

    @property
    def seen(self) -> dict[str, Any]:
        """What later jobs see of it."""
        return {"result": "success" if self.passed else "failure", "outputs": self.outputs}


@dataclass
class Runner:
    """Checks out into `folder`; a machine of one's own keeps it from job to job."""

    origin: Path
    folder: Path
    env: Mapping[str, str]

    def job(self, workflow: str, name: str, revision: str, **known: Any) -> Ran:
        """Run a job at `revision`. `known` are the contexts: needs, github, vars, secrets."""
        content = yaml.safe_load((ROOT / ".github" / "workflows" / workflow).read_text(encoding="utf-8"))
        job = content["jobs"][name]
        self._check_out(revision)
        ran, steps = Ran(True), {}
        for number, step in enumerate(job["steps"]):
            wanted = step.get("if", "" if ran.passed else "False")
            if (
                "run" not in step
                or step["run"].startswith("make ")
                or (wanted and not holds(wanted, steps=steps, **known))
            ):
                continue
            stated = {**content.get("env", {}), **job.get("env", {}), **step.get("env", {})}
            env = {key: fill(str(value), steps=steps, **known) for key, value in stated.items()}
            passed, outputs = self._step(step["run"], env, ran, number)
            steps[step.get("id", number)] = {"outputs": outputs}
            ran.passed &= passed or bool(step.get("continue-on-error"))
        ran.outputs = {key: fill(value, steps=steps, **known) for key, value in job.get("outputs", {}).items()}
        return ran

    def _check_out(self, revision: str) -> None:
        if not self.folder.exists():
            run(self.folder.parent, "git", "clone", "--quiet", str(self.origin), str(self.folder))
            (self.folder / ".venv").symlink_to(ROOT / ".venv")
        run(self.folder, "git", "fetch", "--quiet", "--tags", "origin")
        run(self.folder, "git", "checkout", "--quiet", "--force", "--detach", revision)

    def _step(self, command: str, env: Mapping[str, str], ran: Ran, number: int) -> tuple[bool, dict[str, str]]:
        files = {name: self.folder.parent / f"{self.folder.name}.{name}" for name in ("output", "summary")}
        for path in files.values():
            path.write_text("")
        given = {key: value for key, value in env.items() if value != ""}
        done = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=self.folder,
            env={
                **self.env,
                **given,
                "GITHUB_OUTPUT": str(files["output"]),
                "GITHUB_STEP_SUMMARY": str(files["summary"]),
            },
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        ran.summary += files["summary"].read_text()
        ran.printed += f"$ {command}  -> {done.returncode}\n{done.stdout}{done.stderr}\n"
        return done.returncode == 0, dict(line.split("=", 1) for line in files["output"].read_text().splitlines())


def read_jobs(workflow: str) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow in their order."""
    return dict(yaml.safe_load((ROOT / ".github" / "workflows" / workflow).read_text(encoding="utf-8"))["jobs"])


def needs_of(job: Mapping[str, Any]) -> list[str]:
    """The jobs that one waits for."""
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else list(needs)


def may_run(job: Mapping[str, Any], needs: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a job begins, after those of its `needs` that were not skipped."""
    condition = job.get("if", "True")
    well = all(needs.get(other, {}).get("result") == "success" for other in needs_of(job))
    return (well or "always()" in condition) and holds(condition, needs=needs)


def fill(text: str, **known: Any) -> str:
    """The text with every expression replaced by its value; what nobody knows is empty, as on GitHub."""
    return _EXPRESSION.sub(lambda found: str(_look_up(found[1], known)), text)


def holds(condition: str, **known: Any) -> bool:
    """Whether a condition of ours is true: names, texts, ==, !=, &&, || and always()."""
    text = _NAME.sub(lambda found: repr(_look_up(found[0], known)), _EXPRESSION.sub(r"\1", condition))
    for mark, python in (("&&", " and "), ("||", " or "), ("always()", "True")):
        text = text.replace(mark, python)
    return bool(eval(text, {"__builtins__": {}}))


def _look_up(name: str, known: Mapping[str, Any]) -> Any:
    node: Any = known
    for part in name.split("."):
        node = node.get(part, "") if isinstance(node, Mapping) else ""
    return node


def outside(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what belongs to the workflow that may be running these tests."""
    return {key: value for key, value in env.items() if not key.startswith(("GITHUB_", "TCA_"))}
