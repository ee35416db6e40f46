"""`tca promote` as a flow: a real Prefect API and a real journal, before a simulated street in real time."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import approving, prefect_pause
from flows.adapters.fake_traffic import Behaviour, FakeTraffic
from flows.approving import approve_by_token, approve_open, make_token
from flows.errors import InputError, ProjectError
from flows.promotion_records import timeline, verify_promotion
from flows.promotions import abort_open, hold_open, resume_open
from flows.rollout.journal import latest_promotions
from flows.rollout.record import read_record
from flows.rollout.tokens import make_key
from flows.rollout.traffic import Contender
from flows.settings import Project

OLD, NEW = Contender("1", "a" * 64), Contender("2", "b" * 64)
QUICK = [
    *("shadow_frames=20", "canary_steps=[50]", "canary_frames=10", "bake_frames=10", "thin_s=0.0"),
    *("max_error_share=0.2", "latency_budget_ms=500", "state_deadline_s=60", "drain_deadline_s=2"),
    "approval_deadline_s=45",
]
LIMIT_S = 40.0


class Ticking:
    """Real time in steps, so that the street can catch up with it."""

    def now(self) -> float:
        return time.time() // 0.05 * 0.05

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Street(FakeTraffic):
    """The simulated street in real time, seen from several threads."""

    def __init__(self, behaviours: dict[str, Behaviour]) -> None:
        self._lock = threading.RLock()
        super().__init__(Ticking(), behaviours, num_cameras=8, fps=20.0)  # type: ignore[arg-type]

    def _advance(self) -> None:
        with self._lock:
            super()._advance()

    def ensure_champion(self, version: str, digest: str) -> Any:
        return self.start(version, digest)


@pytest.fixture
def street(project_dir: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> Iterator[SimpleNamespace]:
    """A project whose versions are simulated: everything else is real."""
    import flows.promote
    import flows.promotions
    from flows.stage import StageRun

    monkeypatch.chdir(project_dir)
    monkeypatch.setattr(prefect_pause, "LOOK_EVERY_S", 0.1)
    traffic, models = Street({"2": Behaviour()}), SimpleNamespace(champion=lambda: models.now, now=None)
    models.now = traffic.enthrone(OLD.version, OLD.digest)
    models.by_alias, models.reigning = (lambda alias: NEW), (lambda: models.now)
    models.set_champion = lambda version, digest: setattr(models, "now", Contender(version, digest))
    monkeypatch.setattr(StageRun, "registry", lambda self: models)
    for module in (flows.promote, flows.promotions):
        monkeypatch.setattr(module, "ensure_traffic", lambda *_: "")
        monkeypatch.setattr(module, "traffic_of", lambda *_: traffic)
    monkeypatch.setattr(flows.promotions, "registry_of", lambda *_: models)
    yield SimpleNamespace(project=Project(project_dir), traffic=traffic, models=models)


def promote(*overrides: str, drill: str = "") -> dict[str, Any]:
    from flows.promote import promote as flow

    flow(overrides=[f"promote.{one}" for one in (*QUICK, *overrides)], drill=drill, return_state=True)
    return json.loads(Path("reports/promote.json").read_text())


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread; what goes wrong there fails the test."""
    wrong: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # reported below
            wrong.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    if wrong:
        raise wrong[0]


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found


def state_of(project: Project) -> str:
    last = latest_promotions(project.journal, 1)
    return str(last[0]["state"]) if last else ""


def paused_runs() -> list[Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=wanted)


def state_of_run(run: Any) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run.id).state_type.value)


@pytest.mark.parametrize(("agree", "outcome"), [(True, "promoted"), (False, "aborted")])
def test_somebody_answers_in_prefect(street: SimpleNamespace, agree: bool, outcome: str) -> None:
    runs: list[Any] = []

    def answer() -> None:
        from prefect.flow_runs import resume_flow_run

        runs.append(until(paused_runs)[0])
        resume_flow_run(runs[0].id, run_input={"agree": agree, "by": "anna"})

    with meanwhile(answer):
        report = promote("approval=canary")
    assert report["outcome"] == outcome
    assert state_of_run(runs[0]) == "COMPLETED"
    found = verify_promotion(street.project, 1)
    assert (found.passed, found.num_approvals) == (True, 1), found.problem
    verb = "agreed to" if agree else "did not agree to"
    assert f"anna {verb} CANARY (prefect)" in timeline(street.project, 1)


def test_somebody_answers_from_a_shell_and_prefect_goes_on(street: SimpleNamespace) -> None:
    runs: list[Any] = []

    def answer() -> None:
        runs.append(until(paused_runs)[0])
        assert approve_open(street.project, None, "anna") == "promotion 1: anna agreed to PROMOTING (cli)"

    with meanwhile(answer):
        report = promote("approval=promoting")
    assert report["outcome"] == "promoted"
    assert state_of_run(runs[0]) == "COMPLETED"
    assert not paused_runs()


def test_a_token_in_the_environment_answers(
    street: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    public = make_key(tmp_path / "ci.key")
    monkeypatch.setenv(approving.KEY, str(tmp_path / "ci.key"))
    token = make_token(street.project, None, NEW.digest, "ci", 600.0)
    monkeypatch.setenv(approving.KEY, str(public))
    monkeypatch.setenv(approving.TOKEN, token)
    report = promote("approval=canary")
    assert report["outcome"] == "promoted"
    found = verify_promotion(street.project, 1)
    assert (found.passed, found.num_approvals, found.unchecked) == (True, 1, ())
    monkeypatch.delenv(approving.KEY)
    assert verify_promotion(street.project, 1).unchecked == (
        "the signatures of 1 tokens, for TCA_APPROVAL_KEY names no key",
    )
    with pytest.raises(ProjectError, match="no promotion is open"):
        approve_by_token(street.project, None, token)


def test_nobody_answers_and_a_later_command_does(
    street: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(approving.TOKEN, "no token at all")
    report = promote("approval=canary", "approval_deadline_s=0")
    assert (report["outcome"], report["awaits_approval"]) == ("held", "canary")
    assert not paused_runs()
    make_key(tmp_path / "ci.key")
    monkeypatch.setenv(approving.KEY, str(tmp_path / "ci.key"))
    token = make_token(street.project, None, "", "ci", 600.0)
    assert approve_by_token(street.project, 1, token) == "promotion 1: ci agreed to CANARY (token)"
    with pytest.raises(ProjectError, match="has approved promotion 1 already"):
        approve_by_token(street.project, 1, token)
    with pytest.raises(InputError, match="is no token"):
        approve_by_token(street.project, 1, "no token at all")
    assert resume_open(street.project, None).outcome == "promoted"
    assert verify_promotion(street.project, 1).passed
    assert (street.project.records / "1.html").is_file()


def test_sigterm_gives_users_the_champion(street: SimpleNamespace) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminate() -> None:
        until(lambda: state_of(street.project) == "CANARY")
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(terminate), pytest.raises(KeyboardInterrupt):
        promote("canary_frames=100000")
    assert signal.getsignal(signal.SIGTERM) is before
    now = street.traffic.snapshot
    assert (state_of(street.project), now.mode, now.champion.version) == ("HOLD", "champion", "1")
    with pytest.raises(ProjectError, match="asks nobody"):
        approve_open(street.project, None, "anna")
    report = abort_open(street.project, None, "two\nlines \udcff")
    assert report is not None
    assert report.sentence.startswith("version 2 aborted: two lines ? (in HOLD")


def test_a_hold_reaches_the_running_promotion(street: SimpleNamespace) -> None:
    def hold() -> None:
        until(lambda: state_of(street.project) == "CANARY")
        assert hold_open(street.project, 1, "fog") is None

    with meanwhile(hold):
        report = promote("canary_frames=100000", drill="slow:9@99999")
    assert report["sentence"] == "version 2 held in CANARY step 1: fog"
    assert promote()["outcome"] == "held"
    with pytest.raises(ProjectError, match=r"promotion 7 is not open: the open one is promotion 1"):
        hold_open(street.project, 7, "fog")
    lines = read_record(street.project.records / "1.jsonl")
    assert (lines[0]["note"], lines[-1]["kind"]) == ("in a drill: slow:9@99999", "held")
    assert abort_open(street.project, None, "enough") is not None
    sentence = promote()["sentence"]
    assert sentence.endswith("(in a drill: slow:9@99999); to judge it again: tca promote --force")


def test_a_promotion_goes_on_when_prefect_does_not(street: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no connection")

    monkeypatch.setattr(prefect_pause, "_pause", broken)

    def answer() -> None:
        until(lambda: state_of(street.project) == "SHADOW")
        approve_open(street.project, 1, "anna")

    with meanwhile(answer):
        assert promote("approval=canary")["outcome"] == "promoted"


def test_nobody_waits_for_a_prefect_that_hangs() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError):
        prefect_pause._within(0.05, never.wait, 60.0)
    never.set()
    assert prefect_pause._within(5.0, int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        prefect_pause._within(5.0, int, "seven")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172800)])
def test_durations(text: str, seconds: float) -> None:
    assert approving.read_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1", "1w", "-1h", "0h", "1.5h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(InputError, match="is no duration"):
        approving.read_duration_s(text)


def test_nobody_cannot_agree(project_dir: Path) -> None:
    with pytest.raises(InputError, match="nobody is named"):
        approve_open(Project(project_dir), None, "  ")
    with pytest.raises(ProjectError, match="no promotion is open"):
        approve_open(Project(project_dir), None, "anna")
