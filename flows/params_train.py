"""The section of params.yaml that training reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from flows.params_section import Section, Share

Task = Literal["detect", "segment", "classify", "pose", "obb"]


class DistributedParams(Section):
    """How many processes on how many machines train together. One process needs none of it."""

    nodes: int = Field(ge=1, le=1024, description="machines; all but the first join with `tca join`")
    processes_per_node: int = Field(ge=0, le=64, description="processes on each machine; 0: one for each GPU")
    rendezvous: str = Field(
        pattern=r"^(|[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5})$",
        description="HOST:PORT of the first machine, as the others reach it; empty with one machine",
    )
    backend: Literal["auto", "nccl", "gloo"] = Field(description="transport; auto: nccl on GPUs, gloo on CPUs")
    sync_batchnorm: bool = Field(description="batch statistics over all processes, as one process would take them")
    restarts: int = Field(ge=0, le=100, description="times that dead processes are started again, all at once")
    timeout_s: float = Field(gt=0, le=86_400, description="wait for the other machines to join, seconds")


class TrainParams(Section):
    """One training of a YOLO11 model."""

    task: Task = Field(description="what the model learns; all but detect end after evaluation")
    start_from: Literal["champion", "model"] = Field(description="train on from the champion, or from `model`")
    model: str = Field(min_length=1, description="a YOLO11 architecture (yolo11n.yaml) or the path of a checkpoint")
    epochs: int = Field(ge=1, le=10_000, description="passes over the training split")
    patience: int = Field(ge=0, le=10_000, description="epochs without a better score after which it ends; 0: never")
    image_size: int = Field(ge=32, le=4096, description="side of the square input, px; a multiple of 32")
    batch: int = Field(ge=1, le=4096, description="images a step, over all processes together")
    learning_rate: float = Field(gt=0, le=1, description="initial learning rate")
    optimizer: Literal["AdamW", "Adam", "SGD", "auto"] = Field(description="optimiser; auto also picks the rate")
    warmup_epochs: float = Field(ge=0, le=100, description="epochs of linear warm-up")
    mosaic: Share = Field(description="probability of the mosaic augmentation")
    freeze: int = Field(ge=0, le=23, description="first layers kept as they are")
    workers: int = Field(ge=0, le=64, description="data loading processes; 0 loads in the training process")
    cache: Literal["auto", "ram", "disk", "none"] = Field(
        description="where decoded images are kept between epochs; auto measures and chooses"
    )
    cache_share: float = Field(gt=0, le=0.9, description="of the free memory, or of the free disk, that auto may take")
    precision: Literal["auto", "fp32", "bf16"] = Field(description="arithmetic; auto is bf16 where it is faster")
    compile: bool = Field(description="torch.compile; takes minutes to begin")
    threads: int = Field(ge=0, le=256, description="threads of PyTorch on a CPU; 0: one for each usable core")
    checkpoint_minutes: float = Field(gt=0, le=1440, description="a longer epoch is saved that often within, minutes")
    distributed: DistributedParams = Field(description="processes that train together")

    @property
    def may_start_from_champion(self) -> bool:
        """Whether a champion's weights are what it starts from, where there is one. Champions detect."""
        return self.start_from == "champion" and self.task == "detect"

    @field_validator("image_size")
    @classmethod
    def _multiple_of_32(cls, value: int) -> int:
        if value % 32:
            low = value // 32 * 32
            raise ValueError(f"is not a multiple of 32 (nearest: {low}, {low + 32})")
        return value
