"""What the journal of an MLflow run consists of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Begun(_Entry):
    """The run itself. `token` is a tag of it: by that it is found again when its id was never noted."""

    model_config = ConfigDict(extra="ignore")  # a journal whose beginning cannot be read would be thrown away
    kind: Literal["begun"] = "begun"
    stage: str
    job: str = Field(description="what is done; the same job goes on in the same run")
    token: str
    name: str
    tags: dict[str, str]
    started_ms: int = Field(description="since the epoch")
    parent_run: str | None = Field(description="id of the run that this one is nested in")


class ParamsSet(_Entry):
    """Parameters as text."""

    kind: Literal["params"] = "params"
    values: dict[str, str]


class TagsSet(_Entry):
    """Tags."""

    kind: Literal["tags"] = "tags"
    values: dict[str, str]


class Figures(_Entry):
    """The metrics of one step, which comes once."""

    kind: Literal["figures"] = "figures"
    step: int
    at_ms: int
    values: dict[str, float]


class DataUsed(_Entry):
    """A version of data as input."""

    kind: Literal["data"] = "data"
    name: str
    md5: str | None
    num_images: int


class FileKept(_Entry):
    """A file that belongs to the run."""

    kind: Literal["file"] = "file"
    path: str
    folder: str | None


class RunStatus(_Entry):
    """From here on the run is in this state. `is_last`: nothing follows."""

    kind: Literal["status"] = "status"
    status: Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
    at_ms: int
    tags: dict[str, str] = {}
    is_last: bool = False


class Made(_Entry):
    """A note: MLflow has made the run."""

    kind: Literal["made"] = "made"
    run_id: str


class Sent(_Entry):
    """A note: MLflow has the entries up to this number."""

    kind: Literal["sent"] = "sent"
    up_to: int


Content = Begun | ParamsSet | TagsSet | Figures | DataUsed | FileKept | RunStatus
Entry = Content | Made | Sent


class Stored(_Entry):
    """An entry with its number, from 1; notes have none (0)."""

    number: int
    entry: Annotated[Entry, Field(discriminator="kind")]


ENTRY: TypeAdapter[Stored] = TypeAdapter(Stored)
BEGUN_RUNNING = RunStatus(status="RUNNING", at_ms=0)
"""The state of a run before it is said."""
