from __future__ import annotations

import pytest

from flows.console import Console, Step, clock


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (9.4, "9 s"), (59.6, "1:00"), (72, "1:12"), (3599, "59:59"), (7390, "2:03:10")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_steps_are_numbered_and_end_with_their_summary(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.expect(2)
    for name in ("first", "second"):
        with console.step(name) as step:
            step.done(f"{name} is done")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["[1/2]", "[2/2]"]
    assert "second is done" in lines[1]


def test_a_failed_step_has_no_final_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), Console().step("first"):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_time_left_counts_from_the_first_sign_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now_s = 200.0
    monkeypatch.setattr("flows.console.time.monotonic", lambda: now_s)
    monkeypatch.setattr("flows.console._say", said.append)
    step = Step("train", live=None, started=100.0, _spoken=195.0)  # loading took 100 s
    step.progress(1, 21, "note")
    now_s = 220.0  # and ten units 20 s
    step.progress(11, 21, "note")
    assert said == ["train 11/21  note, 20 s left"]


@pytest.mark.parametrize(("done", "total"), [(16, 116), (16, 400)])
def test_time_left_counts_anew_where_other_work_begins(monkeypatch: pytest.MonkeyPatch, done: int, total: int) -> None:
    said: list[str] = []
    now_s = 0.0
    monkeypatch.setattr("flows.console.time.monotonic", lambda: now_s)
    monkeypatch.setattr("flows.console._say", said.append)
    step = Step("train", live=None, started=0.0, _spoken=0.0)
    step.progress(1, 400, "epochs")
    now_s = 100.0
    step.progress(320, 400, "epochs")
    said.clear()
    now_s = 101.0
    step.progress(done, total, "frames")
    now_s = 111.0  # ten units 10 s
    step.progress(done + 10, total, "frames")
    assert said == [f"train {done + 10}/{total}  frames, {clock(total - done - 10)} left"]


def test_a_milestone_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Console().step("promote") as step:
        step.milestone("SHADOW")
        assert "SHADOW" in capsys.readouterr().err
