"""The page of a review: what is probably wrong, in pictures, worst first; then how far to believe the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from flows.dataset.layout import Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.dataset.report.pictures import Cell, Mark, picture_uri
from flows.dataset.review.record import KINDS, Case, Corners, Kind, Review
from flows.page import (
    PALETTE,
    Markup,
    Picture,
    contents,
    escape,
    folded,
    gallery,
    legend,
    matrix,
    page,
    section,
    table,
    tiles,
)

if TYPE_CHECKING:
    import pandas as pd

Detail = Literal["reduced", "full"]
LABEL, FOUND, OTHERS = PALETTE[5], PALETTE[4], PALETTE[7]
_ROWS_SHOWN = 200
_PRIVACY = (
    "Pictures have little detail, so that neither faces nor number plates can be read; "
    "<code>tca data review --full</code> shows all of it."
)
_MEANING: dict[Kind, str] = {
    "empty_frame": "Their label file is empty, which says that no vehicle is there.",
    "missing": "The reference is sure of a vehicle where no label is. A detector learns that this is background.",
    "wrong_class": "The reference sees another class there. A claim counts less where it is less sure than it usually "
    "is of that class, and where its word for that class often differs from the labels.",
    "badly_located": "Label and detection are about the same vehicle, and overlap by less than 60 %.",
    "spurious": "More labels than usual of that class and size have nothing at their place.",
}


def review_page(review: Review, dataset: Dataset, manifest: Manifest, top: int = 20, detail: Detail = "reduced") -> str:
    """A self-contained HTML page with pictures of the `top` cases of each kind; the rest is in tables."""
    shown = [kind for kind in KINDS if review.num_cases[kind]]
    sections = [*((kind, KINDS[kind]) for kind in shown), ("agreement", "Class by class"), ("trust", "The reference")]
    body = [
        contents(sections),
        _extent(review),
        "".join(f"<p>{escape(note)}</p>" for note in review.notes),
        "" if detail == "full" else f"<p>{_PRIVACY}</p>",
        *(_kind(review, kind, dataset, manifest, top, detail) for kind in shown),
        section("agreement", "Class by class", _agreement(review)),
        section("trust", "The reference", _trust(review)),
    ]
    return page(f"Label review of {dataset.root.resolve().name}", review.sentence, None, "\n".join(body))


def _extent(review: Review) -> str:
    left_out = f"{review.num_images_left_out:,} left out" if review.num_images_left_out else ""
    not_judged = review.num_labels - review.num_labels_judged
    figures = [
        ("Frames reviewed", f"{review.num_images:,}", left_out),
        ("Seen clearly", f"{review.num_labels_seen:,}", f"of {review.num_labels_judged:,} labels that it can judge"),
        ("Labels", f"{review.num_labels:,}", f"{not_judged:,} of unknown classes" if not_judged else ""),
        *((KINDS[kind], f"{number:,}", "") for kind, number in review.num_cases.items()),
    ]
    return tiles(figures)


def _kind(review: Review, kind: Kind, dataset: Dataset, manifest: Manifest, top: int, detail: Detail) -> str:
    cases = review.of(kind)
    boxes = manifest.boxes[manifest.boxes["image"].isin({case.image for case in cases[:top]})]
    pictures = [_picture(case, dataset, boxes, detail) for case in cases[:top]]
    colours = {"label": LABEL, "found by the reference (dashed)": FOUND, "other labels": OTHERS}
    if kind == "empty_frame":
        colours = {"found by the reference (dashed)": FOUND}
    elif kind == "missing":
        del colours["label"]
    count = f"The first {len(pictures)} of {len(cases):,}." if len(cases) > len(pictures) else ""
    body = [
        f"<p>{_MEANING[kind]} {count}</p>",
        legend(colours),
        gallery(pictures),
        folded(f"All {len(cases):,} as a table", _rows(cases)),
    ]
    return section(kind, f"{KINDS[kind]}: {len(cases):,}", "\n".join(body))


def _picture(case: Case, dataset: Dataset, boxes: pd.DataFrame, detail: Detail) -> Picture:
    own = boxes[(boxes["image"] == case.image) & (boxes["line"] != case.line)]
    others = own[["x1", "y1", "x2", "y2"]].to_numpy(float)
    marks = [Mark((float(x1), float(y1), float(x2), float(y2)), OTHERS) for x1, y1, x2, y2 in others]
    marks += [Mark(each, FOUND, case.proposed_class if number < 1 else "", dashed=True)
              for number, each in enumerate(case.found_xyxy)]  # fmt: skip
    if case.label_xyxy:
        marks.append(Mark(case.label_xyxy, LABEL, case.label_class))
    focus = None if case.kind == "empty_frame" else _around(case)
    cell = Cell(dataset.root / case.image, "", tuple(marks), focus)
    caption = Markup(f"<code>{escape(_place(case))}</code> {case.score:.2f}: {escape(case.sentence)}")
    return Picture((picture_uri(cell, detail),), f"{KINDS[case.kind]}: {case.sentence}", caption)


def _around(case: Case) -> Corners:
    """The smallest box around label and detection."""
    boxes = [*case.found_xyxy, *([case.label_xyxy] if case.label_xyxy else [])]
    low_x, low_y, high_x, high_y = zip(*boxes, strict=True)
    return min(low_x), min(low_y), max(high_x), max(high_y)


def _rows(cases: Sequence[Case]) -> str:
    rows = [
        (f"{case.score:.2f}", Markup(f"<code>{escape(_place(case))}</code>"), case.sentence)
        for case in cases[:_ROWS_SHOWN]
    ]
    rest = len(cases) - _ROWS_SHOWN
    more = f"<p>{rest:,} more are in review.csv.</p>" if rest > 0 else ""
    return table(("Score", "Where", "What"), rows) + more


def _place(case: Case) -> str:
    return f"{case.file}:{case.line}" if case.line else case.file


def _agreement(review: Review) -> str:
    rows = [
        (
            one.class_name,
            f"{one.num_labels:,}",
            f"{one.num_seen:,}",
            f"{one.num_doubted:,}",
            f"{one.doubted_share:.1%} ({one.lower:.1%} to {one.upper:.1%})"
            if one.doubted_share is not None and one.lower is not None and one.upper is not None
            else "–",
            f"{one.num_missing:,}",
        )
        for one in review.agreement
    ]
    headers = ("Class", "Labels", "Seen clearly", "Look like another", "Share of those seen", "Without a label")
    names = [one.class_name for one in review.agreement]
    seen = {one.class_name: [one.looks_like.get(name, 0) for name in names] for one in review.agreement}
    return (
        table(headers, rows)
        + "<p>The interval is Wilson's at 95 %, as if labels were independent; those of one clip are not, so it is "
        "rather too narrow. The share is what the reference doubts, not what is proven wrong.</p>"
        + "<h3>What labels look like</h3><p>Labels seen clearly: a row per class as labelled, a column per class as "
        "the reference sees them.</p>" + matrix(("labelled", *names), seen)
    )


def _trust(review: Review) -> str:
    correspondence = ", ".join(f"{name} = {' or '.join(others)}" for name, others in review.classes.items())
    rows = [
        (
            one.class_name,
            one.slice,
            f"{one.min_side_px:g} px and more",
            f"{one.num_labels:,}",
            f"{one.num_not_found:,}",
            f"{one.num_clips_not_found:,}",
            f"{one.expected_clips_not_found:.0f}",
            "yes" if one.judged else "no",
        )
        for one in review.sights
    ]
    headers = ("Class", "Slice", "Size", "Labels", "Not found", "In clips", "To be expected", "Judged")
    facts = (
        ("Model", review.reference),
        ("Key", Markup(f"<code>{review.reference_key[:12]}</code>")),
        ("Classes", correspondence),
        ("Left out", ", ".join(review.classes_left_out) or "none"),
    )
    return table(("", ""), facts) + folded(
        "What it sees and what it misses",
        "<p>A label that the reference misses counts against the label only where it misses more than its hardly "
        "found ones lead one to expect, counted in clips. Size: square root of the area in the reference's input.</p>"
        + table(headers, rows),
    )
