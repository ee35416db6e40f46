"""The search space: which values of train's keys are tried, checked before the first trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flows.errors import ParamsError
from flows.params_section import Section
from flows.params_train import TrainParams
from flows.params_tune import Choices, Range, order_of

if TYPE_CHECKING:
    from optuna.trial import Trial

_STEPS = {"image_size": 32}
_DIGITS = 4  # significant ones of a number between two bounds: what is tried can be read, and written back


def check_space(space: Mapping[str, Range | Choices], base: TrainParams) -> None:
    """Check every bound and choice against the key of train that it is meant for, beside the other keys of `base`.

    Raises:
        ParamsError: Training refuses a value; the message names key, value and what is allowed.
    """
    for key, searched in space.items():
        for value in searched.choices if isinstance(searched, Choices) else _grid_ends(key, searched):
            try:
                with_values(base, {key: value})
            except ValidationError as error:
                message = error.errors()[0]["msg"].removeprefix("Value error, ")
                told = f"{value!r}: {message[:1].lower()}{message[1:]} ({_field(key).description})"
                raise ParamsError(f"tune.space.{key}: {told}") from None


def with_values(base: TrainParams, values: Mapping[str, Any]) -> TrainParams:
    """`base` with some keys replaced, those of nested sections named with dots. Raises pydantic.ValidationError."""
    tree = base.model_dump()
    for key, value in values.items():
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node[section]
        node[name] = value
    return TrainParams.model_validate(tree)


def suggest(trial: Trial, space: Mapping[str, Range | Choices]) -> dict[str, Any]:
    """The trial's values by key of train: those whose condition holds, whole numbers where train wants them."""
    values: dict[str, Any] = {}
    for key in order_of(space):
        searched = space[key]
        if all(other in values and values[other] in wanted for other, wanted in searched.when.items()):
            values[key] = _suggest_one(trial, key, searched)
    return values


def _suggest_one(trial: Trial, key: str, searched: Range | Choices) -> Any:
    if isinstance(searched, Choices):
        return trial.suggest_categorical(key, searched.choices)
    low, high, step = searched.low, searched.high, searched.step
    if _is_whole(key):
        whole_step = 1 if searched.log else int(step or _STEPS.get(key, 1))
        return trial.suggest_int(key, int(low), int(high), step=whole_step, log=searched.log)
    value = trial.suggest_float(key, low, high, step=step, log=searched.log)
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def _grid_ends(key: str, searched: Range) -> list[int | float]:
    """The bounds, and the neighbour of the lower one where there are steps: whole numbers by logarithm go by ones."""
    step = searched.step or (1 if searched.log and _is_whole(key) else None)
    ends = [searched.low, searched.high] + ([searched.low + step] if step else [])
    return [int(end) if _is_whole(key) and end.is_integer() else end for end in ends]


def _is_whole(key: str) -> bool:
    return _field(key).annotation is int


def _field(key: str) -> Any:
    *sections, name = key.split(".")
    model: type[Section] = TrainParams
    for section in sections:
        model = model.model_fields[section].annotation  # type: ignore[assignment]
    return model.model_fields[name]
