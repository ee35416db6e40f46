"""One Ultralytics training with its console, its folders and its final round replaced by ours.

Written against Ultralytics 8.4.190. Imports Ultralytics: import this module inside the function that trains, after
`load_ultralytics`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import torch
from ultralytics.models.yolo.detect import DetectionTrainer

from flows.errors import ParamsError
from flows.params_train import TrainParams

Precision = Literal["fp32", "bf16"]
BatchSeen = Callable[[int, int], None]
"""`(done, total)` batches of the whole training."""


class DetectorTrainer(DetectionTrainer):
    """Trains on a mirror of the frames, tells each epoch once, and leaves the last round to the caller."""

    def __init__(
        self,
        arguments: dict[str, Any],
        precision: Precision,
        mirror: Path,
        classes: tuple[str, ...],
        size_wh: tuple[int, int],
    ) -> None:
        self.precision, self._mirror, self._classes, self._size_wh = precision, mirror, classes, size_wh
        self.train_seconds = 0.0
        self._epoch_started = 0.0
        super().__init__(overrides=arguments)
        self.add_callback("on_train_epoch_start", lambda _: self._start_clock())
        self.add_callback("on_train_epoch_end", lambda _: self._stop_clock())

    def get_dataset(self) -> dict[str, Any]:
        """The mirrored splits. Ultralytics' own check would look for a font on the internet."""
        splits = {split: str(self._mirror / "images" / split) for split in ("train", "val")}
        names = dict(enumerate(self._classes))
        return {"path": self._mirror, **splits, "names": names, "nc": len(names), "channels": 3}

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Frames of one shape fill the input exactly, in training and validation as in service."""
        dataset = super().build_dataset(img_path, mode, batch)
        if dataset.rect and self.args.rect:
            dataset.batch_shapes[:] = self._size_wh[::-1]
        return dataset

    def _setup_train(self) -> None:
        """Quicker batch statistics for short epochs; on a CPU channels last (its own order), and bfloat16 if chosen.

        Ultralytics' momentum of 0.03 is made for thousands of steps: validated after 32, the statistics would be those
        of older weights. Here they have forgotten all but a twentieth of what was an epoch ago. It also refuses
        bfloat16 on a CPU and switches autocast off around each step, so it is switched on inside.
        """
        super()._setup_train()  # type: ignore[no-untyped-call]
        model: Any = self.model
        ema: Any = self.ema
        momentum = min(0.1, max(0.03, 3 / len(self.train_loader)))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = momentum
        if self.device.type == "cpu":
            model.to(memory_format=torch.channels_last)
            ema.ema.to(memory_format=torch.channels_last)
            if self.precision == "bf16":
                model.loss = _in_bf16(model.loss)

    def build_optimizer(self, *arguments: Any, **options: Any) -> Any:
        """Adam's fused kernel, which Ultralytics takes on GPUs only: on a CPU it takes less than half the time, too."""
        optimizer = super().build_optimizer(*arguments, **options)  # type: ignore[no-untyped-call]
        if self.device.type == "cpu" and isinstance(optimizer, torch.optim.Adam):
            for group in optimizer.param_groups:
                group["fused"] = True
        return optimizer

    def read_results_csv(self) -> dict[str, Any]:
        """Nothing: the curve is written once, at the end, and not into every checkpoint."""
        return {}

    def final_eval(self) -> None:
        """Nothing: the figures of the best epoch are known, and the caller writes the finished checkpoints."""

    def on_batch(self, seen: BatchSeen) -> None:
        """Call `seen` after every batch."""

        def ended(_: DetectionTrainer) -> None:
            self._done += 1
            seen(min(self._done, self._total), self._total)

        self._done = 0
        self.add_callback("on_train_batch_end", ended)

    @property
    def _total(self) -> int:
        return len(self.train_loader) * int(self.epochs)

    def _start_clock(self) -> None:
        self._epoch_started = time.monotonic()

    def _stop_clock(self) -> None:
        self.train_seconds = time.monotonic() - self._epoch_started


def _in_bf16(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def inner(*arguments: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return function(*arguments)

    return inner


def choose_precision(wanted: Literal["auto", "fp32", "bf16"]) -> Precision:
    """`auto` is bfloat16 where the hardware multiplies it faster than float32: a GPU that has it, a CPU with AMX.

    Raises:
        ParamsError: bfloat16 on a GPU that lacks it.
    """
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        if wanted == "bf16" and not able:
            raise ParamsError("train.precision: this GPU has no bfloat16", "Choose auto or fp32")
    else:
        able = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return "bf16" if wanted == "bf16" or (wanted == "auto" and able) else "fp32"


def ultralytics_arguments(
    params: TrainParams, precision: Precision, seed: int, save_dir: Path, start: str, rect: bool
) -> dict[str, Any]:
    """`params` in Ultralytics' words.

    Every batch is a step (nbs), so that `batch` means what it says; the warm-up of biases at rate 0.1 is made for SGD
    and throws the adaptive optimisers off; mosaics end for the last fifth, on frames as they are in service.
    """
    on_gpu = torch.cuda.is_available()
    return {
        "task": "detect",
        "mode": "train",
        "model": start,
        "epochs": params.epochs,
        "imgsz": params.image_size,
        "batch": params.batch,
        "nbs": params.batch,
        "lr0": params.learning_rate,
        "optimizer": params.optimizer,
        "warmup_epochs": params.warmup_epochs,
        "warmup_bias_lr": 0.1 if params.optimizer == "SGD" else 0.0,
        "mosaic": params.mosaic,
        "close_mosaic": max(1, params.epochs // 5),
        "rect": rect,
        "freeze": params.freeze or None,
        "workers": params.workers,
        "cache": {"none": False, "auto": "ram"}.get(params.cache, params.cache),
        "seed": seed,
        "deterministic": True,
        "device": "0" if on_gpu else "cpu",
        # "bf16" also skips Ultralytics' check of mixed precision, which downloads a model.
        "amp": "bf16" if on_gpu and precision == "bf16" else False,
        "patience": 0,
        "plots": False,
        "verbose": False,
        "save_dir": str(save_dir),
        "exist_ok": True,
    }
