from __future__ import annotations

from typing import Any

import pytest

from flows.changes.lock import produced, without_missing

LOCK: dict[str, Any] = {
    "stages": {
        "train": {
            "deps": [{"path": "data", "md5": "d1.dir"}, {"path": "flows/train.py", "md5": "c1"}],
            "outs": [{"path": "artifacts/training", "md5": "t1.dir"}, {"path": "reports/train.json", "md5": "r1"}],
        },
        "export": {
            "deps": [{"path": "artifacts/training", "md5": "t1.dir"}],
            "outs": [{"path": "artifacts/model", "md5": "m1.dir"}],
        },
    }
}


@pytest.mark.parametrize(
    ("status", "data", "expected"),
    [
        ({}, "d1.dir", {}),
        # A fresh clone: everything is missing, and nothing differs.
        (
            {
                "data.dvc": [{"changed outs": {"data": "not in cache"}}],
                "train": [
                    {"changed deps": {"data": "deleted"}},
                    {"changed outs": {"artifacts/training": "not in cache"}},
                ],
                "export": [{"changed deps": {"artifacts/training": "deleted"}}],
            },
            "d1.dir",
            {},
        ),
        # The commit names other data than the training that dvc.lock knows.
        (
            {"train": [{"changed deps": {"data": "deleted"}}]},
            "d2.dir",
            {"train": [{"changed deps": {"data": "modified"}}]},
        ),
        # Nobody makes it: then it really lacks.
        (
            {"train": [{"changed deps": {"flows/train.py": "deleted"}}]},
            "d1.dir",
            {"train": [{"changed deps": {"flows/train.py": "deleted"}}]},
        ),
        ({"train": [{"changed deps": {"data": "deleted"}}]}, None, {"train": [{"changed deps": {"data": "deleted"}}]}),
        # What lies there and differs is never left out.
        (
            {"train": ["changed command", {"changed deps": {"data": "deleted", "flows/train.py": "modified"}}]},
            "d1.dir",
            {"train": ["changed command", {"changed deps": {"flows/train.py": "modified"}}]},
        ),
        (
            {"train": [{"changed outs": {"artifacts/training": "modified", "reports/train.json": "deleted"}}]},
            "d1.dir",
            {"train": [{"changed outs": {"artifacts/training": "modified"}}]},
        ),
        (
            {"train": [{"changed deps": {"params.yaml": {"train.epochs": "modified"}}}]},
            "d1.dir",
            {"train": [{"changed deps": {"params.yaml": {"train.epochs": "modified"}}}]},
        ),
    ],
)
def test_only_what_is_not_here_is_left_out(status: Any, data: str | None, expected: Any) -> None:
    assert without_missing(status, LOCK, data) == expected


def test_a_stage_that_was_never_run_is_stale() -> None:
    status = {"train": [{"changed deps": {"data": "deleted"}}, {"changed outs": {"artifacts/training": "deleted"}}]}
    assert without_missing(status, {}, "d1.dir") == {"train": [{"changed deps": {"data": "modified"}}]}


def test_what_is_made_is_what_stages_and_data_name() -> None:
    assert produced(LOCK, "d1.dir") == {
        "data": "d1.dir",
        "artifacts/training": "t1.dir",
        "reports/train.json": "r1",
        "artifacts/model": "m1.dir",
    }
    assert produced({}, None) == {}
