"""A training as one HTML page: verdict, key figures, curves, what the checkpoint does on val, pictures, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.page import (
    PALETTE,
    Markup,
    Picture,
    contents,
    escape,
    folded,
    gallery,
    legend,
    page,
    section,
    table,
    tiles,
)
from flows.training.epochs import EpochMetrics
from flows.training.report.confusion import confusion_table
from flows.training.report.curves import Moments, curve_grid, short_number
from flows.training.report.judged import JudgedPart, JudgedValidation
from flows.training.reproducibility import TrainReport

RIGHT, CONFUSED, MISSED, FALSE = PALETTE[4], PALETTE[3], PALETTE[5], PALETTE[1]
_KINDS = {"class": "Classes", "slice": "Slices", "camera": "Cameras", "size": "Object sizes"}


@dataclass(frozen=True)
class SamplePictures:
    """Frames of val with labels and detections drawn in, as `JudgedValidation` lists them."""

    worst: tuple[Picture, ...] = ()
    best: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Background:
    """What the training was given: its parameters, and where it ran and comes from; texts by name."""

    params: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def training_page(
    report: TrainReport,
    epochs: Sequence[EpochMetrics],
    judged: JudgedValidation | str,
    pictures: SamplePictures | str = SamplePictures(),
    background: Background = Background(),
) -> str:
    """Write the whole document; `judged` and `pictures` may be the reason why there are none."""
    sections = [
        ("curves", "Curves", _curves(report, epochs)),
        ("val", "On the validation split", _validation(judged)),
        ("frames", "Frames", _frames(judged, pictures)),
        ("data", "Data", _data(report)),
        ("details", "Details", _details(report, epochs, judged, background)),
    ]
    body = [
        contents((anchor, heading) for anchor, heading, _ in sections),
        _key_figures(report),
        _incidents(report),
        *(section(*one) for one in sections),
    ]
    return page("Training", report.sentence, report.passed, "\n".join(part for part in body if part))


def duration(seconds: float) -> str:
    """`41 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def incidents(report: TrainReport) -> list[str]:
    """What went otherwise than planned, a sentence each."""
    found = list(report.notes)
    if report.went_on_in:
        epochs = ", ".join(map(str, report.went_on_in))
        found.append(f"It was interrupted and went on in epoch {epochs}; the curves below hold every epoch once.")
    if report.stopped_early:
        found.append(
            f"It ended after epoch {report.epochs}: no epoch had been better than {report.best_epoch} for as long as "
            "train.patience allows."
        )
    return found


def _key_figures(report: TrainReport) -> str:
    width, height = report.input_size_wh
    figures = [
        ("epochs", str(report.epochs), f"best: {report.best_epoch}{', stopped early' if report.stopped_early else ''}")
    ]
    if report.task in ("detect", "segment", "pose", "obb"):
        figures.insert(
            0, ("mAP50-95 on val", f"{report.map50_95:.3f}", f"mAP50 {report.map50:.3f}, Ultralytics' measure")
        )
    if report.score is not None and report.score != report.map50_95:
        figures.insert(0, ("score on val", f"{report.score:.3f}", "what the best epoch is chosen by"))
    figures += [
        ("time", duration(report.seconds), f"{report.images_per_s:.1f} training images/s"),
        ("frames", f"{report.images:,}", "in the training split"),
        ("parameters", f"{report.num_parameters / 1e6:.2f} M", f"{report.task}, {width} x {height} px"),
        ("device", report.device, f"{report.precision}{_processes(report)}"),
    ]
    return tiles(figures)


def _processes(report: TrainReport) -> str:
    if report.num_processes == 1:
        return f", {report.num_threads} thread{'' if report.num_threads == 1 else 's'}"
    machines = f" on {report.num_nodes} machines" if report.num_nodes > 1 else ""
    return f", {report.num_processes} processes{machines}"


def _incidents(report: TrainReport) -> str:
    found = incidents(report)
    if not found:
        return ""
    return "<h3>Worth knowing</h3><ul>" + "".join(f"<li>{escape(one)}</li>" for one in found) + "</ul>"


def _curves(report: TrainReport, epochs: Sequence[EpochMetrics]) -> str:
    if not epochs:
        return "<p>The curve of this training is not on this machine.</p>"
    is_marked = max(report.went_on_in, default=1) > 1  # what went on in the first epoch has nothing before the line
    marked = " A dotted line: it was interrupted there and went on." if is_marked else ""
    note = (
        f'<p class="note">The line marks the best epoch, {report.best_epoch}, whose weights are kept; the number '
        f"beside a name is its value there.{marked}</p>"
    )
    return note + curve_grid(epochs, Moments(report.best_epoch, report.went_on_in))


def _validation(judged: JudgedValidation | str) -> str:
    if isinstance(judged, str):
        return f'<p class="open">There are no figures by frame: {escape(judged)}</p>'
    whole = next((part for part in judged.parts if part.kind == "all"), None)
    text = f" All together: mAP50-95 {interval_text(whole)} over {units_text(whole)}." if whole else ""
    note = (
        f'<p class="note">The best checkpoint on {judged.num_images:,} frames of {escape(judged.split)} with '
        f"{judged.num_objects:,} labelled objects, run by PyTorch, measured as the evaluation measures.{escape(text)} "
        f"Precision, recall and the matrix count at confidence {judged.conf:g} and IoU {judged.iou:g}, as served. "
        f"Each end of an interval is a one-sided {100 * (1 - judged.alpha):g} % bound; too few units give none. "
        "These frames chose the epoch, so figures here flatter; the verdict on the model is the evaluation's, on "
        "frozen frames.</p>"
    )
    matrix = (
        "<h3>Who was taken for whom</h3>"
        + confusion_table(judged.classes, judged.confusion)
        + '<p class="note">Rows: labelled objects of a class, by the class they were found as. Last column: not found. '
        "Last row: detections of nothing that is labelled.</p>"
    )
    return note + _parts_table(judged, "class") + _parts_table(judged, "slice") + matrix


def _parts_table(judged: JudgedValidation, kind: str) -> str:
    rows = [
        [
            part.name or "(none)",
            part.num_images,
            f"{part.num_objects:,}",
            Markup(f'<span style="white-space:nowrap">{escape(interval_text(part))}</span>'),
            units_text(part),
            _share(part.precision),
            _share(part.recall),
        ]
        for part in judged.of_kind(kind)
    ]
    headers = [kind if kind != "size" else "object size", "frames", "objects", "mAP50-95"]
    headers += ["interval over", "precision", "recall"]
    return f"<h3>{_KINDS[kind]}</h3>" + table(headers, rows) if rows else ""


def interval_text(part: JudgedPart) -> str:
    """Like `0.458 [0.421, 0.494]`; the figure alone where there are too few units for an interval."""
    if part.map50_95 is None:
        return "not defined"
    value = f"{part.map50_95:.3f}"
    return value if part.lower is None or part.upper is None else f"{value} [{part.lower:.3f}, {part.upper:.3f}]"


def units_text(part: JudgedPart) -> str:
    """Like `8 cameras`."""
    return f"{part.num_units} {part.unit}{'' if part.num_units == 1 else 's'}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _frames(judged: JudgedValidation | str, pictures: SamplePictures | str) -> str:
    if isinstance(judged, str):
        return '<p class="open">There are no pictures, for the same reason.</p>'
    if isinstance(pictures, str):
        return f'<p class="open">There are no pictures: {escape(pictures)}</p>'
    if not pictures.worst and not pictures.best:
        return "<p>No frame has an object, found or labelled: there is nothing to show.</p>"
    key = legend(
        {"right": RIGHT, "found as another class": CONFUSED, "label that was missed": MISSED, "false detection": FALSE}
    )
    note = '<p class="note">Labels: solid. Detections: dashed, at the served confidence.</p>'
    parts = [note + key]
    if pictures.worst:
        parts.append(
            "<h3>Worst: most objects missed, confused, or found where none is labelled</h3>" + gallery(pictures.worst)
        )
    if pictures.best:
        parts.append("<h3>Best: most objects found, fewest errors</h3>" + gallery(pictures.best))
    return "".join(parts)


def _data(report: TrainReport) -> str:
    version = f"Data version <code>{escape(report.data_version)}</code>" if report.data_version else "No data version"
    lines = [f"<p>{version}: {escape(_difference(report))}.</p>"]
    origin = f"Classes: {', '.join(report.classes)}. Started from {report.started_from}{_head(report)}."
    lines.append(f"<p>{escape(origin)}</p>")
    return "".join(lines)


def _difference(report: TrainReport) -> str:
    return (
        report.data_difference.sentence
        if report.data_difference
        else "how they differ from the champion's is not known"
    )


def _head(report: TrainReport) -> str:
    if report.head_kept is None:
        return ""
    return ", its classes kept" if report.head_kept else ", with a new head: its classes were others"


def _details(
    report: TrainReport, epochs: Sequence[EpochMetrics], judged: JudgedValidation | str, background: Background
) -> str:
    parts = []
    if isinstance(judged, JudgedValidation):
        cameras = _parts_table(judged, "camera") + _parts_table(judged, "size")
        parts.append(folded("Cameras and object sizes on val", cameras))
    if epochs:
        parts.append(folded("Every epoch", _epoch_table(epochs)))
    if background.params:
        parts.append(folded("Parameters", table(["parameter", "value"], _shown(background.params))))
    parts.append(folded("The record of this training", table(["", "value"], _record(report))))
    if background.provenance:
        parts.append(folded("Where it comes from", table(["", "value"], _shown(background.provenance))))
    return "".join(parts)


def _epoch_table(epochs: Sequence[EpochMetrics]) -> str:
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.numbers()))
    rows = [[epoch.epoch, *(short_number(epoch.numbers().get(name)) for name in names)] for epoch in epochs]
    return table(["epoch", *(name.replace("_", " ") for name in names)], rows)


def _record(report: TrainReport) -> list[list[object]]:
    shown = report.model_dump(mode="json", exclude={"passed", "sentence", "data_difference", "notes"})
    return [[key.replace("_", " "), _value(value)] for key, value in shown.items()]


def flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested values as `section.key` and value."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        rows += flat(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, value)]
    return rows


def _shown(values: Mapping[str, Any]) -> list[list[object]]:
    return [[name, _value(value)] for name, value in flat(values)]


def _value(value: object) -> object:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | Mapping):
        return ", ".join(map(str, value)) or "none"
    text = str(value)
    return Markup(f"<code>{escape(text)}</code>") if len(text) > 24 and " " not in text else text or "(empty)"
