"""Every pair of behaviours of the two arms, against what a client may expect. The arms are played."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest

from bentos.router.arms import OTHER, Arms, ForwardingLimits, Frame
from bentos.router.connections import Patience
from bentos.router.fallback import Outcome, serve
from bentos.router.messages import Reply, Request
from bentos.router.metrics import Metrics
from bentos.router.observations import Answer
from bentos.router.routing import Arm, Backend, Snapshot

SHORT_S, LONG_S = 0.02, 0.06
STATUS = {
    "good": 200, "late": 200, "malformed": 200, "refuses": 400, "limits": 429, "fails": 500, "dead": 0, "hangs": 0,
}  # fmt: skip
BACKENDS: dict[Arm, Backend] = {
    arm: Backend(version=arm, digest="", url=f"http://127.0.0.1:{port}")
    for arm, port in (("champion", 4001), ("candidate", 4002))
}
FRAME = Frame(
    Request(b"POST", b"/v1/detect", [], b""), b"id", "cam", Snapshot(
        epoch=1, generation=1, mode="canary", share=0.5, promotion=1,
        champion=BACKENDS["champion"], candidate=BACKENDS["candidate"],
    ), 0.0,
)  # fmt: skip


class PlayedArms:
    """Arms that behave as told, and remember who was asked. "late" answers between the short and the long budget."""

    limits = ForwardingLimits(candidate_timeout_s=SHORT_S, champion_timeout_s=LONG_S)

    def __init__(self, champion: str, candidate: str, known_to_hang: set[Arm], unready: set[Arm]) -> None:
        self.behaviour: dict[Arm, str] = {"champion": champion, "candidate": candidate}
        self.asked: list[Arm] = []
        self.num_refused, self.num_to_refuse = 0, 0
        self.timeouts_s: dict[Arm, float] = {}
        self._known_to_hang, self._unready = known_to_hang, unready

    def hangs(self, frame: Frame, arm: Arm) -> bool:
        return arm in self._known_to_hang

    def can_answer(self, frame: Frame, arm: Arm) -> bool:
        return arm not in self._unready | self._known_to_hang

    def when_overdue(self, then: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(SHORT_S, then)

    def take_hedge(self, frame: Frame, arm: Arm) -> bool:
        self.num_refused += 1
        return self.num_refused > self.num_to_refuse

    async def ask(self, frame: Frame, arm: Arm, timeout_s: float, patience: Patience | None = None) -> Answer:
        self.asked.append(arm)
        self.timeouts_s[arm] = timeout_s
        behaviour = self.behaviour[arm]
        needed_s = {"late": (SHORT_S + LONG_S) / 2, "hangs": 1000.0}.get(behaviour, 0.0)
        ended = asyncio.Event()
        cast(Any, patience or Patience()).end = lambda why: ended.set()
        timed_out = needed_s > timeout_s
        if needed_s:  # else it answers at once, however busy this machine is
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), min(needed_s, timeout_s))
                timed_out = True  # the other arm was sooner
        status = 0 if timed_out else STATUS[behaviour]
        reply = Reply(status, [], b"") if status else None
        error = None if 0 < status < 500 and behaviour != "malformed" else behaviour
        return Answer(arm, BACKENDS[arm], status, 1.0, error, reply)


async def play(
    meant: Arm,
    champion: str,
    candidate: str,
    known: set[Arm] = frozenset(),
    unready: set[Arm] = frozenset(),  # type: ignore[assignment]
    num_to_refuse: int = 0,
) -> tuple[Outcome, PlayedArms]:
    arms = PlayedArms(champion, candidate, known, unready)
    arms.num_to_refuse = num_to_refuse
    return await serve(cast(Arms, arms), FRAME, meant), arms


def could_answer(behaviour: str) -> bool:
    return behaviour in ("good", "late")


@pytest.mark.parametrize("meant", ["champion", "candidate"])
@pytest.mark.parametrize("known", [set(), {"champion"}, {"candidate"}, {"champion", "candidate"}])
async def test_whoever_could_answer_does(meant: Arm, known: set[Arm]) -> None:
    """All pairs at once. A client gets a 2xx if any arm has one for it, unless it is told that it is wrong itself."""
    pairs = list(itertools.product(STATUS, STATUS))
    played = await asyncio.gather(*(play(meant, champion, candidate, known) for champion, candidate in pairs))
    for (champion, candidate), (outcome, arms) in zip(pairs, played, strict=True):
        told = f"{champion=} {candidate=} {outcome=}"
        behaviour: dict[Arm, str] = {"champion": champion, "candidate": candidate}
        assert len(arms.asked) == len(set(arms.asked)) <= 2, told
        assert outcome.fallback == (outcome.served.arm != meant), told
        assert getattr(outcome, outcome.served.arm) is outcome.served, told
        if behaviour[meant] == "good" and not known:
            assert outcome.served.good, told
        clients_fault = {"refuses", "limits"} & {champion, candidate}
        if any(map(could_answer, behaviour.values())) and not clients_fault:
            assert outcome.served.good, told
        if outcome.served.good:
            assert behaviour[outcome.served.arm] in ("good", "late"), told


@pytest.mark.parametrize("meant", ["champion", "candidate"])
async def test_an_arm_that_is_known_to_hang_is_not_asked_while_the_other_answers(meant: Arm) -> None:
    outcome, arms = await play(meant, "good", "good", known={meant})
    assert (arms.asked, outcome.served.arm, outcome.fallback) == ([OTHER[meant]], OTHER[meant], True)


@pytest.mark.parametrize(("champion", "asked"), [("good", 1), ("late", 2), ("dead", 2), ("fails", 2), ("hangs", 2)])
async def test_a_candidate_that_is_not_ready_is_the_last_hope(champion: str, asked: int) -> None:
    outcome, arms = await play("champion", champion, "good", unready={"candidate"})
    assert (len(arms.asked), outcome.served.good) == (asked, True)


@pytest.mark.parametrize("meant", ["champion", "candidate"])
@pytest.mark.parametrize("failing", ["dead", "fails", "hangs"])
async def test_the_last_hope_has_all_the_time_also_if_it_was_slow_before(meant: Arm, failing: str) -> None:
    behaviour: dict[Arm, str] = {meant: failing, OTHER[meant]: "late"}
    outcome, arms = await play(meant, behaviour["champion"], behaviour["candidate"], known={OTHER[meant]})
    assert outcome.served.arm == OTHER[meant] and outcome.served.good
    assert set(arms.timeouts_s.values()) == {LONG_S}


@pytest.mark.parametrize("champion", ["good", "refuses", "limits", "late"])
async def test_the_candidate_does_not_answer_for_a_champion_that_does(champion: str) -> None:
    outcome, _ = await play("champion", champion, "fails")
    assert outcome.served.arm == "champion" and not outcome.fallback


async def test_a_client_that_sends_too_much_is_not_sent_elsewhere() -> None:
    for meant in ("champion", "candidate"):
        outcome, arms = await play(cast(Arm, meant), "limits", "limits")
        assert (len(arms.asked), outcome.served.status) == (1, 429)


@pytest.mark.parametrize(("champion", "asked"), [("hangs", 2), ("late", 1)])
async def test_an_overdue_frame_without_room_is_looked_at_again(champion: str, asked: int) -> None:
    """It keeps its place at the champion meanwhile."""
    num_to_refuse = 3 if champion == "hangs" else 1000
    outcome, arms = await play("champion", champion, "good", num_to_refuse=num_to_refuse)
    assert outcome.served.good and len(arms.asked) == asked
    assert arms.num_refused == 4 or champion == "late"


class Heard(dict[str, Any]):
    """Pools of back ends that answered others a moment ago, or long ago."""

    def __init__(self, lately: bool) -> None:
        self.lately = lately

    def __missing__(self, url: str) -> Heard:
        return self

    def heard_within(self, seconds: float) -> bool:
        return self.lately


async def test_who_is_slow_but_answers_others_has_few_frames_sent_elsewhere_too() -> None:
    """Else every frame of an overload would be asked for twice, and the overload never end."""
    limits = ForwardingLimits(hedged_share=0.5, hedges_at_once=2)
    arms = Arms(cast(Any, Heard(lately=True)), Metrics(), limits)
    assert [arms.take_hedge(FRAME, "candidate") for _ in range(3)] == [True, True, False]
    for _ in range(2):
        arms.when_overdue(lambda: None).cancel()
    assert [arms.take_hedge(FRAME, "candidate") for _ in range(2)] == [True, False]
    assert arms.take_hedge(FRAME, "champion")  # it had the candidate's frames before
    silent = Arms(cast(Any, Heard(lately=False)), Metrics(), limits)
    assert all(silent.take_hedge(FRAME, "candidate") for _ in range(20))
