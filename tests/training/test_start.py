"""What cannot work is refused before anything heavy is loaded, and what surprises is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import CheckpointError, DataError, ParamsError
from flows.training.checkpoints import CheckpointInfo
from flows.training.start import check_start, compare_classes, notes_on_data, notes_on_start

NAMES = st.lists(st.sampled_from(["car", "Car", " bus", "truck", "trucks", "van"]), unique=True, min_size=1)
LIGHT = """
import sys
from pathlib import Path
from flows.params_train import TrainParams
from flows.training.start import check_start
check_start(TrainParams.model_validate_json(sys.argv[1]), Path(sys.argv[2]), has_champion=False)
heavy = {"torch", "ultralytics", "optuna", "mlflow", "prefect", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


def info(*classes: str, **more: Any) -> CheckpointInfo:
    known = {"task": "detect", "scale": "n", "num_parameters": 1, "sha256": "0" * 64, **more}
    return CheckpointInfo(classes=classes, **known)


@pytest.mark.parametrize("model", ["yolo11n.yaml", "weights.pt"])
def test_the_check_is_light(make_params: Any, tmp_path: Path, model: str) -> None:
    import torch

    torch.save({"model": 1}, tmp_path / "weights.pt")
    (tmp_path / "data.yaml").write_text("task: detect\n")
    params = make_params(model=model if model.endswith(".yaml") else str(tmp_path / model))
    subprocess.run([sys.executable, "-c", LIGHT, params.model_dump_json(), str(tmp_path)], check=True)


def test_sound_settings_pass(make_params: Any, tmp_path: Path) -> None:
    check_start(make_params(), tmp_path, has_champion=False)
    check_start(make_params(start_from="champion", model="gone.pt"), tmp_path, has_champion=True)


def test_a_model_is_needed_where_no_champion_can_be_taken(make_params: Any, tmp_path: Path) -> None:
    for changes, champion in (
        ({"start_from": "champion"}, False),
        ({"start_from": "model"}, True),
        ({"start_from": "champion", "task": "segment"}, True),  # champions detect
    ):
        with pytest.raises(CheckpointError, match="there is no checkpoint gone.pt"):
            check_start(make_params(model="gone.pt", **changes), tmp_path, champion)


def test_contradictions_are_refused(make_params: Any, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"warmup_epochs 3 is longer than the training \(train.epochs 2\)"):
        check_start(make_params(warmup_epochs=3.0, epochs=2), tmp_path, False)
    classify = {"task": "classify", "model": "yolo11n-cls.yaml"}
    with pytest.raises(ParamsError, match="freeze 11 leaves nothing to train: a model made to classify has 11 layers"):
        check_start(make_params(freeze=11, **classify), tmp_path, False)


@pytest.mark.parametrize(("labels", "task"), [("detect", "segment"), ("segment", "obb"), ("classify", "detect")])
def test_labels_of_another_task_are_refused(make_params: Any, tmp_path: Path, labels: str, task: str) -> None:
    (tmp_path / "data.yaml").write_text(f"task: {labels}\n")
    model = {"segment": "yolo11n-seg.yaml", "obb": "yolo11n-obb.yaml", "detect": "yolo11n.yaml"}[task]
    with pytest.raises(DataError, match=f"train.task is {task}, but the labels are for {labels}") as caught:
        check_start(make_params(task=task, model=model), tmp_path, False)
    assert f"Set train.task={labels}" in str(caught.value)


def test_boxes_can_be_learnt_from_polygons(make_params: Any, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("task: segment\n")
    check_start(make_params(), tmp_path, False)


def test_surprises_of_the_data_are_told(make_params: Any) -> None:
    assert notes_on_data(make_params(batch=4), 8, [(96, 64)]) == []
    [batch, size] = notes_on_data(make_params(batch=64, image_size=640), 8, [(96, 64), (128, 72)])
    assert batch.startswith("train.batch 64 is more than the training split has")
    assert size == "train.image_size 640 is more than the frames show: 128 px are enlarged"


def test_a_start_from_the_same_classes_needs_no_word() -> None:
    assert notes_on_start(info("car", "bus"), ("car", "bus")) == []


def test_classes_that_differ_are_named() -> None:
    [note] = notes_on_start(info("person", "car", "bus", "motorcycle"), ("bus", "car", "bike"))
    assert note == (
        "2 of 3 classes keep the checkpoint's weights (bus, car); bike starts anew;"
        " 2 of the checkpoint's are dropped (person, motorcycle); their order is another, so they are moved by name"
    )
    [other] = notes_on_start(info("cat", "dog"), ("car",))
    assert other == "no class of the data is one of the checkpoint's 2: the head starts anew"


def test_another_spelling_is_named() -> None:
    notes = notes_on_start(info("Car", "truck"), ("car", "truk"))
    assert notes[1:] == [
        "class car is taken for the checkpoint's Car",
        "class truk starts anew: is it the checkpoint's truck, misspelt?",
    ]


def test_the_last_layer_of_a_classifier_is_not_moved_by_name() -> None:
    classifier = info("car", "bus", task="classify")
    assert "is taken over by position" in notes_on_start(classifier, ("bus", "car"))[0]
    assert "the checkpoint knows 2 classes, the data 1" in notes_on_start(classifier, ("car",))[0]


def test_an_unfinished_training_is_told() -> None:
    [note] = notes_on_start(info("car", unfinished_epoch=3), ("car",))
    assert "ended early, after epoch 3: its weights are taken, its training is not resumed" in note


@given(NAMES, NAMES)
def test_every_class_has_one_fate(before: list[str], now: list[str]) -> None:
    found = compare_classes(before, now)
    plain = {name.strip().lower() for name in now}
    assert {name.strip().lower() for name in (*found.kept, *found.new)} == plain
    assert not {name.strip().lower() for name in found.dropped} & plain
    assert compare_classes(now, now).new == ()


def test_rows_of_the_head_move_with_their_names(trained: Any, train: Any, tmp_path: Path, draw: Any) -> None:
    """That Ultralytics does what the notes say: at a rate of next to nothing the rows are still those of before."""
    from flows.weights import read_weights

    frames = draw(tmp_path / "data", classes=("bus", "van", "Car"))
    after = train(frames, start=trained.out_dir / "best.pt", learning_rate=1e-9)
    heads = [read_weights(path / "last.pt").model.model[-1].cv3 for path in (trained.out_dir, after.out_dir)]
    for old, new in zip(*heads, strict=True):
        assert new[-1].weight[[2, 0]].allclose(old[-1].weight[[0, 1]], atol=1e-3)
        assert not new[-1].weight[[1]].allclose(old[-1].weight[[0]], atol=1e-3)
    assert after.report.head_kept is False
