from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from flows.memory import give_back_memory, read_memory

NO_GROUPS = Path("no-such-file")


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n", encoding="utf-8")


def test_without_control_groups_it_is_the_machines(tmp_path: Path) -> None:
    memory = read_memory(tmp_path, NO_GROUPS)
    assert memory.total_bytes == psutil.virtual_memory().total
    assert 0 < memory.free_bytes < memory.total_bytes


def test_the_narrowest_group_above_this_process_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/pods/one\n", encoding="utf-8")
    write(tmp_path / "pods", memory__max="1000000", memory__current="900000", memory__stat="anon 1\ninactive_file 5000")
    write(tmp_path / "pods" / "one", memory__max="max", memory__current="800000")
    memory = read_memory(tmp_path, own)
    assert (memory.total_bytes, memory.free_bytes) == (1_000_000, 105_000)


def test_version_one_of_control_groups(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:memory:/not/mounted/here\n3:cpuset:/\n0::/\n", encoding="utf-8")
    write(
        tmp_path / "memory",
        memory__limit_in_bytes="2000000",
        memory__usage_in_bytes="500000",
        memory__stat="inactive_file 7\ntotal_inactive_file 100000",
    )
    memory = read_memory(tmp_path, own)
    assert (memory.total_bytes, memory.free_bytes) == (2_000_000, 1_600_000)


@pytest.mark.parametrize("used", ["3000000", "2000000"])
def test_a_full_group_has_nothing_free(tmp_path: Path, used: str) -> None:
    own = tmp_path / "own"
    own.write_text("0::/\n", encoding="utf-8")
    write(tmp_path, memory__max="2000000", memory__current=used)
    assert read_memory(tmp_path, own).free_bytes == 0


def test_the_real_files_of_this_machine_can_be_read() -> None:
    memory = read_memory()
    assert 0 < memory.free_bytes <= memory.total_bytes <= psutil.virtual_memory().total


def test_freed_memory_goes_back() -> None:
    process = psutil.Process()
    blocks = [bytearray(b"x" * 100_000) for _ in range(1000)]
    held = process.memory_info().rss
    del blocks
    give_back_memory()
    assert process.memory_info().rss < held - 50_000_000
