"""The last evaluation as it is kept: its verdict computed anew, and more frames to label from its detections."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from flows.comparison.evaluation import compare
from flows.comparison.report import EvaluationReport, Thresholds
from flows.comparison.tables import Evidence, read_evidence
from flows.errors import ProjectError
from flows.label_tasks import Written, write_label_tasks
from flows.params import EvaluateParams
from flows.settings import Project

_SAME = 1e-9  # two processors may add up in another order


@dataclass(frozen=True)
class Recomputed:
    """A verdict computed anew."""

    kept: EvaluationReport
    again: EvaluationReport
    differences: tuple[str, ...]  # where the two differ, with both values; none: the verdict holds


def recompute(project: Project) -> Recomputed:
    """Judge the detections and times of the last evaluation anew, with the params that its report names.

    Raises:
        ProjectError: No detector was evaluated here, or by a version that kept less.
        DataError: What it kept is missing, damaged, or not of one evaluation.
    """
    kept = _report(project)
    evidence = read_evidence(project.artifacts / "evaluation")
    thresholds = kept.thresholds
    again = compare(
        evidence.truth,
        evidence.challenger,
        evidence.champion,
        _params(thresholds),
        served_conf=thresholds.served_conf,
        champion_conf=thresholds.champion_conf,
        seed=thresholds.seed,
        times=evidence.times,
    )
    found = _differences(kept.model_dump(mode="json"), again.model_dump(mode="json"), "")
    return Recomputed(kept, again, tuple(found))


def tasks_from_evidence(project: Project, num: int) -> Written:
    """Write so many labelling tasks from the detections that the last evaluation kept.

    Raises:
        ProjectError: No detector was evaluated here.
        DataError: What it kept cannot be read, or a frame is missing.
    """
    thresholds = _report(project).thresholds
    found: Evidence = read_evidence(project.artifacts / "evaluation")
    conf = thresholds.served_conf if thresholds.champion_conf is None else thresholds.champion_conf
    champion = None if found.champion is None else found.champion.at_confidence(conf)
    challenger = found.challenger.at_confidence(thresholds.served_conf)
    return write_label_tasks(project.reports, project.data, found.truth, challenger, champion, num)


def _report(project: Project) -> EvaluationReport:
    try:
        content = json.loads((project.reports / "evaluate.json").read_text(encoding="utf-8"))
        return EvaluationReport.model_validate(
            {key: content[key] for key in EvaluationReport.model_fields if key in content}
        )
    except (OSError, AttributeError, TypeError, ValueError):
        raise ProjectError("no detector was evaluated here", "Run: tca evaluate") from None


def _params(thresholds: Thresholds) -> EvaluateParams:
    named = thresholds.model_dump(include=set(EvaluateParams.model_fields))
    try:
        return EvaluateParams(split="test", **named)  # the frames are those kept, whatever the split was called
    except ValidationError as error:
        keys = ", ".join(str(one["loc"][0]) for one in error.errors())
        raise ProjectError(
            f"reports/evaluate.json does not name the params of its verdict ({keys})", "Run: tca evaluate --force"
        ) from None


def _differences(kept: Any, again: Any, where: str) -> Iterator[str]:
    """Where two JSON values differ, floats to within rounding."""
    if isinstance(kept, Mapping) and isinstance(again, Mapping) and kept.keys() == again.keys():
        for key, value in kept.items():
            yield from _differences(value, again[key], f"{where}.{key}" if where else str(key))
    elif _is_list(kept) and _is_list(again) and len(kept) == len(again):
        for number, pair in enumerate(zip(kept, again, strict=True)):
            yield from _differences(*pair, f"{where}[{number}]")
    elif isinstance(kept, float) and isinstance(again, float):
        if not math.isclose(kept, again, rel_tol=_SAME, abs_tol=_SAME):
            yield f"{where}: {kept:g}, computed anew {again:g}"
    elif kept != again:
        yield f"{where}: {_short(kept)}, computed anew {_short(again)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
