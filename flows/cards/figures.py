"""The parts of a card about data and figures: what it was judged on and trained on, and how well it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.cards.blocks import Block, Curve, Part, Points, Rows, Words, code, pairs
from flows.cards.sources import CardSources
from flows.comparison.report import EvaluationReport, Figures
from flows.dataset.report.validation import ValidationReport
from flows.training.report.curves import Moments
from flows.training.report.page import duration
from flows.training.reproducibility import TrainReport

NOT_EVALUATED = Words("Not evaluated: there is no report of it.")
_FIGURES = {"map50_95": "mAP50-95", "ap50": "AP50", "ap75": "AP75", "precision": "precision", "recall": "recall"}
_KINDS = {"class": "Classes", "slice": "Slices", "size": "Object sizes", "camera": "Cameras"}


def metrics_part(evaluation: EvaluationReport | None) -> Part:
    """What is measured, and where the line is drawn."""
    if evaluation is None:
        return Part("metrics", "Metrics", (NOT_EVALUATED,))
    thresholds = evaluation.thresholds
    level = f"{100 * (1 - thresholds.alpha):g} %"
    return Part(
        "metrics",
        "Metrics",
        (
            Words(
                "mAP50-95 is COCO's: average precision over ten overlaps from .50 to .95, mean over classes, at most "
                "100 detections a frame. Precision and recall count the answers that serving gives, at confidence "
                f"{thresholds.served_conf:g} and IoU .50, all classes together."
            ),
            Words(
                f"Each end of an interval [low, high] is a one-sided {level} bound, jackknife t over "
                f"{thresholds.unit}s: frames of one camera resemble one another, so they are never counted as "
                "independent. A figure without an interval rests on too few of them."
            ),
        ),
    )


def evaluation_data_part(sources: CardSources) -> Part:
    """The frozen frames."""
    evaluation = sources.evaluation
    if evaluation is None:
        return Part("evaluation-data", "Evaluation data", (NOT_EVALUATED,))
    values = {
        "frames": f"{evaluation.num_images:,}, the same for every model",
        "objects": f"{evaluation.num_objects:,}",
        "resampled by": f"{evaluation.num_units} {evaluation.thresholds.unit}s",
        "split": sources.export.baseline.split if sources.export else None,
        "labels, sha256": f"`{evaluation.ground_truth_sha256}`",
        "data version": code(sources.data_md5),
    }
    return Part("evaluation-data", "Evaluation data", (pairs(values),))


def training_data_part(sources: CardSources) -> Part:
    """What it learnt from, and how that differs from the champion's."""
    training, validation = sources.training, sources.validation
    licence = sources.background.data_licence or "not stated by the data"
    values = {"data version": code(sources.data_md5), "licence of the data": licence}
    if training:
        values["frames in train"] = f"{training.images:,}"
        if training.data_difference:
            values["compared with the champion's data"] = training.data_difference.sentence
    blocks: list[Block] = [pairs(values)]
    if validation is None:
        return Part("training-data", "Training data", (*blocks, Words("The data were not described: no report of it.")))
    blocks += [
        Words(validation.sentence),
        Words("Labelled boxes of each class, by split:"),
        _boxes_by_class(validation),
    ]
    blocks += [Words("Frames of each slice, by split:"), _frames_by_slice(validation)]
    cameras = tuple((name or "(none)", f"{count:,}") for name, count in validation.images_per_camera.items())
    return Part(
        "training-data",
        "Training data",
        tuple(blocks),
        folded=((f"{len(cameras)} cameras, {validation.num_clips} clips", (Rows(("camera", "frames"), cameras),)),),
    )


def results_part(sources: CardSources) -> Part:
    """The figures with intervals: all together beside the champion's, then by class and by slice."""
    evaluation = sources.evaluation
    if evaluation is None:
        return Part("results", "Quantitative analyses", (NOT_EVALUATED,))
    champion = f"champion, version {sources.champion_version}" if sources.champion_version else "champion"
    blocks: list[Block] = [_headline(evaluation, champion), Points(evaluation.reasons)]
    for kind in ("class", "slice"):
        blocks += [Words(f"{_KINDS[kind]}:"), _parts(evaluation, kind)]
    folded = tuple((_KINDS[kind], (_parts(evaluation, kind),)) for kind in ("size", "camera"))
    return Part("results", "Quantitative analyses", tuple(blocks), folded)


def training_part(sources: CardSources) -> Part:
    """How it was trained, and its curve."""
    training = sources.training
    if training is None:
        return Part("training", "Training", (Words("How it was trained is not known: there is no report of it."),))
    blocks: list[Block] = [pairs(dict(_training_facts(training)))]
    if training.notes:
        blocks += [Words("Worth knowing:"), Points(training.notes)]
    epochs = sources.background.epochs
    if epochs:
        blocks.append(Words(f"By epoch; the best one, {training.best_epoch}, is marked:"))
        blocks.append(Curve(epochs, Moments(training.best_epoch, training.went_on_in)))
    else:
        blocks.append(Words("Its curve was not kept with this package."))
    return Part("training", "Training", tuple(blocks))


def speed_part(sources: CardSources) -> Part:
    """Time and memory as measured at export, on the machine that exported."""
    export = sources.export
    if export is None:
        return Part("speed", "Speed", (Words("Not measured: there is no report of the export."),))
    hardware = sources.records["export"].get("provenance", {}).get("hardware")
    note = Words(
        f"Measured at export on: {hardware or 'a machine that is not known'}. Time runs from the bytes of an image to "
        "its boxes. Elsewhere it is another: export there."
    )
    rows = tuple(
        (
            f"{one.name}{' (served)' if one.state == 'chosen' else ''}",
            f"{one.images_per_s:.0f} (batch {one.best_batch})",
            f"{one.speed.lone_p50_ms:.1f} / {one.speed.lone_p99_ms:.1f}",
            f"{one.speed.resident_mb:.0f}",
            one.accuracy.loss.text(),
            one.state,
        )
        for one in export.candidates
    )
    headers = ("engine", "images/s", "lone image p50 / p99, ms", "memory, MB", "loss of mAP50-95", "state")
    missing = tuple((f"{one.engine} {one.precision}", one.reason) for one in export.not_built)
    folded = (("Engines that were not proven", (Rows(("engine", "why"), missing),)),) if missing else ()
    return Part("speed", "Speed", (note, Rows(headers, rows)), folded)


def _headline(evaluation: EvaluationReport, champion: str) -> Rows:
    columns: list[tuple[str, Figures, bool]] = [("this model", evaluation.challenger.figures, False)]
    if evaluation.champion:
        columns.append((champion, evaluation.champion.figures, False))
    if evaluation.difference:
        columns.append(("difference", evaluation.difference, True))
    rows = tuple(
        (label, *(getattr(figures, key).text(signed) for _, figures, signed in columns))
        for key, label in _FIGURES.items()
    )
    return Rows(("", *(name for name, _, _ in columns)), rows)


def _parts(evaluation: EvaluationReport, kind: str) -> Rows:
    has_champion = evaluation.champion is not None
    rows = []
    for part in (one for one in evaluation.parts if one.figure.kind == kind):
        one = part.figure
        row = [one.name or "(none)", f"{one.num_objects:,}", one.challenger.text()]
        if has_champion:
            row += ["–" if one.difference is None else one.difference.text(signed=True), part.state or "–"]
        rows.append(tuple(row))
    more = ("difference to the champion", "state") if has_champion else ()
    return Rows((kind if kind != "size" else "object size", "objects", "mAP50-95", *more), tuple(rows))


def _boxes_by_class(validation: ValidationReport) -> Rows:
    return _by_split("class", validation.boxes_per_class, tuple(validation.images_per_split))


def _frames_by_slice(validation: ValidationReport) -> Rows:
    return _by_split("slice", validation.images_per_slice, tuple(validation.images_per_split))


def _by_split(word: str, counts: Mapping[str, Mapping[str, int]], splits: tuple[str, ...]) -> Rows:
    rows = tuple(
        (name or "(none)", *(f"{by_split.get(split, 0):,}" for split in splits)) for name, by_split in counts.items()
    )
    return Rows((word, *splits), rows)


def _training_facts(training: TrainReport) -> Iterator[tuple[str, str | None]]:
    yield "started from", training.started_from
    early = ", stopped early" if training.stopped_early else ""
    yield "epochs", f"{training.epochs}{early}; the best, {training.best_epoch}, is kept"
    yield "on val", f"mAP50-95 {training.map50_95:.3f}, mAP50 {training.map50:.3f} (Ultralytics' measure)"
    yield "time", f"{duration(training.seconds)}, {training.images_per_s:.1f} training images/s"
    yield "device", f"{training.device}, {training.precision}, {counted(training.num_threads, 'thread')}"
    if training.num_processes > 1:
        yield "processes", f"{training.num_processes} on {counted(training.num_nodes, 'machine')}"
    yield "batch", None if training.batch is None else f"{training.batch} images a step"
    yield "seed", str(training.seed)
    if training.went_on_in:
        yield "interrupted, went on in epoch", ", ".join(map(str, training.went_on_in))


def counted(number: int, word: str) -> str:
    """Like `1 thread`, `2 threads`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
