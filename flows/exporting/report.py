"""What an export reports: the chosen engine, every candidate with its figures, and what was not run and why."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.exporting.accuracy import Accuracy, Baseline
from flows.exporting.benchmark import BatchLatency, Speed
from flows.exporting.calibration import CalibrationReport
from flows.exporting.candidates import NotBuilt
from flows.exporting.decoding import DecodeReport
from flows.exporting.parity import ParityReport

State = Literal["chosen", "admitted", "refused"]


class _Reported(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CandidateReport(_Reported):
    """One engine that was built, proven and timed."""

    engine: str = Field(description="tensorrt, openvino or onnxruntime")
    precision: str = Field(description="its arithmetic")
    device: str = Field(description="CPU, or GPU and compute capability")
    state: State = Field(description="chosen; admitted, but slower or less exact than the chosen; or refused")
    reason: str = Field(description="why, with the figures, in a sentence")
    accuracy: Accuracy = Field(description="on the frozen frames, against PyTorch")
    parity: ParityReport = Field(description="box by box against PyTorch")
    speed: Speed = Field(description="time, memory and loading, in a process of its own")
    best_batch: int = Field(description="batch size of most images a second within the latency budget")
    images_per_s: float = Field(description="images a second at that batch size")
    in_budget: bool = Field(description="whether any batch size has its p99 within the latency budget")
    engine_bytes: int = Field(description="size of the files that the engine loads, bytes")
    float_blocks: tuple[str, ...] = Field(description="blocks of the network that an INT8 engine keeps in float")
    tried: tuple[str, ...] = Field(description="what was tried before with this candidate, with its figures")

    @property
    def name(self) -> str:
        """Like `openvino int8`."""
        return f"{self.engine} {self.precision}"


class ChoiceRule(_Reported):
    """What the choice was made by."""

    max_loss: float = Field(description="most mAP50-95 that the upper bound of the loss may reach")
    latency_budget_ms: float = Field(description="p99 of a batch must stay within, ms")
    min_speedup: float = Field(description="a less exact engine must be that many times faster")
    sentence: str = Field(description="the rule in words")


class ExportReport(_Reported):
    """One exported model."""

    passed: bool = Field(description="whether an engine was admitted and is in the model directory")
    sentence: str = Field(description="verdict in one sentence")
    model_digest: str = Field(description="sha256 that model.json carries")
    engine: str = Field(description="kind of the engine in the model directory")
    precision: str = Field(description="its arithmetic")
    device: str = Field(description="CPU, or GPU and compute capability")
    input_size_wh: tuple[int, int] = Field(description="width and height of the network's input, px")
    classes: tuple[str, ...] = Field(description="class names, by class id")
    top_k: int = Field(description="candidates that leave the graph for each frame")
    file_bytes: dict[str, int] = Field(description="size of each file of the model directory, bytes")
    parity: ParityReport = Field(description="the engine against PyTorch")
    latency: tuple[BatchLatency, ...] = Field(description="time from image bytes to boxes, by batch size")
    baseline: Baseline = Field(description="the frozen frames, and PyTorch on them")
    rule: ChoiceRule = Field(description="how the engine was chosen")
    candidates: tuple[CandidateReport, ...] = Field(description="every engine that competed, fastest first")
    not_built: tuple[NotBuilt, ...] = Field(description="every engine that did not compete, and why")
    calibration: CalibrationReport | None = Field(description="frames that INT8 was calibrated on; null: no INT8")
    decoding: DecodeReport = Field(description="whether JPEGs are decoded at a fraction of their size")
