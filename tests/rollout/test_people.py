"""People and deaths in any order, at any look: the record tells it all, and nobody is passed over."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.errors import ProjectError
from flows.rollout.approvals import gate_of
from flows.rollout.journal import latest_promotions, open_journal
from flows.rollout.record import read_record, verify_record
from flows.rollout.states import Route

ACTIONS = ("hold", "abort", "agree", "refuse", "kill controller", "kill champion", "kill challenger")
LATER_S = 31.0


class Killed(BaseException):
    """What SIGKILL looks like from inside: nothing more runs."""


def act(one, action: str, gate: str | None) -> None:
    """What people or fate do, from outside of the controller."""
    if action == "kill controller":
        raise Killed
    if action in ("kill champion", "kill challenger"):
        one.traffic.kill("1" if action == "kill champion" else "2")
        return
    with open_journal(one.journal_path) as journal:
        if action == "hold":
            journal.request_hold(1, "fog", one.clock.now())
        elif action == "abort":
            journal.request_abort(1, "storm")
    if action in ("agree", "refuse"):
        one.answer(gate, agreed=action == "agree")


def at_looks(one, plan: dict[int, str], gate: str | None, done: list[str]) -> Callable[[object], None]:
    """Carries the plan out; the looks of all controllers are counted through."""

    def on_event(event: object) -> None:
        one.num_looks += 1
        if (action := plan.pop(one.num_looks, None)) is None:
            return
        try:
            done.append(action)
            if gate or action not in ("agree", "refuse"):
                act(one, action, gate)
        except ProjectError:  # too late for it
            done.pop()

    return on_event


def is_open(one) -> bool:
    return not latest_promotions(one.journal_path, 1)[0]["closed"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.dictionaries(st.integers(1, 40), st.sampled_from(ACTIONS), max_size=4),
    approval=st.sampled_from(["none", "canary", "promoting"]),
)
def test_whatever_people_do(rollout, make_params, ram_folder: Path, plan: dict[int, str], approval: str) -> None:
    one = rollout(params=make_params(approval=approval, approval_deadline_s=20.0))
    one.folder, one.num_looks = Path(tempfile.mkdtemp(dir=ram_folder)), 0
    gate, done = gate_of(Route(2, True), one.params), []
    watch = at_looks(one, dict(plan), gate, done)
    for _ in range(8):
        with contextlib.suppress(Killed):
            one.run(on_event=watch)
        if not is_open(one):
            break
        if "agree" not in done and "refuse" not in done and gate and one.num_looks > 40:
            one.answer(gate)
            done.append("agree")
        one.clock.sleep(LATER_S)
        with open_journal(one.journal_path) as journal:
            held = journal.hold_request(1) is not None
        if held:
            one.resume(lifts_hold=True)
            if not is_open(one):
                break
    checked = verify_record(one.record, one.view())
    assert checked.passed, checked.problem
    entered = {line["state"] for line in read_record(one.record) if line["kind"] == "state"}
    if gate and "agree" not in done:
        assert str(gate) not in entered
    if "abort" in done:
        assert (one.reigning(), is_open(one)) == ("1", False)
    if not {"kill champion", "kill challenger"} & set(done):  # else there may have been nobody left to answer
        assert one.traffic.num_lost == 0
    if not is_open(one):
        one.assert_settled_on("2" if "DONE" in entered else "1")


def test_an_early_refusal_is_final(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="promoting", approval_deadline_s=0.0))
    one.run()
    one.answer("PROMOTING", agreed=False)
    one.answer("PROMOTING", agreed=True)
    assert one.run().outcome == "aborted"
    with pytest.raises(ProjectError, match="is not open"):
        one.answer("PROMOTING")
