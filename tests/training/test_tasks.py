"""All tasks of YOLO11 train on tiny drawn data, are measured by their own score, and say what they do not do."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image, ImageDraw

from flows.errors import DataError
from flows.params_train import Task
from flows.training.class_folders import read_frame_class
from flows.training.tasks import (
    TASKS,
    architectures,
    labelled_form,
    load_trainer,
    point_keys,
    read_metrics,
    settings_without_effect,
    task_data,
)
from flows.weights import load_ultralytics, read_weights

SIZE_WH = (96, 64)
OTHERS: tuple[Task, ...] = ("segment", "pose", "obb", "classify")
NUM_PARAMETERS = {"s": 9_428_566, "m": 20_054_550, "l": 25_312_022, "x": 56_876_086}  # of two classes
MADE: dict[str, str] = {
    "detect": "{c} {cx} {cy} {w} {h}",
    "segment": "{c} {x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2}",
    "obb": "{c} {x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2}",
    "pose": "{c} {cx} {cy} {w} {h} {x1} {y1} 2 {x2} {y2} 1",
    "classify": "{c}",
}


def draw_task(root: Path, task: Task, draw: Callable[..., Any]) -> Any:
    """Frames like those of the fixture `tiny`, labelled for `task`: red cars and blue buses."""
    dice = random.Random(11)
    frames = draw(root)
    for split in ("train", "val"):
        for number, frame in enumerate(frames.split(split)):
            (root / frame.label).write_text(_draw_objects(root / frame.image, task, number, dice), encoding="utf-8")
    keys = {"pose": "task: pose\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n"}.get(task, f"task: {task}\n")
    (root / "data.yaml").write_text(f"names: [car, bus]\n{keys}", encoding="utf-8")
    return frames


def _draw_objects(image: Path, task: Task, number: int, dice: random.Random) -> str:
    (width, height), lines = SIZE_WH, []
    picture = Image.new("RGB", SIZE_WH, (90, 90, 90))
    for at in range(1 if task == "classify" else 2):
        class_id = (number + at) % 2
        x, y = dice.randrange(4, width - 40), dice.randrange(4, height - 30)
        ImageDraw.Draw(picture).rectangle((x, y, x + 31, y + 23), fill=((200, 30, 30), (30, 30, 220))[class_id])
        x1, y1, x2, y2 = x / width, y / height, (x + 32) / width, (y + 24) / height
        values = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "w": x2 - x1, "h": y2 - y1}
        lines.append(MADE[task].format(c=class_id, cx=(x1 + x2) / 2, cy=(y1 + y2) / 2, **values))
    picture.save(image)
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def trained_task(tmp_path_factory: pytest.TempPathFactory, draw: Any, train: Any) -> Callable[[Task], Any]:
    """One tiny training of each task, made when first asked for."""
    made: dict[Task, Any] = {}

    def get(task: Task) -> Any:
        if task not in made:
            frames = draw_task(tmp_path_factory.mktemp(task) / "data", task, draw)
            made[task] = train(frames, task=task, model=architectures(task)[0])
        return made[task]

    return get


@pytest.mark.parametrize("task", OTHERS)
def test_every_task_trains(trained_task: Any, task: Task) -> None:
    trained = trained_task(task)
    assert trained.report.passed
    assert trained.report.task == task
    weights = read_weights(trained.out_dir / "best.pt")
    assert (weights.task, weights.classes) == (task, ("car", "bus"))
    [epoch] = trained.epochs
    assert 0 <= epoch.score <= 1
    assert math.isnan(epoch.map50_95) == (task == "classify")
    assert trained.report.score == pytest.approx(epoch.score)


def test_a_task_trains_on_from_its_own_checkpoint(trained_task: Any, train: Any, tmp_path: Path, draw: Any) -> None:
    before = trained_task("classify").out_dir / "best.pt"
    frames = draw_task(tmp_path / "data", "classify", draw)
    after = train(frames, start=before, task="classify", model="yolo11n-cls.yaml")
    assert after.report.head_kept
    assert after.report.started_from.startswith("best.pt ")


def test_points_may_be_ignored_by_a_detector(train: Any, tmp_path: Path, draw: Any) -> None:
    frames = draw_task(tmp_path / "data", "pose", draw)
    assert train(frames).report.passed


def test_there_are_five_tasks_of_five_sizes() -> None:
    assert set(TASKS) == set(get_args(Task))
    names = [name for task in TASKS for name in architectures(task)]
    assert len(set(names)) == 25
    assert {"yolo11n.yaml", "yolo11s-seg.yaml", "yolo11m-cls.yaml", "yolo11l-pose.yaml", "yolo11x-obb.yaml"} < set(
        names
    )


@pytest.mark.parametrize("size", ["s", *(pytest.param(size, marks=pytest.mark.deep) for size in "mlx")])
def test_every_size_takes_a_step(train: Any, tiny: Any, size: str) -> None:
    few = type(tiny)(tiny.root, tiny.classes, {"train": tiny.split("train")[:4], "val": tiny.split("val")[:2]})
    trained = train(few, model=f"yolo11{size}.yaml")
    assert trained.report.passed
    assert trained.report.num_parameters == NUM_PARAMETERS[size]


@pytest.mark.parametrize("task", TASKS)
def test_facts_are_those_of_ultralytics(task: Task) -> None:
    load_ultralytics()
    from ultralytics.nn.tasks import guess_model_task, yaml_model_load

    facts = TASKS[task]
    assert load_trainer(task).__name__ == facts.trainer
    described: Any = yaml_model_load(architectures(task)[0])  # type: ignore[no-untyped-call]
    assert guess_model_task(described) == task  # type: ignore[no-untyped-call]
    assert len(described["backbone"] + described["head"]) == facts.num_layers


def test_the_score_is_the_one_of_the_task() -> None:
    figures = {
        f"metrics/{name}({letter})": value + plus
        for letter, plus in (("B", 0.0), ("M", 0.1), ("P", 0.2))
        for name, value in (("mAP50", 0.5), ("mAP50-95", 0.3), ("precision", 0.6), ("recall", 0.7))
    }
    assert [read_metrics(task, figures).score for task in ("detect", "obb", "segment", "pose")] == [
        pytest.approx(value) for value in (0.3, 0.3, 0.4, 0.5)
    ]
    found = read_metrics("classify", {"metrics/accuracy_top1": 0.8, "metrics/accuracy_top5": 1.0})
    assert found.score == 0.8
    assert math.isnan(found.map50)


def test_points_are_read_from_data_yaml(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("kpt_shape: [2, 3]\nflip_idx: [1, 0]\n")
    assert point_keys(tmp_path) == {"kpt_shape": [2, 3], "flip_idx": [1, 0]}
    data = task_data("pose", tmp_path, Path("mirror"), ("car",))
    assert (data["kpt_shape"], data["nc"], data["train"]) == ([2, 3], 1, "mirror/images/train")
    assert task_data("classify", tmp_path / "none", Path("mirror"), ("car",))["train"] == "mirror/train"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("task: pose\n", "kpt_shape is None.*POINTS"),
        ("kpt_shape: [2, 4]\n", r"kpt_shape is \[2, 4\]"),
        ("kpt_shape: [true, 3]\n", "kpt_shape is"),
        ("kpt_shape: [0, 3]\n", "kpt_shape is"),
        ("kpt_shape: 17\n", "kpt_shape is 17"),
        ("kpt_shape: [2, 3]\nflip_idx: [0, 0]\n", r"flip_idx is \[0, 0\]. Expected each of 0 to 1 once"),
        ("task: dance\n", "task is 'dance'. Expected one of detect, segment"),
        ("task: [\n", "cannot be read"),
    ],
)
def test_a_wrong_data_yaml_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=reason):
        point_keys(tmp_path)


def test_without_data_yaml_labels_are_boxes(tmp_path: Path) -> None:
    assert labelled_form(tmp_path).task == "detect"


def test_what_has_no_effect_is_said(make_params: Any) -> None:
    assert settings_without_effect(make_params(mosaic=0.5)) == []
    [mosaic, rate] = settings_without_effect(make_params(task="classify", mosaic=0.5, optimizer="auto"))
    assert "train.mosaic 0.5 has no effect" in mosaic
    assert "train.learning_rate 0.002 has no effect" in rate


@pytest.mark.parametrize("content", ["", "2", "car", "0 0.5 0.5 1 1", "-1", "0\n1", "٣"])
def test_a_frame_has_one_known_class(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.txt holds .*class id, 0 to 1"):
        read_frame_class(tmp_path / "a.txt", 2)
    with pytest.raises(DataError, match="is missing"):
        read_frame_class(tmp_path / "b.txt", 2)
