"""Which figures of the reports are compared, how they are written, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flows.changes.report import Direction, FigureChange

Report = Mapping[str, Any]
Form = Literal["score", "share", "count", "ms", "s", "per_s", "mb", "text"]


@dataclass(frozen=True)
class FigureKind:
    """One figure: where it stands in a report, and what a larger one means."""

    stage: str
    name: str
    find: Callable[[Report], Any]
    form: Form
    better: Literal["higher", "lower"] | None = None
    always: bool = False
    """Whether it is shown also where it did not change."""


def at(*path: str) -> Callable[[Report], Any]:
    """Looks below nested keys; None where there is no such place."""

    def find(report: Report) -> Any:
        node: Any = report
        for key in path:
            if not isinstance(node, Mapping) or key not in node:
                return None
            node = node[key]
        return node

    return find


def _chosen(*path: str) -> Callable[[Report], Any]:
    def find(report: Report) -> Any:
        chosen = (one for one in report.get("candidates") or () if one.get("state") == "chosen")
        return at(*path)(next(chosen, {}))

    return find


def _engine(report: Report) -> Any:
    words = [str(report[key]) for key in ("engine", "precision") if report.get(key)]
    return " ".join(words) or None


def _failed_checks(report: Report) -> Any:
    checks = report.get("checks")
    return None if checks is None else sum(not one.get("passed", True) for one in checks)


def _score(report: Report) -> Any:
    """What another task than detection is judged by."""
    return report.get("score") if report.get("task") != "detect" else None


_MODEL = ("challenger", "figures")
FIGURES = (
    FigureKind("validate", "frames", at("num_images"), "count"),
    FigureKind("validate", "boxes", at("num_boxes"), "count"),
    FigureKind("validate", "checks that failed", _failed_checks, "count", "lower"),
    FigureKind("train", "mAP50-95 on val, as Ultralytics measures it", at("map50_95"), "score", "higher"),
    FigureKind("train", "score on val", _score, "score", "higher"),
    FigureKind("train", "best epoch", at("best_epoch"), "count"),
    FigureKind("train", "parameters", at("num_parameters"), "count"),
    FigureKind("train", "time, s", at("seconds"), "s"),
    FigureKind("export", "engine", _engine, "text"),
    FigureKind("export", "mAP50-95 that the engine loses", _chosen("accuracy", "loss"), "score", "lower"),
    FigureKind("export", "one frame, p50, ms", _chosen("speed", "lone_p50_ms"), "ms", "lower"),
    FigureKind("export", "one frame, p99, ms", _chosen("speed", "lone_p99_ms"), "ms", "lower"),
    FigureKind("export", "images/s within the budget", _chosen("images_per_s"), "per_s", "higher"),
    FigureKind("export", "size of the engine, MB", _chosen("engine_bytes"), "mb", "lower"),
    FigureKind("evaluate", "mAP50-95", at(*_MODEL, "map50_95"), "score", "higher", always=True),
    FigureKind("evaluate", "AP50", at(*_MODEL, "ap50"), "score", "higher"),
    FigureKind("evaluate", "AP75", at(*_MODEL, "ap75"), "score", "higher"),
    FigureKind("evaluate", "precision as served", at(*_MODEL, "precision"), "score", "higher"),
    FigureKind("evaluate", "recall as served", at(*_MODEL, "recall"), "score", "higher"),
    FigureKind("evaluate", "calibration error", at(*_MODEL, "calibration_error"), "score", "lower"),
    FigureKind("evaluate", "one frame, p95, ms", at("latency", "challenger", "p95_ms"), "ms", "lower"),
    FigureKind("evaluate", "score", at("score"), "score", "higher", always=True),
    FigureKind("evaluate", "frozen frames", at("num_images"), "count"),
    FigureKind("evaluate", "outcome", at("outcome"), "text"),
    FigureKind("package", "size of the bento, MB", at("bento_bytes"), "mb", "lower"),
)
HEADLINE = "mAP50-95"


def compare_figures(stage: str, before: Report | None, after: Report | None) -> list[FigureChange]:
    """The figures of a stage that differ, and those that are always shown; parts of an evaluation come last."""
    kinds = [one for one in FIGURES if one.stage == stage]
    rows = [row for kind in kinds if (row := _row(kind, kind.find(before or {}), kind.find(after or {})))]
    if stage == "evaluate":
        rows += [*_compare_gates(before or {}, after or {}), *_compare_parts(before or {}, after or {})]
    return rows


def write_value(value: Any, form: Form) -> str | None:
    """A figure for people; an estimate with its interval, like `.357 [.329, .384]`."""
    if isinstance(value, Mapping):
        ends = (_write(value.get("lower"), form), _write(value.get("upper"), form))
        middle = _write(value.get("value"), form)
        return middle if middle is None or None in ends else f"{middle} [{ends[0]}, {ends[1]}]"
    return _write(value, form)


def _row(kind: FigureKind, before: Any, after: Any) -> FigureChange | None:
    texts = (write_value(before, kind.form), write_value(after, kind.form))
    if texts == (None, None) or (before == after and not kind.always):
        return None
    change = _change(before, after) if kind.form != "text" else None
    change_text = "" if change is None else _write(change, kind.form, signed=True) or ""
    return FigureChange(
        stage=kind.stage,
        name=kind.name,
        before=texts[0],
        after=texts[1],
        change=change,
        change_text=change_text,
        # What cannot be seen in the text has no direction either.
        direction=_direction(change, kind.better) if change_text.strip("+-.0,") else None,
    )


def _compare_gates(before: Report, after: Report) -> list[FigureChange]:
    """What each gate of the evaluation said, where that differs."""
    old, new = ({one.get("name"): one.get("state") for one in side.get("gates") or ()} for side in (before, after))
    rows = [
        _row(FigureKind("evaluate", f"gate {name}", at(), "text"), old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
    ]
    return [row for row in rows if row is not None]


def _compare_parts(before: Report, after: Report) -> list[FigureChange]:
    """mAP50-95 of each slice, camera, class and object size on both sides, the largest loss first."""
    old, new = _parts(before), _parts(after)
    rows = []
    for name in dict.fromkeys([*old, *new]):
        kind = FigureKind("evaluate", f"mAP50-95, {name}", at(), "score", "higher")
        if row := _row(kind, old.get(name), new.get(name)):
            rows.append(row)
    return sorted(rows, key=lambda row: (row.change is None, row.change or 0.0))


def _parts(report: Report) -> dict[str, Any]:
    figures = [one.get("figure") or {} for one in report.get("parts") or ()]
    return {f"{one.get('kind')} {one.get('name')}": one.get("challenger") for one in figures}


def _change(before: Any, after: Any) -> float | None:
    old, new = (_number(one.get("value") if isinstance(one, Mapping) else one) for one in (before, after))
    return None if old is None or new is None else new - old


def _direction(change: float | None, better: str | None) -> Direction | None:
    if not change or better is None:
        return None
    return "better" if (change > 0) == (better == "higher") else "worse"


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _write(value: Any, form: Form, signed: bool = False) -> str | None:
    if form == "text":
        return None if value is None else str(value)
    number = _number(value)
    if number is None:
        return None
    sign = "+" if signed else ""
    if form in ("score", "share"):
        text = f"{number:{sign}.3f}"
        return text.replace("0.", ".", 1) if abs(round(number, 3)) < 1 else text
    if form == "mb":
        return f"{number / 1e6:{sign},.1f}"
    return f"{number:{sign},.0f}" if form == "count" else f"{number:{sign},.1f}"
