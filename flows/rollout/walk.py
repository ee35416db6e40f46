"""Follows a promotion through the lines of its record: every step a legal one, and made on a recorded ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.params import PromoteParams
from flows.rollout.approvals import gate_before
from flows.rollout.journal import Approval, Entry
from flows.rollout.replay import Replay
from flows.rollout.states import JUDGED, Event, IllegalTransition, Position, Route, State, next_state

_OUTCOMES = {"promoted": State.DONE, "rolled_back": State.ROLLED_BACK, "aborted": State.ROLLED_BACK}

Transition = tuple[str, int, str, str]
"""State and step entered, event, reason."""


@dataclass(frozen=True)
class JournalView:
    """What the journal says about one promotion."""

    entry: Entry
    transitions: tuple[Transition, ...]
    effects: frozenset[str]
    """Names of all effects that were ever intended."""
    approvals: tuple[Approval, ...]


class Walk:
    """Where a promotion is after each line. Every method raises ValueError when the line cannot follow."""

    def __init__(self) -> None:
        self.position = Position(State.IDLE)
        self.transitions: list[Transition] = []
        self.approvals: list[dict[str, Any]] = []
        self.effects: list[str] = []
        self._before: Position | None = None
        """Where it was before the last transition, as long as a crash may have undone that."""
        self._ground: str | None = None
        """The verdict on all the evidence so far."""
        self._route: Route | None = None
        self._contenders = ("", "")

    def take(self, line: dict[str, Any], replay: Replay) -> None:
        """Take the next line in; `replay` has taken it already."""
        kind = line["kind"]
        if kind == "opened":
            self._open(line, replay.params)
            return
        if self._route is None:
            raise ValueError("the record does not begin with a line of kind opened")
        if kind == "state":
            restarts = line["event"] == "restart"
            self._restart(line) if restarts else self._step(line, replay)
            return
        self._require_here(line)
        self._before = None  # the journal knew of the transition before anything else was written
        match kind:
            case "verdict":
                self._ground = line["verdict"]["decision"]
            case "evidence":
                self._ground = None
            case "effect":
                self._act(line["sentence"], replay.params)
            case "approval":
                self.approvals.append(line)
            case "held":
                self._require(self.position.state is State.HOLD, "it is said to be held")
            case "closed":
                outcome = line["outcome"]
                ends = _OUTCOMES.get(outcome) is self.position.state
                self._require(ends, f"the outcome is said to be {outcome}")
            case "asked":
                pass
            case _:
                raise ValueError(f"there are no lines of kind {kind!r}")

    def _open(self, line: dict[str, Any], params: PromoteParams) -> None:
        if self._route is not None:
            raise ValueError("the record is opened a second time")
        self._route = Route(len(params.canary_steps), line["champion"] is not None)
        self._contenders = (line["challenger"][0], line["champion"][0] if line["champion"] else "")

    def _require_here(self, line: dict[str, Any]) -> None:
        step = line.get("step", self.position.step)
        if (line["state"], step) != (self.position.state, self.position.step):
            raise ValueError(f"it speaks of {line['state']}, but the promotion is in {self.position}")

    def _restart(self, line: dict[str, Any]) -> None:
        """A controller that was killed may have written a transition here and not yet into the journal."""
        here = (line["state"], line.get("step", self.position.step))
        if here != (self.position.state, self.position.step):
            if self._before is None or here != (self._before.state, line.get("step", self._before.step)):
                raise ValueError(f"it goes on in {line['state']}, but the promotion is in {self.position}")
            self.position = self._before
            self.transitions.pop()
        self._before = self._ground = None

    def _step(self, line: dict[str, Any], replay: Replay) -> None:
        assert self._route is not None  # looked at in `take`
        event = Event(line["event"])
        try:
            following = next_state(self.position, event, self._route)
        except IllegalTransition as error:
            raise ValueError(str(error)) from None
        if (line["state"], line["step"], line["left"]) != (following.state, following.step, str(self.position)):
            raise ValueError(f"{event} leads from {self.position} to {following}, not to {line['state']}")
        if event is Event.ADVANCE:
            self._require_ground(following, replay)
        self._before, self.position, self._ground = self.position, following, None
        self.transitions.append((line["state"], line["step"], line["event"], line["sentence"]))

    def _require_ground(self, following: Position, replay: Replay) -> None:
        assert self._route is not None
        if self.position.state in JUDGED and replay.harm:
            raise ValueError(f"it advances from {self.position} in spite of a verdict to roll back")
        if self.position.state in JUDGED and self._ground != "advance":
            raise ValueError(f"it advances from {self.position} without a verdict on all the evidence")
        gate = gate_before(following, self._route, replay.params)
        answers = [one["agreed"] for one in self.approvals if one["gate"] == gate]
        if gate is not None and (not answers or not all(answers)):
            raise ValueError(f"it enters {following}, to which nobody has agreed")

    def _act(self, effect: str, params: PromoteParams) -> None:
        """Every effect belongs to certain states; above all those that give users the challenger."""
        found = self._homes(params).get(effect, frozenset())
        takes_all = effect.startswith("route champion, ")  # in a hold, whoever is up
        if self.position.state not in (found | {State.HOLD} if takes_all else found):
            raise ValueError(f"{effect!r} does not belong to {self.position}")
        self.effects.append(effect)

    def _homes(self, params: PromoteParams) -> dict[str, frozenset[State]]:
        challenger, champion = self._contenders
        share = params.canary_steps[self.position.step] / 100
        homes = {
            f"start version {challenger}": {State.STAGING, State.DRAIN_OLD},
            f"stop version {challenger}": {State.ROLLING_BACK},
            f"enthrone version {challenger}": {State.PROMOTING},
            f"route champion, champion {challenger}": {State.PROMOTING, State.BAKE, State.DRAIN_OLD},
        }
        if not champion:
            homes |= {"route champion, champion none": {State.ROLLING_BACK}, "enthrone nobody": {State.ROLLING_BACK}}
        else:
            homes |= {
                f"start version {champion}": {State.STAGING, State.ROLLING_BACK, State.HOLD},
                f"stop version {champion}": {State.DRAIN_OLD},
                f"enthrone version {champion}": {State.ROLLING_BACK},
                f"route champion, champion {champion}": {State.ROLLING_BACK},
                f"route shadow, champion {champion}": {State.SHADOW},
                f"route canary {share:.0%}, champion {champion}": {State.CANARY},
            }
        return {effect: frozenset(states) for effect, states in homes.items()}

    def _require(self, holds: bool, said: str) -> None:
        if not holds:
            raise ValueError(f"{said}, but the promotion is in {self.position}")


def compare_with_journal(opened: dict[str, Any], walk: Walk, journal: JournalView) -> str | None:
    """What record and journal disagree on, if anything; the record may be one transition ahead after a crash."""
    entry = journal.entry
    if [list(entry.challenger), list(entry.champion) if entry.champion else None] != [
        opened["challenger"],
        opened["champion"],
    ]:
        return "the journal has other versions for this promotion"
    if PromoteParams.model_validate_json(entry.params) != PromoteParams.model_validate(opened["params"]):
        return "the journal has other params for this promotion"
    ours = tuple(walk.transitions)
    if ours[: len(journal.transitions)] != journal.transitions:
        missing = ours == journal.transitions[: len(ours)]
        what = f"goes on to {journal.transitions[len(ours)][0]}" if missing else "has other transitions"
        return f"the record does not tell all: the journal {what}"
    entered = {state for state, step, event, _ in ours if event == Event.ADVANCE and not step}
    for one in journal.approvals:
        if not one.agreed and one.gate in entered:
            return f"it entered {one.gate}, to which {one.who} did not agree"
    if entry.closed_at is None:
        return None  # it goes on: what was written since the journal was read is not in it
    if ours != journal.transitions:
        return f"the journal knows of nothing after {journal.transitions[-1][0]}"
    if unknown := [name for name in walk.effects if name not in journal.effects]:
        return f"the journal knows of no intent to {unknown[0]}"
    known = {(one.gate, one.agreed, one.who, one.how, one.token_id, one.at) for one in journal.approvals}
    for line in walk.approvals:
        if tuple(line[key] for key in ("gate", "agreed", "who", "how", "token", "given_at")) not in known:
            return f"the journal knows of no approval by {line['who']}"
    return None
