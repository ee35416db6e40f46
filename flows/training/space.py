"""The search space: which values of train's keys are tried, checked before the first trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import TypeAdapter, ValidationError

from flows.errors import ParamsError
from flows.params_train import TrainParams
from flows.params_tune import Choices, Range

if TYPE_CHECKING:
    from optuna.trial import Trial

_STEPS = {"image_size": 32}


def check_space(space: Mapping[str, Range | Choices]) -> None:
    """Check every bound and choice against the key of train that it is meant for. Raises ParamsError."""
    for key, choice in space.items():
        bounds = [] if isinstance(choice, Choices) else [_number(key, bound) for bound in (choice.low, choice.high)]
        field = TrainParams.model_fields[key]
        annotation: Any = Annotated[(field.annotation, field)]
        allowed: TypeAdapter[Any] = TypeAdapter(annotation)
        for value in choice.choices if isinstance(choice, Choices) else bounds:
            try:
                allowed.validate_python(value, strict=True)
            except ValidationError as error:
                message = error.errors()[0]["msg"]
                what = f"{value!r}: {message[:1].lower()}{message[1:]} ({field.description})"
                raise ParamsError(f"tune.space.{key}: {what}") from None
            if key in _STEPS and value % _STEPS[key]:
                raise ParamsError(f"tune.space.{key}: {value} is not a multiple of {_STEPS[key]}")


def suggest(trial: Trial, key: str, choice: Range | Choices) -> Any:
    """The trial's value of one key: whole numbers where train wants them."""
    if isinstance(choice, Choices):
        return trial.suggest_categorical(key, choice.choices)
    if not _is_whole(key):
        return trial.suggest_float(key, choice.low, choice.high, log=choice.log)
    step = 1 if choice.log else _STEPS.get(key, 1)
    return trial.suggest_int(key, int(choice.low), int(choice.high), step=step, log=choice.log)


def _is_whole(key: str) -> bool:
    return TrainParams.model_fields[key].annotation is int


def _number(key: str, bound: float) -> int | float:
    return int(bound) if _is_whole(key) and bound.is_integer() else bound
