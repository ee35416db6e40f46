"""The page of a validation: verdict, figures, the worst offenders drawn, sample frames, distributions, all checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from flows.dataset.checks.expectations import CheckResult, Offender
from flows.dataset.layout import Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.dataset.report.distributions import class_colours, distributions
from flows.dataset.report.frames_drawn import MAX_SLICES, SAMPLES, DrawnFrames
from flows.dataset.report.pictures import REDUCED_PX, Detail
from flows.page import Markup, Picture, contents, escape, folded, gallery, legend, page, section, table, tiles

if TYPE_CHECKING:
    from flows.dataset.report.validation import ValidationReport

MAX_DRAWN = 96  # frames that fail on one page, over all checks: with partners and samples about 5 MB at most
_DRAWN_EACH, _UNFOLDED = 12, 4
_LISTED = 8


def validation_page(
    report: ValidationReport,
    dataset: Dataset,
    manifest: Manifest,
    docs_href: str = "data_docs/index.html",
    detail: Detail = "reduced",
) -> str:
    """A self-contained HTML page; `docs_href` is where Data Docs lie, seen from the page, empty where there are none.

    The number of pictures does not grow with the set: at most 96 frames that fail (12 of a check), each perhaps with
    the frame it is compared with, and about 32 samples.
    """
    drawn = DrawnFrames(dataset, manifest, detail)
    sections = [
        ("faults", "What to look at", _faults(report.checks, drawn)),
        ("samples", "Sample frames", _samples(drawn, dataset.classes)),
        ("distributions", "What is in the set", distributions(manifest, dataset.classes)),
        ("checks", "All checks", _checks(report.checks, docs_href)),
    ]
    present = [one for one in sections if one[2]]
    body = [
        _warning(detail),
        contents((anchor, heading) for anchor, heading, _ in present),
        tiles(_figures(report)),
        *(section(*one) for one in present),
        _footer(detail),
    ]
    return page(f"Validation of {dataset.root.resolve().name}", report.sentence, report.passed, "\n".join(body))


def _figures(report: ValidationReport) -> Iterable[tuple[str, str, str]]:
    failed = len(report.checks) - report.num_checks_passed - report.num_warnings
    return (
        ("Frames", f"{report.num_images:,}", ", ".join(f"{n:,} {name}" for name, n in report.images_per_split.items())),
        ("Boxes", f"{report.num_boxes:,}", f"{report.num_images_without_boxes:,} frames have none"),
        ("Classes", f"{len(report.classes):,}", _names(report.classes)),
        ("Cameras", f"{report.num_cameras:,}", f"{report.num_clips:,} clips"),
        ("Slices", f"{len(report.slices):,}", _names(report.slices)),
        ("Checks", f"{len(report.checks):,}", f"{failed} failed, {_counted(report.num_warnings, 'warning')}"),
    )


def _faults(checks: Sequence[CheckResult], drawn: DrawnFrames) -> str:
    """Failed checks, those that stop the train first, each with its frames until the pictures are used up."""
    failed = sorted((one for one in checks if not one.passed), key=lambda one: one.severity != "stop")
    left, parts = MAX_DRAWN, [_index(failed)] if len(failed) > 1 else []
    for check in failed:
        pictures = drawn.offenders(check, min(_DRAWN_EACH, left))
        left -= len(pictures)
        parts += [
            f'<h3 id="{escape(check.name)}">{_state(check)} {escape(check.title)}</h3>',
            f'<p class="note">{escape(_extent(check))}</p>',
            _folding(pictures),
            _listed(check.offenders, unfolded=0 if pictures else _LISTED),
        ]
    return "\n".join(part for part in parts if part)


def _index(failed: Sequence[CheckResult]) -> str:
    items = (
        f'<li>{_state(one)} <a href="#{escape(one.name)}">{escape(one.title)}</a>: {one.num_failed:,}</li>'
        for one in failed
    )
    return f"<ul>{''.join(items)}</ul>"


def _extent(check: CheckResult) -> str:
    words = [f"{check.num_failed:,} of {check.num_checked:,} are not so."]
    if check.threshold:
        words.append(f"Threshold: {check.threshold}.")
    if check.note:
        words.append(check.note)
    if check.num_failed > len(check.offenders):
        words.append(f"{len(check.offenders):,} of them are listed (validate.max_warnings_listed).")
    return " ".join(words)


def _folding(pictures: Sequence[Picture]) -> str:
    """The first row of pictures; the rest is folded, or a phone would scroll for ever."""
    first, rest = pictures[:_UNFOLDED], pictures[_UNFOLDED:]
    more = folded(_counted(len(rest), "more picture"), gallery(rest)) if rest else ""
    return (gallery(first) if first else "") + more


def _listed(offenders: Sequence[Offender], unfolded: int) -> str:
    shown, rest = offenders[:unfolded], offenders[unfolded:]
    word = f"{len(rest):,} more" if shown else "All as a list" if len(rest) > 1 else "As text"
    return (_offender_table(shown) if shown else "") + (folded(word, _offender_table(rest)) if rest else "")


def _offender_table(offenders: Sequence[Offender]) -> str:
    rows = []
    for offender in offenders:
        where = f"{offender.file}:{offender.line}" if offender.line else offender.file
        rows.append((Markup(f"<code>{escape(where)}</code>"), offender.message))
    return table(("Where", "What"), rows, "told")


def _samples(drawn: DrawnFrames, classes: Sequence[str]) -> str:
    slices = drawn.samples()
    if not slices:
        return ""
    parts = [f"<h3>{escape(name)}</h3>{_folding(pictures)}" for name, pictures in slices.items()]
    note = f'<p class="note">About {SAMPLES} frames, spread evenly over cameras and splits of each slice'
    note += f"; at most {MAX_SLICES} slices are shown.</p>"
    return note + legend(class_colours(classes)) + "".join(parts)


def _checks(checks: Sequence[CheckResult], docs_href: str) -> str:
    headers = ("Check", "Result", "Failing", "Looked at", "If it fails", "Threshold (params.yaml: validate)")
    link = f'<a href="{escape(docs_href)}">Data Docs of Great Expectations</a>'
    docs = f"<p>Every expectation with its raw result: {link}.</p>" if docs_href else ""
    return docs + table(headers, [_check_row(check) for check in checks], "told")


def _check_row(check: CheckResult) -> tuple[object, ...]:
    title = escape(check.title)
    if not check.passed:
        title = f'<a href="#{escape(check.name)}">{title}</a>'
    note = f'<br><span class="note">{escape(check.note)}</span>' if check.note else ""
    counts = (f"{check.num_failed:,}", f"{check.num_checked:,}")
    consequence = {"stop": "stops", "warn": "warns"}[check.severity]
    threshold = Markup("<br>".join(f"<code>{escape(one)}</code>" for one in _thresholds(check)))
    return Markup(title + note), Markup(_state(check)), *counts, consequence, threshold


def _thresholds(check: CheckResult) -> list[str]:
    return [one.removeprefix("validate.") for one in check.threshold.split(", ") if one]


def _state(check: CheckResult) -> str:
    """Never by colour alone: a sign and a word."""
    if check.passed:
        return '<span class="state good">✓ passed</span>'
    css_class, word = {"stop": ("bad", "✗ FAILED"), "warn": ("open", "! warning")}[check.severity]
    return f'<span class="state {css_class}">{word}</span>'


def _warning(detail: Detail) -> str:
    if detail == "reduced":
        return ""
    return (
        '<p class="bad"><b>This page shows frames in full detail</b>, as validate.pictures: full asks for: faces and '
        "number plates may be readable. Do not pass it on.</p>"
    )


def _footer(detail: Detail) -> str:
    reduced = (
        f"Pictures are reduced: no frame and no part of one has more detail than the frame scaled to fit {REDUCED_PX} "
        "px, on which faces and number plates in the view of a traffic camera are a few pixels wide. For full detail "
        "set <code>validate.pictures: full</code> in params.yaml."
    )
    full = "Pictures are in full detail; <code>validate.pictures: reduced</code> in params.yaml ends that."
    limits = f"At most {MAX_DRAWN} frames that fail are drawn, {_DRAWN_EACH} of a check."
    return f"<footer>{reduced if detail == 'reduced' else full} {limits}</footer>"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
