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
from flows.weights_kinds import REMEDY, check_kind

if TYPE_CHECKING:
    from torch import nn

_INTEGRATIONS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync")
_KNOWN_CODE = ("torch.", "ultralytics.", "numpy.", "collections.")


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
    os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "true")  # no code of a checkpoint runs, whoever in it reads one
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
        CheckpointError: The file is missing, is no checkpoint, names code outside the allow-list, or holds something
            else than a YOLO model; the message says which.
    """
    check_kind(path)
    load_ultralytics()
    from torch import nn
    from ultralytics.nn.tasks import guess_model_task, torch_safe_load

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content, _ = torch_safe_load(str(path), safe_only=True)  # type: ignore[no-untyped-call]
    except Exception as error:  # a damaged archive fails in more ways than can be listed
        raise CheckpointError(f"{path} is no checkpoint ({_why_not(path, error)})", REMEDY) from error
    model = (content.get("ema") or content.get("model")) if isinstance(content, dict) else None
    if not isinstance(model, nn.Module) or not hasattr(model, "names"):
        raise CheckpointError(f"{path} holds no model{_instead(content)}", REMEDY)
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


def _why_not(path: Path, error: Exception) -> str:
    """Why a file that looked like a checkpoint was not read; code in it, other than Ultralytics' classes, never ran."""
    if "outside the supported" in str(error) and (foreign := _foreign_code(path)):
        return f"it names code that is not Ultralytics': {', '.join(foreign[:3])}; nothing of it was run"
    return "the archive is damaged, or holds something else than a YOLO model"


def _foreign_code(path: Path) -> list[str]:
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        names = get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # an old archive, or a malicious one: the names are only told
        return []
    return sorted(name for name in names if not name.startswith(_KNOWN_CODE))


def _instead(content: Any) -> str:
    import torch

    values = list(content.values()) if isinstance(content, dict) else []
    if any(isinstance(value, torch.Tensor) for value in values):
        return ", only tensors: was the state_dict saved instead of the checkpoint?"
    return ""
