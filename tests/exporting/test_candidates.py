"""What competes on which machine, and why the rest does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flows.errors import EngineUnavailable
from flows.exporting import candidates
from flows.exporting.candidates import Candidate, list_candidates

Make = Callable[..., Any]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that just the named engines work, like `tensorrt`, or just in a precision, like `openvino int8`."""

    def pretend(*working: str) -> None:
        def checker(engine: str) -> Callable[[str], None]:
            def check(precision: str) -> None:
                if engine not in working and f"{engine} {precision}" not in working:
                    raise EngineUnavailable(f"no {engine} {precision} here", "Buy one")

            return check

        for engine in candidates.ENGINES:
            monkeypatch.setattr(candidates, f"require_{engine}", checker(engine))

    return pretend


def names(found: tuple[Candidate, ...]) -> list[str]:
    return [one.name for one in found]


def test_all_that_the_machine_can_build_compete(machine: Callable[..., None], make_params: Make) -> None:
    machine("tensorrt", "openvino", "onnxruntime")
    possible, missing = list_candidates(make_params(engine="auto", precision="auto"))
    assert names(possible) == [
        *("tensorrt fp32", "tensorrt fp16", "tensorrt int8"),
        *("openvino fp32", "openvino fp16", "openvino bf16", "openvino int8"),
        "onnxruntime fp32",
    ]
    assert missing == ()


def test_what_it_cannot_build_is_listed_with_the_reason(machine: Callable[..., None], make_params: Make) -> None:
    machine("openvino fp32", "openvino int8")
    possible, missing = list_candidates(make_params(engine="auto", precision="auto"))
    assert names(possible) == ["openvino fp32", "openvino int8"]
    assert [(one.engine, one.precision) for one in missing] == [
        *(("tensorrt", "fp32"), ("tensorrt", "fp16"), ("tensorrt", "int8")),
        *(("openvino", "fp16"), ("openvino", "bf16"), ("onnxruntime", "fp32")),
    ]
    assert missing[0].reason == "no tensorrt fp32 here. Buy one"


def test_a_name_restricts(machine: Callable[..., None], make_params: Make) -> None:
    machine("tensorrt", "openvino", "onnxruntime")
    possible, missing = list_candidates(make_params(engine="openvino", precision="int8"))
    assert names(possible) == ["openvino int8"]
    assert {one.reason for one in missing} == {"export.engine is openvino"}
    possible, _ = list_candidates(make_params(engine="auto", precision="fp32"))
    assert names(possible) == ["tensorrt fp32", "openvino fp32", "onnxruntime fp32"]
    possible, _ = list_candidates(make_params(engine="tensorrt", precision="bf16"))
    assert names(possible) == ["tensorrt bf16"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"engine": "tensorrt", "precision": "auto"}, "no tensorrt fp32 here. Buy one"),
        ({"engine": "openvino", "precision": "int8"}, "no openvino int8 here. Buy one"),
        ({"engine": "auto", "precision": "bf16"}, "nothing on this machine runs .*; no openvino bf16 here;"),
    ],
)
def test_what_is_asked_for_and_cannot_be_built_is_an_error(
    machine: Callable[..., None], make_params: Make, asked: dict[str, str], message: str
) -> None:
    machine("openvino fp32")
    with pytest.raises(EngineUnavailable, match=message):
        list_candidates(make_params(**asked))


def test_the_real_checks_tell_apart_what_onnx_runtime_can() -> None:
    assert candidates.find_obstacle("onnxruntime", "fp32") is None
    refused = candidates.find_obstacle("onnxruntime", "int8")
    assert refused is not None
    assert "in fp32, not in int8" in refused.message


def test_without_nncf_there_is_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.exporting import openvino_build

    monkeypatch.setattr(openvino_build, "_version", lambda name: None)
    obstacle = candidates.find_obstacle("openvino", "int8")
    assert obstacle is not None
    assert "NNCF, which is not installed" in obstacle.message
    assert candidates.find_obstacle("openvino", "fp32") is None


def test_a_cpu_that_lacks_a_precision_says_which_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.exporting import openvino_build

    monkeypatch.setattr(openvino_build, "read_capabilities", lambda: frozenset({"FP32", "INT8"}))
    obstacle = candidates.find_obstacle("openvino", "bf16")
    assert obstacle is not None
    assert str(obstacle) == "OpenVINO on this CPU does not compute in bf16. Choose export.precision among fp32, int8"
