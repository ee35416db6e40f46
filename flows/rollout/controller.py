"""One promotion at a time: take the lease, open or resume a promotion, drive it, report how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from flows.errors import Conflict, ProjectError, TcaError
from flows.params import PromoteParams
from flows.rollout.driver import Driver
from flows.rollout.effects import Effects, FencedRecord
from flows.rollout.evidence import Evidence
from flows.rollout.journal import Entry, Journal
from flows.rollout.leases import LEASE_S, Lease, LeaseHeld, this_process
from flows.rollout.record import Record, read_record, replay_record
from flows.rollout.report import OnEvent, PromotionReport, ignore
from flows.rollout.states import State
from flows.rollout.summary import summarise
from flows.rollout.traffic import Clock, Registry, SystemClock, Traffic, Version


def run_promotion(
    journal: Journal,
    traffic: Traffic,
    registry: Registry,
    challenger: Version,
    champion: Version | None,
    params: PromoteParams,
    records: Path,
    on_event: OnEvent = ignore,
    clock: Clock | None = None,
    note: str = "",
) -> PromotionReport:
    """Promote `challenger` over `champion`, or go on with its promotion if that is open.

    An open one keeps the params that it began with. The record is written to `records`/<number>.jsonl; it says `note`.

    Raises:
        Conflict: Another controller holds the lease, another promotion is open, or the champion changed meanwhile.
        ProjectError: The challenger reigns already, or the record of an open promotion is damaged.
        OutsideError: Something outside failed; the same call goes on from there.
    """
    clock = clock or SystemClock()

    def work(lease: Lease) -> PromotionReport:
        entry = journal.open_entry()
        if entry is None:
            _require_fresh(challenger, champion, registry)
            entry = journal.open_promotion(
                lease,
                (challenger.version, challenger.digest),
                (champion.version, champion.digest) if champion else None,
                params.model_dump_json(),
                clock.now(),
                above=_last_number(records, traffic),
            )
        elif entry.challenger != (challenger.version, challenger.digest):
            raise Conflict(
                f"promotion {entry.id} of version {entry.challenger[0]} is still open, in {entry.position}",
                f"Finish it with: tca promotion resume {entry.id}, or give it up with: tca promotion abort {entry.id}",
            )
        return _drive(entry, journal, lease, traffic, registry, records, on_event, clock, note)

    return _under_lease(journal, traffic, clock, work)


def resume_promotion(
    journal: Journal,
    traffic: Traffic,
    registry: Registry,
    records: Path,
    on_event: OnEvent = ignore,
    clock: Clock | None = None,
    lifts_hold: bool = False,
    note: str = "",
) -> PromotionReport:
    """Go on with the open promotion, whichever it is; what a person holds goes on only where this `lifts_hold`.

    Raises:
        ProjectError: No promotion is open; else as `run_promotion`.
    """
    clock = clock or SystemClock()

    def work(lease: Lease) -> PromotionReport:
        entry = journal.open_entry()
        if entry is None:
            raise _none_open("Begin one: tca promote")
        if lifts_hold:
            journal.clear_hold_request(lease, entry.id)
        return _drive(entry, journal, lease, traffic, registry, records, on_event, clock, note)

    return _under_lease(journal, traffic, clock, work)


def abort_promotion(
    journal: Journal,
    traffic: Traffic,
    registry: Registry,
    records: Path,
    reason: str,
    on_event: OnEvent = ignore,
    clock: Clock | None = None,
) -> PromotionReport | None:
    """Give the open promotion up: back to the champion.

    Returns None when a live controller holds it; that one sees the request at its next look and carries it out.

    Raises:
        ProjectError: No promotion is open, or it is past the point of no return.
    """
    entry = journal.open_entry()
    if entry is None:
        raise _none_open("See: tca status")
    journal.request_abort(entry.id, reason)
    return _resume_unless_held(journal, traffic, registry, records, on_event, clock)


def hold_promotion(
    journal: Journal,
    traffic: Traffic,
    registry: Registry,
    records: Path,
    reason: str,
    on_event: OnEvent = ignore,
    clock: Clock | None = None,
) -> PromotionReport | None:
    """Hold the open promotion until somebody resumes it.

    Returns None when a live controller holds it; that one sees the request at its next look and carries it out.

    Raises:
        ProjectError: No promotion is open.
    """
    entry = journal.open_entry()
    if entry is None:
        raise _none_open("See: tca status")
    journal.request_hold(entry.id, reason, (clock or SystemClock()).now())
    return _resume_unless_held(journal, traffic, registry, records, on_event, clock)


def _resume_unless_held(
    journal: Journal, traffic: Traffic, registry: Registry, records: Path, on_event: OnEvent, clock: Clock | None
) -> PromotionReport | None:
    try:
        return resume_promotion(journal, traffic, registry, records, on_event, clock)
    except LeaseHeld:
        return None


def _drive(
    entry: Entry,
    journal: Journal,
    lease: Lease,
    traffic: Traffic,
    registry: Registry,
    records: Path,
    on_event: OnEvent,
    clock: Clock,
    note: str,
) -> PromotionReport:
    record = FencedRecord(records / f"{entry.id}.jsonl", journal, lease)
    effects = Effects(journal, lease, entry.id, record, traffic, registry, clock)
    if entry.position.state is not State.IDLE:
        effects.raise_fence()
    driver = Driver(entry, effects, on_event, note)
    driver.run()
    return _tell(journal, record, entry.id, driver.evidence, driver.params, clock.now())


def report_closed(journal: Journal, promotion: int, records: Path, clock: Clock | None = None) -> PromotionReport:
    """The report of a closed promotion whose controller was killed before it told how it ended.

    Raises:
        Conflict: A controller is at work, perhaps that very one.
        ProjectError: The record is damaged or lost.
    """
    clock = clock or SystemClock()
    path = records / f"{promotion}.jsonl"
    lease = journal.acquire(this_process(), clock.now(), LEASE_S, above=0)
    try:
        record, replay = FencedRecord(path, journal, lease), replay_record(path)
        if read_record(path)[-1]["kind"] == "closed":
            return summarise(journal, promotion, replay.evidence, replay.params, clock.now())
        return _tell(journal, record, promotion, replay.evidence, replay.params, clock.now())
    finally:
        journal.release(lease)


def _tell(
    journal: Journal, record: Record, promotion: int, evidence: Evidence, params: PromoteParams, now: float
) -> PromotionReport:
    """The last line of the record, and the report that says the same."""
    report = summarise(journal, promotion, evidence, params, now)
    kind, state = "held" if report.outcome == "held" else "closed", journal.read(promotion).position.state
    record.append(kind, state.value, report.sentence, now, outcome=report.outcome)
    return report


def _require_fresh(challenger: Version, champion: Version | None, registry: Registry) -> None:
    if not challenger.digest:
        raise ProjectError(f"version {challenger.version} has no digest, so it cannot be pinned", "Run: tca package")
    if champion is not None and champion.version == challenger.version:
        raise ProjectError(f"version {challenger.version} reigns already", "Make a challenger: tca train")
    reigning = registry.champion()
    if (reigning and reigning.version) != (champion and champion.version):
        now, expected = (one.version if one else "none" for one in (reigning, champion))
        raise Conflict(f"the champion changed meanwhile: it is {now}, not {expected}", "Evaluate again: tca evaluate")


def _none_open(remedy: str) -> ProjectError:
    return ProjectError("no promotion is open", remedy)


def _last_number(records: Path, traffic: Traffic) -> int:
    """The highest number that records or router know: a record of a journal that was lost is never gone on with."""
    kept = [int(path.stem) for path in records.glob("*.jsonl") if path.stem.isdecimal()]
    return max([abs(traffic.routing().promotion or 0), *kept])  # an unsettled routing negates it


def _under_lease(
    journal: Journal, traffic: Traffic, clock: Clock, work: Callable[[Lease], PromotionReport]
) -> PromotionReport:
    """Do the work under the lease; its epoch exceeds what the router follows, so that it can be heard there.

    Who asks for an abort while a promotion goes into a hold was told that this controller carries it out. So the lease
    is not given back before.
    """
    lease = journal.acquire(this_process(), clock.now(), LEASE_S, above=traffic.routing().epoch)
    try:
        with journal.kept(lease, clock.now, LEASE_S):
            report = work(lease)
            while not journal.release(lease, unless_aborting=report.promotion):
                report = work(lease)
    except (Exception, KeyboardInterrupt):
        with contextlib.suppress(TcaError):  # the error that ended the work says more
            journal.release(lease)
        raise
    return report
