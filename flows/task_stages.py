"""Export and evaluation of the tasks other than detect, as far as Ultralytics offers them; serving knows detectors."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from bentos.detector.contract import file_sha256
from flows.dataset.layout import Dataset, Frame, read_dataset
from flows.errors import DataError, EngineUnavailable, ParamsError
from flows.exporting.task_model import (
    TASK_ENGINES,
    JudgedFrames,
    TaskEngine,
    TaskModel,
    build_task_model,
    judge_task_model,
    publish_task_model,
    read_task_model,
)
from flows.page import page, table, write_page
from flows.params_train import Task
from flows.stage import StageRun
from flows.training.class_folders import name_folders_by_id
from flows.training.frames import mirror_frames
from flows.training.tasks import read_metrics, task_data
from flows.weights import read_weights, threads


class TaskEngineReport(BaseModel):
    """One engine beside PyTorch on the same frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str = Field(description="pytorch, onnxruntime or openvino")
    score: float = Field(description="mAP50-95 of boxes, masks or points, or top-1 accuracy, on val")
    loss: float = Field(description="score that PyTorch has more")
    ms_per_image: float = Field(description="time of the network for one image, ms, on this CPU")
    state: str = Field(description="reference, chosen, admitted, or refused")


class TaskExportReport(BaseModel):
    """One exported model of another task than detect."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="whether an engine lost no more than export.max_loss")
    sentence: str = Field(description="verdict in one sentence")
    task: str = Field(description="segment, classify, pose or obb")
    engine: str = Field(description="engine in the model directory")
    image_size: int = Field(description="side of the square input, px")
    max_loss: float = Field(description="most score that an engine may lose")
    num_images: int = Field(description="frames of val that judged")
    engines: tuple[TaskEngineReport, ...] = Field(description="PyTorch first, then what was built")
    not_built: dict[str, str] = Field(description="engine, and why it could not be built")


class TaskEvaluationReport(BaseModel):
    """The figures of one task's model on the frozen frames, beside the floor. There is no champion to compare with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passed: bool = Field(description="whether the score reaches evaluate.min_map50_95")
    sentence: str = Field(description="verdict in one sentence")
    task: str = Field(description="segment, classify, pose or obb")
    engine: str = Field(description="engine that was judged")
    split: str = Field(description="the frozen frames")
    num_images: int = Field(description="how many they are")
    score: float = Field(description="mAP50-95 of boxes, masks or points, or top-1 accuracy")
    floor: float = Field(description="score that it must reach")
    figures: dict[str, float] = Field(description="all that Ultralytics' validator measures")


def export_task(run: StageRun) -> TaskExportReport:
    """Build the engines that Ultralytics offers, judge each on val, take the fastest that loses next to nothing.

    Raises:
        ParamsError: export asks for an engine or a precision that there is not for this task.
    """
    task, params, folder = run.params.train.task, run.params.export, run.project.model
    engines = wanted_engines(params.engine, params.precision, task)
    checkpoint = run.project.artifacts / "training" / "best.pt"
    dataset = read_dataset(run.project.data)
    draft = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    shutil.copyfile(checkpoint, draft / "weights.pt")
    with mirrored(dataset, task, "val") as frames, threads(1):
        models, missing = _build(run, draft, task, engines)
        rows = []
        for number, model in enumerate(models):
            run.progress(number, len(models), f"judging {model.engine}")
            judged = judge_task_model(draft, model, frames)
            rows.append((model, read_metrics(task, judged.figures).score, judged.ms_per_image))
    report, chosen = _choose(rows, params.max_loss, len(dataset.split("val")), missing)
    publish_task_model(draft, folder, chosen, ["weights.pt", chosen.file])
    shown = [
        [one.engine, f"{one.score:.4f}", f"{one.loss:+.4f}", f"{one.ms_per_image:.1f}", one.state]
        for one in report.engines
    ]
    body = table(["engine", "score on val", "loss", "ms an image", ""], shown)
    write_page(run.project.reports / "export.html", page("Export", report.sentence, report.passed, body))
    with run.registry().run("export", run.provenance.tags()) as log:
        log.params({"task": task, "engine": report.engine})
        for one in report.engines:
            log.metrics({f"{one.engine}.score": one.score, f"{one.engine}.ms_per_image": one.ms_per_image})
    return report


def evaluate_task(run: StageRun) -> TaskEvaluationReport:
    """Judge the exported model on the frozen frames with Ultralytics' validator, against the floor."""
    params, task = run.params.evaluate, run.params.train.task
    model = read_task_model(run.project.model)
    if model.task != task:
        raise ParamsError(f"the exported model was made to {model.task}, train.task is {task}", "Run: tca train")
    dataset = read_dataset(run.project.data)
    with mirrored(dataset, task, params.split) as frames, threads(1):
        judged = judge_task_model(run.project.model, model, frames)
    score, floor = read_metrics(task, judged.figures).score, params.min_map50_95
    passed, count = score >= floor, len(dataset.split(params.split))
    compared = "reaches" if passed else "stays below"
    sentence = f"{task}: {score:.3f} on {count} frames of {params.split} {compared} the floor of {floor:g}"
    figures = {key: value for key, value in judged.figures.items() if key != "fitness"}
    body = table(["figure", "value"], [[key, f"{value:.4f}"] for key, value in figures.items()])
    write_page(run.project.reports / "evaluate.html", page("Evaluation", sentence, passed, body))
    evidence = run.project.artifacts / "evaluation"
    shutil.rmtree(evidence, ignore_errors=True)
    evidence.mkdir(parents=True)
    (evidence / "figures.csv").write_text("".join(f"{key},{value}\n" for key, value in figures.items()), "utf-8")
    return TaskEvaluationReport(
        passed=passed,
        sentence=sentence,
        task=task,
        engine=model.engine,
        split=params.split,
        num_images=count,
        score=score,
        floor=floor,
        figures=figures,
    )


def wanted_engines(engine: str, precision: str, task: Task) -> tuple[TaskEngine, ...]:
    """The engines that `export.engine` asks for.

    Raises:
        ParamsError: There is no such engine, or no such precision, for a task other than detect.
    """
    if precision not in ("auto", "fp32"):
        raise ParamsError(f"export.precision {precision} is for detectors; {task} is exported in fp32", "Choose auto")
    found = tuple(one for one in TASK_ENGINES if engine in ("auto", one))
    if not found:
        raise ParamsError(
            f"export.engine {engine} is for detectors", f"Choose auto or one of {', '.join(TASK_ENGINES)}"
        )
    return found


@dataclass(frozen=True)
class _Judged:
    """A split in the place of `val`; `mirror_frames` also wants a training split, of which one frame is enough."""

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, tuple[Frame, ...]] = field(default_factory=dict)

    def split(self, name: str) -> Sequence[Frame]:
        return self.splits[name]


@contextmanager
def mirrored(dataset: Dataset, task: Task, split: str) -> Iterator[JudgedFrames]:
    """The frames of `split`, linked where Ultralytics may litter. Raises DataError when it has none."""
    frames = dataset.split(split)
    if not frames:
        raise DataError(f"{dataset.root.name} has no frames in {split}", "It is needed to judge on")
    with tempfile.TemporaryDirectory(prefix="tca-judged-") as folder:
        mirror, others = Path(folder), [one for one in dataset.frames if one.split != split]
        mirror_frames(_Judged(dataset.root, dataset.classes, {"train": tuple(others[:1]), "val": frames}), mirror, task)
        data = task_data(task, dataset.root, mirror, dataset.classes)
        if task == "classify":
            name_folders_by_id(mirror, dataset.classes)
        else:
            data["val"] = str(mirror / "images" / split)
        yield JudgedFrames(mirror, data)


def _build(
    run: StageRun, draft: Path, task: Task, engines: Sequence[TaskEngine]
) -> tuple[list[TaskModel], dict[str, str]]:
    checkpoint, size = draft / "weights.pt", run.params.train.image_size
    classes, sha256 = read_weights(checkpoint).classes, file_sha256(checkpoint)
    models: list[TaskModel] = []
    missing: dict[str, str] = {}
    for number, engine in enumerate(("pytorch", *engines)):
        run.progress(number, len(engines) + 1, f"building {engine}")
        try:
            file = build_task_model(checkpoint, task, engine, size, draft)
        except EngineUnavailable as error:
            missing[engine] = error.message
            continue
        models.append(
            TaskModel(task=task, engine=engine, file=file, image_size=size, classes=classes, model_sha256=sha256)
        )
    return models, missing


def _choose(
    rows: Sequence[tuple[TaskModel, float, float]], max_loss: float, num_images: int, missing: dict[str, str]
) -> tuple[TaskExportReport, TaskModel]:
    """The fastest engine that loses no more than `max_loss` of the score; PyTorch, the first row, is the reference."""
    reference = rows[0][1]
    able = [row for row in rows[1:] if reference - row[1] <= max_loss]
    chosen, score, _ = min(able, key=lambda row: row[2], default=rows[0])
    engines = tuple(
        TaskEngineReport(
            engine=model.engine,
            score=round(own, 6),
            loss=round(reference - own, 6),
            ms_per_image=round(ms, 3),
            state=_state(model, chosen, reference - own <= max_loss),
        )
        for model, own, ms in rows
    )
    told = (
        f"{chosen.engine}, {chosen.task}: {score:.3f} on {num_images} frames of val where PyTorch has {reference:.3f}"
    )
    none = f"no engine of {chosen.task} loses {max_loss:g} or less; PyTorch is kept to be looked at"
    report = TaskExportReport(
        passed=bool(able),
        sentence=told if able else none,
        task=chosen.task,
        engine=chosen.engine,
        image_size=chosen.image_size,
        max_loss=max_loss,
        num_images=num_images,
        engines=engines,
        not_built=missing,
    )
    return report, chosen


def _state(model: TaskModel, chosen: TaskModel, is_admitted: bool) -> str:
    if model.engine == "pytorch":
        return "reference"
    if model == chosen:
        return "chosen"
    return "admitted" if is_admitted else "refused"
