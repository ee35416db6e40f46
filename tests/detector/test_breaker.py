"""The breaker as a state machine, and around an engine that fails."""

from __future__ import annotations

import asyncio
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bentos.detector.breaker import Breaker, BreakerState
from bentos.detector.errors import EngineSuspended

JPEG = {"content-type": "image/jpeg"}


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class BreakerMachine(RuleBasedStateMachine):
    """Any order of requests, outcomes and waiting; the model counts what it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(max_failures=3, cooldown_s=1.0, max_cooldown_s=5.0, clock=self.clock)
        self.tickets: list[int] = []
        self.in_a_row = 0
        self.trials_lost = 0
        self.trial: int | None = None

    @rule()
    def ask(self) -> None:
        before, refuses = self.breaker.state, self.breaker.refuses
        try:
            ticket = self.breaker.allow()
        except EngineSuspended as error:
            assert refuses
            assert before is not BreakerState.CLOSED
            assert error.retry_after_s >= 1
            return
        assert not refuses
        if before is not BreakerState.CLOSED:
            assert self.trial is None, "one trial at a time"
            assert self.breaker.state is BreakerState.HALF_OPEN
            self.trial = ticket
        self.tickets.append(ticket)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        ticket = self._take(data)
        before = self.breaker.state
        self.breaker.succeeded(ticket)
        if ticket == self.trial:
            assert self.breaker.state is BreakerState.CLOSED
            self.trial, self.in_a_row, self.trials_lost = None, 0, 0
        elif before is BreakerState.CLOSED:
            assert self.breaker.state is BreakerState.CLOSED
            if ticket >= self._newest():
                self.in_a_row = 0
        else:
            assert self.breaker.state is before, "what was sent before it opened says nothing any more"

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        ticket = self._take(data)
        before, opened = self.breaker.state, self.breaker.num_opened
        counts = ticket == self._newest()
        self.breaker.failed(ticket)
        if ticket == self.trial:
            self.trial, self.trials_lost = None, self.trials_lost + 1
            self._assert_rests(min(5.0, 2.0**self.trials_lost))
        elif before is BreakerState.CLOSED and counts:
            self.in_a_row += 1
            if self.in_a_row == 3:
                self.in_a_row = 0
                self._assert_rests(1.0)
            else:
                assert self.breaker.state is BreakerState.CLOSED
        else:
            assert (self.breaker.state, self.breaker.num_opened) == (before, opened)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def say_nothing(self, data: st.DataObject) -> None:
        ticket = self._take(data)
        before = self.breaker.state
        self.breaker.undecided(ticket)
        assert self.breaker.state is before
        if ticket == self.trial:
            self.trial = None
            assert not self.breaker.refuses, "the next request is the trial"

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @invariant()
    def whoever_waits_as_told_is_let_in(self) -> None:
        if self.breaker.state is BreakerState.OPEN and self.breaker.refuses:
            try:
                self.breaker.allow()
            except EngineSuspended as error:
                self.clock.now_s += error.retry_after_s
                assert not self.breaker.refuses
                self.clock.now_s -= error.retry_after_s

    def _take(self, data: st.DataObject) -> int:
        return self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))

    def _newest(self) -> int:
        return self.breaker._epoch

    def _assert_rests(self, seconds: float) -> None:
        assert self.breaker.state is BreakerState.OPEN
        with pytest.raises(EngineSuspended) as refusal:
            self.breaker.allow()
        assert refusal.value.retry_after_s == math.ceil(seconds)


TestBreakerMachine = BreakerMachine.TestCase


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(max_failures=2, clock=Clock())
    for _ in range(10):
        breaker.failed(breaker.allow())
        breaker.succeeded(breaker.allow())
    assert breaker.state is BreakerState.CLOSED


def test_every_transition_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    breaker = Breaker(max_failures=1, clock=clock)
    with caplog.at_level(logging.INFO, "bentos.detector"):
        breaker.failed(breaker.allow())
        clock.now_s += 1
        breaker.failed(breaker.allow())
        clock.now_s += 2
        breaker.succeeded(breaker.allow())
    assert [record.getMessage() for record in caplog.records] == [
        "the engine failed 1 times in a row: frames are refused for 1 s",
        "the engine is tried again after 1 s",
        "the engine failed its trial: frames are refused for 2 s",
        "the engine is tried again after 2 s",
        "the engine answers again: frames are accepted",
    ]


async def test_an_engine_that_only_fails_is_left_alone(open_app: Any, picture: bytes, monkeypatch: Any) -> None:
    clock = Clock()
    client, app = open_app('{"fail": true}', breaker=Breaker(max_failures=2, clock=clock))

    async def code() -> str:
        answer = await client.post("/v1/detect", content=picture, headers=JPEG)
        if answer.status_code == 503 and answer.json()["error"]["code"] == "engine_suspended":
            assert answer.headers["retry-after"] == "1"
        return answer.json()["error"]["code"] if answer.status_code != 200 else "ok"

    assert [await code() for _ in range(4)] == ["engine_failed"] * 2 + ["engine_suspended"] * 2
    assert not app.runtime.is_ready
    assert "detector_breaker_state 2.0" in app.runtime.metrics()
    clock.now_s += 1
    assert app.runtime.is_ready
    monkeypatch.setattr(app.runtime.detector.engine, "_fail", False)
    assert [await code() for _ in range(3)] == ["ok"] * 3
    assert "detector_breaker_opened_total 1.0" in app.runtime.metrics()


async def test_a_batch_that_fails_counts_once(open_app: Any, hold: Any, picture: bytes) -> None:
    client, app = open_app('{"fail": true}', breaker=Breaker(max_failures=3))
    gate, sizes = hold(app)
    posts = [asyncio.create_task(client.post("/v1/detect", content=picture, headers=JPEG))]
    while not sizes:
        await asyncio.sleep(0.001)
    posts += [asyncio.create_task(client.post("/v1/detect", content=picture, headers=JPEG)) for _ in range(3)]
    while app.runtime.batcher.num_waiting < 4:
        await asyncio.sleep(0.001)
    gate.set()
    codes = [answer.json()["error"]["code"] for answer in await asyncio.gather(*posts)]
    assert codes == ["engine_failed"] * 4
    assert len(sizes) < 4, "some shared a batch"
    assert app.runtime.breaker.num_opened == (len(sizes) >= 3)


async def test_broken_images_do_not_open_it_nor_settle_a_trial(open_app: Any, picture: bytes) -> None:
    clock = Clock()
    client, app = open_app('{"fail": true}', breaker=Breaker(max_failures=1, clock=clock))
    for _ in range(5):
        assert (await client.post("/v1/detect", content=b"nothing", headers=JPEG)).status_code == 400
    assert app.runtime.breaker.state is BreakerState.CLOSED
    await client.post("/v1/detect", content=picture, headers=JPEG)
    clock.now_s += 1
    assert (await client.post("/v1/detect", content=b"nothing", headers=JPEG)).status_code == 400
    assert app.runtime.breaker.state is BreakerState.HALF_OPEN
    assert (await client.post("/v1/detect", content=picture, headers=JPEG)).json()["error"]["code"] == "engine_failed"


async def test_a_hung_engine_answers_503_and_counts(open_app: Any, hold: Any, picture: bytes) -> None:
    client, app = open_app(engine_timeout_s=0.05, breaker=Breaker(max_failures=2, clock=Clock()))
    gate, _ = hold(app)
    codes = []
    for _ in range(3):
        answer = await client.post("/v1/detect", content=picture, headers=JPEG)
        assert answer.status_code == 503
        codes.append(answer.json()["error"]["code"])
    assert codes == ["engine_timeout", "engine_timeout", "engine_suspended"]
    inference, now_s = app.runtime.inference, asyncio.get_running_loop().time()
    assert not inference.is_stuck(now_s - 1)
    assert inference.is_stuck(now_s + 1)
    gate.set()
    while inference._given_up:
        await asyncio.sleep(0.001)
    assert not inference.is_stuck(now_s + 1)
    assert app.runtime.breaker.state is BreakerState.OPEN, "what lands too late is no success"


def test_settings_reach_it(make_fake_dir: Any) -> None:
    from bentos.detector.runtime import start_runtime, stop_runtime
    from bentos.detector.settings import Settings

    model: Path = make_fake_dir()
    runtime = start_runtime(Settings(model_dir=model, breaker_failures=1, breaker_cooldown_s=7))
    runtime.breaker.failed(runtime.breaker.allow())
    with pytest.raises(EngineSuspended, match="come back in 7 s"):
        runtime.breaker.allow()
    stop_runtime(runtime, 5)
