"""The page of a validation: verdict, checks, what fails where, what is in the set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flows.dataset.contact_sheet import class_colours, contact_sheet
from flows.dataset.expectations import CheckResult
from flows.dataset.layout import SPLITS, Dataset
from flows.dataset.manifest import Manifest
from flows.page import PALETTE, Markup, escape, figure, folded, page, table

if TYPE_CHECKING:
    from flows.dataset.validation import ValidationReport

_OFFENDERS_SHOWN = 8
_BAR_PX, _ROW_PX, _NAME_PX = 420, 24, 150


def validation_page(
    report: ValidationReport, dataset: Dataset, manifest: Manifest, docs_href: str = "data_docs/index.html"
) -> str:
    """A self-contained HTML page; `docs_href` is where Data Docs lie, seen from the page."""
    body = [
        _extent(report, docs_href),
        "<h2>Checks</h2>",
        table(("Check", "Result", "Looked at", "Failing"), [_check_row(check) for check in report.checks]),
        *[_offenders(check) for check in report.checks if check.offenders],
        "<h2>What is in the set</h2>",
        figure(stacked_bars(report.boxes_per_class), _caption("Boxes of each class, by split", SPLITS)),
        figure(stacked_bars(report.images_per_slice), _caption("Frames of each slice, by split", SPLITS)),
        _cameras(report),
        *_sheet(dataset, manifest),
    ]
    return page(f"Validation of {dataset.root.resolve().name}", report.sentence, report.passed, "\n".join(body))


def stacked_bars(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Inline SVG: a bar per key, one coloured segment per inner key, with the numbers beside it."""
    longest = max((sum(parts.values()) for parts in counts.values()), default=0) or 1
    width, height = _NAME_PX + _BAR_PX + 200, _ROW_PX * len(counts) + 4
    shapes = []
    for row, (name, parts) in enumerate(counts.items()):
        top, left = row * _ROW_PX + 4, float(_NAME_PX)
        shapes.append(f'<text x="0" y="{top + 13}" font-size="13">{escape(_short(name))}</text>')
        for index, (part, number) in enumerate(parts.items()):
            length = number / longest * _BAR_PX
            shapes.append(
                f'<rect x="{left:.1f}" y="{top}" width="{length:.1f}" height="{_ROW_PX - 8}" '
                f'fill="{PALETTE[index % len(PALETTE)]}">'
                f"<title>{escape(name)}, {escape(part)}: {number:,}</title></rect>"
            )
            left += length
        numbers = " / ".join(f"{number:,}" for number in parts.values())
        shapes.append(f'<text x="{left + 8:.1f}" y="{top + 13}" font-size="12">{numbers}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
        f"{''.join(shapes)}</svg>"
    )


def _extent(report: ValidationReport, docs_href: str) -> str:
    figures = (
        ("Frames", f"{report.num_images:,} ({_parts(report.images_per_split)})"),
        ("Boxes", f"{report.num_boxes:,}; {report.num_images_without_boxes:,} frames have none"),
        ("Cameras", f"{report.num_cameras:,}, with {report.num_clips:,} clips"),
        ("Slices", ", ".join(report.slices)),
        ("Classes", ", ".join(f"{index} {name}" for index, name in enumerate(report.classes))),
        ("Details", Markup(f'<a href="{escape(docs_href)}">Data Docs of Great Expectations</a>')),
    )
    return table(("", ""), figures)


def _check_row(check: CheckResult) -> tuple[object, ...]:
    word = "passed" if check.passed else {"stop": "FAILED", "warn": "warning"}[check.severity]
    mark = "✓" if check.passed else {"stop": "✗", "warn": "!"}[check.severity]
    return check.title, f"{mark} {word}", f"{check.num_checked:,}", f"{check.num_failed:,}"


def _offenders(check: CheckResult) -> str:
    shown = _offender_list(check, 0, _OFFENDERS_SHOWN)
    if len(check.offenders) > _OFFENDERS_SHOWN:
        number = len(check.offenders) - _OFFENDERS_SHOWN
        shown += folded(f"{number:,} more", _offender_list(check, _OFFENDERS_SHOWN, None))
    if check.num_failed > len(check.offenders):
        shown += f"<p>The first {len(check.offenders):,} of {check.num_failed:,} are listed.</p>"
    return f"<h2>{escape(check.title)}: {check.num_failed:,} not so</h2>{shown}"


def _offender_list(check: CheckResult, start: int, stop: int | None) -> str:
    rows = []
    for offender in check.offenders[start:stop]:
        where = f"{offender.file}:{offender.line}" if offender.line else offender.file
        rows.append((Markup(f"<code>{escape(where)}</code>"), offender.message))
    return table(("Where", "What"), rows)


def _cameras(report: ValidationReport) -> str:
    rows = [(name or "(none)", f"{number:,}") for name, number in report.images_per_camera.items()]
    return folded(f"Frames of each of the {len(rows):,} cameras", table(("Camera", "Frames"), rows))


def _sheet(dataset: Dataset, manifest: Manifest) -> list[str]:
    picture = contact_sheet(dataset.root, manifest)
    if not picture:
        return []
    caption = "Frames spread over slices and cameras; below each: split, camera, slice"
    return ["<h2>Sample frames</h2>", _legend(class_colours(dataset.classes)), figure(picture, caption)]


def _caption(text: str, names: tuple[str, ...]) -> str:
    return f"{text} (left to right: {' / '.join(names)})"


def _legend(colours: Mapping[str, str]) -> str:
    swatch = '<span style="display:inline-block;width:.9em;height:.9em;margin-right:.35em;background:{}"></span>'
    return "<p>" + " &nbsp; ".join(swatch.format(colour) + escape(name) for name, colour in colours.items()) + "</p>"


def _parts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())


def _short(name: str) -> str:
    return name if len(name) <= 20 else name[:19] + "…"
