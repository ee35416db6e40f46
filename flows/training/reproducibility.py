"""What a training did, and the digest by which two trainings are told to be the same."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from flows.weights import digest_state, read_weights


class DataDifferenceSummary(BaseModel):
    """How the data of a training differ from the champion's. The numbers are null where that cannot be said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sentence: str = Field(description="the difference, or why it cannot be said")
    champion_data: str | None = Field(default=None, description="data version that the champion was trained on")
    frames_added: int | None = Field(default=None, description="frames that the champion's data lack")
    frames_removed: int | None = Field(default=None, description="frames that only the champion's data have")
    frames_changed: int | None = Field(default=None, description="frames of the same name with other pixels")
    frames_moved: int | None = Field(default=None, description="frames in another split")
    frames_relabelled: int | None = Field(default=None, description="frames in both whose boxes differ")
    classes_added: tuple[str, ...] = Field(default=(), description="classes that the champion's data lack")
    classes_removed: tuple[str, ...] = Field(default=(), description="classes that only the champion's data have")
    cameras_added: tuple[str, ...] = Field(default=(), description="cameras that the champion's data lack")
    cameras_removed: tuple[str, ...] = Field(default=(), description="cameras that only the champion's data have")


class TrainReport(BaseModel):
    """One finished training."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    passed: bool = Field(description="whether it converged to finite losses; how good it is, evaluation judges")
    sentence: str = Field(description="what was trained, in one sentence")
    epochs: int = Field(description="epochs done")
    best_epoch: int = Field(description="epoch of best.pt, by score, counted from 1")
    map50: float = Field(description="mAP50 of best.pt on the validation split, Ultralytics' measure; NaN to classify")
    map50_95: float = Field(
        description="mAP50-95 of best.pt on the validation split, Ultralytics' measure; NaN to classify"
    )
    images: int = Field(description="images in the training split")
    seconds: float = Field(description="wall time of the training, validation included")
    images_per_s: float = Field(description="training images a second, validation left out, median epoch")
    weights_sha256: str = Field(description="sha256 over the tensors of best.pt, see `weights_digest`")
    started_from: str = Field(description="architecture, or file name and sha256 (12 digits) of the checkpoint")
    classes_started_from: tuple[str, ...] | None = Field(description="that checkpoint's classes; null without one")
    head_kept: bool | None = Field(description="whether these are the data's; if not, the head starts anew for others")
    classes: tuple[str, ...] = Field(description="classes of the data, by class id")
    num_parameters: int = Field(description="parameters of the model")
    input_size_wh: tuple[int, int] = Field(description="width and height of the network's input, px")
    seed: int = Field(description="seed of initialisation, order and augmentation")
    device: str = Field(description="cpu, or the name of the GPU")
    precision: str = Field(description="arithmetic of the training: fp32 or bf16")
    num_threads: int = Field(description="threads of PyTorch; on a CPU the rounding of sums depends on them")
    task: str = Field(default="detect", description="what the model learns")
    score: float | None = Field(default=None, description="what the best epoch was chosen by, on the validation split")
    stopped_early: bool = Field(default=False, description="whether train.patience ended it before train.epochs")
    batch: int | None = Field(default=None, description="images a step, over all processes")
    micro_batch: int | None = Field(
        default=None, description="images a process takes at once; gradients are summed until a batch is full"
    )
    num_processes: int = Field(default=1, description="processes that trained together")
    num_nodes: int = Field(default=1, description="machines that trained together")
    cache: str | None = Field(default=None, description="where decoded images were kept, and why")
    resumed_at: tuple[int, ...] = Field(
        default=(), description="epochs done at each interruption after which it went on"
    )
    notes: tuple[str, ...] = Field(default=(), description="what went otherwise than planned: memory, disk, restarts")
    mlflow_run_id: str | None = Field(default=None, description="run that holds the metrics of each epoch")
    data_version: str | None = Field(default=None, description="md5 of the data as data.dvc names it")
    data_difference: DataDifferenceSummary | None = Field(
        default=None, description="how the data differ from the champion's; null from the training process itself"
    )

    @property
    def went_on_in(self) -> tuple[int, ...]:
        """Epochs, counted from 1, in which it went on after an interruption; each once."""
        return tuple(dict.fromkeys(done + 1 for done in self.resumed_at if done < self.epochs))

    def highlights(self) -> list[str]:
        """What it was trained on."""
        if self.data_version is None or self.data_difference is None:
            return []
        return [f"  data {self.data_version[:8]}: {self.data_difference.sentence}"]


def weights_digest(path: Path) -> str:
    """sha256 hex over the tensors of a checkpoint, whatever else the file holds. Raises CheckpointError."""
    return digest_state(read_weights(path).model)
