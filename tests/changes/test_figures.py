from __future__ import annotations

from typing import Any

import pytest

from flows.changes.figures import FIGURES, FigureKind, compare_figures, write_value


def estimate(value: float | None, half: float = 0.02) -> dict[str, Any]:
    ends = (None, None) if value is None else (value - half, value + half)
    return {"value": value, "lower": ends[0], "upper": ends[1], "standard_error": None, "num_units": 8}


def evaluation(value: float, day: float = 0.3, **more: Any) -> dict[str, Any]:
    parts = [{"figure": {"kind": "slice", "name": "day", "challenger": estimate(day)}, "state": None}]
    return {"challenger": {"figures": {"map50_95": estimate(value)}}, "parts": parts, **more}


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (estimate(0.3567), "score", ".357 [.337, .377]"),
        (estimate(None), "score", None),
        ({"value": 0.5, "lower": None, "upper": None}, "score", ".500"),
        (-0.25, "score", "-.250"),
        (1.0, "score", "1.000"),
        (0.9999, "score", "1.000"),
        (float("nan"), "score", None),
        (True, "count", None),
        ("openvino", "count", None),
        (2942, "count", "2,942"),
        (10_700_000, "mb", "10.7"),
        (6.279, "ms", "6.3"),
        ("openvino bf16", "text", "openvino bf16"),
        (None, "text", None),
    ],
)
def test_values_are_written_for_people(value: Any, form: Any, text: str | None) -> None:
    assert write_value(value, form) == text


def test_a_change_that_is_too_small_to_be_written_is_neither_better_nor_worse() -> None:
    (row,) = compare_figures("evaluate", evaluation(0.4), evaluation(0.40004))
    assert (row.change_text, row.direction) == ("+.000", None)


def test_the_largest_loss_of_a_part_comes_first_and_signs_have_a_direction() -> None:
    parts = [
        {"figure": {"kind": "slice", "name": name, "challenger": estimate(value)}}
        for name, value in (("day", 0.4), ("night", 0.3), ("rain", 0.5))
    ]
    later = [
        {"figure": {"kind": "slice", "name": name, "challenger": estimate(value)}}
        for name, value in (("day", 0.45), ("night", 0.1), ("rain", 0.5))
    ]
    before, after = evaluation(0.4) | {"parts": parts}, evaluation(0.35) | {"parts": later}
    rows = compare_figures("evaluate", before, after)
    assert [(one.name, one.change_text, one.direction) for one in rows] == [
        ("mAP50-95", "-.050", "worse"),
        ("mAP50-95, slice night", "-.200", "worse"),
        ("mAP50-95, slice day", "+.050", "better"),
    ]


def test_mean_average_precision_is_shown_also_where_it_did_not_change() -> None:
    rows = compare_figures("evaluate", evaluation(0.4), evaluation(0.4))
    assert [(one.name, one.change, one.direction) for one in rows] == [("mAP50-95", 0.0, None)]


def test_a_report_that_is_not_there_leaves_its_side_empty() -> None:
    row = compare_figures("evaluate", None, evaluation(0.4))[0]
    assert (row.before, row.after, row.change, row.change_text) == (None, ".400 [.380, .420]", None, "")
    assert compare_figures("evaluate", None, None) == []
    assert compare_figures("evaluate", {}, {"challenger": "damaged", "parts": None}) == []


def test_lower_is_better_where_less_is_wanted() -> None:
    def export(loss: float, p50: float) -> dict[str, Any]:
        chosen = {"state": "chosen", "accuracy": {"loss": estimate(loss)}, "speed": {"lone_p50_ms": p50}}
        return {"engine": "openvino", "precision": "int8", "candidates": [{"state": "refused"}, chosen]}

    rows = {one.name: one.direction for one in compare_figures("export", export(0.0, 9.0), export(0.01, 6.0))}
    assert rows == {"mAP50-95 that the engine loses": "worse", "one frame, p50, ms": "better"}


def test_a_gate_that_says_otherwise_is_named() -> None:
    def judged(state: str) -> dict[str, Any]:
        return evaluation(0.4, gates=[{"name": "recall", "state": state}, {"name": "latency", "state": "passed"}])

    rows = compare_figures("evaluate", judged("passed"), judged("inconclusive"))
    assert [(one.name, one.before, one.after) for one in rows[1:]] == [("gate recall", "passed", "inconclusive")]


@pytest.mark.parametrize("kind", FIGURES, ids=lambda kind: f"{kind.stage}: {kind.name}")
def test_every_figure_names_a_field_that_its_report_has(kind: FigureKind) -> None:
    """A renamed field of a report would silently vanish from the comparison."""
    from flows.stages import report_schema

    asked: list[tuple[str, ...]] = []
    kind.find(_Asked(asked, ()))
    schema = report_schema(kind.stage)
    if (kind.stage, kind.name) == ("evaluate", "score"):
        from flows.task_stages import TaskEvaluationReport

        schema = TaskEvaluationReport.model_json_schema()
    assert asked
    for path in asked:
        assert _is_in(schema, schema, path), path


class _Asked(dict[str, Any]):
    """A report that has whatever is asked for, and remembers it."""

    def __init__(self, asked: list[tuple[str, ...]], path: tuple[str, ...]) -> None:
        super().__init__()
        self._asked, self._path = asked, path

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def get(self, key: str, default: Any = None) -> Any:
        path = (*self._path, key)
        self._asked.append(path)
        below = _Asked(self._asked, path)
        return [below] if key in ("candidates", "checks") else "chosen" if key == "state" else below


def _is_in(schema: dict[str, Any], node: dict[str, Any], path: tuple[str, ...]) -> bool:
    if "$ref" in node:
        return _is_in(schema, schema["$defs"][node["$ref"].rpartition("/")[2]], path)
    if "anyOf" in node:
        return any(_is_in(schema, one, path) for one in node["anyOf"])
    if "items" in node:
        return _is_in(schema, node["items"], path)
    if not path:
        return True
    properties = node.get("properties", {})
    return path[0] in properties and _is_in(schema, properties[path[0]], path[1:])
