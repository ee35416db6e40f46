"""The comparison as one HTML page: verdict, gates, figures with intervals, differences, curves, pictures, details."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.comparison.charts import forest_plot
from flows.comparison.confusion import Confusion
from flows.comparison.confusion_table import confusion_section
from flows.comparison.gate import Gate, GateState, JudgedSlice
from flows.comparison.plots import COLOURS, calibration_plot, latency_plot, precision_recall_plot
from flows.comparison.report import EvaluationReport, Figures
from flows.comparison.resampling import Estimate, short
from flows.page import (
    Markup,
    Picture,
    contents,
    escape,
    figure,
    folded,
    gallery,
    grid,
    legend,
    page,
    section,
    table,
    tiles,
)

_FIGURE_NAMES = {
    "map50_95": "mAP50-95",
    "ap50": "AP50",
    "ap75": "AP75",
    "precision": "precision",
    "recall": "recall",
    "calibration_error": "calibration error (less is better)",
    "overconfidence": "overconfidence (less is better)",
}
_FEW = 5  # curves that are shown at once
_GATE_MARKS: dict[GateState, tuple[str, str]] = {
    "passed": ("✓", "good"),
    "failed": ("✗", "bad"),
    "inconclusive": ("?", "open"),
    "insufficient": ("–", "open"),
    "not judged": ("–", ""),
}


@dataclass(frozen=True)
class Shown:
    """What the page shows beside the report."""

    classes: tuple[str, ...] = ()
    challenger: Confusion | None = None
    champion: Confusion | None = None
    pictures: Sequence[Picture] = ()
    max_latency_ms: float | None = None
    num_tasks: int = 0  # labelling tasks that were written beside the page
    telemetry: str = ""  # what the trainer itself measured; no gate reads it


def evaluation_page(report: EvaluationReport, shown: Shown | None = None) -> str:
    """Write the whole document."""
    more = shown or Shown()
    ok = {"promote": True, "reject": False, "inconclusive": None}[report.outcome]
    sections = [
        ("gates", "Why", _gates(report)),
        ("figures", "Figures", _headline(report, more.telemetry)),
        ("differences", "Where it differs", _differences(report)),
        ("curves", "Precision and recall", _curves(report)),
        ("confusion", "What is taken for what", _confusions(more)),
        ("calibration", "Calibration", _calibration(report)),
        ("latency", "Latency", _latency(report, more.max_latency_ms)),
        ("disagreements", "Disagreements", _pictures(report, more)),
        ("parts", "Every part", folded("Slices, cameras, classes, object sizes", _parts(report.parts))),
        ("provenance", "What the verdict rests on", folded("Params and hashes", _provenance(report))),
    ]
    filled = [(anchor, heading, body) for anchor, heading, body in sections if body]
    body = contents((anchor, heading) for anchor, heading, _ in filled) + "\n".join(
        section(anchor, heading, body) for anchor, heading, body in filled
    )
    return page("Evaluation", report.sentence, ok, body, "INCONCLUSIVE" if ok is None else "")


def gates_table(gates: Sequence[Gate]) -> str:
    """Every gate with its state, marked by sign, word and colour, and its reason."""
    rows = []
    for gate in gates:
        mark, css_class = _GATE_MARKS[gate.state]
        state = Markup(f'<span class="state {css_class}">{mark} {escape(gate.state)}</span>')
        rows.append([gate.name, state, gate.reason])
    return table(["gate", "state", "reason"], rows)


def _gates(report: EvaluationReport) -> str:
    told = {gate.reason for gate in report.gates}
    rest = "".join(f"<li>{escape(reason)}</li>" for reason in report.reasons if reason not in told)
    return (gates_table(report.gates) if report.gates else "") + (f"<ul>{rest}</ul>" if rest else "")


def _headline(report: EvaluationReport, telemetry: str) -> str:
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
        if getattr(report.challenger.figures, key) is not None
    ]
    note = (
        f'<p class="note">Each end of an interval is a one-sided {level} bound (jackknife t over {thresholds.unit}s). '
        f"Precision and recall: IoU .50, confidence {thresholds.served_conf:g}, all classes together.</p>"
    )
    trainer = f'<p class="note">{escape(telemetry)}</p>' if telemetry else ""
    return _counts(report) + table(["", *(name for name, _, _ in columns)], rows) + note + _bootstrap(report) + trainer


def _counts(report: EvaluationReport) -> str:
    unit = report.thresholds.unit
    return tiles(
        [
            ("frozen frames", f"{report.num_images:,}", f"{report.num_objects:,} labelled objects"),
            ("resampling units", str(report.num_units), f"{unit}s; at least {report.thresholds.min_units} are needed"),
            ("parts judged", str(sum(part.state not in (None, "insufficient") for part in report.parts)), _few(report)),
        ]
    )


def _few(report: EvaluationReport) -> str:
    num = sum(part.state == "insufficient" for part in report.parts)
    return f"{num} more with too few objects or units" if num else ""


def _bootstrap(report: EvaluationReport) -> str:
    if report.bootstrap is None:
        return ""
    one = report.bootstrap
    return (
        f'<p class="note">Paired bootstrap of the mAP50-95 difference, {one.replicates} replicates: '
        f"[{short(one.lower, True)}, {short(one.upper, True)}], challenger better in {100 * one.share_better:.1f} %; "
        f"label-swap permutation p = {one.p_label_swap:.3g}.</p>"
    )


def _differences(report: EvaluationReport) -> str:
    if report.difference is None:
        return ""
    thresholds = report.thresholds
    plot = forest_plot(report.difference.map50_95, thresholds.wanted, thresholds.slice_margin, report.parts)
    caption = (
        "Challenger minus champion, mAP50-95, with intervals. Green: not worse than the margin; amber: too wide to "
        "tell; red square: failed; grey ring: insufficient. Dashed line: the margin of a part."
    )
    return figure(plot, caption)


def _curves(report: EvaluationReport) -> str:
    models = [report.challenger, *([report.champion] if report.champion is not None else [])]
    names = [curve.name for curve in report.challenger.curves]
    plots = [
        precision_recall_plot([curve for model in models for curve in model.curves if curve.name == name], name)
        for name in names
    ]
    if not plots:
        return "<p>No labelled object: there is no curve.</p>"
    caption = "At IoU .50. Challenger solid, champion dashed." if report.champion is not None else "At IoU .50."
    if len(plots) - 1 <= _FEW:
        drawn = plots if len(plots) > 2 else plots[:1]  # of one class the mean is the class
        return grid(drawn) + f'<p class="note">{caption}</p>' + legend(_legend(report))
    by_class = folded(f"By class ({len(plots) - 1})", grid(plots[1:]))
    return figure(plots[0], caption, _legend(report)) + by_class


def _confusions(shown: Shown) -> str:
    if shown.challenger is None:
        return ""
    return confusion_section(shown.classes, shown.challenger, shown.champion)


def _calibration(report: EvaluationReport) -> str:
    models = {"challenger": report.challenger.calibration}
    models["champion"] = report.champion.calibration if report.champion is not None else None
    drawn = {role: one for role, one in models.items() if one is not None and one.bins}
    if not drawn:
        return ""
    caption = (
        "Of the detections served, how many are right at a confidence. On the diagonal a confidence is what it says; "
        "below it the model is too sure. The larger a mark, the more detections."
    )
    return figure(calibration_plot(drawn), caption, _legend(report))


def _latency(report: EvaluationReport, max_latency_ms: float | None) -> str:
    if report.latency is None:
        return ""
    one = report.latency
    slowdown = "" if one.slowdown is None else f" Time of the challenger over the champion's: {_times(one.slowdown)}."
    caption = (
        f"A lone frame from its bytes to its boxes on this machine, {one.num_frames} frames, both in turns: median "
        f"(dot) and 95th percentile (square) with its upper bound.{slowdown}"
    )
    return figure(latency_plot(one, max_latency_ms), caption)


def _pictures(report: EvaluationReport, shown: Shown) -> str:
    if not shown.pictures and not shown.num_tasks:
        return ""
    other = "the labels" if report.champion is None else "the champion"
    note = f"<p>Where challenger and {other} differ most, at the served confidence: worth a look, and worth labelling."
    if shown.num_tasks:
        note += (
            f" {shown.num_tasks} such frames are labelling tasks in <code>reports/label_tasks.json</code> (Label "
            "Studio) and <code>.csv</code>; more of them: <code>tca tasks --num 500</code>."
        )
    note += (
        '</p><p class="note">Left the challenger, right the champion. Bold: without a partner on the other side. Thin: '
        "agreed. Grey: labels.</p>"
        if report.champion is not None
        else '</p><p class="note">Bold blue: not labelled. Red: labelled, but not found. Thin: agreed.</p>'
    )
    return note + gallery(shown.pictures)


def _legend(report: EvaluationReport) -> dict[str, str]:
    return COLOURS if report.champion is not None else {"challenger": COLOURS["challenger"]}


def _times(ratio: Estimate) -> str:
    ends = "" if ratio.lower is None or ratio.upper is None else f" [{ratio.lower:.2f}, {ratio.upper:.2f}]"
    return "not defined" if ratio.value is None else f"{ratio.value:.2f}{ends}"


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
