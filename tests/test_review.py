"""The review of a project's labels, with a real (tiny, untrained) checkpoint and with a detector's model directory."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, write_spec
from flows import reference_detections
from flows.dataset.layout import SPLITS, Dataset, Frame, read_dataset, write_data_yaml, write_frames
from flows.dataset.manifest.manifest import Manifest, build_manifest
from flows.dataset.review.objects import LOW_CONF
from flows.errors import CheckpointError, InputError
from flows.params_data import ReviewParams
from flows.params_file import read_params
from flows.reference import ReferenceModel, fitting_input, open_reference
from flows.reference_detections import detect_images
from flows.review import COLUMNS, find_reference, review_data, review_manifest, review_text
from flows.settings import Project

ROOT = Path(__file__).resolve().parents[1]
SIZES_WH = ((96, 64), (64, 96), (128, 64))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """yolo11n with five classes, drawn up so that it finds something nearly everywhere; not one of ours."""
    import torch

    from flows.weights import load_ultralytics

    load_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(1)
    model = DetectionModel("yolo11n.yaml", nc=5, verbose=False)
    model.names = dict(enumerate(("person", "car", "motorcycle", "bus", "truck")))
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.1)
        torch.nn.init.constant_(branch[-1].bias, -1.0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.rand(8, 3, 64, 96))
    path = tmp_path_factory.mktemp("reference") / "stranger.pt"
    torch.save({"model": model.half(), "train_args": {"imgsz": 640}}, path)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Six drawn frames of three shapes with labels of three classes, one of them unknown to the checkpoint."""
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    root, frames = tmp_path / "data", []
    for number in range(6):
        split = SPLITS[number % 3]
        frame = Frame(f"images/{split}/f{number}.jpg", split, "cam1", f"c{number}", "", "day")
        width, height = SIZES_WH[number % 3]
        coarse = np.random.default_rng(number).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        for path in (root / frame.image, root / frame.label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).save(root / frame.image, quality=95)
        (root / frame.label).write_text("0 0.3 0.5 0.3 0.4\n1 0.7 0.5 0.3 0.4\n2 0.5 0.5 0.1 0.1\n" if number else "")
        frames.append(frame)
    write_data_yaml(root, ("car", "bike", "van"))
    write_frames(root, frames)
    return Project(tmp_path)


def given(project: Project, **changes: Any) -> tuple[Dataset, Manifest, ReviewParams]:
    dataset = read_dataset(project.data)
    params = read_params(project.params_file).validate_.review
    small = {"image_size": 96, "min_conf": 0.1, "min_score": 0.0}
    return dataset, build_manifest(dataset), params.model_copy(update={**small, **changes})


def opened(project: Project, checkpoint: Path, side: int = 96) -> ReferenceModel:
    return open_reference(checkpoint, side, lambda names: [1, 2], project.home / "review")


def test_a_checkpoint_reviews_the_frames(project: Project, checkpoint: Path) -> None:
    dataset, manifest, params = given(project, reference=str(checkpoint))
    told: list[tuple[int, int]] = []
    found = review_manifest(project, dataset, manifest, params, lambda done, total, note: told.append((done, total)))
    assert (found.num_images, found.num_images_left_out) == (6, 0)
    assert found.classes == {"car": ("car",), "bike": ("motorcycle",)}
    assert found.classes_left_out == ("van",)
    assert found.reference == "stranger.pt"
    assert [case.file for case in found.of("empty_frame")] == ["data/labels/train/f0.txt"]
    assert {case.proposed_class for case in found.cases} <= {"car", "bike", ""}
    assert told[0] == (0, 6)
    assert told[-1] == (6, 6)


def test_every_wanted_class_keeps_its_score(project: Project, checkpoint: Path) -> None:
    _, manifest, _ = given(project)
    found = detect_images(opened(project, checkpoint), project.data, manifest.images, project.home / "review")
    assert set(found) == set(manifest.images["image"])
    ids = np.concatenate([one.class_ids for one in found.values()])
    assert set(ids.tolist()) == {1, 2}
    assert min(one.scores.min() for one in found.values()) >= LOW_CONF
    for row in manifest.images.to_dict("records"):
        boxes = found[row["image"]].boxes_xyxy
        assert (boxes >= 0).all()
        assert (boxes <= [row["width"], row["height"]] * 2).all()


def test_the_second_time_nobody_is_asked(project: Project, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, manifest, params = given(project, reference=str(checkpoint))
    first = review_manifest(project, dataset, manifest, params)
    monkeypatch.setattr(reference_detections, "detect_frames", None)
    monkeypatch.setattr("flows.reference.read_weights", None)
    assert review_manifest(project, dataset, manifest, params) == first


def test_an_interrupted_review_goes_on_where_it_was(project: Project, checkpoint: Path) -> None:
    _, manifest, _ = given(project)
    home = project.home / "review"

    def interrupt(done: int, total: int, note: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_images(opened(project, checkpoint), project.data, manifest.images, home, interrupt)
    told: list[int] = []
    found = detect_images(
        opened(project, checkpoint), project.data, manifest.images, home, lambda done, total, note: told.append(done)
    )
    assert told[0] == 4  # the batch that was finished: the frames of one input shape
    assert len(found) == 6
    assert found.keys() == detect_images(opened(project, checkpoint), project.data, manifest.images, home).keys()


def test_another_size_or_image_is_asked_about_anew(project: Project, checkpoint: Path) -> None:
    assert opened(project, checkpoint).key == opened(project, checkpoint).key
    assert opened(project, checkpoint).key != opened(project, checkpoint, side=64).key
    _, manifest, _ = given(project)
    home = project.home / "review"
    detect_images(opened(project, checkpoint), project.data, manifest.images, home)
    Image.new("RGB", (96, 64), (90, 90, 90)).save(project.data / manifest.images["image"][0])
    told: list[int] = []
    detect_images(
        opened(project, checkpoint),
        project.data,
        build_manifest(read_dataset(project.data)).images,
        home,
        lambda done, total, note: told.append(done),
    )
    assert told == [5, 6]


def test_a_refused_image_is_left_out_and_the_others_of_its_batch_are_not(project: Project, checkpoint: Path) -> None:
    _, manifest, _ = given(project)
    images = manifest.images
    (project.data / images["image"][0]).write_bytes(b"no picture any more")
    found = detect_images(opened(project, checkpoint), project.data, images, project.home / "review")
    assert set(images["image"]) - set(found) == {images["image"][0]}


def test_a_damaged_store_is_made_anew(project: Project, checkpoint: Path) -> None:
    _, manifest, _ = given(project)
    model, home = opened(project, checkpoint), project.home / "review"
    (home / f"{model.key[:32]}.db").write_bytes(b"this is no database at all " * 100)
    first = detect_images(model, project.data, manifest.images, home)
    told: list[int] = []
    detect_images(model, project.data, manifest.images, home, lambda done, total, note: told.append(done))
    assert (len(first), told) == (6, [6])


def test_writes_page_table_record_and_images(project: Project, checkpoint: Path) -> None:
    found = review_data(project, str(checkpoint), top=2)
    assert found.sentence in (project.reports / "review.html").read_text(encoding="utf-8")
    record = json.loads((project.reports / "review.json").read_text(encoding="utf-8"))
    assert record["num_cases"] == found.num_cases
    with (project.reports / "review.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS if rows else True
    assert len(rows) == sum(max(len(case.found_xyxy), 1) for case in found.cases)
    listed = (project.reports / "review_images.txt").read_text(encoding="utf-8").splitlines()
    assert set(listed) == {case.image for case in found.cases}
    assert len(listed) == len(set(listed))
    text = review_text(found)
    assert text.startswith(found.sentence)
    assert "does not know van" in text


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "no reference model is named. Name one: tca data review --reference"),
        ("nowhere.pt", "there is no checkpoint at"),
        ("params.yaml", "does not end in .pt"),
        ("data", "does not load"),
    ],
)
def test_what_is_no_reference_is_said(project: Project, reference: str, message: str) -> None:
    dataset, manifest, params = given(project, reference=reference)
    with pytest.raises(InputError, match=message):
        review_manifest(project, dataset, manifest, params)


def test_a_model_without_any_class_of_the_data_is_refused(project: Project, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="knows none of the classes of the data; it knows person, car"):
        open_reference(checkpoint, 96, lambda names: [], project.home / "review")


class StandInRegistry:
    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def reigning(self) -> Path | None:
        return self.folder

    def download(self, champion: Path) -> Path:
        return champion


def test_the_champion_is_asked_as_a_checkpoint(
    project: Project, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package" / "model").mkdir(parents=True)
    shutil.copy(checkpoint, tmp_path / "package" / "model" / "weights.pt")
    monkeypatch.setattr("flows.review.registry_of", lambda _: StandInRegistry(tmp_path / "package"))
    dataset, manifest, params = given(project, reference="champion")
    assert review_manifest(project, dataset, manifest, params).reference == "champion"


def test_without_a_champion_there_is_none_to_ask(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.review.registry_of", lambda _: StandInRegistry(None))
    with pytest.raises(InputError, match="no champion to review the labels"):
        find_reference(project, "champion")


def test_a_model_directory_is_asked_through_its_engine(project: Project) -> None:
    folder = project.root / "model"
    folder.mkdir()
    write_spec(
        folder,
        ModelSpec(
            name="painted",
            classes=("car", "truck", "bus"),
            input=InputSpec(size_wh=(96, 64)),
            thresholds=Thresholds(conf=0.25, iou=0.6, max_det=5),
            top_k=8,
            engine=EngineSpec(kind="fake", file="fake.json"),  # finds what is painted red, as a car
        ),
    )
    name = "images/train/f3.jpg"
    picture = Image.new("RGB", (96, 64), (90, 90, 90))
    picture.paste((255, 0, 0), (4, 4, 20, 16))
    picture.save(project.data / name, quality=95)
    dataset, manifest, params = given(project, reference="model")
    found = review_manifest(project, dataset, manifest, params)
    case = next(one for one in found.of("missing") if one.image == name)
    assert (case.proposed_class, case.score) == ("car", pytest.approx(0.9))
    assert np.abs(np.array(case.found_xyxy[0]) - [4, 4, 20, 16]).max() <= 2
    assert any("best class of a place only" in note for note in found.notes)


def test_unknown_class_of_the_correspondence(project: Project, checkpoint: Path) -> None:
    dataset, manifest, params = given(project, reference=str(checkpoint), classes={"van": "minibus"})
    with pytest.raises(InputError, match="'minibus', which the reference model does not know"):
        review_manifest(project, dataset, manifest, params)


@pytest.mark.parametrize(
    ("size_wh", "side", "expected"),
    [
        ((1280, 720), 640, (640, 384)),
        ((720, 1280), 640, (384, 640)),
        ((10, 10), 640, (640, 640)),
        ((999, 1), 64, (64, 32)),
    ],
)
def test_inputs_are_whole_strides(size_wh: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert fitting_input(size_wh, side) == expected


def test_command(project: Project, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.cli.data_review  # noqa: F401 - registers the command
    from flows.cli.data import app

    shutil.copy(ROOT / "dvc.yaml", project.root / "dvc.yaml")
    monkeypatch.chdir(project.root)
    shutil.copy(checkpoint, project.root / "stranger.pt")
    done = CliRunner().invoke(app, ["review", "--reference", "stranger.pt", "--top", "1"])
    assert done.exit_code == 0, done.output
    assert "Vehicles without a label" in done.output
    assert "reports/review.csv" in done.output
