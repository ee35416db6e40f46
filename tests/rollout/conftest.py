"""A whole promotion on a simulated street, in a folder of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flows.adapters.fake_traffic import Behaviour, FakeClock, FakeRegistry, FakeTraffic
from flows.params import PromoteParams
from flows.rollout.controller import abort_promotion, hold_promotion, resume_promotion, run_promotion
from flows.rollout.journal import Approval, Journal, open_journal
from flows.rollout.record import JournalView
from flows.rollout.report import PromotionReport, RolloutEvent
from flows.rollout.traffic import Contender

OLD, NEW = Contender("1", "a" * 64), Contender("2", "b" * 64)


@pytest.fixture
def params() -> PromoteParams:
    return small_params()


def small_params(**changes: Any) -> PromoteParams:
    values = {
        "latency_budget_ms": 100.0,
        "max_slow_share": 0.05,
        "max_error_share": 0.1,
        "min_agreement": 0.5,
        "alpha": 0.05,
        "shadow_frames": 20,
        "canary_steps": [10, 50],
        "canary_frames": 8,
        "bake_frames": 12,
        "thin_s": 0.0,
        "state_deadline_s": 30.0,
        "drain_deadline_s": 5.0,
    }
    return PromoteParams.model_validate(values | changes)


@dataclass
class Rollout:
    """Everything around one promotion of version 2 over version 1, or over nobody."""

    folder: Path
    behaviour: Behaviour = field(default_factory=Behaviour)
    params: PromoteParams = field(default_factory=small_params)
    has_champion: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    events: list[RolloutEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.traffic = FakeTraffic(self.clock, {"2": self.behaviour}, **self.options)
        self.registry = FakeRegistry()
        if self.has_champion:
            self.registry.reigning = self.traffic.enthrone(OLD.version, OLD.digest)

    @property
    def journal_path(self) -> Path:
        return self.folder / "rollout.db"

    @property
    def records(self) -> Path:
        return self.folder / "promotions"

    @property
    def record(self) -> Path:
        return self.records / "1.jsonl"

    def run(
        self,
        challenger: Contender = NEW,
        *,
        traffic: Any = None,
        registry: Any = None,
        wrap: Callable[[Journal], Any] = lambda journal: journal,
        **more: Any,
    ) -> PromotionReport:
        champion = OLD if self.has_champion else None
        with open_journal(self.journal_path) as journal:
            return run_promotion(
                wrap(journal),
                traffic or self.traffic,
                registry or self.registry,
                challenger,
                champion,
                self.params,
                self.records,
                on_event=more.pop("on_event", self.events.append),
                clock=self.clock,
                **more,
            )

    def resume(self, lifts_hold: bool = False) -> PromotionReport:
        with open_journal(self.journal_path) as journal:
            return resume_promotion(
                journal, self.traffic, self.registry, self.records, clock=self.clock, lifts_hold=lifts_hold
            )

    def hold(self, reason: str = "fog") -> PromotionReport | None:
        with open_journal(self.journal_path) as journal:
            return hold_promotion(journal, self.traffic, self.registry, self.records, reason, clock=self.clock)

    def answer(self, gate: str, agreed: bool = True, who: str = "anna", token: str | None = None) -> None:
        with open_journal(self.journal_path) as journal:
            how = "token" if token else "cli"
            journal.approve(1, Approval(gate, agreed, who, how, token, self.clock.now()))

    def view(self) -> JournalView:
        """What the journal says about promotion 1."""
        with open_journal(self.journal_path) as journal:
            transitions = [(str(one.state), one.step, event, why) for one, event, why, _ in journal.transitions(1)]
            effects, approvals = frozenset(journal.effects(1)), tuple(journal.approvals(1))
            return JournalView(journal.read(1), tuple(transitions), effects, approvals)

    def abort(self, reason: str = "a person said so") -> PromotionReport | None:
        with open_journal(self.journal_path) as journal:
            return abort_promotion(journal, self.traffic, self.registry, self.records, reason, clock=self.clock)

    def reigning(self) -> str | None:
        return self.registry.reigning.version if self.registry.reigning else None

    def routed(self) -> tuple[str | None, str | None, str]:
        now = self.traffic.snapshot
        names = [arm.version if arm else None for arm in (now.champion, now.candidate)]
        return names[0], names[1], now.mode

    def assert_settled_on(self, version: str) -> None:
        """One version reigns, alone runs, and alone is routed."""
        assert self.reigning() == version
        assert self.routed() == (version, None, "champion")
        assert self.traffic.snapshot.promotion is None
        assert set(self.traffic.processes) == {version}
        assert self.traffic.snapshot.champion == self.traffic.processes[version].backend


@pytest.fixture
def rollout(ram_folder: Path) -> Callable[..., Rollout]:
    def make(behaviour: Behaviour | None = None, **options: Any) -> Rollout:
        known = {name: options.pop(name) for name in ("params", "has_champion") if name in options}
        return Rollout(ram_folder, behaviour or Behaviour(), **known, options=options)

    return make


@pytest.fixture
def ram_folder() -> Iterator[Path]:
    """A folder on which syncing costs nothing, where there is one; for tests that run hundreds of promotions."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def make_params() -> Callable[..., PromoteParams]:
    return small_params
