"""The section of params.yaml that tuning reads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from flows.params_section import Section
from flows.params_train import TrainParams


class Range(Section):
    """A number searched between two bounds."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _not_empty(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"the range is empty: low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, not {self.low}")
        return self


class Choices(Section):
    """A value searched among some."""

    choices: list[str | int | float] = Field(min_length=1)


def _kind(value: Any) -> str:
    return "choices" if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value) else "range"


Searched = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(_kind),  # so that a mistake in one is not explained as a lack of the other
]


class TuneParams(Section):
    """A search over training parameters."""

    trials: int = Field(ge=1, le=10_000, description="trainings to try")
    epochs: int = Field(ge=1, le=10_000, description="epochs of each trial")
    sampler: Literal["tpe", "random"] = Field(description="how the next trial is chosen")
    pruner: Literal["median", "hyperband", "none"] = Field(description="how hopeless trials are stopped")
    space: dict[str, Searched] = Field(description="key of `train` to a range or to choices")

    @field_validator("space")
    @classmethod
    def _keys_of_train(cls, value: dict[str, Range | Choices]) -> dict[str, Range | Choices]:
        known = set(TrainParams.model_fields) - {"epochs", "start_from"}
        if unknown := sorted(set(value) - known):
            raise ValueError(f"names no key of train: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return value
