"""A long time at a moderate load, and a short one at three times what can be done. With a real engine."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.load import Frame, Sent, closed_loop, open_loop, percentile_s
from tests.chaos.service import Service, start
from tests.detector.conftest import Services

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

SOAK_S = float(os.environ.get("CHAOS_SOAK_S", "600"))
LOAD = float(os.environ.get("CHAOS_LOAD", "0.6"))
"""Share of the capacity in the soak; less where the machine has other work."""
OVERLOAD_S = float(os.environ.get("CHAOS_OVERLOAD_S", "15"))
GROWTH_MB = 16.0
"""Growth of memory over the whole soak, by the fitted line after the warm-up."""
REFUSAL_P99_S = 0.5
"""p99 of a refusal at three times the capacity, the whole body sent, on a machine that the client shares."""


@dataclass(frozen=True)
class Sample:
    """The processes of the service at one moment."""

    time_s: float
    rss_mb: float
    num_fds: int
    num_threads: int


async def watch(service: Service, stop: asyncio.Event) -> list[Sample]:
    """A sample a second until `stop`."""
    samples, worker, began_s = [], service.worker, time.monotonic()
    while not stop.is_set():
        samples.append(Sample(time.monotonic() - began_s, service.rss_mb(), worker.num_fds(), worker.num_threads()))
        await asyncio.sleep(1.0)
    return samples


async def soak(service: Service, frames: tuple[Frame, ...], rate: float) -> tuple[list[Sent], list[Sample]]:
    stop = asyncio.Event()
    watching = asyncio.ensure_future(watch(service, stop))
    sent = await open_loop(service.url, frames, rate, SOAK_S)
    stop.set()
    return sent, await watching


@pytest.mark.timeout(SOAK_S + 300)
def test_neither_memory_nor_latency_grows(
    services: Services, tmp_path: Path, real_model: Path, frames: tuple[Frame, ...]
) -> None:
    service = start(services, real_model, tmp_path / "log")
    worker = service.worker.pid
    asyncio.run(closed_loop(service.url, frames, seconds=3.0))
    rate = LOAD * asyncio.run(closed_loop(service.url, frames, seconds=8.0))
    sent, samples = asyncio.run(soak(service, frames, rate))
    warm = [sample for sample in samples if sample.time_s > 0.2 * SOAK_S]
    slope_mb_s = float(np.polyfit([one.time_s for one in warm], [one.rss_mb for one in warm], 1)[0])
    third = len(sent) // 3
    early, late = percentile_s(sent[:third], 0.5), percentile_s(sent[-third:], 0.5)
    print(
        f"soak: {len(sent)} frames at {rate:.0f}/s in {SOAK_S:g} s, {dict(Counter(one.status for one in sent))}; "
        f"{warm[0].rss_mb:.0f} MB to {warm[-1].rss_mb:.0f} MB, {slope_mb_s * 3600:+.1f} MB/h; "
        f"median {early * 1000:.1f} ms, later {late * 1000:.1f} ms; "
        f"fds {sorted({one.num_fds for one in warm})}, threads {sorted({one.num_threads for one in warm})}"
    )
    assert {one.status for one in sent} == {200}
    assert slope_mb_s * SOAK_S < GROWTH_MB
    assert late < 1.5 * early + 0.010
    assert len({one.num_threads for one in warm}) == 1
    half = len(warm) // 2
    assert np.median([one.num_fds for one in warm[half:]]) <= np.median([one.num_fds for one in warm[:half]]) + 2
    assert service.worker.pid == worker


def test_three_times_the_capacity_costs_little_of_it(
    services: Services, tmp_path: Path, real_model: Path, frames: tuple[Frame, ...]
) -> None:
    """Goodput is what is answered 200 a second while the load lasts; the peak is that of a closed loop, just before and
    just after, since the machine has other work at times.
    """
    service = start(services, real_model, tmp_path / "log")
    asyncio.run(closed_loop(service.url, frames, seconds=3.0))
    before = asyncio.run(closed_loop(service.url, frames, seconds=6.0, num_clients=16))
    sent = asyncio.run(open_loop(service.url, frames, rate=3 * before, seconds=OVERLOAD_S))
    began_s = time.monotonic()
    (at_once,) = asyncio.run(open_loop(service.url, frames, rate=1.0, seconds=1.0))
    recovered_s = time.monotonic() - began_s
    after = asyncio.run(closed_loop(service.url, frames, seconds=6.0, num_clients=16))
    good = [one for one in sent if one.status == 200 and one.due_s + one.latency_s <= OVERLOAD_S]
    refused = [one for one in sent if one.status == 503]
    goodput, peak = len(good) / OVERLOAD_S, min(before, after)
    print(
        f"overload: peak {before:.0f}/s before, {after:.0f}/s after; offered 3 times that, answered {goodput:.0f}/s "
        f"({goodput / peak:.0%}), {dict(Counter(one.status for one in sent))}; refusals p50 "
        f"{percentile_s(refused, 0.5) * 1000:.0f} ms, p99 {percentile_s(refused, 0.99) * 1000:.0f} ms; "
        f"answers p99 {percentile_s(good, 0.99) * 1000:.0f} ms; next answer after {recovered_s:.2f} s"
    )
    assert {one.status for one in sent} == {200, 503}
    assert all(int(one.retry_after) >= 1 for one in refused)
    assert goodput > 0.9 * peak
    assert percentile_s(refused, 0.99) < REFUSAL_P99_S
    assert at_once.status == 200
    assert recovered_s < 2.0
