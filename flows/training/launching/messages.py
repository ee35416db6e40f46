"""What a training in processes of its own is told, and what it tells: one JSON document a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from flows import errors
from flows.params_train import TrainParams
from flows.training.epochs import EpochMetrics
from flows.training.frames import TRAINING_SPLITS, LabelledFrames
from flows.training.reproducibility import TrainReport

GO_ON = b"go on\n"
"""The parent's answer to an epoch; without it the training ends."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class JobFrame(_Message):
    """A frame as training needs it: paths relative to the dataset's root."""

    image: str
    label: str


class TrainJob(_Message):
    """The arguments of `train_model`; also the dataset among them, as a `LabelledFrames`."""

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[JobFrame, ...]]
    params: TrainParams
    seed: int
    out_dir: Path
    start_checkpoint: Path | None
    micro_batch: int | None = None

    @classmethod
    def of(
        cls, dataset: LabelledFrames, params: TrainParams, seed: int, out_dir: Path, start_checkpoint: Path | None
    ) -> TrainJob:
        """The job of a call with these arguments."""
        splits = {
            name: tuple(JobFrame(image=frame.image, label=frame.label) for frame in dataset.split(name))
            for name in TRAINING_SPLITS
        }
        return cls(
            root=dataset.root.absolute(),
            classes=dataset.classes,
            splits=splits,
            params=params,
            seed=seed,
            out_dir=out_dir.absolute(),
            start_checkpoint=start_checkpoint and start_checkpoint.absolute(),
        )

    def split(self, name: str) -> Sequence[JobFrame]:
        """The frames of one split."""
        return self.splits.get(name, ())


class Hello(_Message):
    """The first message of every training process of a machine."""

    kind: Literal["hello"] = "hello"
    rank: int


class BatchDone(_Message):
    """A call of the progress."""

    kind: Literal["batch"] = "batch"
    done: int
    total: int
    note: str


class EpochDone(_Message):
    """An epoch has been validated; the training waits for `GO_ON`."""

    kind: Literal["epoch"] = "epoch"
    metrics: EpochMetrics


class Told(_Message):
    """A note: something went otherwise than planned."""

    kind: Literal["told"] = "told"
    text: str


class Lost(_Message):
    """The last message of a process whose fellow has died."""

    kind: Literal["lost"] = "lost"


class Finished(_Message):
    """The last message of a training that came to its end; the report comes from the first process only."""

    kind: Literal["finished"] = "finished"
    report: TrainReport | None


class Failed(_Message):
    """The last message of a training that ended with an error of our own tree."""

    kind: Literal["failed"] = "failed"
    error: str = Field(description="name of the class in flows.errors")
    message: str
    remedy: str | None

    @classmethod
    def of(cls, error: errors.TcaError) -> Failed:
        """The message that carries `error`."""
        return cls(error=type(error).__name__, message=error.message, remedy=error.remedy)

    def to_error(self) -> errors.TcaError:
        """The error that was carried."""
        kind: type[errors.TcaError] = getattr(errors, self.error)
        return kind(self.message, self.remedy)


Message = Hello | BatchDone | EpochDone | Told | Lost | Finished | Failed
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def read_message(line: bytes) -> Message:
    """The message of one line. Raises pydantic.ValidationError."""
    return _MESSAGE.validate_json(line)


def write_message(message: BaseModel) -> bytes:
    """One line of JSON. Losses that are no numbers stay what they are."""
    return message.model_dump_json().encode() + b"\n"
