"""What several processes do so that together they train as one would; nothing of it happens in a process alone.

Written against Ultralytics 8.4.190, which assumes one machine with CUDA: it counts the devices of its own process,
starts NCCL, wraps the model with `device_ids` that a CPU has not, and averages losses with an operation that gloo
lacks. It also normalises the loss over the frames of one process. Each is set right here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from flows.training.distributed.batch_statistics import Share, share_statistics
from flows.training.distributed.company import agreed, gather_texts
from flows.training.distributed.seat import Seat

_PER_OBJECT = ("seg_loss", "pose_loss", "kobj_loss")
"""Losses that Ultralytics averages over the anchors with an object; those of boxes and classes over target scores."""


class Distributed:
    """A mixin before an Ultralytics trainer. `seat` and `sync_batchnorm` are set before its `__init__`.

    Up to the callbacks of `on_train_start` `model` is the bare model, as in one process; from then on it is wrapped.
    """

    seat: Seat
    sync_batchnorm: bool
    model: Any
    stop: bool
    validator: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._share = Share()
        if not self.seat.is_alone:
            self.world_size = self.seat.world_size
            self.add_callback("on_train_start", lambda _: self._join())  # type: ignore[attr-defined]
            self.add_callback("on_train_epoch_end", lambda _: check_alike(self.model))  # type: ignore[attr-defined]
            self.add_callback("on_fit_epoch_end", lambda _: self._agree_to_stop())  # type: ignore[attr-defined]

    def _setup_ddp(self) -> None:
        """Nothing: the worker has joined the group of processes before it knew what to train."""

    def _setup_train(self) -> None:
        """As in one process: batches, rates and the order of the frames do not depend on how many there are."""
        self._as_one(super()._setup_train)  # type: ignore[misc]

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Note whether these frames count, before they are seen by the first batch normalisation."""
        self._share.counts = bool(batch.pop("counted", True))
        return super().preprocess_batch(batch)  # type: ignore[misc,no-any-return]

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Each process its batches, with the first one's statistics; figures and losses come together there."""
        if not self.seat.is_alone:
            for buffer in self.ema.ema.buffers():  # type: ignore[attr-defined]
                dist.broadcast(buffer, 0)
        return self._as_one(super().validate)  # type: ignore[misc,no-any-return]

    def _as_one(self, function: Callable[[], Any]) -> Any:
        if self.seat.is_alone:
            return function()
        self.world_size = 0
        try:
            return function()
        finally:
            self.world_size = self.seat.world_size

    def _agree_to_stop(self) -> None:
        """Ultralytics shares what the first process has decided only after the callbacks that ask for it."""
        self.stop = agreed(self.stop)

    def _join(self) -> None:
        bare = self.model
        inner = getattr(bare, "_orig_mod", bare)  # under torch.compile
        if self.sync_batchnorm:
            share_statistics(inner, self._share)
        if getattr(inner, "criterion", None) is None:
            inner.criterion = inner.init_criterion()
        inner.loss = LossOverAll(inner.loss, inner.criterion, self._share)
        compiled = bare is not inner
        self.model = torch.nn.parallel.DistributedDataParallel(
            bare,
            forward_sync_buffers=False,
            find_unused_parameters=not compiled,
            static_graph=compiled,
        )
        self.validator.gather_stats = _gathering(self.validator)


def check_alike(model: torch.nn.Module) -> None:
    """Raise RuntimeError unless the parameters of `model` are the same, bit for bit, in all processes."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    if len(set(gather_texts(digest.hexdigest()))) > 1:
        raise RuntimeError("the parameters of the processes have come to differ")


class LossOverAll:
    """The loss of a model, normalised over the frames of all processes instead of over one's own.

    Ultralytics divides each kind of loss by a sum over its own frames (target scores, anchors with objects) and
    multiplies by their number. With both sums taken over all processes, the gradients that DistributedDataParallel
    averages and the trainer has multiplied by their number add up to those of one process with all the frames.
    """

    def __init__(self, loss: Callable[..., Any], criterion: Any, share: Share) -> None:
        self._loss, self._share = loss, share
        self._scores = self._objects = torch.zeros(())
        self._has_boxes = hasattr(criterion, "assigner")
        if self._has_boxes:
            criterion.assigner.register_forward_hook(self._look)

    def __call__(self, batch: dict[str, Any], preds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        loss, items = self._loss(batch, preds)
        own_count = float(len(batch["img"]))
        own = torch.stack([self._divisor(name, own_count) for name in items]).to(loss.device)
        values = torch.stack(list(items.values())).detach().double()
        counts = own.new_tensor([own_count, 0.0, 0.0])
        if self._has_boxes:
            counts[1], counts[2] = self._scores, self._objects
        sums = torch.cat((values * own, counts)) * float(self._share.counts)
        dist.all_reduce(sums)
        count, self._scores, self._objects = sums[-3:]
        of_all = torch.stack([self._divisor(name, count) for name in items])
        factor = own / of_all * float(self._share.counts)
        if self._has_boxes:
            factor = factor * (count / own_count)
        told = dict(zip(items, (sums[:-3] / of_all).to(values.dtype).float(), strict=True))
        return loss * factor.to(loss.dtype).view(loss.shape), told

    def _divisor(self, name: str, count: float | Tensor) -> Tensor:
        if not self._has_boxes:
            return torch.as_tensor(count, dtype=torch.float64)
        return (self._objects if name in _PER_OBJECT else self._scores).double().clamp(min=1)

    def _look(self, assigner: Any, arguments: Any, assigned: tuple[Tensor, ...]) -> None:
        self._scores, self._objects = assigned[2].detach().sum(), assigned[3].detach().sum()


def _gathering(validator: Any) -> Callable[[], None]:
    """`validator.gather_stats` that also brings the losses together: the mean over all batches, as in one process."""
    gather = validator.gather_stats

    def gather_all() -> None:
        names, batches = list(validator.loss), len(validator.dataloader)
        sums = torch.stack([validator.loss[name].detach().double() for name in names])
        sums = torch.cat((sums, sums.new_tensor([batches])))
        dist.all_reduce(sums)
        # Divided by this process's own batches in a moment.
        validator.loss = dict(zip(names, (sums[:-1] / sums[-1] * batches).float(), strict=True))
        gather()

    return gather_all
