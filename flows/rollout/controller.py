"""One promotion at a time: take the lease, open or resume a promotion, drive it, report how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flows.errors import Conflict, OutsideError, ProjectError
from flows.params import PromoteParams
from flows.rollout.driver import Driver
from flows.rollout.effects import LEASE_S, Effects
from flows.rollout.journal import Entry, Journal
from flows.rollout.leases import Lease, LeaseHeld, this_process
from flows.rollout.record import Record
from flows.rollout.report import OnEvent, PromotionReport, ignore
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
) -> PromotionReport:
    """Promote `challenger` over `champion`, or go on with its promotion if that is open.

    An open one keeps the params that it began with. The record is written to `records`/<number>.jsonl.

    Raises:
        Conflict: Another controller holds the lease, another promotion is open, or the champion changed meanwhile.
        ProjectError: The challenger reigns already, or the record of an open promotion is damaged.
        OutsideError: Something outside failed; the same call goes on from there.
    """
    clock = clock or SystemClock()
    with _leased(journal, traffic, clock) as lease:
        entry = journal.open_entry()
        if entry is None:
            _require_fresh(challenger, champion, registry)
            entry = journal.open_promotion(
                lease,
                (challenger.version, challenger.digest),
                (champion.version, champion.digest) if champion else None,
                params.model_dump_json(),
                clock.now(),
            )
        elif entry.challenger != (challenger.version, challenger.digest):
            raise Conflict(
                f"promotion {entry.id} of version {entry.challenger[0]} is still open, in {entry.position}",
                f"Finish it with: tca promotion resume {entry.id}, or give it up with: tca promotion abort {entry.id}",
            )
        return _drive(entry, journal, lease, traffic, registry, records, on_event, clock)


def resume_promotion(
    journal: Journal,
    traffic: Traffic,
    registry: Registry,
    records: Path,
    on_event: OnEvent = ignore,
    clock: Clock | None = None,
) -> PromotionReport:
    """Go on with the open promotion, whichever it is. Raises ProjectError when none is; else as `run_promotion`."""
    clock = clock or SystemClock()
    with _leased(journal, traffic, clock) as lease:
        entry = journal.open_entry()
        if entry is None:
            raise ProjectError("no promotion is open", "Begin one: tca promote")
        return _drive(entry, journal, lease, traffic, registry, records, on_event, clock)


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
        ProjectError: No promotion is open.
    """
    entry = journal.open_entry()
    if entry is None:
        raise ProjectError("no promotion is open", "See: tca status")
    journal.request_abort(entry.id, reason)
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
) -> PromotionReport:
    record = Record(records / f"{entry.id}.jsonl")
    effects = Effects(journal, lease, entry.id, record, traffic, registry, clock)
    driver = Driver(entry, effects, on_event)
    driver.run()
    report = summarise(journal, entry.id, driver.evidence, driver.params, clock.now())
    kind = "held" if report.outcome == "held" else "closed"
    record.append(kind, str(driver.position.state), report.sentence, clock.now(), outcome=report.outcome)
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


@contextlib.contextmanager
def _leased(journal: Journal, traffic: Traffic, clock: Clock) -> Iterator[Lease]:
    """Hold the lease while the body runs; its epoch exceeds what the router follows, so that it can be heard there."""
    lease = journal.acquire(this_process(), clock.now(), LEASE_S, above=traffic.routing().epoch)
    try:
        yield lease
    except (Exception, KeyboardInterrupt):
        with contextlib.suppress(OutsideError):
            journal.release(lease)
        raise
    journal.release(lease)
