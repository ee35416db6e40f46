"""The difference for people: as text for a terminal, and as Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flows.changes.report import DataChange, Difference, FigureChange

_NO_TEST = (
    "Changes are differences of two reports, not a test. Whether the challenger is good enough is the gate's verdict "
    "under `evaluate`."
)
_ESCAPED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "@": "&#64;", "#": "&#35;"}
    | {mark: f"\\{mark}" for mark in "\\`*_[]!~"}
)


def difference_text(found: Difference) -> str:
    """A line each, for a terminal."""
    lines = [found.sentence]
    if found.champion_before != found.champion_after:
        lines.append(f"champion    {_version(found.champion_before)} -> {_version(found.champion_after)}")
    if (told := data_text(found.data)) is not None:
        lines.append(f"data        {told}")
    lines += [f"param       {one.key}: {_or_none(one.before)} -> {_or_none(one.after)}" for one in found.params]
    lines += _columns(found.figures)
    lines += [f"{one.stage:<11} {one.after}" for one in found.verdicts if one.after and not one.is_same]
    lines += [f"stale       {stage:<12} {'; '.join(reasons[:3])}" for stage, reasons in found.stale.items()]
    return "\n".join([*lines, *(f"note        {one}" for one in found.notes)])


def difference_markdown(found: Difference) -> str:
    """The same as Markdown; what is long is folded."""
    blocks = [f"### {escape(found.sentence)}", _verdict_table(found)]
    main = [one for one in found.figures if not one.name.startswith("mAP50-95, ")]
    parts = [one for one in found.figures if one not in main]
    if any(one.before for one in main):
        blocks.append(_figure_table(main))
    elif main:
        blocks.append(_folded(f"{len(main)} figures, with nothing to compare them with", _figure_table(main)))
    if parts:
        fell = sum(one.direction == "worse" for one in parts)
        blocks.append(_folded(f"mAP50-95 of {len(parts)} parts, {fell} of them lower", _figure_table(parts)))
    if main or parts:
        blocks.append(f"<sub>{_NO_TEST}</sub>")
    if (told := data_text(found.data)) is not None:
        blocks.append(f"**Data**: {escape(told)}")
    if found.champion_before != found.champion_after:
        blocks.append(f"**Champion**: {_version(found.champion_before)} → {_version(found.champion_after)}")
    if found.params:
        rows = [[_code(one.key), _code(one.before), _code(one.after)] for one in found.params]
        blocks.append(_folded(f"{len(rows)} of params.yaml", _table(["key", "before", "after"], rows)))
    if found.stale:
        rows = [[escape(stage), escape("; ".join(reasons[:3]))] for stage, reasons in found.stale.items()]
        summary = f"dvc.lock is not true of this tree: {', '.join(found.stale)} to be run again (tca release)"
        blocks.append(_folded(summary, _table(["stage", "why"], rows)))
    blocks += [f"- {escape(one)}" for one in found.notes]
    return "\n\n".join(block for block in blocks if block) + "\n"


def data_text(data: DataChange) -> str | None:
    """Which data, and how many files differ; None where they are the same."""
    if data.before == data.after:
        return None
    told = f"{(data.before or 'none')[:8]} -> {(data.after or 'none')[:8]}"
    if data.note is not None:
        return f"{told}; {data.note}"
    counts = {
        "frames added": data.frames_added,
        "removed": data.frames_removed,
        "of other content": data.frames_changed,
        "label files changed": data.labels_changed,
    }
    return f"{told}: {', '.join(f'{number:,} {word}' for word, number in counts.items())}"


def escape(text: str) -> str:
    """Text that Markdown and HTML take for text, also in a table: what a branch brings is not trusted."""
    return " ".join(text.translate(_ESCAPED).split())


def _verdict_table(found: Difference) -> str:
    changed = [one for one in found.verdicts if not one.is_same or one.is_stale]
    if not changed:
        return ""
    rows = []
    for one in changed:
        state = "no report" if one.passed is None else ("passed" if one.passed else "**refused**")
        rows.append([one.stage, f"{state}{', stale' if one.is_stale else ''}", escape(one.after or "–")])
    return _table(["stage", "", "verdict"], rows)


def _figure_table(figures: Sequence[FigureChange]) -> str:
    if not figures:
        return ""
    rows = [
        [one.stage, escape(one.name), escape(one.before or "–"), escape(one.after or "–"), _change(one)]
        for one in figures
    ]
    return _table(["stage", "figure", "before", "after", "change"], rows)


def _change(one: FigureChange) -> str:
    return escape(one.change_text) + (f" {one.direction}" if one.direction else "")


def _columns(figures: Sequence[FigureChange]) -> list[str]:
    rows = [(one.stage, one.name, one.before or "-", one.after or "-", _change(one)) for one in figures]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>\n\n{body}\n\n</details>"


def _code(text: str | None) -> str:
    return "–" if text is None else f"<code>{escape(text)}</code>"


def _or_none(text: str | None) -> str:
    return "(none)" if text is None else text


def _version(version: str | None) -> str:
    return "none" if version is None else f"version {version}"
