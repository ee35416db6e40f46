"""Reads what the router observed, turns it into evidence, and has it in the record before anybody judges it."""

from __future__ import annotations

from flows.errors import ProjectError, ServiceError
from flows.params import PromoteParams
from flows.rollout.effects import Effects
from flows.rollout.evidence import enter_state, no_evidence, read_in
from flows.rollout.journal import Entry
from flows.rollout.judge import Situation, Verdict
from flows.rollout.observations import Reading, Thinning, read_page
from flows.rollout.replay import COUNTS, evidence_line, replay_record
from flows.rollout.states import Position, State

_MODES = {State.SHADOW.value: "shadow", State.CANARY.value: "canary"}


class Witness:
    """The evidence of one promotion. The record holds all of it, so that a restart takes it from there."""

    def __init__(self, entry: Entry, effects: Effects, params: PromoteParams) -> None:
        self.evidence = no_evidence(params)
        self.harm: tuple[str, ...] = ()
        """Reasons of a verdict to roll back, found in the record; it stands, whatever has been seen since."""
        self._entry, self._effects, self._params = entry, effects, params
        self._thinning = Thinning(params.thin_s)

    def recall(self, strict: bool) -> None:
        """Take the evidence from the record.

        Raises:
            ProjectError: It is damaged, or judged by other rules, unless not `strict`.
        """
        try:
            replay = replay_record(self._effects.record.path)
            replay.require_same_rules()
            self.evidence, self.harm = replay.evidence, replay.harm
        except ProjectError:
            if strict:
                raise
        except ValueError as error:
            if strict:
                remedy = "Go on with the version that began it, or give it up: tca promotion abort"
                raise ProjectError(f"the promotion cannot go on here: {error}", remedy) from None

    def enter_state(self) -> None:
        """Begin to count towards the minimum of a state; a line of kind state tells a reader of the record so."""
        self.evidence = enter_state(self.evidence)

    def take_in(self, state: str) -> bool:
        """Read what is new; False when nothing is. A router that does not answer is missing data, not an error."""
        mode = _MODES.get(state, "champion")
        try:
            reading = self._read_to_end()
        except ServiceError:
            return False
        before, self.evidence = self.evidence, read_in(self.evidence, reading, mode, self._params)
        content = evidence_line(before, self.evidence, reading.samples, mode)
        if content:
            text = f"{len(reading.samples)} frames judged"
            self._effects.record.append("evidence", state, text, self._effects.clock.now(), **content)
        return bool(content)

    def skip(self, state: str, of_when: str) -> None:
        """Leave out what nobody was judged on, and begin to count failures in a row anew."""
        skipped = {"cursor": self._read_to_end().cursor, "failures_in_row": 0, "champion_failures_in_row": 0}
        self.evidence = self.evidence.model_copy(update=skipped)
        counts = {name: getattr(self.evidence, name) for name in COUNTS}
        text = f"observations {of_when} are left out"
        self._effects.record.append(
            "evidence", state, text, self._effects.clock.now(), mode="", counts=counts, samples=[]
        )

    def record_verdict(self, position: Position, verdict: Verdict, situation: Situation, decided: bool) -> None:
        """Have a verdict in the record; one that `decided` is in the journal as well, for the transition to cite."""
        effects, now = self._effects, self._effects.clock.now()
        body, reason = verdict.model_dump(mode="json"), verdict.reasons[0]
        content = {"step": position.step, "situation": vars(situation), "verdict": body}
        effects.record.append("verdict", position.state.value, reason, now, **content)
        if decided:
            effects.journal.save_verdict(effects.lease, self._entry.id, position, verdict.model_dump_json(), now)

    def _read_to_end(self) -> Reading:
        reading = Reading(self.evidence.cursor)
        while True:
            page = self._effects.traffic.observations(reading.cursor)
            more = read_page(page, self._entry.id, self._entry.challenger[0], self._thinning)
            ended = more.cursor <= reading.cursor
            reading = reading.plus(more)
            if ended:
                return reading
