"""What is said before a training begins: what cannot work is refused, what will surprise is told."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.errors import DataError, ParamsError
from flows.params_train import Task, TrainParams
from flows.training.checkpoints import CheckpointInfo, find_start
from flows.training.tasks import TASKS, labelled_form, point_keys, settings_without_effect

_SHOWN = 6  # class names in a sentence


def check_start(params: TrainParams, data: Path, has_champion: bool) -> None:
    """Refuse at once what would fail later. Light: neither PyTorch is loaded nor a frame opened.

    Args:
        data: Folder of the dataset.
        has_champion: Whether a champion reigns, so that `train.model` may not be needed.

    Raises:
        CheckpointError: `train.model` is no architecture of the task, and no file that could be a checkpoint.
        ParamsError: Settings contradict each other.
        DataError: The data are labelled for another task.
    """
    if not (has_champion and params.may_start_from_champion):
        find_start(params.model, params.task)
    if params.warmup_epochs > params.epochs:
        raise ParamsError(
            f"train.warmup_epochs {params.warmup_epochs:g} is longer than the training (train.epochs {params.epochs})",
            "The learning rate would never be reached: lower warmup_epochs",
        )
    layers = TASKS[params.task].num_layers
    if params.freeze >= layers:
        raise ParamsError(
            f"train.freeze {params.freeze} leaves nothing to train: a model made to {params.task} has {layers} layers",
            f"Expected 0 to {layers - 1}",
        )
    check_labels_fit(params.task, data)


def check_labels_fit(task: Task, data: Path) -> None:
    """Refuse a task that the labels are not made for. `task` in data.yaml says what they are; detect without it.

    Boxes can be learnt from any labels of objects: those around polygons and points are taken.

    Raises:
        DataError: They do not fit, or data.yaml does not say how many points an object has.
    """
    if not (data / "data.yaml").is_file():  # whoever reads the data says so
        return
    form = labelled_form(data)
    if form.task != task and (task != "detect" or form.task == "classify"):
        raise DataError(
            f"train.task is {task}, but the labels are for {form.task} (`task` in {data / 'data.yaml'})",
            f"Set train.task={form.task}, or label for {task}, and write `task: {task}` into data.yaml",
        )
    point_keys(data)


def notes_on_data(params: TrainParams, num_images: int, sizes_wh: Sequence[tuple[int, int]]) -> list[str]:
    """What a user may not expect of these settings on these frames.

    Args:
        num_images: Images of the training split.
        sizes_wh: Width and height of frames, px.
    """
    notes = settings_without_effect(params)
    if params.batch > num_images:
        notes.append(f"train.batch {params.batch} is more than the training split has: an epoch is one step of it all")
    longest = max((max(size) for size in sizes_wh), default=0)
    if 0 < longest < params.image_size:
        notes.append(f"train.image_size {params.image_size} is more than the frames show: {longest} px are enlarged")
    return notes


@dataclass(frozen=True)
class ClassTransfer:
    """The classes of a checkpoint beside those of the data; matched by name, without regard to case and blanks.

    `misspelt` pairs a class of the data with the class of the checkpoint that it resembles without being its match.
    """

    kept: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    respelt: tuple[tuple[str, str], ...]
    misspelt: tuple[tuple[str, str], ...]
    is_reordered: bool


def compare_classes(before: Sequence[str], now: Sequence[str]) -> ClassTransfer:
    """What becomes of the classes `before` (of a checkpoint) in a training on data with the classes `now`."""
    old, new = {_plain(name): name for name in before}, {_plain(name): name for name in now}
    kept = [key for key in new if key in old]
    added = [name for key, name in new.items() if key not in old]
    dropped = [name for key, name in old.items() if key not in new]
    near = [(name, difflib.get_close_matches(name, dropped, n=1, cutoff=0.8)) for name in added]
    return ClassTransfer(
        kept=tuple(new[key] for key in kept),
        new=tuple(added),
        dropped=tuple(dropped),
        respelt=tuple((new[key], old[key]) for key in kept if new[key] != old[key]),
        misspelt=tuple((name, found[0]) for name, found in near if found),
        is_reordered=[key for key in old if key in new] != kept,
    )


def notes_on_start(info: CheckpointInfo, classes: Sequence[str]) -> list[str]:
    """What is taken over from a checkpoint: Ultralytics moves the weights of a class to where its name is now."""
    notes = []
    if info.unfinished_epoch is not None:
        notes.append(
            f"the checkpoint is of a training that ended early, after epoch {info.unfinished_epoch}: its weights are"
            " taken, its training is not resumed"
        )
    if info.classes == tuple(classes):
        return notes
    found = compare_classes(info.classes, classes)
    if info.task == "classify":
        return [*notes, _by_place(info, classes)]
    if not found.kept:
        notes.append(f"no class of the data is one of the checkpoint's {len(info.classes)}: the head starts anew")
    else:
        parts = [f"{len(found.kept)} of {len(classes)} classes keep the checkpoint's weights ({_list(found.kept)})"]
        parts += [f"{_list(found.new)} start{'s' if len(found.new) == 1 else ''} anew"] if found.new else []
        parts += [f"{len(found.dropped)} of the checkpoint's are dropped ({_list(found.dropped)})"] * bool(
            found.dropped
        )
        parts += ["their order is another, so they are moved by name"] * found.is_reordered
        notes.append("; ".join(parts))
    notes += [f"class {name} is taken for the checkpoint's {old}" for name, old in found.respelt]
    notes += [f"class {name} starts anew: is it the checkpoint's {old}, misspelt?" for name, old in found.misspelt]
    return notes


def _by_place(info: CheckpointInfo, classes: Sequence[str]) -> str:
    if len(info.classes) != len(classes):
        return f"the checkpoint knows {len(info.classes)} classes, the data {len(classes)}: the last layer starts anew"
    return f"the checkpoint's classes ({_list(info.classes)}) are others: its last layer is taken over by position"


def _plain(name: str) -> str:
    return name.strip().lower()


def _list(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
