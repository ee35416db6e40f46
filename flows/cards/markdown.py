"""A model card as Markdown, headed by the YAML that the Hugging Face Hub reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from flows.cards.blocks import CODE, Block, Card, Curve, Points, Rows, Words
from flows.training.epochs import EpochMetrics
from flows.training.report.curves import short_number

_SPECIAL = re.compile(r"([\\*_\[\]|#~$])")
_MOST_EPOCHS = 20


def card_markdown(card: Card) -> str:
    """The whole file; what is folded on the page stands below its section in `<details>`."""
    lines = []
    if card.metadata:
        lines += ["---", yaml.safe_dump(dict(card.metadata), sort_keys=False, allow_unicode=True).rstrip(), "---", ""]
    lines += [f"# {text_of(card.title)}", "", f"**{text_of(card.sentence)}**", ""]
    for part in card.parts:
        lines += [f"## {text_of(part.heading)}", "", *_blocks(part.blocks)]
        for summary, blocks in part.folded:
            lines += [f"<details><summary>{text_of(summary)}</summary>", "", *_blocks(blocks), "</details>", ""]
    return "\n".join(lines).rstrip() + "\n"


def text_of(text: str) -> str:
    """Text with everything that Markdown or HTML would take for a sign made plain; `code` stays code."""
    pieces = CODE.split(" ".join(text.split()))
    return "".join(f"`{piece}`" if index % 2 else _plain(piece) for index, piece in enumerate(pieces))


def _plain(text: str) -> str:
    plain = text.replace("`", "'").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _blocks(blocks: Sequence[Block]) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        match block:
            case Words(text):
                lines.append(text_of(text))
            case Points(items):
                lines += [f"- {text_of(item)}" for item in items]
            case Rows(headers, rows):
                lines += _table(headers, rows)
            case Curve(epochs, moments):
                lines += _curve(epochs, moments.best)
        lines.append("")
    return lines


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(map(text_of, headers))} |",
        f"|{'---|' * len(headers)}",
        *(f"| {' | '.join(map(text_of, row))} |" for row in rows),
    ]


def _curve(epochs: Sequence[EpochMetrics], best: int | None) -> list[str]:
    """The figures of each epoch; of many, evenly spaced ones with the best and the last."""
    step = -(-len(epochs) // _MOST_EPOCHS)
    shown = [one for index, one in enumerate(epochs) if index % step == 0 or one.epoch == best or one is epochs[-1]]
    names = list(dict.fromkeys(name for one in shown for name in one.losses))
    headers = ["epoch", *(name.replace("_", " ") for name in names), "mAP50-95", "mAP50", "precision", "recall", "rate"]
    rows = [
        [
            f"{one.epoch}{' (best)' if one.epoch == best else ''}",
            *(short_number(one.losses.get(name)) for name in names),
            *map(short_number, (one.map50_95, one.map50, one.precision, one.recall, one.learning_rate)),
        ]
        for one in shown
    ]
    return _table(headers, rows)
