"""The routing snapshot: frozen, fenced by (epoch, generation), on disk before it counts, and kept there twice."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

Arm = Literal["champion", "candidate"]
Mode = Literal["champion", "shadow", "canary"]
_log = logging.getLogger("router")
Visible = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]


class Backend(BaseModel):
    """One detector: a model version and where it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Visible = Field(description="model version, told to clients in X-Served-Version")
    digest: str = Field(max_length=128, description="digest of the model directory")
    url: str = Field(description="http://HOST:PORT")

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "http" or not parts.hostname or not parts.port or value.count("/") != 2:
            raise ValueError("must be http://HOST:PORT, without a path")
        return value


class Snapshot(BaseModel):
    """Who answers. A request keeps the snapshot it began with, to its end."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    epoch: int = Field(ge=0, description="of the lease under which it was written")
    generation: int = Field(ge=0, description="rises with every change within an epoch")
    mode: Mode = Field(description="champion, shadow or canary")
    share: float = Field(ge=0, le=1, description="share of cameras that a canary answers")
    promotion: int | None = Field(description="the promotion that this belongs to")
    champion: Backend | None
    candidate: Backend | None = Field(
        description="the challenger; beside mode champion: a warm standby, asked when the champion cannot answer"
    )

    @model_validator(mode="after")
    def _complete(self) -> Snapshot:
        if self.mode == "champion":
            return self
        if self.champion is None or self.candidate is None or self.promotion is None:
            raise ValueError(f"mode {self.mode} needs champion, candidate and promotion")
        if self.champion.url == self.candidate.url:
            raise ValueError(f"champion and candidate are both at {self.champion.url}")
        return self

    @property
    def order(self) -> tuple[int, int]:
        """What a later snapshot must exceed."""
        return self.epoch, self.generation

    @property
    def urls(self) -> frozenset[str]:
        """The back ends it routes to."""
        return frozenset(backend.url for backend in (self.champion, self.candidate) if backend is not None)


NOTHING_ROUTED = Snapshot(
    epoch=0, generation=0, mode="champion", share=0.0, promotion=None, champion=None, candidate=None
)


class StaleSnapshot(Exception):
    """Another snapshot of the same or a later (epoch, generation) already counts."""


class RoutingTable:
    """The snapshot that counts, its file, and the copy of that, for the day on which the file is damaged.

    Raises:
        ValueError: The file exists but holds no snapshot, nor does the copy.
        OSError: They are out of reach.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = path.with_name(f"{path.stem}.copy{path.suffix}")
        self._lock = asyncio.Lock()
        self.current = self._load()

    def _load(self) -> Snapshot:
        if not self._path.exists():
            return NOTHING_ROUTED
        found = self._path.read_bytes()
        try:
            return parse_snapshot(found)
        except ValueError as damage:
            try:
                known = parse_snapshot(self._copy.read_bytes())
            except (OSError, ValueError):
                raise damage from None
        _log.warning("%s is damaged: going on with %s", self._path, self._copy)
        self._mend(found)
        return known

    def _mend(self, damaged: bytes) -> None:
        """Put the copy in the file's place, and the damaged text beside it; a disk that is full is no reason to end."""
        try:
            self._path.with_suffix(".broken").write_bytes(damaged)
            write_durably(self._path, self._copy.read_bytes())
        except OSError as error:
            _log.warning("%s could not be mended: %s", self._path, error)

    async def replace(self, snapshot: Snapshot) -> bool:
        """Make `snapshot` count once it is on disk; False when it counted already (a repeated request).

        Raises:
            StaleSnapshot: It is older than the current one, or another one of the same generation.
            OSError: It could not be written; the current one still counts.
        """
        async with self._lock:
            current = self.current
            if snapshot == current:
                return False
            if current is not NOTHING_ROUTED and snapshot.order <= current.order:
                raise StaleSnapshot(
                    f"epoch {snapshot.epoch}, generation {snapshot.generation} does not follow epoch {current.epoch}, "
                    f"generation {current.generation}, which counts"
                )
            await asyncio.to_thread(self._keep, snapshot.model_dump_json(indent=1).encode())
            self.current = snapshot
            return True

    def _keep(self, text: bytes) -> None:
        """The file decides; a copy that cannot be written goes, so that it never tells of earlier times."""
        write_durably(self._path, text)
        try:
            write_whole(self._copy, text)
        except OSError as error:
            _log.warning("%s could not be written (%s): there is no second copy now", self._copy, error)
            self._copy.unlink(missing_ok=True)


def parse_snapshot(text: bytes) -> Snapshot:
    """Read the JSON of a snapshot. Raises ValueError, a line for each thing that is wrong."""
    try:
        return Snapshot.model_validate_json(text)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(item["loc"], item["msg"]) for item in error.errors())) from None


def _explain(location: tuple[int | str, ...], message: str) -> str:
    where = ".".join(str(part) for part in location)
    fields = Backend.model_fields if len(location) > 1 else Snapshot.model_fields
    field = fields.get(str(location[-1])) if location else None
    expected = f" ({field.description})" if field is not None and field.description else ""
    return f"{where or 'snapshot'}: {message.removeprefix('Value error, ')}{expected}"


def write_whole(path: Path, content: bytes, to_disk: bool = False) -> None:
    """Replace `path` so that whoever reads it finds the old or the new content, whole. Raises OSError."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as stream:
        stream.write(content)
        if to_disk:
            stream.flush()
            os.fsync(stream.fileno())
    draft.replace(path)


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` so that after a crash either the old or the new content is there, whole. Raises OSError."""
    write_whole(path, content, to_disk=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
