"""The state of a training on disk: written whole or not at all, checked when read, and taken by its own job only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bentos.detector.contract import file_sha256
from flows.errors import DataError
from flows.params_train import TrainParams
from flows.training.frames import TRAINING_SPLITS, LabelledFrames
from flows.training.loop.failures import os_error_of

FORMAT = 1
_EDGE_BYTES = 16_384
HARMLESS: Any = {
    "start_from": True,
    "model": True,  # the weights themselves count
    "workers": True,
    "cache": True,
    "cache_share": True,
    "checkpoint_minutes": True,
    "distributed": {"nodes", "processes_per_node", "rendezvous", "backend", "restarts", "timeout_s"},
}
"""Parameters of train that only move or speed up the work: a training goes on with other values of these."""


def partial_of(out_dir: Path) -> Path:
    """Where a training keeps what it needs to go on, until `out_dir` is there."""
    return out_dir.with_name(f"{out_dir.name}.partial")


def records_in(directory: Path) -> list[Path]:
    """The records of the states in `directory`, newest first; none without that directory."""
    return sorted(directory.glob("state-*.json"), reverse=True)


def silent_tell(note: str) -> None:
    """The `tell` that says nothing of what goes otherwise than planned."""


class StateRecord(BaseModel):
    """What `state-*.json` says of the `state-*.pt` beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(description="of the state, hex")
    job: dict[str, str] = Field(description="digests of what the training was given, by part")
    epoch: int = Field(description="epochs done")
    step: int = Field(description="steps done of the epoch after")


def describe_job(dataset: LabelledFrames, params: TrainParams, seed: int, start: str, precision: str) -> dict[str, str]:
    """Digests of everything that the result depends on, by part; what only moves or speeds up the work is left out.

    An image counts by name, size and its first and last 16 KiB, a label file by its content.

    Args:
        start: What the training starts from: the name of an architecture, or the sha256 of a checkpoint.

    Raises:
        DataError: An image or a label file is missing.
    """
    import torch
    from ultralytics import __version__ as ultralytics_version

    return {
        "data": _digest_data(dataset),
        "parameters": _digest([params.model_dump_json(exclude=HARMLESS), precision]),
        "seed": str(seed),
        "starting weights": start,
        "versions": f"{FORMAT}, torch {torch.__version__}, ultralytics {ultralytics_version}",
    }


def _digest_data(dataset: LabelledFrames) -> str:
    def lines() -> Iterator[str]:
        yield repr(dataset.classes)
        for split in TRAINING_SPLITS:
            for frame in dataset.split(split):
                image, label = dataset.root / frame.image, dataset.root / frame.label
                try:
                    yield f"{split} {frame.image} {_digest_edges(image)} {file_sha256(label)}"
                except FileNotFoundError as error:
                    raise DataError(f"{error.filename} is missing", "Run: tca validate") from None

    return _digest(lines())


def _digest_edges(path: Path) -> str:
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _EDGE_BYTES))
        end = stream.read()
        stream.seek(0)
        return f"{size} {hashlib.sha256(stream.read(_EDGE_BYTES) + end).hexdigest()}"


def _digest(lines: Iterator[str] | list[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


class StateStore:
    """The states of one job in a directory: the newest, and the one before for the case that the newest is damaged.

    Each is two files, `state-EPOCH-STEP.pt` and a record of the same name that is written last: without its record a
    state does not exist.
    """

    def __init__(self, directory: Path, job: dict[str, str]) -> None:
        self._directory, self._job = directory, job

    def save(self, content: dict[str, Any], epoch: int, step: int) -> None:
        """Write a state (tensors and plain containers) and forget all but the one before.

        Raises:
            OSError: It could not be written, for want of space, say; what was there before still is.
        """
        older = records_in(self._directory)
        name = f"state-{epoch:06}-{step:08}"
        record_path, state_path = self._directory / f"{name}.json", self._directory / f"{name}.pt"
        record_path.unlink(missing_ok=True)
        digest = _write(state_path, lambda stream: save_tensors(content, stream))
        record = StateRecord(sha256=digest, job=self._job, epoch=epoch, step=step)
        try:
            _write(record_path, lambda stream: stream.write(record.model_dump_json(indent=1).encode() + b"\n"))
        except OSError:
            state_path.unlink(missing_ok=True)
            raise
        for path in [path for path in older if path != record_path][1:]:
            _forget(path)

    def load(self, tell: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest sound state of this job; None without one. `tell` hears why a state was not taken."""
        import torch

        for path in records_in(self._directory):
            try:
                record = StateRecord.model_validate_json(path.read_bytes())
            except ValidationError:
                tell(f"the record of a saved state is damaged: {path.name}")
                continue
            differing = [part for part, digest in self._job.items() if record.job.get(part) != digest]
            if differing:
                tell(f"what was saved is of another training (other {', '.join(differing)}): it begins anew")
                return None
            state_path = path.with_suffix(".pt")
            if not state_path.is_file() or file_sha256(state_path) != record.sha256:
                tell(f"a saved state is damaged: {state_path.name}")
                continue
            try:
                content: dict[str, Any] = torch.load(state_path, map_location="cpu", weights_only=True)
            except Exception:  # sound bytes, but nothing that this version may read
                tell(f"a saved state is not readable: {state_path.name}")
                continue
            return content
        if self.exists:
            tell("no saved state is sound: the training begins anew")
        return None

    def clear(self) -> None:
        """Forget every state, also those that have no record."""
        for path in self._directory.glob("state-*"):
            path.unlink()

    @property
    def exists(self) -> bool:
        """Whether there is any record, sound or not."""
        return bool(records_in(self._directory))


def _forget(record_path: Path) -> None:
    record_path.unlink(missing_ok=True)
    record_path.with_suffix(".pt").unlink(missing_ok=True)


class _Digesting:
    """A stream that takes the sha256 of what is written through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.digest = stream, hashlib.sha256()

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self._stream.write(content)

    def flush(self) -> None:
        self._stream.flush()


def _write(path: Path, fill: Callable[[Any], object]) -> str:
    """Fill a draft, make sure that it has reached the disk, and put it in place; returns its sha256."""
    draft = path.with_name(f"{path.name}.part")
    try:
        with draft.open("wb") as stream:
            digesting = _Digesting(stream)
            fill(digesting)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return digesting.digest.hexdigest()


def save_tensors(content: dict[str, Any], stream: Any) -> None:
    """`torch.save`, which raises the OSError of a failed write, and at once.

    Ultralytics puts another in its place, which tries again in the same stream, behind what is half written.
    """
    from torch.serialization import save

    try:
        save(content, stream)
    except RuntimeError as error:
        if cause := os_error_of(error):
            raise cause from None
        raise
