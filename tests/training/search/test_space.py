"""The search space: what is refused before the first trial, and what a trial is told to try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.errors import ParamsError
from flows.params_train import TrainParams
from flows.params_tune import Choices, Range, TuneParams, order_of, searchable_keys
from flows.training.search.space import check_space, suggest, with_values


def make_tune(space: dict[str, Any], **changes: Any) -> TuneParams:
    values: dict[str, Any] = {
        **{"trials": 4, "epochs": 3, "objectives": ["map50_95"], "sampler": "random", "pruner": "none"},
        **{"prune_from": 1, "retries": 1, "space": space},
    }
    return TuneParams.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "at least 1 item"),
        ({"lr": {"low": 0.1, "high": 1.0}}, "names no key of train: lr"),
        ({"epochs": {"low": 1, "high": 5}}, "names no key of train: epochs"),
        ({"distributed.nodes": {"low": 1, "high": 5}}, "names no key of train: distributed.nodes"),
        ({"mosaic": {"low": 1.0, "high": 1.0}}, "the range is empty: low 1 is not below high 1"),
        ({"mosaic": {"low": 0.5, "high": 0.1}}, "the range is empty"),
        ({"mosaic": {"low": 0.0, "high": float("nan")}}, "finite"),
        ({"learning_rate": {"low": 0.0, "high": 0.1, "log": True}}, "a logarithmic range needs low > 0"),
        ({"learning_rate": {"low": 0.1, "high": 0.2, "log": True, "step": 0.1}}, "has no step"),
        ({"mosaic": {"low": 0.0, "high": 1.0, "step": 0.3}}, "do not reach high 1 (nearest: 0.9)"),
        ({"mosaic": {"low": 0.0, "high": 0.5, "step": 0.6}}, "do not reach high"),
        ({"optimizer": {"choices": []}}, "at least 1 item"),
        ({"optimizer": {"choices": ["SGD", "SGD"]}}, "names SGD twice"),
        (
            {"mosaic": {"low": 0.0, "high": 1.0, "when": {"optimizer": ["SGD"]}}},
            "mosaic.when names optimizer, which is",
        ),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_tune(space)
    assert message in str(caught.value)


OPTIMIZER = {"choices": ["AdamW", "SGD"]}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"when": {"batch": [4]}}, "warmup_epochs.when names batch, which is not in the space"),
        ({"when": {"optimizer": ["Lion"]}}, "warmup_epochs.when.optimizer names Lion, which is not among its choices"),
        ({"when": {"mosaic": [0.5]}}, "warmup_epochs.when names mosaic, which is a range"),
        ({"when": {"optimizer": []}}, "at least 1 item"),
    ],
)
def test_a_condition_must_name_a_choice(space: dict[str, Any], message: str) -> None:
    ranges = {"mosaic": {"low": 0.0, "high": 1.0}, "warmup_epochs": {"low": 0, "high": 3, **space}}
    with pytest.raises(ValidationError) as caught:
        make_tune({"optimizer": OPTIMIZER, **ranges})
    assert message in str(caught.value)


def test_conditions_may_not_wait_for_one_another() -> None:
    space = {
        "optimizer": {"choices": ["AdamW", "SGD"], "when": {"precision": ["fp32"]}},
        "precision": {"choices": ["fp32", "auto"], "when": {"optimizer": ["SGD"]}},
        "mosaic": {"low": 0.0, "high": 1.0},
    }
    with pytest.raises(ValidationError, match="the conditions of optimizer, precision wait for one another"):
        make_tune(space)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": []}, "at least 1 item"),
        ({"objectives": ["latency_ms"]}, "must begin with map50_95 or score"),
        ({"objectives": ["map50_95", "map50_95"]}, "twice"),
        ({"objectives": ["map50_95", "score"]}, "twice"),
        ({"objectives": ["map50_95", "latency_ms"], "pruner": "median"}, "set tune.pruner=none"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_tune({"optimizer": OPTIMIZER}, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"optimizer": {"choices": ["AdamW", "Lion"]}}, "tune.space.optimizer: 'Lion'"),
        ({"optimizer": {"low": 0.1, "high": 1.0}}, "tune.space.optimizer: 0.1"),
        ({"mosaic": {"low": 0.0, "high": 1.5}}, "tune.space.mosaic: 1.5"),
        ({"learning_rate": {"low": -1.0, "high": 0.1}}, "tune.space.learning_rate: -1.0"),
        ({"batch": {"low": 1.5, "high": 8}}, "tune.space.batch: 1.5"),
        ({"batch": {"low": 2, "high": 8, "step": 1.5}}, "tune.space.batch: 3.5"),
        ({"image_size": {"choices": [320, 321]}}, "tune.space.image_size: 321: is not a multiple of 32"),
        ({"image_size": {"low": 64, "high": 160, "step": 16}}, "tune.space.image_size: 80: is not a multiple of 32"),
        ({"image_size": {"low": 64, "high": 160, "log": True}}, "tune.space.image_size: 65: is not a multiple of 32"),
        (
            {"distributed.sync_batchnorm": {"choices": [True, "maybe"]}},
            "tune.space.distributed.sync_batchnorm: 'maybe'",
        ),
    ],
)
def test_values_that_training_refuses_are_refused(
    space: dict[str, Any], message: str, make_params: Callable[..., TrainParams]
) -> None:
    with pytest.raises(ParamsError) as caught:
        check_space(make_tune(space).space, make_params())
    assert message in str(caught.value)


def test_every_key_that_may_be_searched_is_one_of_train(make_params: Callable[..., TrainParams]) -> None:
    base = make_params()
    keys = searchable_keys()
    assert {"learning_rate", "optimizer", "distributed.sync_batchnorm"} <= set(keys)
    for key in keys:
        node: Any = base.model_dump()
        for part in key.split("."):
            node = node[part]
        assert with_values(base, {key: node}) == base


def test_nested_keys_are_replaced(make_params: Callable[..., TrainParams]) -> None:
    changed = with_values(make_params(), {"distributed.sync_batchnorm": False, "batch": 2})
    assert (changed.distributed.sync_batchnorm, changed.batch) == (False, 2)
    assert changed.distributed.nodes == 1


CHAIN = {
    "warmup_epochs": {"low": 0, "high": 3, "step": 0.5, "when": {"optimizer": ["SGD"], "precision": ["fp32"]}},
    "precision": {"choices": ["fp32", "auto"], "when": {"optimizer": ["SGD", "Adam"]}},
    "optimizer": {"choices": ["AdamW", "Adam", "SGD"]},
    "image_size": {"low": 64, "high": 160},
    "batch": {"low": 2, "high": 16, "log": True},
    "learning_rate": {"low": 0.0001234567, "high": 0.01, "log": True},
}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_trial_gets_what_its_conditions_allow(seed: int) -> None:
    space = make_tune(CHAIN).space
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    values = suggest(study.ask(), space)
    assert ("precision" in values) == (values["optimizer"] != "AdamW")
    assert ("warmup_epochs" in values) == (values["optimizer"] == "SGD" and values.get("precision") == "fp32")
    assert values["image_size"] in (64, 96, 128, 160)
    assert isinstance(values["batch"], int)
    assert 0.0001234567 <= values["learning_rate"] <= 0.01
    rate = values["learning_rate"]
    assert rate in (0.0001234567, float(f"{rate:.4g}"))
    assert values.get("warmup_epochs", 0.0) in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


@settings(max_examples=60, deadline=None)
@given(st.permutations(list(CHAIN)))
def test_a_key_comes_after_those_of_its_condition(keys: list[str]) -> None:
    space: dict[str, Range | Choices] = {key: make_tune(CHAIN).space[key] for key in keys}
    order = order_of(space)
    assert sorted(order) == sorted(keys)
    assert order.index("optimizer") < order.index("precision") < order.index("warmup_epochs")
