"""All that a session is at one moment, as plain tensors and containers, and a session put back into it.

Imports Ultralytics: import this module inside the function that trains.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from ultralytics.utils.torch_utils import unwrap_model

from flows.training.loop.session import Session

_HALF_MAX = 65_504.0


def take_snapshot(session: Session, epoch: int, step: int) -> dict[str, Any]:
    """What the session needs to go on from `step` of `epoch`. The tensors are its own, not copies."""
    stopper = session.stopper
    return {
        "epoch": epoch,
        "step": step,
        "finished": step == 0 and bool(session.stop),
        "model": dict(unwrap_model(session.model).state_dict()),
        "ema": dict(session.ema.ema.state_dict()),
        "ema_updates": session.ema.updates,
        "optimizer": session.optimizer.state_dict(),
        "scaler": session.scaler.state_dict(),
        "stopper": {"best_fitness": float(stopper.best_fitness), "best_epoch": int(stopper.best_epoch)},
        "loss_sums": session.loss_sums if step else {},
        "num_seen": session.num_seen if step else 0,
        "train_seconds": session.clock.seconds if step else 0.0,
        "wait_seconds": session.train_loader.wait_seconds if step else 0.0,
    }


def restore_snapshot(session: Session, content: dict[str, Any]) -> None:
    """Put a session that has just been built back to where `content` was taken."""
    unwrap_model(session.model).load_state_dict(content["model"])
    session.ema.ema.load_state_dict(content["ema"])
    session.ema.updates = content["ema_updates"]
    optimizer = content["optimizer"]
    for saved, group in zip(optimizer["param_groups"], session.optimizer.param_groups, strict=True):
        saved["fused"] = group.get("fused")  # which kernel is the device's affair
    session.optimizer.load_state_dict(optimizer)
    session.scaler.load_state_dict(content["scaler"])
    session.stopper.__dict__.update(content["stopper"])
    session.start_epoch, session.step = content["epoch"], content["step"]
    session.loss_sums = {name: value.to(session.device) for name, value in content["loss_sums"].items()}
    session.num_seen = content["num_seen"]
    session.clock.reset(content["train_seconds"])
    session.train_loader.wait_seconds = content["wait_seconds"]
    # An epoch whose last step is done goes on with its validation, which looks at the last losses for their names, and
    # before that at the criterion, which the first loss would have made.
    model: Any = unwrap_model(session.model)
    model.criterion = model.init_criterion()
    session.loss_names = tuple(session.loss_sums)
    session.loss_items = dict.fromkeys(session.loss_sums, torch.zeros((), device=session.device))
    session.loss = torch.zeros((), device=session.device)


def copy_weights(session: Session) -> dict[str, torch.Tensor]:
    """The smoothed weights as a finished checkpoint holds them: half precision, in main memory."""

    def halved(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor.detach().cpu().clone()
        return tensor.detach().clamp(-_HALF_MAX, _HALF_MAX).half().cpu().contiguous()

    return {name: halved(tensor) for name, tensor in session.ema.ema.state_dict().items()}


def build_model(session: Session, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The session's model with the weights that `copy_weights` gave, half precision, in main memory."""
    source = session.ema.ema
    source.criterion = None
    model: torch.nn.Module = deepcopy(source).cpu().half().to(memory_format=torch.contiguous_format)
    model.load_state_dict(weights)
    return model
