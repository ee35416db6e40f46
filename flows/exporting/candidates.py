"""Every engine and precision that may compete here: which can be built on this machine, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.contract import Precision
from flows.errors import EngineUnavailable
from flows.exporting.onnxruntime_build import require_onnxruntime
from flows.exporting.openvino_build import require_openvino
from flows.exporting.tensorrt_build import require_tensorrt
from flows.params import ExportParams

EngineName = Literal["tensorrt", "openvino", "onnxruntime"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
COMPETING: dict[EngineName, tuple[Precision, ...]] = {
    "tensorrt": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "onnxruntime": ("fp32",),
}
"""What is tried when `export.precision` is auto. A precision that is asked for by name is tried everywhere."""


@dataclass(frozen=True)
class Candidate:
    """An engine in a precision."""

    engine: EngineName
    precision: Precision

    @property
    def name(self) -> str:
        """Like `openvino int8`."""
        return f"{self.engine} {self.precision}"


class NotBuilt(BaseModel):
    """An engine that did not compete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str = Field(description="tensorrt, openvino or onnxruntime")
    precision: str = Field(description="its arithmetic")
    reason: str = Field(description="why this machine could not build or run it, or that it was not asked for")


def list_candidates(params: ExportParams) -> tuple[tuple[Candidate, ...], tuple[NotBuilt, ...]]:
    """What can be built here of what `params` asks for, and what cannot.

    Raises:
        EngineUnavailable: Nothing that was asked for can be built here.
    """
    possible: list[Candidate] = []
    missing: list[NotBuilt] = []
    obstacles: list[EngineUnavailable] = []
    for engine in ENGINES:
        if params.engine not in ("auto", engine):
            missing.append(NotBuilt(engine=engine, precision="any", reason=f"export.engine is {params.engine}"))
            continue
        for precision in COMPETING[engine] if params.precision == "auto" else (params.precision,):
            obstacle = find_obstacle(engine, precision)
            if obstacle is None:
                possible.append(Candidate(engine, precision))
            else:
                obstacles.append(obstacle)
                missing.append(NotBuilt(engine=engine, precision=precision, reason=str(obstacle)))
    if possible:
        return tuple(possible), tuple(missing)
    if params.engine != "auto":
        raise obstacles[0]
    reasons = "; ".join(obstacle.message for obstacle in obstacles)
    raise EngineUnavailable(f"nothing on this machine runs the model as asked: {reasons}", "Set export.precision=auto")


def find_obstacle(engine: EngineName, precision: Precision) -> EngineUnavailable | None:
    """Why this machine cannot build `engine` in `precision`, as far as that shows without trying; None: it can."""
    try:
        match engine:
            case "tensorrt":
                require_tensorrt(precision)
            case "openvino":
                require_openvino(precision)
            case "onnxruntime":
                require_onnxruntime(precision)
    except EngineUnavailable as error:
        return error
    return None
