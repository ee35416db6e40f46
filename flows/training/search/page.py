"""The study as one HTML page: verdict, best values, how it came there, what mattered, every trial."""

from __future__ import annotations

from flows.page import contents, escape, figure, folded, page, section, table, tiles
from flows.training.search.plots import (
    BEST,
    COMPLETE,
    STOPPED,
    curves_plot,
    front_plot,
    history_plot,
    importance_plot,
    parallel_plot,
)
from flows.training.search.report import (
    HEADERS,
    LABELS,
    MIN_JUDGED,
    TrialRow,
    TuneReport,
    key_cells,
    settled,
    told,
    trial_cells,
    trial_headers,
)


def tuning_page(report: TuneReport) -> str:
    """Write the whole document; also of a study that is not done, or has found nothing yet."""
    parts = [("best", "Best values", _best(report))]
    if len(report.objectives) > 1 and report.front:
        parts.append(("front", "Accuracy and latency", _front(report)))
    if any(row.values for row in settled(report.trials)):
        parts += [
            ("history", "Trial by trial", _history(report)),
            ("curves", "Epoch by epoch", _curves(report)),
            ("values", "All values", _values(report)),
            ("weight", "What mattered", _weight(report)),
        ]
    parts.append(("trials", "Trials", _trials(report)))
    body = [
        tiles(_figures(report)),
        contents([(anchor, heading) for anchor, heading, _ in parts]),
        *(section(anchor, heading, inner) for anchor, heading, inner in parts),
        folded("What defines this study", _facts(report)),
    ]
    is_done = report.num_trials >= report.num_wanted
    verdict = report.sentence if is_done else f"{report.sentence} ({report.num_trials} of {report.num_wanted} trials)"
    return page("Tuning", verdict, report.passed if is_done else None, "\n".join(body))


def _figures(report: TuneReport) -> list[tuple[str, str, str]]:
    full = report.num_trials * int(report.facts.get("epochs", 0))
    best = "–" if report.best_value is None else f"{report.best_value:.4f}"
    return [
        (f"best {LABELS[report.objectives[0]]}", best, "on the validation split"),
        ("trials", f"{report.num_trials} of {report.num_wanted}", f"{report.num_complete} to their end"),
        ("stopped early", str(report.num_pruned), f"{report.num_failed} failed"),
        ("epochs trained", str(report.num_epochs), f"{full} if nothing were stopped"),
    ]


def _best(report: TuneReport) -> str:
    if report.best_number is None:
        return "<p>No trial has come to its end yet.</p>"
    rows = [[key, told(value)] for key, value in report.best_params.items()]
    most = " It is the most accurate of several that none beats in everything." if len(report.front) > 1 else ""
    return (
        f"<p>Trial {report.best_number}.{most} <code>tca tune apply</code> shows what it would change in params.yaml, "
        "<code>--write</code> writes it.</p>"
        + table(["key of train", "value"], rows)
        + '<p class="note">The best of many trials looks better than it is: the same split chose it. What counts is '
        "the evaluation of a model trained with these values.</p>"
    )


def _front(report: TuneReport) -> str:
    caption = (
        "Each dot is a trial; up is more accurate, left is faster. Green: no other trial is better in both. Latency is "
        "the median time of a lone frame with the exported engine, measured on this machine."
    )
    rows = [report.row(number) for number in report.front]
    cells = [
        [row.number, *(told(row.values[name]) for name in report.objectives), *key_cells(row, report)]
        for row in rows
        if row
    ]
    headers = ["trial", *(HEADERS[name] for name in report.objectives), *report.facts["space"]]
    return figure(front_plot(report), caption) + table(headers, cells)


def _history(report: TuneReport) -> str:
    colours = {"to its end": COMPLETE, "stopped early (its last value)": STOPPED, "best so far": BEST}
    return figure(history_plot(report), "Trials in the order they began.", colours)


def _curves(report: TuneReport) -> str:
    colours = {"best": BEST, "to its end": COMPLETE, "stopped early": STOPPED}
    return figure(curves_plot(report), "On the validation split after each epoch.", colours)


def _values(report: TuneReport) -> str:
    caption = (
        "A line is a trial, from its values on the left to what it reached on the right. A line that passes below an "
        "axis did not search that key."
    )
    colours = {"best": BEST, "to its end": COMPLETE, "stopped early": STOPPED}
    return figure(parallel_plot(report, report.facts["space"]), caption, colours)


def _weight(report: TuneReport) -> str:
    if not report.importance:
        return (
            f"<p>Not told with {report.num_complete} complete trials: it takes at least {MIN_JUDGED} that differ.</p>"
        )
    left_out = [key for key in report.facts["space"] if key not in report.importance]
    caption = (
        "Share of each key in what separates the better trials from all (PED-ANOVA), over "
        f"{report.num_complete} complete trials. With so few it is a hint, not a measurement."
    )
    if left_out:
        caption += f" Not judged, since not every trial searched it: {', '.join(left_out)}."
    return figure(importance_plot(report.importance), caption)


def _trials(report: TuneReport) -> str:
    if not report.trials:
        return "<p>None yet.</p>"
    return table([*trial_headers(report), "worker", "note"], [_trial(row, report) for row in report.trials])


def _trial(row: TrialRow, report: TuneReport) -> list[str]:
    again = f"trial {row.origin} again" if row.origin != row.number else ""
    worker = (row.worker or "").rpartition(":")[0]
    return [*trial_cells(row, report), worker, "; ".join(filter(None, [again, row.reason or ""]))]


def _facts(report: TuneReport) -> str:
    rows = [[key, value] for key, value in report.facts.items()]
    run = (
        f"<p>MLflow run {escape(report.mlflow_run_id)}; each trial is nested in it.</p>" if report.mlflow_run_id else ""
    )
    return f"<p>Study {escape(report.study)}. Where one of these differs, it is another study.</p>{run}" + table(
        ["", "value"], rows
    )
