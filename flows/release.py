"""Release: the whole train, from labelled frames to a champion that answers HTTP."""

from __future__ import annotations

import time
from typing import Any

from prefect import Flow
from pydantic import BaseModel, ConfigDict, Field

from flows.early import check_early
from flows.errors import InputError
from flows.stage import StageRun, console, main, read_report, stage

STAGES = ("validate", "train", "export", "evaluate", "package", "promote")


class StageOutcome(BaseModel):
    """How one stage of the release ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = Field(description="name of the stage")
    passed: bool = Field(description="whether its gate let the release go on")
    sentence: str = Field(description="its verdict")
    seconds: float = Field(description="time it took now; near zero when it was current")


class ReleaseReport(BaseModel):
    """The stages of a release, up to the first gate that said no."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="whether every stage that was wanted let it through")
    sentence: str = Field(description="the last stage's verdict")
    stages: tuple[StageOutcome, ...] = Field(description="what ran, in order")


@stage(gate="stop", tracked=False, composite=True)
def release(run: StageRun, drill: str = "", until: str = STAGES[-1]) -> ReleaseReport:
    """Run every stage that is stale, then bring the challenger to the throne; stop at the first gate that says no."""
    if until not in STAGES:
        raise InputError(f"there is no stage {until} in a release", f"Known: {', '.join(STAGES)}")
    check_early("release", run.params, run.project, until)
    outcomes: list[StageOutcome] = []
    wanted = STAGES[: STAGES.index(until) + 1]
    console.expect(len(STAGES))
    for name in wanted:
        options = {"drill": drill} if name == "promote" else {}
        outcomes.append(_run_stage(run, name, options))
        if not outcomes[-1].passed:
            break
    last = outcomes[-1]
    return ReleaseReport(passed=last.passed, sentence=f"{last.stage}: {last.sentence}", stages=tuple(outcomes))


def _run_stage(run: StageRun, name: str, options: dict[str, Any]) -> StageOutcome:
    started = time.monotonic()
    _flow(name)(force=run.force, **options)
    report = read_report(run.project, name)
    return StageOutcome(
        stage=name, passed=report["passed"], sentence=report["sentence"], seconds=round(time.monotonic() - started, 3)
    )


def _flow(name: str) -> Flow[..., Any]:
    # A stage is imported when its turn comes: together they cost half a minute and a gigabyte.
    from importlib import import_module

    found: Flow[..., Any] = getattr(import_module(f"flows.{name}"), name)
    return found


if __name__ == "__main__":
    main(release)
