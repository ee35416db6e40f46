"""The section of params.yaml that tuning reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from flows.params_section import Section
from flows.params_train import TrainParams

Objective = Literal["map50_95", "score", "latency_ms"]
Value = str | int | float | bool

_NOT_SEARCHED = frozenset(  # what a trial is about, and what changes only where and how fast it runs
    ("task", "start_from", "epochs", "workers", "cache", "cache_share", "threads", "checkpoint_minutes", "compile")
)
_SEARCHED_SECTIONS = {"distributed": ("sync_batchnorm",)}


def searchable_keys(section: type[Section] = TrainParams, prefix: str = "") -> list[str]:
    """Keys of train that a search may vary, those of nested sections with dots."""
    found: list[str] = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            inner = searchable_keys(field.annotation, f"{prefix}{name}.")
            allowed = _SEARCHED_SECTIONS.get(prefix + name)
            found += [key for key in inner if allowed is None or key.rpartition(".")[2] in allowed]
        elif prefix + name not in _NOT_SEARCHED:
            found.append(prefix + name)
    return found


class _Searched(Section):
    when: dict[str, Annotated[list[Value], Field(min_length=1)]] = Field(
        default_factory=dict, description="searched only while these keys of the space have one of these values"
    )


class Range(_Searched):
    """A number searched between two bounds, both possible."""

    low: float
    high: float
    log: bool = False
    step: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"the bounds must be finite numbers, not {self.low} and {self.high}")
        if not self.low < self.high:
            raise ValueError(f"the range is empty: low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, not {self.low:g}")
        if self.step is not None:
            _check_step(self.low, self.high, self.step, self.log)
        return self


class Choices(_Searched):
    """A value searched among some."""

    choices: list[Value] = Field(min_length=1)

    @field_validator("choices")
    @classmethod
    def _distinct(cls, value: list[Value]) -> list[Value]:
        twice = [one for index, one in enumerate(value) if one in value[:index]]
        if twice:
            raise ValueError(f"names {twice[0]} twice")
        return value


def _check_step(low: float, high: float, step: float, log: bool) -> None:
    if log:
        raise ValueError("a logarithmic range has no step")
    steps = (high - low) / step
    if abs(steps - round(steps)) > 1e-6 * max(1.0, steps):
        reached = low + math.floor(steps) * step
        raise ValueError(f"steps of {step:g} from {low:g} do not reach high {high:g} (nearest: {reached:g})")


def _kind(value: Any) -> str:
    return "choices" if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value) else "range"


Searched = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")],
    Discriminator(_kind),  # so that a mistake in one is not explained as a lack of the other
]
Space = dict[str, Searched]


class TuneParams(Section):
    """A search over training parameters."""

    trials: int = Field(ge=1, le=10_000, description="trainings the study is to have, over all workers together")
    epochs: int = Field(ge=1, le=10_000, description="epochs of each trial")
    objectives: list[Objective] = Field(
        min_length=1, description="what is sought; score: what the best epoch is chosen by; latency_ms: of the engine"
    )
    sampler: Literal["tpe", "random", "qmc", "gp", "nsgaii"] = Field(description="how the next trial is chosen")
    pruner: Literal["median", "patient", "halving", "hyperband", "none"] = Field(
        description="how hopeless trials are stopped"
    )
    prune_from: int = Field(ge=1, le=10_000, description="first epoch after which a trial may be stopped")
    retries: int = Field(ge=0, le=100, description="times that a trial is tried again which crashed or lost its worker")
    space: Space = Field(min_length=1, description="key of `train` to a range or to choices")

    @field_validator("objectives")
    @classmethod
    def _accuracy_first(cls, value: list[Objective]) -> list[Objective]:
        if len(set(value)) != len(value) or {"map50_95", "score"} <= set(value):
            raise ValueError("names the same thing twice")
        if value[0] == "latency_ms":
            raise ValueError("must begin with map50_95 or score: the fastest model is not sought for its speed alone")
        return value

    @field_validator("space")
    @classmethod
    def _keys_of_train(cls, value: Space) -> Space:
        known = searchable_keys()
        if unknown := sorted(set(value) - set(known)):
            raise ValueError(f"names no key of train: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        for key, searched in value.items():
            _check_condition(key, searched, value)
        order_of(value)
        return value

    @model_validator(mode="after")
    def _one_value_to_prune_by(self) -> Self:
        if len(self.objectives) > 1 and self.pruner != "none":
            raise ValueError(
                f"pruner {self.pruner} cannot compare trials by {' and '.join(self.objectives)}: "
                "with several objectives nothing is stopped early; set tune.pruner=none"
            )
        return self


def order_of(space: Mapping[str, Range | Choices]) -> list[str]:
    """The keys of a space, each after those that its condition names. Raises ValueError where that is impossible."""
    ordered: list[str] = []
    left = list(space)
    while left:
        ready = [key for key in left if set(space[key].when) <= set(ordered)]
        if not ready:
            raise ValueError(f"the conditions of {', '.join(left)} wait for one another")
        ordered += ready
        left = [key for key in left if key not in ready]
    return ordered


def _check_condition(key: str, searched: Range | Choices, space: Space) -> None:
    for other, wanted in searched.when.items():
        asked = space.get(other)
        if asked is None:
            raise ValueError(f"{key}.when names {other}, which is not in the space; known: {', '.join(space)}")
        if isinstance(asked, Range):
            raise ValueError(f"{key}.when names {other}, which is a range; a condition needs choices")
        if strange := [value for value in wanted if value not in asked.choices]:
            raise ValueError(
                f"{key}.when.{other} names {strange[0]}, which is not among its choices: "
                f"{', '.join(map(str, asked.choices))}"
            )
