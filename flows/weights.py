"""Weights files: Ultralytics loaded quiet and offline, and its checkpoints read without running what is in them."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync")
_REMEDY = "Expected a YOLO11 detection checkpoint (.pt) that Ultralytics saved"


@dataclass(frozen=True)
class Weights:
    """A checkpoint in memory: the float32 model in evaluation mode, and what was saved beside it."""

    model: nn.Module
    task: str
    classes: tuple[str, ...]
    content: dict[str, Any]


def load_ultralytics() -> None:
    """Import Ultralytics offline, silent and with every integration off. Idempotent.

    What it does to others on import is undone: OMP_NUM_THREADS=1, which every child process would inherit, and its own
    `PIL.Image.open`, which tries to install a package for every file that is no image.
    """
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(Path(tempfile.gettempdir()) / f"tca-yolo-{os.getuid()}"))
    from PIL import Image

    num_threads, open_image = os.environ.get("OMP_NUM_THREADS"), Image.open
    from ultralytics.utils import LOGGER, SETTINGS
    from ultralytics.utils.tqdm import TQDM

    if num_threads is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    Image.open = open_image
    # In memory only: the settings file may be the user's own.
    dict.update(SETTINGS, dict.fromkeys(_INTEGRATIONS, False))
    LOGGER.setLevel(logging.ERROR)
    TQDM.disable = property(lambda bar: True, lambda bar, value: None)  # its caching bar heeds no setting


@contextmanager
def threads(count: int) -> Iterator[int]:
    """Let PyTorch use `count` threads (0: one for each usable core), and put it back after.

    Several threads wait for each other by spinning: where another process wants the same cores, two were measured to
    take ten times as long as one.
    """
    import torch

    before = torch.get_num_threads()
    wanted = count or len(os.sched_getaffinity(0))
    torch.set_num_threads(wanted)
    try:
        yield wanted
    finally:
        torch.set_num_threads(before)


def read_weights(path: Path) -> Weights:
    """Read a checkpoint, restricted to the model classes that Ultralytics knows, so that no foreign code runs.

    Raises:
        CheckpointError: The file is missing or empty, is no checkpoint, or holds something else than a YOLO model.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}", "Give the path of a .pt file")
    if path.suffix != ".pt":
        raise CheckpointError(f"{path} is no checkpoint: its name does not end in .pt", _REMEDY)
    load_ultralytics()
    from torch import nn
    from ultralytics.nn.tasks import guess_model_task, torch_safe_load

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content, _ = torch_safe_load(str(path), safe_only=True)  # type: ignore[no-untyped-call]
    except Exception as error:  # a damaged archive fails in more ways than can be listed
        raise CheckpointError(f"{path} is no checkpoint ({_kind_of(path)})", _REMEDY) from error
    model = (content.get("ema") or content.get("model")) if isinstance(content, dict) else None
    if not isinstance(model, nn.Module) or not hasattr(model, "names"):
        raise CheckpointError(f"{path} holds no model", _REMEDY)
    names: Any = model.names
    classes = tuple(str(names[key]) for key in sorted(names)) if isinstance(names, dict) else tuple(map(str, names))
    task = getattr(model, "task", None) or guess_model_task(model)  # type: ignore[no-untyped-call]
    return Weights(model.float().eval(), str(task), classes, content)


def digest_state(model: nn.Module) -> str:
    """sha256 hex over name, type, shape and content of every tensor: what the model is, not how it is stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _kind_of(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "the file is empty"
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return "the archive is damaged, or holds something else than a YOLO model"
    text = not (set(head) - set(range(32, 256)) - {9, 10, 13})
    return "it is a text file" if text else "it is not a PyTorch archive"
