"""What the environment says about serving. Everything about the model is in its model.json."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bentos.detector.engines import Hint
from bentos.detector.errors import LoadError
from bentos.detector.imaging import MAX_PIXELS
from bentos.detector.logs import LogStyle

PREFIX = "DETECTOR_"
BUNDLED_MODEL = Path(__file__).resolve().parents[2] / "model"
"""Where a bento carries its model: beside the source root."""
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Each field is read from DETECTOR_ and its name in capitals, for instance DETECTOR_MODEL_DIR."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_dir: Path = Field(default=BUNDLED_MODEL, description="model directory to serve")
    model_version: str | None = Field(default=None, description="shown as model.version; by default from the digest")
    record_dir: Path | None = Field(default=None, description="where features of frames are recorded; unset: nowhere")
    drill: str = Field(default="", description="failures to rehearse, see drill.py")
    hint: Hint = Field(default="adaptive", description="latency (a lone frame), throughput (many at once), or adaptive")
    num_threads: Count | None = Field(default=None, description="threads of the engine; unset: the engine's choice")
    num_decoders: int | None = Field(
        default=None,
        ge=0,
        description="threads that decode ahead; 0: engine threads do it; unset: what suits the engine",
    )
    max_batch: Count | None = Field(default=None, description="frames a batch; unset: the engine's choice")
    max_batch_ms: float = Field(default=25.0, gt=0, description="on a CPU, longest batch of more than one frame, ms")
    max_queue: Count = Field(default=64, description="frames under way before more are refused")
    max_wait_ms: float = Field(default=500.0, gt=0, description="predicted wait from which frames are refused, ms")
    max_body_bytes: Count = Field(default=20_000_000, description="largest body")
    body_timeout_s: float = Field(default=15.0, gt=0, description="how long a body may take to arrive, s")
    max_pixels: Count = Field(default=MAX_PIXELS, description="largest image, width times height")
    hang_s: float = Field(default=15.0, gt=0, description="silence after which the worker is replaced, s")
    drain_s: float = Field(default=20.0, gt=0, description="how long frames under way may finish on stopping, s")
    keys_file: Path | None = Field(default=None, description="file of API keys, see keys.py; unset: nobody needs one")
    rate_limit: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="requests a second of a key without a rate of its own, or, without keys, of a client address",
    )
    rate_burst: Count | None = Field(default=None, description="requests at once under that limit; unset: of 1 s")
    engine_timeout_s: float = Field(default=10.0, gt=0, description="how long a frame may take in here, s")
    breaker_failures: Count = Field(default=5, description="failures of the engine in a row after which it rests")
    breaker_cooldown_s: float = Field(default=1.0, gt=0, description="first rest, s; doubles with each failed trial")
    breaker_max_cooldown_s: float = Field(default=60.0, gt=0, description="longest rest, s")
    cache_mb: float = Field(default=0.0, ge=0, le=1e6, description="answers kept for frames sent again, MB; 0: none")
    log: LogStyle = Field(default="text", description="how log lines are written")
    access_log: bool = Field(default=False, description="a log line for every request, not only slow or failed ones")
    slow_ms: float = Field(default=100.0, gt=0, description="from when a request is slow, after its last byte, ms")
    tracing: str = Field(default="", description="OpenTelemetry: off, on (standard OTEL_ variables), or OTLP address")


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; an empty variable counts as unset.

    Raises:
        LoadError: A variable has no sensible value; the message names it.
    """
    given = {
        name: value for name in Settings.model_fields if (value := environment.get(PREFIX + name.upper(), "").strip())
    }
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        item = error.errors()[0]
        variable = PREFIX + str(item["loc"][0]).upper()
        raise LoadError(f"{variable} = {item['input']!r}: {item['msg'][:1].lower()}{item['msg'][1:]}") from None
