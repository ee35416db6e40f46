from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.adapters.run_entries import Begun, Figures, RunStatus, TagsSet
from flows.adapters.run_spool import JOURNAL, Spool, find_journals, peek

BEGUN = Begun(stage="train", job="a", token="t", name="train", tags={}, started_ms=1, parent_run=None)


def figures(step: int, value: float = 0.5) -> Figures:
    return Figures(step=step, at_ms=7, values={"loss": value, "score": 1 / 3})


def reopened(folder: Path) -> Spool:
    spool = Spool.open(folder)
    assert spool is not None
    return spool


def test_what_was_appended_is_there_for_the_next_process(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "run", BEGUN)
    for step in (1, 2):
        spool.append(figures(step, float("nan")))
    spool.note_made("abc")
    spool.note_sent(2)
    spool.close()
    again = reopened(tmp_path / "run")
    assert again.begun == BEGUN
    assert again.run_id == "abc"
    assert repr(again.figures) == repr({step: {"loss": float("nan"), "score": 1 / 3} for step in (1, 2)})
    assert [stored.number for stored in again.unsent()] == [3]


def test_a_journal_is_held_by_one(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "run", BEGUN)
    assert Spool.open(tmp_path / "run") is None
    assert peek(tmp_path / "run") == BEGUN
    spool.close()
    reopened(tmp_path / "run").remove()
    assert find_journals(tmp_path) == []
    assert Spool.open(tmp_path / "run") is None


@given(data=st.data())
def test_a_journal_torn_at_any_byte_holds_the_whole_lines_and_takes_more(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool") / "run"
    spool = Spool.create(folder, BEGUN)
    sizes = [(folder / JOURNAL).stat().st_size]
    for step in range(1, 4):
        spool.append(figures(step))
        sizes.append((folder / JOURNAL).stat().st_size)
    spool.close()
    cut = data.draw(st.integers(sizes[0], sizes[-1]))
    garbage = data.draw(st.binary(max_size=3)) if cut not in sizes else b""
    os.truncate(folder / JOURNAL, cut)
    with (folder / JOURNAL).open("ab") as stream:
        stream.write(garbage.replace(b"\n", b""))
    again = reopened(folder)
    whole = sum(size <= cut for size in sizes) - 1
    assert list(again.figures) == list(range(1, whole + 1))
    again.append(figures(9))
    again.close()
    last = reopened(folder)
    assert list(last.figures) == [*range(1, whole + 1), 9]
    last.close()


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_damaged_line_is_passed_over_and_never_believed(
    at: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool") / "run"
    spool = Spool.create(folder, BEGUN)
    first = (folder / JOURNAL).stat().st_size
    for step in range(1, 4):
        spool.append(figures(step))
    spool.close()
    content = bytearray((folder / JOURNAL).read_bytes())
    at = first + at % (len(content) - first)
    content[at] ^= 1 << bit
    (folder / JOURNAL).write_bytes(content)
    again = reopened(folder)
    assert set(again.figures) < {1, 2, 3}
    assert len(again.figures) >= 1
    assert all(values == figures(1).values for values in again.figures.values())
    again.close()


def test_a_journal_that_never_began_is_tidied_away(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / JOURNAL).write_bytes(b'{"crc32":"0000')
    assert Spool.open(tmp_path / "run") is None
    assert find_journals(tmp_path) == []


def test_a_full_disk_keeps_lines_in_memory_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    spool = Spool.create(tmp_path / "run", BEGUN, told.append)
    real = os.write
    room = [10]

    def write(stream: int, content: memoryview) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(room[0], len(content))
        room[0] -= taken
        return real(stream, content[:taken])

    monkeypatch.setattr(os, "write", write)
    spool.append(figures(1))
    spool.append(figures(2))
    assert told == ["No space left on device"]
    assert spool.place == "memory"
    assert list(spool.figures) == [1, 2]
    room[0] = 100_000
    spool.append(figures(3))
    assert spool.place == str(tmp_path / "run")
    spool.close()
    assert list(reopened(tmp_path / "run").figures) == [1, 2, 3]


def test_without_any_room_the_journal_lives_in_memory(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    told: list[str] = []
    spool = Spool.create(tmp_path / "runs" / "run", BEGUN, told.append)
    spool.append(figures(1))
    assert len(told) == 1
    assert list(spool.figures) == [1]
    assert [stored.number for stored in spool.unsent()] == [1, 2]
    spool.remove()


def test_a_kept_file_stays_as_it_was(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "run", BEGUN)
    path = tmp_path / "epochs.csv"
    path.write_text("one")
    kept = spool.keep_file(path)
    path.write_text("another")
    assert kept.read_text() == "one"
    assert kept.name == "epochs.csv"
    with pytest.raises(FileNotFoundError):
        spool.keep_file(tmp_path / "missing")


def test_status_is_the_last_that_was_said(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "run", BEGUN)
    assert spool.status.status == "RUNNING"
    for status in ("KILLED", "RUNNING", "FINISHED"):
        spool.append(RunStatus(status=status, at_ms=1))
    spool.append(TagsSet(values={}))
    assert spool.status.status == "FINISHED"
    assert spool.num_reopened == 1
