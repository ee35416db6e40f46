"""Where a person must agree before a promotion goes on, and what counts as agreement."""

from __future__ import annotations

from collections.abc import Iterable

from flows.params import PromoteParams
from flows.rollout.journal import Approval
from flows.rollout.states import Position, Route, State

UNANSWERED = "nobody agreed to "
"""How the reason of a hold begins when nobody answered in time."""


def gate_of(way: Route, params: PromoteParams) -> State | None:
    """The state that is not entered before somebody agrees; None when nobody is asked.

    `canary`: before users see the challenger. `promoting`: before it reigns. For a first champion both are the same.
    """
    if params.approval == "none":
        return None
    return State.CANARY if params.approval == "canary" and way.has_champion else State.PROMOTING


def gate_before(following: Position | None, way: Route, params: PromoteParams) -> State | None:
    """The gate that must be open before `following` is entered, if there is one."""
    gate = gate_of(way, params)
    return gate if gate is not None and following == Position(gate) else None


def answer_at(gate: State, given: Iterable[Approval]) -> Approval | None:
    """The answer that counts at `gate`: any refusal, else the first agreement; None while nobody has answered."""
    answers = [one for one in given if one.gate == gate]
    refusals = [one for one in answers if not one.agreed]
    return next(iter([*refusals, *answers]), None)


def told(answer: Approval) -> str:
    """For people: who answered what, and by which way."""
    verb = "agreed to" if answer.agreed else "did not agree to"
    return f"{answer.who} {verb} {answer.gate} ({answer.how})"
