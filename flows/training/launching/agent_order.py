"""What the launcher of a machine is to do, and what must be the same on all machines that train together."""

from __future__ import annotations

import hashlib
import re
import socket
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict

import flows

ORDER = "TCA_TRAIN_ORDER"
"""The environment variable that holds the order, as JSON."""

_COMPARED = {
    "nodes": "train.distributed.nodes",
    "data_version": "the data version (data.dvc)",
    "code": "the code of this product",
    "torch": "torch",
    "ultralytics": "ultralytics",
    "backend": "the transport (train.distributed.backend)",
}


class Machine(BaseModel):
    """A machine that is to train, and all that must be the same on each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    nodes: int
    backend: str
    data_version: str
    code: str
    torch: str
    ultralytics: str

    @classmethod
    def here(cls, data: Path, nodes: int, backend: str) -> Machine:
        """The machine that this runs on, with the frames in `data`."""
        return cls(
            host=socket.gethostname(),
            nodes=nodes,
            backend=backend,
            data_version=data_version(data),
            code=code_digest(),
            torch=metadata.version("torch"),
            ultralytics=metadata.version("ultralytics-opencv-headless"),
        )

    def difference(self, other: Machine) -> str | None:
        """What differs in `other`, in words; None when nothing does."""
        for key, name in _COMPARED.items():
            here, there = getattr(self, key), getattr(other, key)
            if here != there:
                return f"{name} on {other.host} is {there}, on the first machine, {self.host}, {here}"
        return None


class Order(BaseModel):
    """What the launcher of a machine is to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_first: bool
    num_nodes: int
    num_processes: int
    gpus: tuple[str, ...]
    rendezvous: str
    restarts: int
    timeout_s: float
    log_dir: Path
    machine: Machine | None


def data_version(data: Path) -> str:
    """The md5 in data.dvc beside the folder `data`; 'unversioned' where there is none."""
    try:
        found = re.search(r"^\W*md5: (\w+)", data.with_name(f"{data.name}.dvc").read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    return found[1] if found else "unversioned"


def code_digest() -> str:
    """The first 12 hex digits of the sha256 over the Python files of this product."""
    root = Path(flows.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
