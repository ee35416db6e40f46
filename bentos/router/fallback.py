"""Who answers a request when the arm that was meant to does not. Nothing is sent to the client before it is known.

Each arm is asked once. One that hangs holds nobody while the other one is well: the frame that finds it out waits
`candidate_timeout_s`, those after it go to the other arm first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bentos.router.arms import OTHER, Arms, Frame
from bentos.router.connections import Patience
from bentos.router.observations import Answer
from bentos.router.reminders import Reminder
from bentos.router.routing import Arm

_LOOKS_AGAIN = 4
"""So many times in `candidate_timeout_s` an overdue frame that has no room is looked at again."""


@dataclass(slots=True)
class Outcome:
    """Who answered, and what each arm said so far. None: it was not asked."""

    served: Answer
    champion: Answer | None = None
    candidate: Answer | None = None
    fallback: bool = False
    """Whether another arm answered than was meant to."""


async def serve(arms: Arms, frame: Frame, meant: Arm) -> Outcome:
    """Ask the arm that is meant to answer, and the other one where the first cannot."""
    first = meant
    if arms.hangs(frame, meant) and arms.can_answer(frame, OTHER[meant]):
        first = OTHER[meant]
    told = await _ask(arms, frame, first)
    served = _choose(first, told)
    return Outcome(served, told.get("champion"), told.get("candidate"), fallback=served.arm != meant)


async def _ask(arms: Arms, frame: Frame, first: Arm) -> dict[Arm, Answer]:
    """What each arm says that was asked: the second only where the first fails or is overdue."""
    timeout_s = arms.limits.champion_timeout_s
    if frame.backend(OTHER[first]) is None:
        return {first: await arms.ask(frame, first, timeout_s)}
    second = _Second(arms, frame, OTHER[first])
    try:
        answer = await arms.ask(frame, first, timeout_s, patience=second.patience_with_first)
        if _settles(answer) or answer.limited:
            return {first: answer}
        return {first: answer, OTHER[first]: await second.answer()}
    finally:
        second.close()


class _Second:
    """The other arm, asked at most once: when the first is overdue, or when its answer is wanted.

    A hedged request (Dean and Barroso, The Tail at Scale, CACM 2013): a first one that is only slow keeps its place in
    its queue, and still answers if the second cannot.
    """

    def __init__(self, arms: Arms, frame: Frame, arm: Arm) -> None:
        self.patience_with_first = Patience()
        self._arms, self._frame, self._arm = arms, frame, arm
        self._task: asyncio.Task[Answer] | None = None
        self._overdue: Reminder | asyncio.TimerHandle = arms.when_overdue(self._hedge)

    async def answer(self) -> Answer:
        """What it says; asked now unless it was before."""
        self._overdue.cancel()
        return await (self._task or self._ask())

    def close(self) -> None:
        """Nobody wants its answer any more."""
        self._overdue.cancel()
        if self._task is not None:
            self._task.cancel()

    def _hedge(self) -> None:
        loop, arms = asyncio.get_running_loop(), self._arms
        if not arms.take_hedge(self._frame, self._arm):
            self._overdue = loop.call_later(arms.limits.candidate_timeout_s / _LOOKS_AGAIN, self._hedge)
            return
        self._task = loop.create_task(self._ask())

    async def _ask(self) -> Answer:
        limits = self._arms.limits
        answer = await self._arms.ask(self._frame, self._arm, limits.champion_timeout_s)
        if _settles(answer):
            self.patience_with_first.end(f"no answer within {limits.candidate_timeout_s * 1000:.0f} ms")
        return answer


def _settles(answer: Answer) -> bool:
    """Whether the other arm need not be asked: a champion's refusal counts, a candidate's may be its own fault."""
    return not answer.failed if answer.arm == "champion" else answer.good


def _choose(first: Arm, told: dict[Arm, Answer]) -> Answer:
    """The answer for the client: the champion's, unless the candidate has a better one."""
    champion, candidate = told.get("champion"), told.get("candidate")
    if champion is None or candidate is None:
        return told[first]
    # both refuse the frame (a broken image, say): the client is wrong, not the candidate
    agreed = first == "candidate" and not candidate.failed and not champion.failed and not champion.good
    saved = candidate.good if first == "champion" else not candidate.failed
    return candidate if agreed or (champion.failed and saved) else champion
