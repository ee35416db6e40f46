"""The parameters of a training in Ultralytics' words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Literal

from flows.errors import ParamsError
from flows.params_train import TrainParams

Precision = Literal["fp32", "bf16"]


def choose_precision(wanted: Literal["auto", "fp32", "bf16"]) -> Precision:
    """`auto` is bfloat16 where the hardware multiplies it faster than float32: a GPU that has it, a CPU with AMX.

    Raises:
        ParamsError: bfloat16 on a GPU that lacks it.
    """
    import torch

    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        if wanted == "bf16" and not able:
            raise ParamsError("train.precision: this GPU has no bfloat16", "Choose auto or fp32")
    else:
        able = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return "bf16" if wanted == "bf16" or (wanted == "auto" and able) else "fp32"


def find_compiler() -> str | None:
    """The C++ compiler that torch.compile calls on a CPU: $CXX, else g++; None where there is none."""
    return shutil.which(os.environ.get("CXX") or "g++")


def require_compiler() -> None:
    """Raises ParamsError where torch.compile lacks the C++ compiler that it calls on a CPU."""
    import torch

    if not torch.cuda.is_available() and not find_compiler():
        raise ParamsError(
            "train.compile: on a CPU PyTorch needs a C++ compiler, and there is none",
            "Install g++ (Debian: apt-get install g++), or set train.compile: false",
        )


def ultralytics_arguments(
    params: TrainParams, precision: Precision, seed: int, save_dir: Path, start: str, rect: bool, cache: str
) -> dict[str, Any]:
    """What Ultralytics is told.

    Its own warm-up, accumulation and closing of mosaics are off: the session has them, see `schedule`.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "task": params.task,
        "mode": "train",
        "model": start,
        "epochs": params.epochs,
        "imgsz": params.image_size,
        "batch": params.batch,
        "nbs": params.batch,
        "lr0": params.learning_rate,
        "optimizer": params.optimizer,
        "warmup_epochs": 0.0,
        "mosaic": params.mosaic,
        "close_mosaic": 0,
        "rect": rect,
        "freeze": params.freeze or None,
        "workers": params.workers,
        "cache": False if cache == "none" else cache,
        "compile": params.compile,
        "seed": seed,
        "deterministic": True,
        "device": "0" if on_gpu else "cpu",
        # "bf16" also skips Ultralytics' check of mixed precision, which downloads a model.
        "amp": "bf16" if on_gpu and precision == "bf16" else False,
        "patience": params.patience,
        "plots": False,
        "verbose": False,
        "save_dir": str(save_dir),
        "exist_ok": True,
    }
