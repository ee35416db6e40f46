"""The comparison as one HTML page: verdict, figures with intervals, differences by part, curves, pictures, details."""

from __future__ import annotations

from collections.abc import Sequence

from flows.comparison.charts import forest_plot, precision_recall_plot
from flows.comparison.gallery import Picture
from flows.comparison.gate import JudgedSlice
from flows.comparison.report import EvaluationReport, Figures
from flows.comparison.resampling import short
from flows.page import escape, figure, folded, page, table

_FIGURE_NAMES = {"map50_95": "mAP50-95", "ap50": "AP50", "ap75": "AP75", "precision": "precision", "recall": "recall"}


def evaluation_page(report: EvaluationReport, gallery: Sequence[Picture] = ()) -> str:
    """Write the whole document; `gallery` comes from `disagreement_gallery`."""
    ok = {"promote": True, "reject": False, "inconclusive": None}[report.outcome]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.reasons)
    sections = [
        f"<ul>{reasons}</ul>",
        "<h2>Figures</h2>" + _headline(report),
        _differences(report),
        "<h2>Precision and recall</h2>" + _curves(report),
        _pictures(report, gallery),
        folded("Every part: slices, cameras, classes, object sizes", _parts(report.parts)),
        folded("What the verdict rests on", _provenance(report)),
    ]
    return page("Evaluation", report.sentence, ok, "\n".join(section for section in sections if section))


def _headline(report: EvaluationReport) -> str:
    thresholds = report.thresholds
    level = f"{100 * (1 - thresholds.alpha):g} %"
    columns: list[tuple[str, Figures, bool]] = [("challenger", report.challenger.figures, False)]
    if report.champion is not None:
        columns.append(("champion", report.champion.figures, False))
    if report.difference is not None:
        columns.append(("difference", report.difference, True))
    rows = [
        [label, *(getattr(figures, key).text(signed) for _, figures, signed in columns)]
        for key, label in _FIGURE_NAMES.items()
    ]
    note = (
        f"<p>{report.num_images} frames, {report.num_objects} objects, {report.num_units} {thresholds.unit}s. "
        f"Each end of an interval is a one-sided {level} bound (jackknife t over {thresholds.unit}s). "
        f"Precision and recall: IoU .50, confidence {thresholds.served_conf:g}, all classes together.</p>"
    )
    return table(["", *(name for name, _, _ in columns)], rows) + note + _bootstrap(report)


def _bootstrap(report: EvaluationReport) -> str:
    if report.bootstrap is None:
        return ""
    one = report.bootstrap
    return (
        f"<p>Paired bootstrap of the mAP50-95 difference, {one.replicates} replicates: [{short(one.lower, True)}, "
        f"{short(one.upper, True)}], challenger better in {100 * one.share_better:.1f} %; "
        f"label-swap permutation p = {one.p_label_swap:.3g}.</p>"
    )


def _differences(report: EvaluationReport) -> str:
    if report.difference is None:
        return ""
    thresholds = report.thresholds
    plot = forest_plot(report.difference.map50_95, thresholds.margin, thresholds.slice_margin, report.parts)
    caption = (
        "Challenger minus champion, mAP50-95, with intervals. Green: not worse than the margin; amber: too wide to "
        "tell; red square: failed; grey ring: insufficient. Dashed line: the margin of a part."
    )
    return "<h2>Where it differs</h2>" + figure(plot, caption)


def _curves(report: EvaluationReport) -> str:
    models = [report.challenger, *([report.champion] if report.champion is not None else [])]
    names = [curve.name for curve in report.challenger.curves]
    plots = [
        precision_recall_plot([curve for model in models for curve in model.curves if curve.name == name], name)
        for name in names
    ]
    if not plots:
        return "<p>No labelled object: there is no curve.</p>"
    caption = "At IoU .50. Challenger: solid blue. Champion: dashed orange."
    return figure(plots[0], caption) + (folded("By class", "".join(plots[1:])) if len(plots) > 2 else "")


def _pictures(report: EvaluationReport, gallery: Sequence[Picture]) -> str:
    if not gallery:
        return ""
    other = "the labels" if report.champion is None else "the champion"
    note = (
        f"<p>Where challenger and {other} differ most, at the served confidence: frames worth a look, and worth "
        "labelling next. Blue: challenger. Orange: champion. Thin grey: labels.</p>"
    )
    return "<h2>Disagreements</h2>" + note + "".join(figure(one.data_uri, one.caption) for one in gallery)


def _parts(parts: Sequence[JudgedSlice]) -> str:
    headers = ["part", "frames", "objects", "units", "challenger", "champion", "difference", "corrected p", "state"]
    rows = []
    for part in parts:
        one = part.figure
        rows.append(
            [
                f"{one.kind} {one.name}",
                one.num_images,
                one.num_objects,
                f"{one.challenger.num_units} ({one.unit})",
                one.challenger.text(),
                "–" if one.champion is None else one.champion.text(),
                "–" if one.difference is None else one.difference.text(signed=True),
                "–" if part.p_worse_holm is None else f"{part.p_worse_holm:.2g}",
                part.state or "–",
            ]
        )
    return table(headers, rows)


def _provenance(report: EvaluationReport) -> str:
    rows: list[list[object]] = [[key, value] for key, value in report.thresholds.model_dump().items()]
    rows.append(["ground truth sha256", report.ground_truth_sha256])
    rows.append(["challenger sha256", report.challenger.predictions_sha256])
    if report.champion is not None:
        rows.append(["champion sha256", report.champion.predictions_sha256])
    return table(["", "value"], rows)
