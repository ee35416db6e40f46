"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """Give an empty sibling folder to fill; it takes the place of `target` when the block ends well.

    The old folder is moved aside and then deleted, never written into: its files may be hard links or symbolic links
    into a cache. If the block raises, or the process is interrupted, `target` is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    if not target.exists() and old.is_dir():  # a process died between the two renames below
        old.rename(target)
    for leftover in (fresh, old):
        _remove(leftover)
    fresh.mkdir()
    try:
        yield fresh
        if target.exists() or target.is_symlink():
            target.rename(old)
        fresh.rename(target)
    finally:
        if not target.exists() and old.exists():
            old.rename(target)
        _remove(fresh)
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
