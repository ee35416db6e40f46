"""How many processes train on this machine, on which devices, over which transport: checked before any is started."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import Literal

from flows.errors import ParamsError
from flows.params_train import DistributedParams, TrainParams

_SECTION = "train.distributed"


@dataclass(frozen=True)
class Placing:
    """The processes of one machine."""

    num_processes: int
    num_nodes: int
    backend: Literal["nccl", "gloo"]
    gpus: tuple[str, ...]

    @property
    def is_alone(self) -> bool:
        """Whether one process does it all, without a launcher."""
        return self.num_processes == 1 and self.num_nodes == 1


def place_training(params: TrainParams) -> Placing:
    """The placing of the first machine. Raises ParamsError."""
    placing = place_processes(params.distributed)
    if placing.num_nodes > 1 and not params.distributed.rendezvous:
        raise ParamsError(
            f"{_SECTION}.nodes = {placing.num_nodes}, but {_SECTION}.rendezvous is empty",
            "Give HOST:PORT of this machine, as the others reach it",
        )
    least = placing.num_processes + placing.num_nodes - 1
    if params.batch < least:
        raise ParamsError(
            f"train.batch = {params.batch} is less than one image for each of {least} processes",
            f"Choose a larger batch, or fewer {_SECTION}.processes_per_node",
        )
    return placing


def place_processes(distributed: DistributedParams) -> Placing:
    """The placing of any machine. Raises ParamsError: more processes than devices."""
    gpus = visible_gpus()
    backend = distributed.backend
    if backend == "auto":
        backend = "nccl" if gpus else "gloo"
    wanted = distributed.processes_per_node or len(gpus) or 1
    devices = len(gpus) if backend == "nccl" else max(len(os.sched_getaffinity(0)), len(gpus))
    if wanted > max(devices, 1) or (backend == "nccl" and not gpus):
        kind = "GPU" if backend == "nccl" else "core"
        raise ParamsError(
            f"{_SECTION}.processes_per_node = {wanted}, but this machine has {devices} {kind}{'s' * (devices != 1)}",
            f"At most {devices}" if devices else f"Choose {_SECTION}.backend: auto",
        )
    return Placing(wanted, distributed.nodes, backend, gpus)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that processes may take, as CUDA_VISIBLE_DEVICES names them; none where the driver answers nothing."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(listed, os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(listed: str, chosen: str | None) -> tuple[str, ...]:
    """The GPUs of `nvidia-smi -L`, less what CUDA_VISIBLE_DEVICES leaves out."""
    count = sum(line.startswith("GPU ") for line in listed.splitlines())
    if not count or chosen is None:
        return tuple(str(number) for number in range(count))
    names = [name.strip() for name in chosen.split(",")]
    # CUDA takes the names up to the first that is none.
    valid = [(name.isdecimal() and int(name) < count) or name.startswith(("GPU-", "MIG-")) for name in names]
    return tuple(names[: valid.index(False)] if False in valid else names)
