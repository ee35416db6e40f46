from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.router import routing
from bentos.router.routing import NOTHING_ROUTED, RoutingTable, Snapshot, StaleSnapshot, parse_snapshot

ONE = {"version": "1", "digest": "d1", "url": "http://127.0.0.1:4001"}
TWO = {"version": "2", "digest": "d2", "url": "http://127.0.0.1:4002"}


def tree(**changes: Any) -> dict[str, Any]:
    plain = {"epoch": 1, "generation": 1, "mode": "champion", "share": 0, "promotion": None}
    return {**plain, "champion": ONE, "candidate": None, **changes}


def snapshot(**changes: Any) -> Snapshot:
    return parse_snapshot(orjson.dumps(tree(**changes)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mode": "blue"}, "mode: Input should be 'champion', 'shadow' or 'canary'"),
        ({"share": 1.5}, "share: Input should be less than or equal to 1"),
        ({"epoch": "1"}, "epoch: Input should be a valid integer"),
        ({"generation": -1}, "generation"),
        ({"mode": "shadow"}, "mode shadow needs champion, candidate and promotion"),
        ({"mode": "canary", "candidate": TWO}, "needs champion, candidate and promotion"),
        (
            {"mode": "canary", "candidate": ONE, "promotion": 1},
            "champion and candidate are both at http://127.0.0.1:4001",
        ),
        ({"champion": {**ONE, "url": "https://x:1"}}, "champion.url: must be http://HOST:PORT, without a path"),
        ({"champion": {**ONE, "url": "http://x:1/path"}}, "without a path"),
        ({"champion": {**ONE, "url": "http://x"}}, "http://HOST:PORT"),
        ({"champion": {**ONE, "version": "1\r\nevil: 1"}}, "champion.version"),
        ({"chmpion": ONE}, "chmpion: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_snapshot_is_explained(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as caught:
        snapshot(**changes)
    assert told in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"null"])
def test_what_is_no_snapshot_at_all_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_snapshot(text)


async def test_nothing_is_routed_at_first(tmp_path: Path) -> None:
    assert RoutingTable(tmp_path / "routing.json").current is NOTHING_ROUTED


async def test_the_first_snapshot_may_have_any_number(tmp_path: Path) -> None:
    table = RoutingTable(tmp_path / "routing.json")
    assert await table.replace(snapshot(epoch=0, generation=0))


@given(orders=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
async def test_what_counts_never_goes_back(
    tmp_path_factory: pytest.TempPathFactory, orders: list[tuple[int, int]]
) -> None:
    table = RoutingTable(tmp_path_factory.mktemp("state") / "routing.json")
    for turn, (epoch, generation) in enumerate(orders):
        before = table.current
        later = snapshot(epoch=epoch, generation=generation, share=turn / 100)
        if before is NOTHING_ROUTED or later.order > before.order:
            assert await table.replace(later)
            assert table.current == later
        else:
            with pytest.raises(StaleSnapshot):
                await table.replace(later)
            assert table.current == before


async def test_repeating_a_snapshot_changes_nothing_and_succeeds(tmp_path: Path) -> None:
    table = RoutingTable(tmp_path / "routing.json")
    assert await table.replace(snapshot())
    assert not await table.replace(snapshot())


async def test_a_new_table_goes_on_with_the_last_known_good(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    await RoutingTable(path).replace(snapshot(epoch=4, mode="canary", candidate=TWO, promotion=9, share=0.5))
    table = RoutingTable(path)
    assert table.current.order == (4, 1)
    with pytest.raises(StaleSnapshot):
        await table.replace(snapshot(epoch=3, generation=99))


async def test_what_cannot_be_written_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = RoutingTable(tmp_path / "routing.json")
    await table.replace(snapshot())

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(routing, "write_durably", full)
    with pytest.raises(OSError):
        await table.replace(snapshot(generation=2))
    assert table.current.generation == 1


@pytest.mark.parametrize("damaged", [b"", b'{"epoch": 4, "gen', b"\x00" * 100])
async def test_a_damaged_file_costs_nothing_but_itself(tmp_path: Path, damaged: bytes) -> None:
    """Its copy goes on, fence and all, and the damaged one is kept to be looked at."""
    path = tmp_path / "routing.json"
    await RoutingTable(path).replace(snapshot(epoch=4, generation=1))
    last = snapshot(epoch=4, generation=2, mode="canary", candidate=TWO, promotion=9, share=0.5)
    await RoutingTable(path).replace(last)
    path.write_bytes(damaged)
    table = RoutingTable(path)
    assert table.current == last
    with pytest.raises(StaleSnapshot):
        await table.replace(snapshot(epoch=4, generation=2))
    assert path.with_suffix(".broken").read_bytes() == damaged
    assert parse_snapshot(path.read_bytes()) == last


async def test_a_copy_that_cannot_be_written_tells_nothing_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "routing.json"
    table = RoutingTable(path)
    await table.replace(snapshot())
    write = routing.write_whole

    def full_for_the_copy(target: Path, content: bytes, to_disk: bool = False) -> None:
        if target != path:
            raise OSError(28, "No space left on device")
        write(target, content, to_disk)

    monkeypatch.setattr(routing, "write_whole", full_for_the_copy)
    assert await table.replace(snapshot(generation=2))
    assert [name.name for name in tmp_path.iterdir()] == ["routing.json"]
    assert RoutingTable(path).current.generation == 2


async def test_a_disk_that_is_full_does_not_keep_a_damaged_router_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "routing.json"
    await RoutingTable(path).replace(snapshot())
    path.write_bytes(b"{")

    def full(target: Path, content: bytes, to_disk: bool = False) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(routing, "write_whole", full)
    assert RoutingTable(path).current == snapshot()


async def test_a_file_that_was_moved_away_routes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    await RoutingTable(path).replace(snapshot())
    path.unlink()
    assert RoutingTable(path).current is NOTHING_ROUTED


async def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    path.write_text('{"epoch": 1')
    with pytest.raises(ValueError):
        RoutingTable(path)
