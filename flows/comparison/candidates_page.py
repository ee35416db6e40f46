"""Several candidates as one HTML page: verdict, best first, accuracy against latency, what each gate says."""

from __future__ import annotations

from collections.abc import Mapping

from flows.comparison.candidates import Candidate, CandidatesReport
from flows.comparison.charts import interval_plot
from flows.comparison.evaluation_page import gates_table
from flows.comparison.gate import Outcome, SliceState
from flows.comparison.plots import ModelPoint, trade_off_plot
from flows.comparison.resampling import short
from flows.page import PALETTE, Markup, contents, escape, figure, folded, page, section, table, tiles

_MARKS: dict[Outcome, tuple[str, str, str]] = {
    "promote": ("✓", "good", PALETTE[2]),
    "inconclusive": ("?", "open", PALETTE[1]),
    "reject": ("✗", "bad", PALETTE[5]),
}


def candidates_page(
    report: CandidatesReport, next_steps: Mapping[str, str] | None = None, left_out: Mapping[str, str] | None = None
) -> str:
    """Write the whole document.

    Args:
        next_steps: Name of a candidate to what to do if it is taken.
        left_out: Name of what was not compared to the reason.
    """
    sections = [
        ("candidates", "Best first", _listed(report, next_steps or {}, left_out or {})),
        ("differences", "Against the champion", _differences(report)),
        ("trade", "Accuracy against latency", _trade_off(report)),
        ("gates", "What each gate says", _gates(report)),
        ("claims", "How the number of candidates counts", _claims(report)),
        ("provenance", "What the verdict rests on", folded("Params and hashes", _provenance(report))),
    ]
    filled = [(anchor, heading, body) for anchor, heading, body in sections if body]
    body = contents((anchor, heading) for anchor, heading, _ in filled) + "\n".join(
        section(anchor, heading, body) for anchor, heading, body in filled
    )
    return page("Candidates", report.sentence, report.passed, body)


def _listed(report: CandidatesReport, next_steps: Mapping[str, str], left_out: Mapping[str, str]) -> str:
    counts = tiles(
        [
            ("candidates", str(len(report.candidates)), f"{_num(report, 'promote')} may be promoted"),
            ("frozen frames", f"{report.num_images:,}", f"{report.num_objects:,} labelled objects"),
            ("resampling units", str(report.num_units), f"{report.candidates[0].thresholds.unit}s"),
        ]
    )
    headers = [
        "",
        "verdict",
        "mAP50-95",
        "to the champion",
        "to the first",
        "corrected p",
        "× champion's time",
        "p95, ms",
    ]
    rows = [_row(one) for one in report.candidates]
    if report.champion is not None:
        rows.append(["champion", "", report.champion.map50_95.text(), "", "", "", "", _champion_ms(report)])
    left = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in left_out.items())
    first = report.candidates[0]
    step = next_steps.get(first.name, "") if report.passed else ""
    return (
        counts
        + table(headers, rows)
        + (f"<p>Next: {escape(step)}</p>" if step else "")
        + (f"<p>Not compared:</p><ul>{left}</ul>" if left else "")
    )


def _row(one: Candidate) -> list[object]:
    mark, css_class, _ = _MARKS[one.outcome]
    high = None if one.latency is None else one.latency.challenger.p95_ms.value
    slowdown = None if one.latency is None else one.latency.slowdown
    return [
        one.name,
        Markup(f'<span class="state {css_class}">{mark} {escape(one.outcome)}</span>'),
        short(one.figures.map50_95.value),
        "–" if one.difference is None else one.difference.map50_95.text(signed=True),
        "–" if one.to_first is None else one.to_first.text(signed=True),
        "–" if one.p_better_holm is None else f"{one.p_better_holm:.2g}",
        "–" if slowdown is None or slowdown.value is None else f"{slowdown.value:.2f}",
        "–" if high is None else f"{high:.3g}",
    ]


def _champion_ms(report: CandidatesReport) -> str:
    latency = report.candidates[0].latency
    times = None if latency is None else latency.champion
    return "–" if times is None or times.p95_ms.value is None else f"{times.p95_ms.value:.3g}"


def _num(report: CandidatesReport, outcome: Outcome) -> int:
    return sum(one.outcome == outcome for one in report.candidates)


def _differences(report: CandidatesReport) -> str:
    if report.champion is None:
        return ""
    states: dict[Outcome, SliceState] = {
        "promote": "non-inferior",
        "inconclusive": "inconclusive",
        "reject": "failed",
    }
    rows = [
        (one.name, one.difference.map50_95, states[one.outcome])
        for one in report.candidates
        if one.difference is not None
    ]
    caption = (
        f"Candidate minus champion, mAP50-95. Each end is a one-sided {100 * (1 - report.alpha_each):.4g} % bound. "
        f"Green: may be promoted; amber: cannot be told; red square: rejected. Dashed line: {_line(report)}."
    )
    return figure(interval_plot(rows, report.candidates[0].thresholds.wanted), caption)


def _line(report: CandidatesReport) -> str:
    return "what must be won" if report.candidates[0].thresholds.wanted > 0 else "what may be lost"


def _trade_off(report: CandidatesReport) -> str:
    """Times are told as times of the champion's where there is one: both were timed in turns, candidates were not."""
    points = [point for one in report.candidates if (point := _point(one)) is not None]
    if not points:
        return ""
    caption = "mAP50-95 over the time of a lone frame on this machine. Up and to the left is better."
    champion = None if report.champion is None else report.champion.map50_95
    if champion is None or champion.value is None:
        return figure(trade_off_plot(points, None, "mAP50-95", "95th percentile, ms"), caption)
    bounds = champion.lower, champion.upper
    points.append(ModelPoint("champion", 1.0, None, champion.value, *bounds, PALETTE[0], is_champion=True))
    caption += f" Square: the champion; dashed line: {_line(report)}."
    below = "median time of a frame, times the champion's"
    return figure(
        trade_off_plot(points, champion.value + report.candidates[0].thresholds.wanted, "mAP50-95", below), caption
    )


def _point(one: Candidate) -> ModelPoint | None:
    accuracy, time = one.figures.map50_95, one.frame_time
    if time is None or time.value is None or accuracy.value is None:
        return None
    bounds = accuracy.lower, accuracy.upper
    return ModelPoint(one.name, time.value, time.upper, accuracy.value, *bounds, _MARKS[one.outcome][2])


def _gates(report: CandidatesReport) -> str:
    return "".join(
        folded(f"{one.name}: {one.outcome}", gates_table(one.gates)) for one in report.candidates if one.gates
    )


def _claims(report: CandidatesReport) -> str:
    num = len(report.candidates)
    lines = [
        f"Every gate of every candidate is judged with an error of {report.alpha_each:.3g}, which is {report.alpha:g} "
        f"over {num}: over all of them together, one that is worse than it may be is let through with probability "
        f"{report.alpha:g} at most.",
        "Corrected p: of `not better than the champion`, after Holm over all candidates.",
        "To the first: these bounds hold for all pairs of candidates together. Where the interval holds zero, the data "
        "do not tell the two apart, and the faster may be taken.",
    ]
    if report.p_any_better is not None:
        lines.append(
            f"Whether any candidate is better than the champion, one permutation test: p = {report.p_any_better:.2g}."
        )
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _provenance(report: CandidatesReport) -> str:
    first = report.candidates[0].thresholds.model_dump()
    rows: list[list[object]] = [[key, value] for key, value in first.items() if key not in ("alpha", "served_conf")]
    rows += [["alpha, over all", report.alpha], ["alpha, each", report.alpha_each]]
    rows.append(["ground truth sha256", report.ground_truth_sha256])
    rows += [[f"{one.name} sha256", one.predictions_sha256] for one in report.candidates]
    if report.champion_sha256 is not None:
        rows.append(["champion sha256", report.champion_sha256])
    return table(["", "value"], rows)
