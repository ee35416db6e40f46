from __future__ import annotations

import asyncio

import pytest

from bentos.detector.drill import parse_drill
from bentos.detector.errors import DrillFailure, LoadError


@pytest.mark.parametrize(
    "text", ["slow", "slow:x", "fail:1.5", "slow:150@", "fail:-1", "slow:150@3,fail:1", "crash:1@2"]
)
def test_other_forms_are_refused(text) -> None:
    with pytest.raises(LoadError, match="DETECTOR_DRILL = .*such as fail:0.5@300"):
        parse_drill(text)


def test_no_drill() -> None:
    assert parse_drill("") is None


async def failures(text: str, num: int) -> list[int]:
    drill = parse_drill(text)
    assert drill is not None
    failed = []
    for number in range(1, num + 1):
        try:
            await drill.act()
        except DrillFailure:
            failed.append(number)
    return failed


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("fail:1@3", [3, 4, 5, 6, 7, 8]),
        ("fail:0.5@3", [4, 6, 8]),
        ("fail:1", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("fail:0@1", []),
        ("slow:0@1", []),
    ],
)
async def test_which_answers_fail(text, failed) -> None:
    assert await failures(text, 8) == failed


async def test_slow_waits_from_the_stated_answer_on(monkeypatch) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    assert await failures("slow:150@3", 4) == []
    assert waits == [0.15, 0.15]
