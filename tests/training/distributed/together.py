"""Run by test_distributed.py in processes of its own: one step of a network, shared by two processes or taken alone.

In double precision, so that what differs is an error and not rounding.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from flows.training.distributed.batch_statistics import Share, share_statistics
from flows.training.distributed.shared_step import LossOverAll, check_alike
from flows.weights import load_ultralytics

CASES = {
    "even": ([0, 2, 4], [1, 3, 5]),
    "uneven": ([0, 2, 4], [1, 3]),
    "one of two": ([0], [0]),
}
"""Frames of the two processes. In the last case the second has none of its own, and computes a stand-in."""

MODELS = {"detect": "yolo11n.yaml", "segment": "yolo11n-seg.yaml", "obb": "yolo11n-obb.yaml"}


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    load_ultralytics()
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    told = {}
    for task in MODELS:
        for name, frames in CASES.items():
            stand_in = name == "one of two" and rank == 1
            shared = step(task, frames[rank], rank, stand_in)
            whole = sorted({frame for one in frames for frame in one})
            told[f"{task} {name}"] = compare(shared, step(task, whole, None, False))
    torch.manual_seed(rank)
    os.environ["RANK"] = str(rank)  # as the workers have it
    try:
        check_alike(torch.nn.Linear(2, 2))
    except RuntimeError as error:
        told["drifted"] = {str(error): 0.0}
    (folder / f"{rank}.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


def step(task: str, frames: list[int], rank: int | None, stand_in: bool) -> dict[str, Any]:
    """Losses, gradients and batch statistics of one step; rank None: alone, without any of what is tested."""
    model = build(task)
    batch = draw(task, frames)
    wrapped: Any = model
    if rank is not None:
        share = Share(counts=not stand_in)
        share_statistics(model, share)
        model.criterion = model.init_criterion()
        model.loss = LossOverAll(model.loss, model.criterion, share)
        wrapped = torch.nn.parallel.DistributedDataParallel(
            model, forward_sync_buffers=False, find_unused_parameters=True
        )
    loss, items = wrapped(batch)
    total = loss.sum() * (1 if rank is None else 2)  # as Ultralytics multiplies, for DDP to divide
    total.backward()
    return {
        **{f"loss {name}": value for name, value in items.items()},
        **{f"gradient {name}": p.grad for name, p in model.named_parameters() if p.grad is not None},
        **{f"buffer {name}": value for name, value in model.named_buffers()},
    }


def build(task: str) -> Any:
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel, OBBModel, SegmentationModel

    torch.manual_seed(1)
    kind = {"detect": DetectionModel, "segment": SegmentationModel, "obb": OBBModel}[task]
    model = kind(MODELS[task], nc=2, verbose=False)
    model.args = get_cfg()
    for parameter in model.model[-1].dfl.parameters():
        parameter.requires_grad = False
    model.double().train()
    # Scores near one half: with those of a fresh network all sums stay below one, where Ultralytics cuts them off.
    for branch in model.model[-1].cv3:
        torch.nn.init.zeros_(branch[-1].bias)
    return model


def draw(task: str, frames: list[int]) -> dict[str, Any]:
    parts = []
    for frame in frames:
        dice = torch.Generator().manual_seed(frame)
        count = 1 + frame % 3
        centre, size = (
            0.3 + 0.4 * torch.rand(count, 2, generator=dice),
            0.2 + 0.3 * torch.rand(count, 2, generator=dice),
        )
        boxes = torch.cat((centre, size), 1)
        image = torch.rand(1, 3, 64, 64, generator=dice, dtype=torch.float64)
        parts.append((image, boxes, torch.randint(0, 2, (count, 1), generator=dice).float()))
    counts = [len(boxes) for _, boxes, _ in parts]
    batch: dict[str, Any] = {
        "img": torch.cat([image for image, _, _ in parts]),
        "bboxes": torch.cat([boxes for _, boxes, _ in parts]),
        "cls": torch.cat([classes for _, _, classes in parts]),
        "batch_idx": torch.repeat_interleave(torch.arange(len(parts)), torch.tensor(counts)).float(),
    }
    if task == "obb":
        batch["bboxes"] = torch.cat((batch["bboxes"], torch.full((sum(counts), 1), 0.3)), 1)
    if task == "segment":
        masks = torch.zeros(len(parts), 16, 16)
        for number, count in enumerate(counts):
            for instance in range(count):
                masks[number, 4 + 3 * instance : 9 + 3 * instance, 3:12] = instance + 1
        batch["masks"] = masks
    return batch


def compare(shared: dict[str, Any], alone: dict[str, Any]) -> dict[str, float]:
    """The largest difference by kind, relative to the largest value of that tensor and to one thousandth."""
    worst: dict[str, float] = {}
    assert shared.keys() == alone.keys()
    for name, value in alone.items():
        scale = max(float(value.abs().max()), 1e-3)
        kind = name.split()[0]
        worst[kind] = max(worst.get(kind, 0.0), float((shared[name] - value).abs().max()) / scale)
    return worst


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
