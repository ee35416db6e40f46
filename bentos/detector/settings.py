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
    hint: Hint = Field(default="latency", description="what the engine favours: a lone frame, or many at once")
    num_threads: Count | None = Field(default=None, description="threads of the engine; unset: the engine's choice")
    num_decoders: Count = Field(default=2, description="threads that decode and letterbox")
    max_batch: Count | None = Field(default=None, description="frames a batch; unset: the engine's choice")
    max_queue: Count = Field(default=64, description="frames under way before more are refused")
    max_wait_ms: float = Field(default=1000.0, gt=0, description="predicted wait from which frames are refused, ms")
    max_body_bytes: Count = Field(default=20_000_000, description="largest body")
    body_timeout_s: float = Field(default=15.0, gt=0, description="how long a body may take to arrive, s")
    max_pixels: Count = Field(default=MAX_PIXELS, description="largest image, width times height")
    drain_s: float = Field(default=20.0, gt=0, description="how long frames under way may finish on stopping, s")


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
