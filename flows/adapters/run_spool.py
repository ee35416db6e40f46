"""The journal of one MLflow run on disk: what the run shall hold is written here first and sent from here.

One JSON document a line with the checksum of its content. A line that a crash has torn is cut off by whoever opens the
journal next; a damaged line further up is passed over. One process at a time holds a journal, by a lock that dies with
it. Where the disk is full, lines wait in memory until it is not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from flows.adapters.run_entries import (
    BEGUN_RUNNING,
    ENTRY,
    Begun,
    Content,
    Figures,
    Made,
    ParamsSet,
    RunStatus,
    Sent,
    Stored,
)

JOURNAL, FILES = "journal.jsonl", "files"
_HEAD = b'{"crc32":"'
_MIDDLE = b'","entry":'
_BODY_AT = len(_HEAD) + 8 + len(_MIDDLE)


class Spool:
    """One journal, held by this process until `close`. Threads may share it.

    Args:
        folder: Where it lies; None keeps it in memory only.
        on_full: Told once, with the reason, when lines cannot be written.
    """

    def __init__(self, folder: Path | None, on_full: Callable[[str], None] = lambda reason: None) -> None:
        self.folder, self._on_full = folder, on_full
        self._guard = threading.RLock()
        self._stream: int | None = None
        self._entries: list[Stored] = []
        self._waiting: list[bytes] = []
        self._told = self._is_on_disk = False
        self.run_id: str | None = None
        self._sent = 0

    @classmethod
    def create(cls, folder: Path, begun: Begun, on_full: Callable[[str], None] = lambda reason: None) -> Spool:
        """A new journal that starts with `begun`. On a full disk it lives in memory."""
        spool = cls(folder, on_full)
        draft = folder.with_name(f".{folder.name}")
        try:
            draft.mkdir(parents=True)
            spool._stream = os.open(draft / JOURNAL, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            fcntl.flock(spool._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spool.append(begun)
            draft.rename(folder)  # whoever finds it finds it begun and held
            spool._is_on_disk = True
            _sync(folder.parent)
        except OSError as error:
            spool._tell_full(error)
            if not spool._entries:
                spool.append(begun)
        return spool

    @classmethod
    def open(cls, folder: Path, on_full: Callable[[str], None] = lambda reason: None) -> Spool | None:
        """The journal in `folder`; None when a living process holds it, or nothing of it was ever written.

        Raises:
            OSError: It cannot be read.
        """
        try:
            stream = os.open(folder / JOURNAL, os.O_RDWR)
        except FileNotFoundError:
            return None
        spool = cls(folder, on_full)
        spool._stream, spool._is_on_disk = stream, True
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            spool.close()
            return None
        if os.fstat(stream).st_nlink == 0:  # another process has just sent the last of it
            spool.close()
            return None
        spool._load()
        if spool._entries:
            return spool
        spool.remove()
        return None

    @property
    def begun(self) -> Begun:
        """The first entry."""
        first = self._entries[0].entry
        assert isinstance(first, Begun)
        return first

    @property
    def status(self) -> RunStatus:
        """What the run's status is, once all is sent."""
        return next((one.entry for one in reversed(self._entries) if isinstance(one.entry, RunStatus)), BEGUN_RUNNING)

    @property
    def figures(self) -> dict[int, dict[str, float]]:
        """The figures by step."""
        with self._guard:
            return {one.entry.step: one.entry.values for one in self._entries if isinstance(one.entry, Figures)}

    @property
    def params(self) -> dict[str, str]:
        """The parameters, each with its first value."""
        with self._guard:
            told = [one.entry.values for one in self._entries if isinstance(one.entry, ParamsSet)]
        return {key: text for values in reversed(told) for key, text in values.items()}

    @property
    def num_reopened(self) -> int:
        """How often the run was set back to RUNNING."""
        with self._guard:
            statuses = [one.entry for one in self._entries if isinstance(one.entry, RunStatus)]
        return sum(status.status == "RUNNING" for status in statuses)

    @property
    def last_sign_ms(self) -> int:
        """When something was last told, since the epoch."""
        with self._guard:
            timed = [one.entry.at_ms for one in self._entries if isinstance(one.entry, Figures | RunStatus)]
        return max([self.begun.started_ms, *timed])

    @property
    def place(self) -> str:
        """Where the entries are, for a message."""
        with self._guard:
            return str(self.folder) if self._is_on_disk and not self._waiting else "memory"

    def append(self, entry: Content) -> None:
        """Write down an entry; when this returns it survives a crash, except on a full disk."""
        with self._guard:
            number = self._entries[-1].number + 1 if self._entries else 1
            self._entries.append(Stored(number=number, entry=entry))
            self._write(self._entries[-1], durable=True)

    def keep_file(self, path: Path) -> Path:
        """A copy of `path` that lasts as long as this journal; the path itself where there is no room for one.

        Raises:
            FileNotFoundError: There is no such file.
        """
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._keep(path.name, lambda kept: shutil.copyfile(path, kept)) or path

    def keep_text(self, name: str, content: str) -> Path | None:
        """A file of this name with this text; None where there is no room for one."""
        return self._keep(name, lambda kept: kept.write_text(content, encoding="utf-8"))

    def _keep(self, name: str, write: Callable[[Path], object]) -> Path | None:
        if self.folder is None or not self._is_on_disk:
            return None
        kept = self.folder / FILES / str(len(self._entries) + 1) / name
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write(kept)
        except OSError as error:
            self._tell_full(error)
            return None
        return kept

    def unsent(self) -> list[Stored]:
        """What MLflow may lack, in order. The last that was sent may be among it, where the note of it was lost."""
        with self._guard:
            return [one for one in self._entries if one.number > self._sent]

    def note_made(self, run_id: str) -> None:
        """The run has this id; nothing has been sent to it yet."""
        with self._guard:
            self.run_id, self._sent = run_id, 0
            self._write(Stored(number=0, entry=Made(run_id=run_id)), durable=True)

    def note_sent(self, number: int) -> None:
        """MLflow has all entries up to `number`. The note may be lost in a crash, then they are looked for there."""
        with self._guard:
            self._sent = number
            self._write(Stored(number=0, entry=Sent(up_to=number)), durable=False)

    def close(self) -> None:
        """Let go of it."""
        with self._guard:
            if self._stream is not None:
                os.close(self._stream)
                self._stream = None

    def remove(self) -> None:
        """Delete it: MLflow has everything."""
        if self.folder is not None and self._stream is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _write(self, stored: Stored, durable: bool) -> None:
        if self._stream is None:
            return
        self._waiting.append(_line(stored))
        end = os.lseek(self._stream, 0, os.SEEK_END)
        try:
            _write_all(self._stream, b"".join(self._waiting))
            if durable:
                os.fsync(self._stream)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._stream, end)
            self._tell_full(error)
            return
        self._waiting.clear()

    def _load(self) -> None:
        assert self._stream is not None
        content = b""
        while part := os.read(self._stream, 1 << 20):
            content += part
        whole = content.rfind(b"\n") + 1
        os.ftruncate(self._stream, whole)
        for stored in _read_lines(content[:whole]):
            match stored.entry:
                case Made(run_id=run_id):
                    self.run_id, self._sent = run_id, 0
                case Sent(up_to=number):
                    self._sent = number
                case _:
                    self._entries.append(stored)
        if self._entries and not isinstance(self._entries[0].entry, Begun):
            self._entries.clear()

    def _tell_full(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            self._on_full(error.strerror or str(error))


def _line(stored: Stored) -> bytes:
    body = stored.model_dump_json().encode()
    return b"".join([_HEAD, b"%08x" % zlib.crc32(body), _MIDDLE, body, b"}\n"])


def _read_lines(content: bytes) -> Iterator[Stored]:
    for line in content.splitlines():
        body = line[_BODY_AT:-1]
        if line[:_BODY_AT] == b"".join([_HEAD, b"%08x" % zlib.crc32(body), _MIDDLE]) and line[-1:] == b"}":
            with contextlib.suppress(ValidationError):  # of a version of this program that knew other entries
                yield ENTRY.validate_json(body)


def _write_all(stream: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(stream, view) :]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def find_journals(home: Path) -> list[Path]:
    """The folders of all journals, held or not."""
    try:
        return sorted(path for path in home.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


def peek(folder: Path) -> Begun | None:
    """What run the journal in `folder` is of, whoever holds it; None when it is gone or damaged."""
    try:
        with (folder / JOURNAL).open("rb") as stream:
            first = next(_read_lines(stream.readline()), None)
    except OSError:
        return None
    return first.entry if first and isinstance(first.entry, Begun) else None
