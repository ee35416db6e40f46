"""The export as one HTML page: verdict, the engines side by side, speed against accuracy, and what was not run."""

from __future__ import annotations

from flows.exporting.accuracy import short
from flows.exporting.export_plots import latency_plot, speed_plot
from flows.exporting.report import CandidateReport, ExportReport
from flows.page import Markup, escape, figure, folded, page, table


def export_page(report: ExportReport, hardware: str = "") -> str:
    """Write the whole document; `hardware` says what the figures were measured on."""
    width, height = report.input_size_wh
    sections = [
        f"<p>{escape(report.rule.sentence)}</p>",
        "<h2>Engines</h2>" + _engines(report, hardware),
        "<ul>" + "".join(f"<li>{escape(one.reason)}{_tried(one)}</li>" for one in report.candidates) + "</ul>",
        "<h2>Speed against accuracy</h2>" + _speed(report),
        "<h2>Time by batch size</h2>" + _latency(report),
        "<h2>Decoding</h2>" + f"<p>{escape(_sentence_case(report.decoding.sentence))}.</p>",
        "<h2>Not run</h2>" + _not_built(report),
        folded("Box by box against PyTorch", _parity(report)),
        folded("Every batch size", _batches(report)),
        folded(f"What the proof rests on ({width} x {height} px)", _basis(report)),
    ]
    return page("Export", report.sentence, report.passed, "\n".join(sections))


def _engines(report: ExportReport, hardware: str) -> str:
    headers = [
        *("engine", "", "images/s", "lone image p50 / p99, ms", "loss of mAP50-95", "mAP50-95"),
        *("memory, MB", "file, MB", "load, s"),
    ]
    rows = [_engine_row(one) for one in report.candidates]
    base = report.baseline
    note = (
        f"<p>PyTorch reaches {short(base.map50_95)} mAP50-95 on {base.num_images} frames of {escape(base.split)} with "
        f"{base.num_objects} objects from {base.num_units} {escape(base.unit)}s. Loss is PyTorch minus engine on the "
        f"same frames; each end of an interval is a one-sided {100 * (1 - base.alpha):g} % bound (jackknife t over "
        f"{escape(base.unit)}s). Time runs from the bytes of an image to its boxes, in a process of its own, with "
        "as many calls side by side as the engine takes; memory is the most that this process held."
        f"{escape(f' Measured on {hardware}.' if hardware else '')}</p>"
    )
    return table(headers, rows) + note


def _engine_row(one: CandidateReport) -> list[object]:
    blocks = f", {len(one.float_blocks)} blocks float" if one.float_blocks else ""
    return [
        Markup(f"<b>{escape(one.name)}</b>{escape(blocks)}"),
        one.state,
        f"{one.images_per_s:.0f} (batch {one.best_batch})",
        f"{one.speed.lone_p50_ms:.1f} / {one.speed.lone_p99_ms:.1f}",
        one.accuracy.loss.text(),
        short(one.accuracy.map50_95),
        f"{one.speed.resident_mb:.0f}",
        f"{one.engine_bytes / 1e6:.1f}",
        f"{one.speed.load_s:.2f}",
    ]


def _tried(one: CandidateReport) -> str:
    if not one.tried:
        return ""
    return "<ul>" + "".join(f"<li>before: {escape(text)}</li>" for text in one.tried) + "</ul>"


def _speed(report: ExportReport) -> str:
    if all(one.accuracy.loss.value is None for one in report.candidates):
        return "<p>The frozen frames hold no labelled object: there is no loss to show.</p>"
    caption = (
        "Up is faster, left is more exact; the bar is the interval of the loss. Green: chosen; blue: admitted; red "
        "square: refused. An engine may be taken while its bar ends left of the dashed line."
    )
    return figure(speed_plot(report.candidates, report.rule), caption)


def _latency(report: ExportReport) -> str:
    caption = (
        "Median time from the bytes of a batch to its boxes, with as many calls side by side as in serving; the budget "
        f"is {report.rule.latency_budget_ms:g} ms."
    )
    return figure(latency_plot(report.candidates, report.rule), caption)


def _not_built(report: ExportReport) -> str:
    if not report.not_built:
        return "<p>Every engine that this product knows competed.</p>"
    precisions: dict[tuple[str, str], list[str]] = {}
    for one in report.not_built:
        precisions.setdefault((one.engine, one.reason), []).append(one.precision)
    rows = [[f"{engine} {', '.join(names)}", reason] for (engine, reason), names in precisions.items()]
    return "<p>Nothing is claimed of these.</p>" + table(["engine", "why"], rows)


def _parity(report: ExportReport) -> str:
    headers = [
        "engine",
        "frames",
        "boxes",
        "matched",
        "IoU mean",
        "IoU least",
        "score diff. mean",
        "largest",
        "verdict",
    ]
    rows = [
        [
            *(one.name, one.parity.num_frames, one.parity.num_boxes, f"{one.parity.matched_share:.1%}"),
            *(f"{one.parity.mean_iou:.4f}", f"{one.parity.min_iou:.3f}", f"{one.parity.mean_score_diff:.4f}"),
            *(f"{one.parity.max_score_diff:.3f}", "agrees" if one.parity.passed else "differs"),
        ]
        for one in report.candidates
    ]
    note = "<p>The 20 strongest boxes of each frame on either side, each with its partner on the other.</p>"
    return note + table(headers, rows)


def _batches(report: ExportReport) -> str:
    rows = [
        [one.name, row.batch, f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}", f"{row.images_per_s:.1f}", row.runs]
        for one in report.candidates
        for row in one.speed.latency
    ]
    return table(["engine", "batch", "p50, ms", "p99, ms", "images/s", "runs"], rows)


def _basis(report: ExportReport) -> str:
    rows: list[list[object]] = [["model digest", report.model_digest], ["device", report.device]]
    rows += [[key.replace("_", " "), value] for key, value in report.baseline.model_dump().items()]
    if report.calibration is not None:
        one = report.calibration
        where = f"{one.num_frames} frames of train from {one.num_strata} pairs of slice and camera, sha256 {one.sha256}"
        rows.append(["INT8 calibrated on", where])
    rows += [[name, f"{size / 1e6:.2f} MB"] for name, size in report.file_bytes.items()]
    return table(["", "value"], rows)


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]
