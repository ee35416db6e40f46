"""Reading files that may be anything and may change: only regular ones, and not while somebody writes them."""

from __future__ import annotations

import os
import stat
import unicodedata
from pathlib import Path

from flows.errors import DataError

Signature = tuple[int, int, int, int]
"""Size, modification and change time in ns, inode: what tells that a file is still the one that was read."""

ABSENT: Signature = (-1, -1, -1, -1)
MAX_FILE_BYTES = 1 << 29  # half a gigabyte: no frame of a camera, and no label file
_ATTEMPTS = 3
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def read_steadily(path: str) -> tuple[bytes, Signature]:
    """The content of a regular file and its signature, which was the same before and after reading.

    Raises:
        OSError: It cannot be read; `strerror` says why in words, also where it is a folder, a pipe or too large.
        DataError: It changes whenever it is read.
    """
    for _ in range(_ATTEMPTS):
        # without O_NONBLOCK, opening a named pipe waits for somebody to write into it
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        try:
            before = os.fstat(descriptor)
            _require_readable(before, path)
            content = _read(descriptor, before.st_size)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if signature_of(before) == signature_of(after) and len(content) == after.st_size:
            return content, signature_of(after)
    raise still_changing(path)


def read_signature(path: str) -> Signature:
    """The signature of the file at `path`; ABSENT where there is none or it cannot be looked at."""
    try:
        return signature_of(os.stat(path))  # noqa: PTH116 - some 100,000 times, and pathlib takes longer than the call
    except (OSError, ValueError):
        return ABSENT


def signature_of(found: os.stat_result) -> Signature:
    """The signature in a stat."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def still_changing(path: str) -> DataError:
    """The error about a file that somebody writes while it is read."""
    return DataError(f"{path} keeps changing while it is read", "Wait until nothing writes into the data, then go on")


def namesake(path: Path) -> str:
    """A file beside `path` whose name only looks the same: other case, or other Unicode for the same letters."""
    try:
        names = os.listdir(path.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        return ""
    wanted = _looks(path.name)
    return next((name for name in sorted(names) if name != path.name and _looks(name) == wanted), "")


def printable(name: str) -> str:
    """A file name as text: bytes that are no UTF-8 are shown as hexadecimal numbers."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _looks(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _require_readable(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, f"this is {_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a file", path)
    if found.st_size > MAX_FILE_BYTES:
        raise OSError(0, f"{found.st_size / 1e6:,.0f} MB are too large, at most {MAX_FILE_BYTES / 1e6:,.0f} MB", path)


def _read(descriptor: int, size: int) -> bytes:
    first = os.read(descriptor, size + 1)  # one more than there should be, so that growth shows
    if len(first) in (size, size + 1):
        return first
    parts = [first]
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)
