"""The checkpoint on val: figures equal to counting by hand, frames drawn, and a training never lost for its page."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.comparison.predictions import GroundTruth, LabelledFrame, Predictions, ground_truth, predictions
from flows.dataset.layout import Dataset, read_dataset
from flows.errors import CheckpointError, DataError
from flows.params import Params
from flows.params_file import read_params
from flows.training.report.judged import JudgedValidation
from flows.training.report.page import FALSE, MISSED
from flows.training.reproducibility import TrainReport
from flows.training_page import view
from flows.training_page.judge import judge, judge_checkpoint
from flows.training_page.view import draw_samples, training_markdown, write_training_page

ROOT = Path(__file__).resolve().parents[1]
HEADER = "epoch,train_box_loss,val_box_loss,map50,map50_95,precision,recall,learning_rate,seconds,images_per_s\n"


@pytest.fixture(scope="module")
def params() -> Params:
    found = read_params(ROOT / "params.yaml")
    return found.model_copy(update={"train": found.train.model_copy(update={"threads": 1})})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained yolo11n of two classes for 96 x 64 px, sure enough of itself to find something."""
    import torch

    from flows.weights import load_ultralytics

    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(1)
    model = DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    model.names = {0: "car", 1: "bus"}
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.1)
        torch.nn.init.constant_(branch[-1].bias, 0.0)
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    notes = {"input_size_wh": [96, 64], "classes": ["car", "bus"], "epoch": 1}
    torch.save({"model": model.half(), "train_args": {"imgsz": 96}, "detector": notes}, path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Eight frames of val of 192 x 128 px, from four cameras; each with a car, every second one with a bus, too."""
    root = tmp_path / "data"
    rows = ["image,split,camera,clip,time,slice"]
    for number in range(8):
        image = root / "images" / "val" / f"f{number}.jpg"
        label = root / "labels" / "val" / f"f{number}.txt"
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (192, 128), (90, 90 + 10 * number, 90)).save(image)
        label.write_text("0 0.25 0.25 0.25 0.25\n" + ("1 0.7 0.7 0.2 0.2\n" if number % 2 else ""), encoding="utf-8")
        rows.append(f"images/val/f{number}.jpg,val,cam{number // 2},c0,,{'day' if number < 4 else 'night'}")
    (root / "data.yaml").write_text("names: [car, bus]\n", encoding="utf-8")
    (root / "frames.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return read_dataset(root)


def training_report() -> TrainReport:
    return TrainReport(
        passed=True,
        sentence="mAP50-95 0.2 on val",
        epochs=1,
        best_epoch=1,
        map50=0.4,
        map50_95=0.2,
        images=8,
        seconds=3.0,
        images_per_s=10.0,
        weights_sha256="a" * 64,
        started_from="yolo11n.yaml",
        classes_started_from=None,
        head_kept=None,
        classes=("car", "bus"),
        num_parameters=1,
        input_size_wh=(96, 64),
        seed=0,
        device="cpu",
        precision="fp32",
        num_threads=1,
        notes=("disk full for a while",),
    )


def truth_of(dataset: Dataset) -> GroundTruth:
    frames = [
        LabelledFrame(
            frame.image,
            frame.camera,
            frame.clip,
            frame.slice,
            np.array([[24.0, 16, 72, 48], [115.2, 76.8, 153.6, 102.4]][: 1 + number % 2]),
            np.array([0, 1][: 1 + number % 2]),
        )
        for number, frame in enumerate(dataset.frames)
    ]
    return ground_truth(("car", "bus"), frames)


def found_in(truth: GroundTruth) -> Predictions:
    """Every car; every bus as a car; in the first frame a false bus, and a weak one that is not served."""
    boxes, scores, class_ids = [], [], []
    for index in range(len(truth.images)):
        here = truth.boxes_xyxy[truth.of(index)]
        extra = np.array([[0.0, 100, 20, 120], [40.0, 100, 60, 120]])[: 2 if index == 0 else 0]
        boxes.append(np.vstack([here, extra]))
        scores.append(np.array([0.9] * len(here) + [0.8, 0.1][: len(extra)]))
        class_ids.append(np.array([0] * len(here) + [1, 1][: len(extra)]))
    return predictions(truth.images, boxes, scores, class_ids)


def test_every_count_is_that_of_counting_by_hand(dataset: Dataset, params: Params) -> None:
    truth = truth_of(dataset)
    judged = judge(truth, found_in(truth), params.evaluate, 0.25)
    assert judged.confusion == ((8, 0, 0), (4, 0, 0), (0, 1, 0))
    assert (judged.num_images, judged.num_objects, judged.num_detections) == (8, 12, 13)
    parts = {(part.kind, part.name): part for part in judged.parts}
    whole, car, bus, day = (parts[key] for key in (("all", ""), ("class", "car"), ("class", "bus"), ("slice", "day")))
    assert (car.recall, car.precision) == (1.0, pytest.approx(8 / 12))
    assert (bus.recall, bus.precision) == (0.0, 0.0)
    assert (day.num_images, day.num_objects, day.precision, day.recall) == (
        4,
        6,
        pytest.approx(4 / 7),
        pytest.approx(4 / 6),
    )
    assert (whole.precision, whole.recall) == (pytest.approx(8 / 13), pytest.approx(8 / 12))
    assert whole.map50_95 == pytest.approx(((car.map50_95 or 0) + (bus.map50_95 or 0)) / 2)
    assert whole.lower is None  # four cameras are too few for an interval
    assert judged.parts[0] == whole
    assert {kind for kind, _ in parts} == {"all", "class", "slice", "camera", "size"}
    assert judged == JudgedValidation.model_validate_json(judged.model_dump_json())


def test_frames_of_most_errors_come_first_with_the_fate_of_every_box(dataset: Dataset, params: Params) -> None:
    truth = truth_of(dataset)
    judged = judge(truth, found_in(truth), params.evaluate, 0.25)
    assert {one.image for one in judged.worst} == {f"images/val/f{number}.jpg" for number in (0, 1, 3, 5, 7)}
    by_image = {one.image: one for one in judged.worst}
    first, second = by_image["images/val/f0.jpg"], by_image["images/val/f1.jpg"]
    assert (first.num_right, first.num_false, first.num_errors) == (1, 1, 1)
    assert [(box.class_id, box.score, box.fate) for box in first.found] == [(0, 0.9, "right"), (1, 0.8, "alone")]
    assert [box.fate for box in second.labels] == ["right", "confused"]
    assert judged.best[0].num_errors == 0


def test_labels_are_solid_detections_dashed_and_errors_coloured(dataset: Dataset, params: Params) -> None:
    truth = truth_of(dataset)
    nothing = predictions(truth.images, *([np.zeros(shape)] * 8 for shape in ((0, 4), 0, 0)))  # type: ignore[arg-type]
    missed = draw_samples(judge(truth, nothing, params.evaluate, 0.25), dataset.root, "reduced")
    assert len(missed.worst) == 8
    assert missed.best == ()
    assert share_of(missed.worst[0].data_uris[0], MISSED) > 3 * share_of(missed.worst[0].data_uris[0], FALSE)
    truth_false = ground_truth(
        truth.classes, [LabelledFrame(n, "c", "0", "day", np.zeros((0, 4)), np.zeros(0)) for n in truth.images]
    )
    false = draw_samples(judge(truth_false, found_in(truth), params.evaluate, 0.25), dataset.root, "reduced")
    picture = false.worst[0].data_uris[0]
    assert share_of(picture, FALSE) > share_of(picture, MISSED)
    assert 0 < share_of(picture, FALSE) < share_of(missed.worst[0].data_uris[0], MISSED) * 2


def test_a_frame_that_vanished_says_so_in_its_picture(dataset: Dataset, params: Params) -> None:
    truth = truth_of(dataset)
    judged = judge(truth, found_in(truth), params.evaluate, 0.25)
    for path in (dataset.root / "images").rglob("*.jpg"):
        path.unlink()
    pictures = draw_samples(judged, dataset.root, "reduced")
    assert len(pictures.worst) == len(judged.worst)
    assert all(uri.startswith("data:image/jpeg;base64,") for one in pictures.worst for uri in one.data_uris)


def test_a_real_checkpoint_is_judged_twice_the_same(dataset: Dataset, params: Params, checkpoint: Path) -> None:
    seen: list[int] = []
    judged = judge_checkpoint(dataset, checkpoint, params, lambda done, total, note: seen.append(done))
    assert (judged.num_images, judged.num_objects, judged.conf) == (8, 12, params.export.conf)
    assert sum(map(sum, judged.confusion)) >= 12
    assert seen[-1] == 8
    assert judge_checkpoint(dataset, checkpoint, params) == judged


def test_what_cannot_be_judged_is_refused(dataset: Dataset, params: Params, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        judge_checkpoint(dataset, tmp_path / "absent.pt", params)
    with pytest.raises(DataError, match="the model knows car, bus, the data"):
        judge_checkpoint(Dataset(dataset.root, ("car", "van"), dataset.frames), checkpoint, params)
    with pytest.raises(DataError, match="no frames"):
        judge_checkpoint(Dataset(dataset.root, dataset.classes, ()), checkpoint, params)


def test_the_page_is_written_with_what_was_judged_beside_the_checkpoint(
    dataset: Dataset, params: Params, checkpoint: Path, tmp_path: Path
) -> None:
    training = tmp_path / "training"
    training.mkdir()
    (training / "best.pt").write_bytes(checkpoint.read_bytes())
    (training / "epochs.csv").write_text(f"{HEADER}1,2.0,2.5,0.4,0.2,0.5,0.5,0.001,3.0,10\n", encoding="utf-8")
    page = tmp_path / "reports" / "train.html"
    assert write_training_page(page, training, training_report(), dataset, params) is None
    html = page.read_text(encoding="utf-8")
    assert "Who was taken for whom" in html
    assert "train.epochs" in html
    judged = JudgedValidation.model_validate_json((training / "judged.json").read_text(encoding="utf-8"))
    assert html.count("<figure><img") == len(judged.worst) + len(judged.best)
    assert [one.name for one in page.parent.iterdir()] == ["train.html"]
    assert str(tmp_path) not in html


def test_a_training_is_not_lost_because_it_cannot_be_judged(dataset: Dataset, params: Params, tmp_path: Path) -> None:
    training = tmp_path / "training"
    training.mkdir()
    (training / "best.pt").write_text("not weights", encoding="utf-8")
    (training / "judged.json").write_text("of an earlier training", encoding="utf-8")
    (training / "epochs.csv").write_text(f"{HEADER}1,2.0,2.5,0.4,0.2,0.5,0.5,0.001,3.0,10\n", encoding="utf-8")
    page = tmp_path / "train.html"
    told = write_training_page(page, training, training_report(), dataset, params)
    assert told is not None and "is no checkpoint" in told
    assert "There are no figures by frame: best.pt is no checkpoint" in page.read_text(encoding="utf-8")
    assert str(tmp_path) not in page.read_text(encoding="utf-8")
    assert not (training / "judged.json").exists()
    (training / "epochs.csv").unlink()
    write_training_page(page, training, training_report(), dataset, params)
    assert "The curve of this training is not on this machine" in page.read_text(encoding="utf-8")


def test_pictures_that_cannot_be_drawn_cost_no_figures(
    dataset: Dataset, params: Params, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*whatever: object) -> None:
        raise RuntimeError(f"cannot draw {dataset.root}/images/a.jpg")

    monkeypatch.setattr(view, "draw_samples", fails)
    training = tmp_path / "training"
    training.mkdir()
    (training / "best.pt").write_bytes(checkpoint.read_bytes())
    page = tmp_path / "train.html"
    told = write_training_page(page, training, training_report(), dataset, params)
    assert told == "RuntimeError: cannot draw images/a.jpg"
    html = page.read_text(encoding="utf-8")
    assert f"There are no pictures: {told}" in html
    assert "Who was taken for whom" in html
    assert (training / "judged.json").exists()


def test_another_task_is_shown_by_its_curve_alone(dataset: Dataset, params: Params, tmp_path: Path) -> None:
    report = training_report().model_copy(update={"task": "segment"})
    told = write_training_page(tmp_path / "train.html", tmp_path, report, dataset, params)
    assert told == "only detection is judged frame by frame, and this model learnt to segment"
    assert told in (tmp_path / "train.html").read_text(encoding="utf-8")


def test_markdown_leads_to_the_page(tmp_path: Path) -> None:
    text = training_markdown(training_report(), tmp_path / "train.html")
    assert text.startswith("**passed**: mAP50-95 0.2 on val")
    assert "- disk full for a while" in text
    assert (tmp_path / "train.html").as_uri() in text


def share_of(uri: str, colour: str) -> float:
    """Share of the pixels that are near `colour`, a `#rrggbb`."""
    with Image.open(BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.int64)
    wanted = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])
    return float((np.abs(pixels - wanted).sum(axis=2) < 60).mean())
