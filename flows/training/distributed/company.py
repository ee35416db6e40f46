"""The processes that train together: joining them, agreeing, and handing bytes from the first to the others."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from flows.training.distributed.seat import ALONE, Seat

IS_FIRST_MACHINE = "TCA_TRAIN_FIRST_MACHINE"
GPUS = "TCA_TRAIN_GPUS"
_HANG = timedelta(hours=3)  # the longest that one process may keep the others waiting, as Ultralytics has it


def join_company(backend: str) -> tuple[Seat, Any]:
    """Take the seat that torch.distributed.elastic has given this process, and meet the others.

    Ranks are turned so that the first machine's come first, whichever machine the rendezvous has put first.
    Ultralytics reads them from the environment when it is imported, so this comes before.

    Returns:
        The seat, and the store that all share; ALONE and None in a process that was not started for several.
    """
    if "RANK" not in os.environ:
        return ALONE, None
    local_rank, num_nodes = int(os.environ["LOCAL_RANK"]), int(os.environ["GROUP_WORLD_SIZE"])
    gpus = [name for name in os.environ.get(GPUS, "").split(",") if name]
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[local_rank % len(gpus)]
    dist = torch_distributed()
    store, given_rank, world_size = next(dist.rendezvous("env://", timeout=timedelta(minutes=5)))
    if os.environ.get(IS_FIRST_MACHINE) == "1" and local_rank == 0:
        store.set("first_rank", str(given_rank))
    rank = (given_rank - int(store.get("first_rank"))) % world_size
    os.environ["RANK"] = str(rank)
    both = "cpu:gloo,cuda:nccl" if backend == "nccl" else "gloo"
    group = dist.PrefixStore("group", store)
    dist.init_process_group(both, store=group, rank=rank, world_size=world_size, timeout=_HANG)
    return Seat(rank, world_size, local_rank, num_nodes), dist.PrefixStore("talk", store)


def agreed(wish: bool) -> bool:
    """Whether any process wishes it; all must ask at the same point."""
    dist = _group()
    if dist is None:
        return wish
    import torch

    wishes = torch.tensor([int(wish)])
    dist.all_reduce(wishes)
    return bool(wishes.item())


def barrier() -> None:
    """Wait until all processes are here."""
    agreed(False)


def broadcast_bytes(content: bytes | None) -> bytes:
    """The first process's `content`, on every process; the others give None."""
    dist = _group()
    if dist is None:
        assert content is not None
        return content
    import torch

    length = torch.tensor([len(content or b"")])
    dist.broadcast(length, 0)
    buffer = torch.zeros(int(length.item()), dtype=torch.uint8)
    if content:
        buffer = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    dist.broadcast(buffer, 0)
    return buffer.numpy().tobytes()


def gather_texts(text: str) -> list[str]:
    """The `text` of every process, by rank, on every process."""
    dist = _group()
    if dist is None:
        return [text]
    texts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(texts, text)
    return [str(one) for one in texts]


def _group() -> Any:
    if "RANK" not in os.environ:
        return None
    dist = torch_distributed()
    return dist if dist.is_initialized() else None


def torch_distributed() -> Any:
    """PyTorch's module, which does not export its stores by name."""
    from torch import distributed

    return distributed


def leave_company() -> None:
    """Part in order: nobody closes what another still reads."""
    dist = _group()
    if dist is not None:
        barrier()
        dist.destroy_process_group()
