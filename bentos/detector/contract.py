"""What a model directory says about itself (model.json), and what the service answers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bentos.detector.errors import ModelRefused

SPEC_FILE = "model.json"
EngineKind = Literal["openvino", "onnxruntime", "tensorrt", "fake"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=32, le=8192)]


class Frozen(BaseModel):
    """Frozen, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(Frozen):
    """What the graph takes: (B, H, W, 3) uint8 RGB, letterboxed."""

    size_wh: tuple[Side, Side] = Field(description="width and height of the input, px")
    letterbox_fill: int = Field(default=114, ge=0, le=255, description="grey value of the borders")
    scaled_decode: bool = Field(default=False, description="JPEGs may be decoded at some eighths if still large enough")


class Thresholds(Frozen):
    """What becomes a detection."""

    conf: Share = Field(description="least confidence")
    iou: Share = Field(description="overlap of the same class above which the weaker box goes")
    max_det: int = Field(ge=1, le=8400, description="most boxes an answer holds")


class EngineSpec(Frozen):
    """What runs the graph, and what it was built with."""

    kind: EngineKind
    file: str = Field(min_length=1, description="file that the engine loads, relative to the model directory")
    precision: Precision = "fp32"
    versions: dict[str, str] = Field(default_factory=dict, description="library to the version it was built with")
    device: str = Field(default="CPU", description="CPU, or GPU name and compute capability")


class ModelSpec(Frozen):
    """model.json: everything that serving must know of a model."""

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    classes: tuple[str, ...] = Field(min_length=1, description="class names, by class id")
    input: InputSpec
    thresholds: Thresholds
    top_k: int = Field(ge=1, le=8400, description="candidates that leave the graph, NMS sees no more")
    engine: EngineSpec
    files: dict[str, str] = Field(default_factory=dict, description="file to the sha256 of its content, hex")
    digest: str = Field(default="", description="sha256 over all the rest, see `spec_digest`")

    @field_validator("files")
    @classmethod
    def _inside(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{name!r} leads out of the model directory")
        return value

    @model_validator(mode="after")
    def _engine_is_listed(self) -> ModelSpec:
        if self.files and self.engine.file not in self.files:
            raise ValueError(f"engine.file {self.engine.file!r} is not among files: {', '.join(sorted(self.files))}")
        return self


def spec_digest(spec: ModelSpec) -> str:
    """sha256 hex over the canonical JSON (sorted keys, compact) of everything in `spec` but its digest."""
    content = spec.model_dump(mode="json", exclude={"digest"})
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 hex of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_spec(model_dir: Path, spec: ModelSpec) -> ModelSpec:
    """Write model.json with the digest filled in, and return the spec as written."""
    sealed = spec.model_copy(update={"digest": spec_digest(spec)})
    text = json.dumps(sealed.model_dump(mode="json"), indent=2) + "\n"
    (model_dir / SPEC_FILE).write_text(text, encoding="utf-8")
    return sealed


def read_spec(model_dir: Path) -> ModelSpec:
    """Read model.json and check its digest; the files that it names are checked by `verify_files`.

    Raises:
        ModelRefused: It is missing, is not what the contract says, or was changed after it was written.
    """
    path = model_dir / SPEC_FILE
    try:
        spec = ModelSpec.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelRefused(f"{path} is missing: {model_dir} is no model directory. Make one: tca export") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        raise ModelRefused(f"{path}: {_first_problem(error)}") from None
    if spec.digest != spec_digest(spec):
        raise ModelRefused(
            f"{path}: its digest is {spec.digest[:12] or 'empty'}, its content has {spec_digest(spec)[:12]}: "
            "it was changed after the export. Re-export: tca export"
        )
    return spec


def verify_files(model_dir: Path, spec: ModelSpec) -> None:
    """Check every file that `spec` names against its sha256.

    Raises:
        ModelRefused: A file is missing or has another content, or the engine's own file has no recorded sha256.
    """
    if spec.engine.kind != "fake" and spec.engine.file not in spec.files:
        raise ModelRefused(f"{SPEC_FILE} records no sha256 for {spec.engine.file}. Re-export: tca export")
    for name, expected in spec.files.items():
        path = model_dir / name
        if not path.is_file():
            raise ModelRefused(f"{path} is missing, but {SPEC_FILE} names it. Re-export: tca export")
        if (actual := file_sha256(path)) != expected:
            raise ModelRefused(
                f"{path}: sha256 {actual[:12]}, but {SPEC_FILE} records {expected[:12]}: it was damaged or replaced. "
                "Re-export: tca export"
            )


def _first_problem(error: ValidationError) -> str:
    item = error.errors()[0]
    where = ".".join(str(part) for part in item["loc"])
    return f"{where or 'content'}: {item['msg']}"


class Box(Frozen):
    """Corners in pixels of the sent image, as displayed (EXIF orientation applied)."""

    x1: float
    y1: float
    x2: float
    y2: float


class Detection(Frozen):
    """One object."""

    class_id: int
    class_name: str
    confidence: float = Field(description="0..1")
    box: Box


class ModelRef(Frozen):
    """Which model answered."""

    name: str
    version: str
    digest: str


class ImageSize(Frozen):
    """Size of the sent image as displayed, px."""

    width: int
    height: int


class TimingMs(Frozen):
    """Where the time went, ms."""

    decode: float = Field(description="decoding and letterboxing")
    queue: float = Field(description="waiting for a decoder, a slot and the engine")
    inference: float = Field(description="the batch in the engine")
    postprocess: float = Field(description="NMS and mapping back")
    total: float = Field(description="from the last byte of the body to the answer")


class DetectAnswer(Frozen):
    """Answer of POST /v1/detect."""

    request_id: str
    model: ModelRef
    image: ImageSize
    detections: tuple[Detection, ...]
    timing_ms: TimingMs


class ModelAnswer(ModelSpec):
    """Answer of GET /v1/model."""

    version: str


class ErrorBody(Frozen):
    """What went wrong: a code for programs, a message for people."""

    code: str
    message: str
    request_id: str
    details: dict[str, Any]


class ErrorAnswer(Frozen):
    """Every answer that is not 200."""

    error: ErrorBody
