"""The parameters in Ultralytics' words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.errors import ParamsError
from flows.training.loop.arguments import choose_precision, find_compiler, require_compiler, ultralytics_arguments
from flows.weights import load_ultralytics


def test_ultralytics_takes_every_argument_and_keeps_out_of_what_is_ours(make_params: Callable[..., Any]) -> None:
    load_ultralytics()
    from ultralytics.cfg import get_cfg

    params = make_params(patience=7, compile=True, warmup_epochs=2.0, freeze=3)
    arguments = ultralytics_arguments(params, "fp32", 5, Path("run"), "yolo11n.yaml", True, "none")
    taken = get_cfg(overrides=arguments)
    assert (taken.batch, taken.nbs, taken.patience, taken.freeze, taken.seed) == (4, 4, 7, 3, 5)
    assert (taken.warmup_epochs, taken.close_mosaic, taken.cache, taken.compile) == (0.0, 0, False, True)
    assert not taken.resume


def test_precision_is_what_the_hardware_is_good_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for has_amx in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has_amx=has_amx: {"amx_bf16": has_amx})
        assert choose_precision("auto") == ("bf16" if has_amx else "fp32")
        assert choose_precision("bf16") == "bf16"
        assert choose_precision("fp32") == "fp32"


def test_a_gpu_without_bfloat16_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_precision("auto") == "fp32"
    with pytest.raises(ParamsError, match=r"train\.precision: this GPU has no bfloat16"):
        choose_precision("bf16")


def test_the_compiler_is_the_one_that_pytorch_would_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("g++", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert find_compiler() == str(tmp_path / "g++")
    monkeypatch.setenv("CXX", "mine")
    assert find_compiler() == str(tmp_path / "mine")
    require_compiler()
    monkeypatch.setenv("CXX", "none")
    assert find_compiler() is None
    with pytest.raises(ParamsError, match=r"train\.compile: on a CPU PyTorch needs a C\+\+ compiler"):
        require_compiler()
