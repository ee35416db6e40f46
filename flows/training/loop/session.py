"""One Ultralytics training whose order, schedule, state and console are ours.

Written against Ultralytics 8.4.190; test_ultralytics_pin.py fails when what is relied on here changes.
Imports Ultralytics: import this module inside the function that trains, after `load_ultralytics`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils.torch_utils import unwrap_model

from flows.memory import give_back_memory
from flows.params_train import TrainParams
from flows.training.distributed.seat import Seat
from flows.training.distributed.shared_step import Distributed
from flows.training.loop.arguments import Precision
from flows.training.loop.clock import Clock
from flows.training.loop.gauges import Gauges
from flows.training.loop.loader import SeededFrames, TrainLoader, end_workers, seed_everything
from flows.training.loop.schedule import BatchPlan, Momentum, count_warmup_steps, draw_seed, warm_up
from flows.training.tasks import read_metrics, task_data


@dataclass(frozen=True)
class Assignment:
    """What a session is to train."""

    params: TrainParams
    precision: Precision
    seed: int
    seat: Seat
    micro_batch: int | None
    root: Path
    mirror: Path
    classes: tuple[str, ...]
    size_wh: tuple[int, int]


class AllDone(Exception):
    """Raised by `restored` where no epoch is left."""


class Session(Distributed):
    """Mixin for Ultralytics' trainer of a task.

    It goes through the frames as `BatchPlan` says and steps the optimiser once a batch, warms up by the count of those
    steps, and leaves checkpoints and the final round to the caller, who hears of every step and every epoch. `epoch`
    and `step` are its position: epochs done, and steps done of the epoch after.
    """

    # Of Ultralytics' trainer
    args: Any
    device: torch.device
    add_callback: Callable[..., None]
    train: Callable[[], None]
    epochs: int
    epoch: int
    start_epoch: int
    ema: Any
    optimizer: Any
    scaler: Any
    stopper: Any
    stop: bool
    lf: Callable[[int], float]
    lr: dict[str, float]
    loss: torch.Tensor
    loss_items: dict[str, torch.Tensor]
    loss_names: tuple[str, ...]
    metrics: dict[str, float]
    fitness: float
    train_loader: Any
    test_loader: Any

    def __init__(self, given: Assignment, arguments: dict[str, Any]) -> None:
        self.given, self.seat = given, given.seat
        self.sync_batchnorm = given.params.distributed.sync_batchnorm
        self.step = self._part = 0
        self.loss_sums: dict[str, torch.Tensor] = {}
        self.num_seen = 0
        self.clock = Clock()
        self.after_step: Callable[[], None] = lambda: None
        self.after_epoch: Callable[[], None] = lambda: None
        self.restored: Callable[[], None] = lambda: None
        super().__init__(overrides=arguments)
        self.args.workers = given.params.workers  # on a CPU Ultralytics has just forbidden them
        self.gauges = Gauges(self.device.type == "cuda")
        self.add_callback("on_train_epoch_start", lambda _: self._begin_epoch())
        self.add_callback("on_train_batch_start", lambda _: self._begin_part())
        self.add_callback("on_train_batch_end", lambda _: self._end_part())
        self.add_callback("on_train_epoch_end", lambda _: self._end_epoch())
        self.add_callback("on_fit_epoch_end", lambda _: self.after_epoch())

    # What it is made of

    def get_dataset(self) -> dict[str, Any]:
        """The mirrored splits. Ultralytics' own check would look for a font on the internet."""
        return task_data(self.given.params.task, self.given.root, self.given.mirror, self.given.classes)

    def setup_model(self) -> Any:
        """The same first weights in every process."""
        seed_everything(self.given.seed)
        return super().setup_model()  # type: ignore[misc]

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Frames of one shape fill the input exactly, in training and validation as in service."""
        dataset = super().build_dataset(img_path, mode, batch)  # type: ignore[misc]
        if getattr(dataset, "rect", False) and self.args.rect:
            dataset.batch_shapes[:] = self.given.size_wh[::-1]
        return dataset

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Our loader for training; Ultralytics' for validation, with parts as large as twice those of training."""
        given, params = self.given, self.given.params
        if mode != "train":
            limit = 2 * self.plan.largest_part
            loader: Any = super().get_dataloader(dataset_path, min(batch_size, limit), rank, mode)  # type: ignore[misc]
            loader.close = lambda: end_workers(loader.iterator)
            return loader
        frames = self.build_dataset(dataset_path, mode, batch_size)
        self.plan: BatchPlan = BatchPlan.of(len(frames), params.batch, given.size_wh, self.seat, given.micro_batch)
        # Mosaics end for the last fifth, on frames as they are in service.
        plain_from = params.epochs - max(1, params.epochs // 5)
        seeded = SeededFrames(frames, self.args, given.seed, plain_from)
        on_gpu = self.device.type == "cuda"
        return TrainLoader(seeded, self.plan, given.seed, params.epochs, self.args.workers, on_gpu)

    def build_optimizer(self, *arguments: Any, **options: Any) -> Any:
        """Adam's fused kernel, which Ultralytics takes on GPUs only: on a CPU it takes less than half the time, too."""
        optimizer = super().build_optimizer(*arguments, **options)  # type: ignore[misc]
        if self.device.type == "cpu" and isinstance(optimizer, torch.optim.Adam):
            for group in optimizer.param_groups:
                group["fused"] = True
        return optimizer

    def _setup_train(self) -> None:
        """Quicker batch statistics for short epochs; on a CPU channels last (its own order), and bfloat16 if chosen.

        Ultralytics' momentum of 0.03 is made for thousands of steps: validated after 32, the statistics would be those
        of older weights. Here they have forgotten all but a twentieth of what was an epoch ago. It also refuses
        bfloat16 on a CPU and switches autocast off around each step, so it is switched on inside.
        """
        super()._setup_train()
        if self.args.cache == "ram":
            give_back_memory()  # the first copies, from before the frames were packed
        self.num_warmup_steps = count_warmup_steps(self.given.params.warmup_epochs, self.epochs, self.plan.steps)
        model: Any = unwrap_model(self.model)
        momentum = min(0.1, max(0.03, 3 / self.plan.steps))
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = momentum
        if self.device.type == "cpu":
            model.to(memory_format=torch.channels_last)
            self.ema.ema.to(memory_format=torch.channels_last)
            if self.given.precision == "bf16":
                model.loss = _in_bf16(model.loss)
                if self.args.compile:  # Ultralytics then calls the network itself, not through its loss
                    self.model.forward = _in_bf16(self.model.forward)

    def resume_training(self, ckpt: Any) -> None:
        """Called by Ultralytics when all is built; its own way of resuming keeps half precision and no position."""
        self.restored()

    def _do_train(self) -> None:
        """Ultralytics' loop, unless all epochs are done and only the results are to be written."""
        with contextlib.suppress(AllDone):
            super()._do_train()  # type: ignore[misc]

    # Its course

    def _begin_epoch(self) -> None:
        self._oom_retries = 3  # the caller decides what follows from a lack of memory, not Ultralytics
        self.train_loader.seek(self.epoch, self.step)
        self.gauges.begin()
        self.clock.begin()

    def _begin_part(self) -> None:
        given, args = self.given, self.args
        seed_everything(draw_seed(given.seed, self.epoch, "part", self.step, self._part, self.seat.rank))
        last = self._part + 1 == self.plan.num_parts(self.step)
        self.accumulate = 0 if last else math.inf  # Ultralytics steps when that many parts have passed
        warm_up(
            self.optimizer.param_groups,
            self.epoch * self.plan.steps + self.step,
            self.num_warmup_steps,
            self.lf(self.epoch),
            # Biases at rate 0.1 are made for SGD and throw the adaptive optimisers off.
            0.1 if given.params.optimizer == "SGD" else 0.0,
            Momentum(args.warmup_momentum, args.momentum),
        )

    def _end_part(self) -> None:
        count = self.plan.part_size(self.step, self._part)  # the losses told are those of all processes
        for name, value in self.loss_items.items():
            self.loss_sums[name] = self.loss_sums.get(name, 0.0) + value.detach().double() * count
        self.num_seen += count
        self.gauges.sample()
        self._part += 1
        if self._part == self.plan.num_parts(self.step):
            self._part = 0
            self.step += 1
            self.after_step()

    def _end_epoch(self) -> None:
        self.clock.pause()
        self.tloss = {name: value / self.num_seen for name, value in self.loss_sums.items()}

    def begin_next_epoch(self) -> None:
        """Forget what was counted for the epoch that is done."""
        self.step, self.num_seen = 0, 0
        self.loss_sums = {}
        self.clock.reset()
        self.train_loader.wait_seconds = 0.0

    def validate(self) -> tuple[Any, Any]:
        """Ultralytics' figures with our score: the same for the best epoch and for patience."""
        metrics, _ = super().validate()
        return (None, None) if metrics is None else (metrics, read_metrics(self.given.params.task, metrics).score)

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """End a training that has diverged: from the same state the same draws would lead to the same place."""
        if self.seat.is_first and self.diverged:
            self.stop = True
        return False

    @property
    def diverged(self) -> bool:
        """Whether a loss of this epoch, or its score, is no number."""
        losses = all(math.isfinite(value) for value in self.tloss.values())
        return not (losses and math.isfinite(self.fitness))

    # What Ultralytics would write

    def save_model(self) -> bool:
        """Nothing: the caller keeps the state."""
        return False

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Nothing: the curve is written once, at the end."""

    def final_eval(self) -> None:
        """Nothing: the figures of the best epoch are known, and the caller writes the finished checkpoints."""


def _in_bf16(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def inner(*arguments: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return function(*arguments)

    return inner
