"""What is seen of a training: its best checkpoint judged on val, frames with labels and detections, and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from flows.dataset.layout import Dataset
from flows.dataset.report.pictures import REDUCED_PX, Cell, Detail, Mark, picture_uris
from flows.errors import InputError, ProjectError, TcaError
from flows.page import Markup, Picture, escape, write_page
from flows.params import Params
from flows.progress import Progress, silent
from flows.provenance import Provenance
from flows.training.report.curve_file import read_curve
from flows.training.report.judged import JudgedBox, JudgedFrame, JudgedValidation
from flows.training.report.page import CONFUSED, FALSE, MISSED, RIGHT, Background, SamplePictures, training_page
from flows.training.reproducibility import TrainReport
from flows.training_page.judge import judge_checkpoint

JUDGED = "judged.json"  # beside the checkpoint
_LABEL_PX = 30  # erroneous boxes from this width on, on a picture of 320 px, carry their class


def write_training_page(
    page: Path,
    training_dir: Path,
    report: TrainReport,
    dataset: Dataset,
    params: Params,
    provenance: Provenance | None = None,
    progress: Progress = silent,
) -> str | None:
    """Judge `training_dir`/best.pt on val, keep that as judged.json beside it, and write the page.

    A training is not lost because it cannot be shown: what is missing is said on the page, and returned.
    """
    judged = _judge(training_dir, report, dataset, params, progress)
    pictures = judged if isinstance(judged, str) else _draw(judged, dataset.root, params.validate_.pictures)
    background = Background(
        params={"seed": params.seed, "train": params.train.model_dump(mode="json")},
        provenance=provenance.model_dump(mode="json") if provenance else {},
    )
    try:
        epochs = read_curve(training_dir / "epochs.csv")
    except ProjectError:
        epochs = []  # the page says that there is no curve
    html = training_page(report, epochs, judged, pictures, background)
    write_page(page, html)
    return next((reason for reason in (judged, pictures) if isinstance(reason, str)), None)


def _judge(
    training_dir: Path, report: TrainReport, dataset: Dataset, params: Params, progress: Progress
) -> JudgedValidation | str:
    """The figures by frame, kept beside the checkpoint; or why there are none."""
    kept = training_dir / JUDGED
    try:
        kept.unlink(missing_ok=True)
        if report.task != "detect":
            raise InputError(f"only detection is judged frame by frame, and this model learnt to {report.task}")
        judged = judge_checkpoint(dataset, training_dir / "best.pt", params, progress)
        kept.write_text(judged.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except Exception as error:  # PyTorch, decoders and disks raise what they like; hours of training must outlive that
        return _reason(error, training_dir)
    return judged


def _draw(judged: JudgedValidation, root: Path, detail: Detail) -> SamplePictures | str:
    """The pictures, or why there are none."""
    try:
        return draw_samples(judged, root, detail)
    except Exception as error:  # decoders and disks, likewise
        return _reason(error, root)


def training_markdown(report: TrainReport, page: Path) -> str:
    """The training in a few lines, for where Markdown is shown."""
    lines = [
        f"**{'passed' if report.passed else 'refused'}**: {report.sentence}",
        "",
        "| epochs | best | score | images/s | device |",
        "|---|---|---|---|---|",
        f"| {report.epochs} | {report.best_epoch} | {report.map50_95 if report.score is None else report.score:.3f} "
        f"| {report.images_per_s:.1f} | {report.device} |",
        "",
        *(f"- {note}" for note in report.notes),
        f"The whole page: [{page.name}]({page.resolve().as_uri()}), also served by `tca ui`.",
    ]
    return "\n".join(lines) + "\n"


def draw_samples(judged: JudgedValidation, root: Path, detail: Detail) -> SamplePictures:
    """The frames that `judged` lists, labels solid and detections dashed; an image that cannot be read says so."""
    return SamplePictures(*(_drawn(frames, judged.classes, root, detail) for frames in (judged.worst, judged.best)))


def _drawn(frames: Sequence[JudgedFrame], classes: Sequence[str], root: Path, detail: Detail) -> tuple[Picture, ...]:
    cells = [Cell(root / one.image, "", _marks(one, classes, _least_px(root / one.image))) for one in frames]
    if not cells:
        return ()
    uris = picture_uris(cells, detail)
    return tuple(
        Picture((uri,), f"Frame {one.image} with labels and detections", _caption(one))
        for uri, one in zip(uris, frames, strict=True)
    )


def _marks(frame: JudgedFrame, classes: Sequence[str], least_px: float) -> tuple[Mark, ...]:
    """What is right lies below what is wrong; only errors from that width on carry words."""
    colours = {"right": RIGHT, "confused": CONFUSED}
    marks = [
        Mark(one.box_xyxy, colours.get(one.fate, other), _named(one, classes, least_px), dashed=one.score is not None)
        for boxes, other in ((frame.labels, MISSED), (frame.found, FALSE))
        for one in boxes
    ]
    return tuple(sorted(marks, key=lambda mark: mark.colour != RIGHT))


def _least_px(path: Path) -> float:
    """Width of a box, px of the frame, that leaves room for its name; none where the frame cannot be read."""
    try:
        with Image.open(path) as image:
            return _LABEL_PX / REDUCED_PX * max(image.size)
    except OSError:
        return float("inf")


def _named(box: JudgedBox, classes: Sequence[str], least_px: float) -> str:
    if box.box_xyxy[2] - box.box_xyxy[0] < least_px:
        return ""
    if box.fate == "right" or (box.fate == "confused" and box.score is None):
        return ""  # of a confused pair the detection says what it was taken for; the label would cover it
    return classes[box.class_id] if box.score is None else f"{classes[box.class_id]} {box.score:.2f}"


def _caption(frame: JudgedFrame) -> Markup:
    numbers = (
        (frame.num_right, "right"),
        (frame.num_confused, "confused"),
        (frame.num_missed, "missed"),
        (frame.num_false, "false"),
    )
    told = ", ".join(f"{number} {word}" for number, word in numbers if number)
    where = " · ".join(filter(None, (frame.camera, frame.slice)))
    return Markup(f"{escape(told)}<br>{escape(where)}<br><code>{escape(frame.image)}</code>")


def _reason(error: Exception, folder: Path) -> str:
    """What happened, without the place of the project on this machine."""
    text = str(error).replace(f"{folder}/", "")
    return text if isinstance(error, TcaError) else f"{type(error).__name__}: {(text.splitlines() or [''])[0][:200]}"
