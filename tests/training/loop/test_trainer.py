"""Real trainings, tiny: what they leave, and what they do not touch."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bentos.detector.contract import file_sha256
from flows.errors import CheckpointError, DataError
from flows.training.loop.state import StateRecord, records_in
from flows.training.loop.trainer import train_model
from flows.training.reproducibility import TrainReport, weights_digest
from flows.weights import load_ultralytics


def content_of(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_training_leaves_checkpoints_curve_and_report(trained: Any) -> None:
    assert sorted(path.name for path in trained.out_dir.iterdir()) == [
        "best.pt",
        "epochs.csv",
        "last.pt",
        "training.json",
    ]
    assert TrainReport.model_validate_json((trained.out_dir / "training.json").read_text()) == trained.report
    assert trained.report.passed
    assert trained.report.classes == ("car", "bus")
    assert trained.report.images == 8
    assert trained.report.started_from == "yolo11n.yaml"
    assert trained.report.weights_sha256 == weights_digest(trained.out_dir / "best.pt")


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_a_finished_checkpoint_names_no_path_and_holds_no_optimiser(trained: Any, name: str) -> None:
    with zipfile.ZipFile(trained.out_dir / name) as archive:
        pickled = b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    assert str(trained.out_dir.parent).encode() not in pickled
    assert b"exp_avg" not in pickled


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_a_finished_checkpoint_holds_what_its_readers_look_for(trained: Any, name: str) -> None:
    load_ultralytics()
    from ultralytics.nn.tasks import torch_safe_load

    content, _ = torch_safe_load(str(trained.out_dir / name), safe_only=True)
    model, arguments, report = content.pop("model"), content.pop("train_args"), trained.report
    epoch = trained.epochs[report.best_epoch - 1 if name == "best.pt" else -1]
    assert {str(tensor.dtype) for tensor in model.parameters()} == {"torch.float16"}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.criterion is None
    assert model.args == arguments
    assert (arguments["task"], arguments["imgsz"]) == ("detect", 64)
    assert not {"save_dir", "data", "project", "name", "model", "resume", "exist_ok"} & set(arguments)
    assert content.pop("license").startswith("AGPL-3.0")
    assert content.pop("version") == version("ultralytics-opencv-headless")
    assert content == {
        "epoch": -1,
        "ema": None,
        "optimizer": None,
        "train_metrics": epoch.numbers(),
        "detector": {"input_size_wh": list(report.input_size_wh), "classes": ["car", "bus"], "epoch": epoch.epoch},
    }


def test_every_epoch_is_told_once_and_written(trained: Any) -> None:
    assert [(metrics.epoch, metrics.epochs) for metrics in trained.epochs] == [(1, 2), (2, 2)]
    with (trained.out_dir / "epochs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["map50_95"]) for row in rows] == [metrics.map50_95 for metrics in trained.epochs]
    assert set(rows[0]) == {"epoch", *trained.epochs[0].numbers()}
    assert {"train_box_loss", "val_box_loss", "learning_rate", "images_per_s"} <= set(rows[0])


def test_metric_names_hold_nothing_that_a_tracker_refuses(trained: Any) -> None:
    assert all(name.replace("_", "").isalnum() for name in trained.epochs[0].numbers())


def test_progress_counts_all_batches(trained: Any) -> None:
    assert [(done, total) for done, total, _ in trained.progress] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert trained.progress[0][2] == "epoch 1/2"
    assert trained.progress[-1][2].startswith("epoch 2/2  mAP50-95 ")


def test_another_seed_gives_other_weights_and_mosaics_work(tiny: Any, train: Callable[..., Any], trained: Any) -> None:
    other = train(tiny, seed=4, mosaic=1.0, epochs=2, optimizer="SGD")
    assert other.report.weights_sha256 != trained.report.weights_sha256


def test_training_on_remaps_the_head_and_leaves_the_data_alone(
    draw: Callable[..., Any], train: Callable[..., Any], trained: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = draw(tmp_path / "data", classes=("bus", "truck", "car"))
    cut = tmp_path / "data" / frames.split("train")[0].image
    cut.write_bytes(cut.read_bytes()[:-2])  # without its end marker Ultralytics rewrites a JPEG in place
    before = content_of(tmp_path / "data")
    capfd.readouterr()
    further = train(frames, start=trained.out_dir / "best.pt", cache="disk", precision="bf16")
    assert content_of(tmp_path / "data") == before
    assert capfd.readouterr() == ("", "")
    assert further.report.started_from.startswith("best.pt ")
    assert further.report.classes_started_from == ("car", "bus")
    assert further.report.head_kept is False
    assert further.report.precision == "bf16"


def test_an_interrupted_training_is_no_result(
    tiny: Any, make_params: Callable[..., Any], trained: Any, tmp_path: Path
) -> None:
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    (out_dir / "best.pt").write_bytes(b"the result before")

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(tiny, make_params(), 3, out_dir, interrupt, start_checkpoint=trained.out_dir / "last.pt")
    assert (out_dir / "best.pt").read_bytes() == b"the result before"
    assert sorted(path.suffix for path in (tmp_path / "out.partial").iterdir()) == [".json", ".pt"]
    [record] = records_in(tmp_path / "out.partial")
    start = StateRecord.model_validate_json(record.read_bytes()).job["starting weights"]
    assert start == file_sha256(trained.out_dir / "last.pt")


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_refused(
    draw: Callable[..., Any], make_params: Callable[..., Any], tmp_path: Path, split: str
) -> None:
    frames = draw(tmp_path / "data")
    frames.splits[split] = ()
    with pytest.raises(DataError, match=f"no frames in {split}"):
        train_model(frames, make_params(), 0, tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_missing_image_is_named(draw: Callable[..., Any], make_params: Callable[..., Any], tmp_path: Path) -> None:
    frames = draw(tmp_path / "data")
    (tmp_path / "data" / "images" / "val" / "f2.jpg").unlink()
    with pytest.raises(DataError, match=r"images/val/f2\.jpg"):
        train_model(frames, make_params(), 0, tmp_path / "out", lambda _: None)


def test_a_wrong_start_is_refused_before_any_work(tiny: Any, make_params: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"yolo11n\.yaml, yolo11s\.yaml"):
        train_model(tiny, make_params(model="yolo11q.yaml"), 0, tmp_path / "out", lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_documented_and_names_no_path(trained: Any) -> None:
    schema = TrainReport.model_json_schema()
    assert all("description" in field for field in schema["properties"].values())
    told = json.dumps(trained.report.model_dump(mode="json"))
    assert str(trained.out_dir.parent) not in told
