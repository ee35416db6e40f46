"""A file of JSON lines, each chained to the one before by its hash: written by one, read by anybody."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.errors import Conflict, OutsideError, ProjectError

_FIRST = "0" * 64


class Record:
    """A record open for appending."""

    def __init__(self, path: Path) -> None:
        """Go on with the record at `path`. Raises OutsideError when it cannot be read or written."""
        self.path = path
        self.read_end()

    def read_end(self) -> None:
        """Look where the record ends; half a last line, left by a crash, is cut off.

        Raises:
            OutsideError: It cannot be read or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = _cut_torn_line(self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._num, self._hash = len(whole), (_hash_of(whole[-1]) if whole else _FIRST)
        self._size = sum(len(line) + 1 for line in whole)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was recorded yet."""
        return self._num == 0

    def append(self, kind: str, state: str, sentence: str, at: float, **content: Any) -> None:
        """Write a line and have it on disk before returning.

        Raises:
            Conflict: Somebody else has written to it meanwhile.
            OutsideError: It cannot be written.
        """
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "n": self._num,
            "prev": self._hash,
            "at": when,
            "kind": kind,
            "state": state,
            "sentence": sentence,
        }
        body = _canonical(line | content)
        own = hashlib.sha256(body).hexdigest()
        try:
            self._size = self._write(body[:-1] + f',"hash":"{own}"}}\n'.encode("ascii"))
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._num, self._hash = self._num + 1, own

    def _write(self, line: bytes) -> int:
        with self.path.open("ab", buffering=0) as sink:  # a buffer would write its rest again when it is closed
            fcntl.flock(sink, fcntl.LOCK_EX)
            if os.fstat(sink.fileno()).st_size != self._size:
                raise Conflict(f"somebody else writes the record {self.path.name}", "See: tca status")
            try:
                rest = line
                while rest:
                    rest = rest[sink.write(rest) :]
                os.fsync(sink.fileno())
            except OSError:
                with contextlib.suppress(OSError):  # half a line would look like another writer's
                    os.ftruncate(sink.fileno(), self._size)
                raise
        return self._size + len(line)


def read_record(path: Path) -> list[dict[str, Any]]:
    """The lines of a record; half a last line, still being written or left by a crash, is none.

    Raises:
        ProjectError: There is no record, or a line is not JSON.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ProjectError(f"there is no record {path.name}", "See: tca status") from None
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path.name} is not a record: it is not UTF-8 from byte {error.start} on") from None
    lines = []
    for number, line in enumerate(text.split("\n")[:-1]):  # a sentence may hold other ends of lines
        try:
            lines.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise ProjectError(f"{path.name}:{number + 1} is not a line of a record") from None
    return lines


def one_line(text: str) -> str:
    """What people say as it may go into a record: one line, no bytes that are no text."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def check_chain(lines: list[dict[str, Any]]) -> str | None:
    """What is wrong with the chain of hashes; None when it holds."""
    expected = _FIRST
    for number, line in enumerate(lines):
        if line.get("n") != number or line.get("prev") != expected or not _is_hashed(line):
            return f"line {number + 1}: the chain is broken here; this line or the one before was changed"
        expected = line["hash"]
    return None if lines else "the record is empty"


def _cut_torn_line(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as sink:
            sink.truncate(len(whole))
            os.fsync(sink.fileno())
    return whole.split(b"\n")[:-1]


def _hash_of(line: bytes) -> str:
    try:
        return str(json.loads(line)["hash"])
    except (ValueError, KeyError, TypeError):
        return "unreadable"


def _is_hashed(line: dict[str, Any]) -> bool:
    try:
        body = _canonical({key: value for key, value in line.items() if key != "hash"})
    except ValueError:  # NaN, or half a letter: no record has these
        return False
    return line.get("hash") == hashlib.sha256(body).hexdigest()


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def _unwritable(path: Path, error: OSError) -> OutsideError:
    reason = error.strerror or str(error)
    return OutsideError(f"the record {path.name} cannot be written: {reason}", "No further step was taken")
