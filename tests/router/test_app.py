"""The whole router: its own doors, the controller's door, swaps under load, restarts."""

from __future__ import annotations

import asyncio
import stat
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bentos.router import routing
from bentos.router.admin import load_token
from bentos.router.app import Router, RouterSettings
from bentos.router.state import StateError, load_table


async def status_of(bench: Any, path: str) -> int:
    async with bench.client.get(bench.url + path) as response:
        return int(response.status)


async def test_alive_at_once_ready_with_a_ready_champion(bench: Any) -> None:
    assert (await status_of(bench, "/livez"), await status_of(bench, "/readyz")) == (200, 503)
    await bench.route("champion")

    async def ready() -> bool:
        return await status_of(bench, "/readyz") == 200

    async def unready() -> bool:
        return await status_of(bench, "/readyz") == 503

    await bench.until(ready)
    bench.champion.ready = False
    await bench.until(unready)
    bench.champion.ready = True
    await bench.until(ready)


async def test_metrics_and_stats_count_the_same(bench: Any) -> None:
    await bench.route("canary", 1.0)
    await bench.detect("cam01")
    bench.candidate.status = 503
    await bench.detect("cam02")
    await bench.observations(2)
    async with bench.client.get(bench.url + "/metrics") as response:
        text = await response.text()
    for line in (
        'router_requests_total{served_by="candidate",status="200"} 1.0',
        'router_requests_total{served_by="champion",status="200"} 1.0',
        'router_backend_errors_total{arm="candidate"} 1.0',
        'router_fallbacks_total{to="champion"} 1.0',
        'router_in_flight{arm="champion"} 0.0',
        "router_cameras_seen 2.0",
        "router_generation 1.0",
    ):
        assert line in text
    stats = await bench.get("/stats")
    counted = {key: stats[key] for key in ("requests_total", "fallbacks_total", "errors_total", "cameras_seen")}
    assert counted == {"requests_total": 2, "fallbacks_total": 1, "errors_total": 0, "cameras_seen": 2}
    assert stats["latency_ms"]["p99"] >= stats["latency_ms"]["p50"] > 0
    assert stats["routing"] == await bench.get("/routing")


async def test_stats_before_the_first_frame(bench: Any) -> None:
    stats = await bench.get("/stats")
    assert stats["latency_ms"] == {"p50": None, "p99": None}
    assert stats["in_flight"] == {"champion": 0, "candidate": 0}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic abc"])
@pytest.mark.parametrize("path", ["/routing", "/observations", "/stats", "/else"])
async def test_the_token_is_required(bench: Any, authorization: str | None, path: str) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    async with bench.client.get(bench.admin_url + path, headers=headers) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (401, "unauthorized")


async def test_the_token_is_readable_by_its_owner_only_and_stays(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "router" / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_token(path) == bench.router.token == path.read_text().strip()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/routing", 405, "method_not_allowed"),
        ("DELETE", "/stats", 405, "method_not_allowed"),
        ("GET", "/observations?after=-1", 400, "bad_query"),
        ("GET", "/observations?limit=all", 400, "bad_query"),
        ("PUT", "/routing", 400, "bad_snapshot"),
    ],
)
async def test_wrong_admin_requests_are_explained(bench: Any, method: str, path: str, status: int, code: str) -> None:
    async with bench.client.request(method, bench.admin_url + path, headers=bench.authorization) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (status, code)


async def test_a_wrong_snapshot_is_refused_with_what_is_expected(bench: Any) -> None:
    status, body = await bench.put({**bench.snapshot("champion"), "mode": "blue", "share": 2})
    assert status == 400
    problems = body["error"]["details"]["problems"]
    assert len(problems) == 2 and problems[0].startswith("mode: Input should be 'champion', 'shadow' or 'canary'")
    assert "http://127.0.0.1:4000" in body["error"]["details"]["expected"]


async def test_a_stale_epoch_is_refused(bench: Any) -> None:
    await bench.route("champion", epoch=5, generation=3)
    for epoch, generation in ((4, 99), (5, 2), (5, 3)):
        status, body = await bench.put({**bench.snapshot("shadow"), "epoch": epoch, "generation": generation})
        assert (status, body["error"]["code"]) == (409, "stale_epoch")
        assert body["error"]["details"] == {"epoch": 5, "generation": 3}
    assert (await bench.get("/routing"))["mode"] == "champion"


async def test_a_full_disk_leaves_the_routing_as_it_was(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.route("champion")

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(routing, "write_durably", full)
    status, body = await bench.put(bench.snapshot("canary", 1.0))
    assert (status, body["error"]["code"]) == (507, "not_persisted")
    assert (await bench.detect()).headers["x-served-by"] == "champion"


async def test_observations_are_paged(bench: Any) -> None:
    await bench.route("champion")
    for number in range(5):
        await bench.detect(request_id=f"id-{number}")
    await bench.observations(5)
    after, ids = 0, []
    for _ in range(3):
        page = await bench.get(f"/observations?after={after}&limit=2")
        after = page["next"]
        ids += [entry["request_id"] for entry in page["observations"]]
    assert ids == [f"id-{number}" for number in range(5)]
    assert await bench.get(f"/observations?after={after}") == {"next": after, "dropped": 0, "observations": []}


async def test_no_frame_is_lost_while_snapshots_are_swapped_under_load(bench: Any, more_detectors: Any) -> None:
    """Four cameras send without a pause through a whole promotion; the old champion stops when nothing is in flight."""
    await bench.route("champion")
    statuses: Counter[int] = Counter()
    stop = asyncio.Event()

    async def camera(name: str) -> None:
        while not stop.is_set():
            statuses[(await bench.detect(name)).status] += 1

    cameras = [asyncio.ensure_future(camera(f"cam{number}")) for number in range(4)]

    async def frames(number: int) -> None:
        target = sum(statuses.values()) + number
        await bench.until(lambda: sum(statuses.values()) >= target)

    await frames(20)
    for mode, share in (("shadow", 0.0), ("canary", 0.25), ("canary", 0.5), ("canary", 1.0)):
        await bench.route(mode, share)
        await frames(20)
    winner = bench.candidate.backend()
    await bench.route("champion", champion=winner)
    old = bench.champion.url

    async def idle() -> bool:
        return (await bench.get("/stats"))["in_flight"].get(old, 0) == 0

    await bench.until(idle)
    await bench.champion.stop()
    await frames(20)
    third = await more_detectors("3")
    await bench.route("shadow", champion=winner, candidate=third.backend(), promotion=8)
    await frames(20)
    stop.set()
    await asyncio.gather(*cameras)
    assert set(statuses) == {200}
    assert len(third.seen) > 0


async def test_a_restart_goes_on_with_routing_and_canary_cameras(bench: Any, tmp_path: Path) -> None:
    for number in range(8):
        bench.router.cameras.see(f"cam{number}")
    await bench.route("canary", 0.5)
    taken = set(bench.router.cameras.taken)
    await bench.router.drain()
    again = Router(RouterSettings(tmp_path / "router"))
    assert again.table.current == bench.router.table.current
    assert set(again.cameras.taken) == taken and len(taken) == 4


async def test_whoever_gave_an_order_may_be_gone_before_it_is_done(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller killed while it routes: disk and memory say the same afterwards."""
    await bench.route("champion")
    writing, go_on = threading.Event(), threading.Event()
    whole = routing.write_durably

    def slow(path: Path, content: bytes) -> None:
        writing.set()
        go_on.wait(20)
        whole(path, content)

    monkeypatch.setattr(routing, "write_durably", slow)
    order = asyncio.ensure_future(bench.put(bench.snapshot("canary", 0.5)))
    await bench.until(writing.is_set)
    order.cancel()
    await asyncio.gather(order, return_exceptions=True)
    assert (await bench.get("/routing"))["mode"] == "champion"
    go_on.set()

    async def done() -> bool:
        return bool((await bench.get("/routing"))["mode"] == "canary")

    await bench.until(done)
    assert load_table(tmp_path / "router" / "routing.json").current == bench.router.table.current
    assert bench.router.cameras.share == 0.5


async def test_frames_see_the_old_snapshot_or_the_new_one_and_nothing_between(bench: Any) -> None:
    """The arms change places again and again under load: who answers is always who was routed."""
    first, second = bench.champion.backend(), bench.candidate.backend()
    await bench.route("champion", champion=first, candidate=second)
    stop = asyncio.Event()
    statuses: Counter[int] = Counter()

    async def camera(name: str) -> None:
        while not stop.is_set():
            statuses[(await bench.detect(name)).status] += 1

    cameras = [asyncio.ensure_future(camera(f"cam{number}")) for number in range(4)]
    for number in range(40):
        arms = (first, second) if number % 2 else (second, first)
        await bench.route("champion", champion=arms[0], candidate=arms[1])
    await bench.until(lambda: sum(statuses.values()) > 40)
    stop.set()
    await asyncio.gather(*cameras)
    assert set(statuses) == {200}
    seen = (await bench.get("/observations?limit=5000"))["observations"]
    assert {entry["champion"]["version"] for entry in seen} == {"1", "2"}
    assert not any(entry["fallback"] or entry["candidate"] for entry in seen)


async def test_ready_while_anybody_can_answer(bench: Any) -> None:
    await bench.route("champion", candidate=bench.candidate.backend())
    await bench.champion.stop()
    await bench.until(lambda: bench.router.pools[bench.champion.url].ready is False)
    await bench.until(lambda: bench.router.pools[bench.candidate.url].ready is True)
    async with bench.client.get(bench.url + "/readyz") as response:
        assert (response.status, (await response.json())["able"]) == (200, ["candidate"])
    state = (await bench.get("/stats"))["arms"]
    assert state == {"champion": {"ready": False, "hangs": False}, "candidate": {"ready": True, "hangs": False}}


async def test_a_router_that_is_about_to_end_takes_no_orders_and_writes_nothing(bench: Any, tmp_path: Path) -> None:
    bench.router.cameras.see("arrives early")
    await bench.route("canary", 1.0)
    await bench.route("champion")
    bench.champion.gate = asyncio.Event()
    frame = asyncio.ensure_future(bench.detect())
    await bench.until(lambda: bench.champion.num_waiting == 1)
    drain = asyncio.ensure_future(bench.router.drain())
    await bench.until(lambda: bench.router.draining)
    status, body = await bench.put(bench.snapshot("shadow"))
    assert (status, body["error"]["code"]) == (503, "draining")
    successor = Router(RouterSettings(tmp_path / "router", port=0, admin_port=0))
    await successor.start()  # the state is its own already
    kept = (tmp_path / "router" / "cameras.json").read_bytes()
    bench.router.cameras.see("arrives late")
    assert (tmp_path / "router" / "cameras.json").read_bytes() == kept
    bench.champion.gate.set()
    assert (await frame).status == 200
    assert await drain
    await successor.drain()


async def test_two_routers_never_share_a_state_directory(bench: Any, tmp_path: Path) -> None:
    """The second one does not even read it: the first may be about to write, and to let go."""
    (tmp_path / "router" / "cameras.json").write_text("half")
    with pytest.raises(StateError, match=r"another router works with .*--state-dir"):
        Router(RouterSettings(tmp_path / "router"))
    assert (tmp_path / "router" / "cameras.json").read_text() == "half"


def test_a_broken_routing_file_without_a_copy_is_named_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "routing.json").write_text('{"half')
    with pytest.raises(StateError, match=r"routing.json holds no .* Move it away"):
        Router(RouterSettings(tmp_path))


def test_broken_canary_cameras_are_chosen_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cameras.json").write_text('{"half')
    assert not Router(RouterSettings(tmp_path)).cameras.taken
    assert "cameras.json was damaged" in caplog.text and (tmp_path / "cameras.broken").exists()
