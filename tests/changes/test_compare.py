from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.changes.compare import ProjectState, compare_params, compare_states
from flows.changes.text import difference_markdown, difference_text, escape
from tests.changes.test_figures import evaluation


def state(name: str = "main (12345678)", **changes: Any) -> ProjectState:
    reports = changes.pop("reports", {})
    values: dict[str, Any] = {
        "params": {"seed": 0, "train": {"epochs": 5, "space": {}}},
        "data_md5": "a" * 32 + ".dir",
        "champion": None,
        "reports": reports,
        "report_md5s": {stage: str(report) for stage, report in reports.items()},
        "images": {},
    }
    return ProjectState(name, **(values | changes))


def evaluated(value: float, **more: Any) -> dict[str, Any]:
    return {"evaluate": evaluation(value, passed=True, sentence=f"Promote: {value}", **more)}


def test_the_same_states_differ_in_nothing() -> None:
    found = compare_states(state(reports=evaluated(0.4)), state("this tree", reports=evaluated(0.4)), {})
    assert found.sentence == "Nothing that defines a result differs from main (12345678)."
    assert (found.params, found.figures) == ((), ())
    assert difference_text(found) == found.sentence


def test_the_sentence_names_the_figure_and_what_may_have_moved_it() -> None:
    before = state(reports=evaluated(0.4))
    after = state(
        "this tree",
        reports=evaluated(0.45),
        params={"seed": 1, "train": {"epochs": 5, "space": {}}},
        data_md5="b" * 32 + ".dir",
    )
    found = compare_states(before, after, {"evaluate": ["data modified"]})
    assert found.sentence == (
        "mAP50-95 .400 [.380, .420] → .450 [.430, .470]; params (1 key) and data differ; evaluate must run again. "
        "Compared with main (12345678)."
    )


def test_a_param_is_compared_as_it_is_written() -> None:
    before = {"a": 1, "b": float("nan"), "c": "0.5", "d": [1, 2]}
    found = list(compare_params(before, {"a": True, "b": float("nan"), "c": 0.5, "d": [1, 2]}))
    assert [(one.key, one.before, one.after) for one in found] == [("a", "1", "true"), ("c", "'0.5'", "0.5")]


def test_without_reports_of_the_earlier_side_nothing_is_claimed() -> None:
    found = compare_states(state(), state(reports=evaluated(0.4)), {})
    assert found.sentence.startswith("mAP50-95 .400 [.380, .420], nothing to compare it with; neither params")


def test_reports_that_are_not_here_are_told_apart_by_their_md5() -> None:
    before = state(report_md5s={"train": "1", "evaluate": "2"})
    same = compare_states(before, state(report_md5s={"train": "1", "evaluate": "2"}), {})
    other = compare_states(before, state(report_md5s={"train": "1", "evaluate": "3"}), {})
    assert same.sentence.startswith("Nothing")
    assert other.sentence.startswith("Other results of evaluate; neither params nor data differ.")


def test_other_frozen_frames_are_said() -> None:
    sides = [state(reports=evaluated(0.4, ground_truth_sha256=sha)) for sha in "ab"]
    assert any("frozen frames" in note for note in compare_states(*sides, {}).notes)
    assert not compare_states(sides[0], sides[0], {}).notes


def test_data_are_compared_by_name_and_content() -> None:
    old = {"images/a.jpg": "1", "images/b.jpg": "2", "labels/a.txt": "3", "data.yaml": "4"}
    new = {"images/a.jpg": "1", "images/b.jpg": "9", "images/c.jpg": "5", "labels/a.txt": "8", "data.yaml": "7"}
    before, after = state(images=old), state("this tree", images=new, data_md5="b" * 32 + ".dir")
    data = compare_states(before, after, {}).data
    counts = (data.frames_added, data.frames_removed, data.frames_changed, data.labels_changed)
    assert counts == (1, 0, 1, 1)
    unknown = compare_states(state(images=None), after, {})
    assert unknown.data.frames_added is None
    assert "are not here" in difference_text(unknown)


TREES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 3), st.text(max_size=4), st.lists(st.integers(0, 2), max_size=2)
    ),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from("xyz"), TREES, max_size=3),
    st.dictionaries(st.sampled_from("xyz"), TREES, max_size=3),
)
def test_params_that_differ_are_named_from_both_sides(before: dict[str, Any], after: dict[str, Any]) -> None:
    there, back = list(compare_params(before, after)), list(compare_params(after, before))
    assert {(one.key, one.before, one.after) for one in there} == {(one.key, one.after, one.before) for one in back}
    assert list(compare_params(before, before)) == []
    assert len({one.key for one in there}) == len(there)


def test_a_key_that_is_gone_and_one_that_became_a_section() -> None:
    found = list(compare_params({"a": 1, "b": {}}, {"b": {"c": [1, 2]}}))
    assert [(one.key, one.before, one.after) for one in found] == [
        ("b.c", None, "[1, 2]"),
        ("a", "1", None),
        ("b", "{}", None),
    ]


# Markdown


def test_the_comment_begins_with_the_sentence_and_folds_what_is_long() -> None:
    before, after = state(reports=evaluated(0.4, outcome="promote")), state("this tree", reports=evaluated(0.3))
    text = difference_markdown(compare_states(before, after, {"train": ["params.yaml train.epochs modified"]}))
    assert text.startswith("### mAP50-95 ")
    assert "| evaluate | mAP50-95 | .400" in text.replace("\\[", "[").replace("  ", " ")
    assert "-.100 worse" in text
    assert text.count("<details>") == text.count("</details>") == 1
    assert "not a test" in text


@pytest.mark.parametrize(
    "text", ["a|b", "<img src=x onerror=alert(1)>", "@everyone", "[x](http://evil)", "a\n| b", "`x`"]
)
def test_what_a_branch_brings_stays_text(text: str) -> None:
    written = escape(text)
    assert not {"<", ">", "|", "@", "\n"} & set(written)
    assert "[" not in written.replace("\\[", "")
    assert "`" not in written.replace("\\`", "")


def test_escaping_is_undone_by_whoever_shows_it() -> None:
    """Every entity and every backslash is one that we wrote."""
    assert escape("a & b | c # d @ e \\ f") == r"a &amp; b &#124; c &#35; d &#64; e \\ f"


@given(st.text(max_size=40))
def test_every_row_of_every_table_has_its_columns(value: str) -> None:
    before = state(params={"a": value, value or "k": 1})
    text = difference_markdown(compare_states(before, state("x", params={"a": 1}), {value: [value]}))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(row.count("|") in (3, 4) for row in rows)
