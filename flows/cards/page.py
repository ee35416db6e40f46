"""A model card as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from flows.cards.blocks import CODE, Block, Card, Curve, Points, Rows, Words
from flows.page import Markup, contents, escape, folded, page, section, table
from flows.training.report.curves import curve_grid

_LONGEST_FIGURE = 32


def card_page(card: Card) -> str:
    """Write the whole document."""
    links = contents((part.anchor, part.heading) for part in card.parts)
    sections = [
        section(
            part.anchor,
            part.heading,
            _blocks(part.blocks) + "".join(folded(summary, _blocks(blocks)) for summary, blocks in part.folded),
        )
        for part in card.parts
    ]
    return page(card.title, card.sentence, card.ok, "\n".join([links, *sections]))


def markup_of(text: str) -> Markup:
    """Escaped text in which what stands in backticks is code."""
    pieces = CODE.split(text)
    return Markup(
        "".join(f"<code>{escape(one)}</code>" if index % 2 else escape(one) for index, one in enumerate(pieces))
    )


def _cell(text: str) -> Markup:
    """A cell; a figure with its interval stays on one line."""
    is_figure = text.endswith("]") and len(text) < _LONGEST_FIGURE
    return Markup(f'<span style="white-space:nowrap">{escape(text)}</span>') if is_figure else markup_of(text)


def _blocks(blocks: Sequence[Block]) -> str:
    return "".join(map(_block, blocks))


def _block(block: Block) -> str:
    match block:
        case Words(text):
            return f"<p>{markup_of(text)}</p>"
        case Points(items):
            return "<ul>" + "".join(f"<li>{markup_of(item)}</li>" for item in items) + "</ul>"
        case Rows(headers, rows):
            return table(headers, [[_cell(cell) for cell in row] for row in rows])
        case Curve(epochs, moments):
            return curve_grid(epochs, moments)
