"""Model cards: what a registered version is, how well it does, what it is not for; as HTML and as Markdown.

Structure: Mitchell et al., "Model Cards for Model Reporting", 2019. The YAML that heads the Markdown is that of the
Hugging Face Hub, so that card.md can be uploaded as README.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flows.cards.blocks import Card
from flows.cards.figures import (
    evaluation_data_part,
    metrics_part,
    results_part,
    speed_part,
    training_data_part,
    training_part,
)
from flows.cards.limits import measured_limits
from flows.cards.markdown import card_markdown, text_of
from flows.cards.model import details_part, ethics_part, factors_part, limits_part, provenance_part, use_part
from flows.cards.page import card_page
from flows.cards.sources import BACKGROUND, CardBackground, CardSources, read_background, read_sources
from flows.page import write_page
from flows.pages_server import CARDS

HTML, MARKDOWN = "card.html", "card.md"
_MOST_LETTERS = 4000


def write_card(package: Path, background: CardBackground) -> tuple[Path, Path]:
    """Write card.html and card.md into a package folder (model/ and reports/), and `background` as card.json.

    Raises:
        ProjectError: The package holds no model.
    """
    card = make_card(read_sources(package / "model", package / "reports", background))
    (package / BACKGROUND).write_text(background.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return write_card_files(card, package / HTML, package / MARKDOWN)


def write_version_card(reports: Path, package: Path, version: str) -> tuple[Path, Path]:
    """Write the card of a registered version, with its number, to reports/cards/VERSION.html and .md.

    Raises:
        ProjectError: `package` is not the package of a version.
    """
    background = read_background(package / BACKGROUND)
    card = make_card(read_sources(package / "model", package / "reports", background, version))
    return write_card_files(card, reports / CARDS / f"{version}.html", reports / CARDS / f"{version}.md")


def card_description(package: Path, version: str) -> str:
    """The card in short, as Markdown: what the registry shows of a version. At most 4,000 letters."""
    sources = read_sources(package / "model", package / "reports", read_background(package / BACKGROUND), version)
    lines = [f"**{text_of(_sentence(sources))}**", ""]
    lines += [f"`{sources.spec.digest[:12]}` · data `{(sources.data_md5 or 'not versioned')[:12]}`", ""]
    if sources.evaluation:
        lines += ["| part | objects | mAP50-95 |", "|---|---|---|"]
        lines += [
            f"| {one.figure.kind} {text_of(one.figure.name or '(none)')} | {one.figure.num_objects} "
            f"| {text_of(one.figure.challenger.text())} |"
            for one in sources.evaluation.parts
            if one.figure.kind in ("class", "slice")
        ]
    lines += ["", "Limits:", *(f"- {text_of(one)}" for one in measured_limits(sources))]
    end = f"\n\nThe whole card: `package/{HTML}` among the artifacts, or `tca card {version}`.\n"
    return _cut("\n".join(lines), _MOST_LETTERS - len(end)) + end


def make_card(sources: CardSources) -> Card:
    """The card, ready to be written as HTML or Markdown."""
    evaluation = sources.evaluation
    shown = f"version {sources.version}" if sources.version else sources.spec.digest[:12]
    return Card(
        title=f"{sources.spec.name}, {shown}",
        sentence=_sentence(sources),
        ok=evaluation.passed if evaluation else None,
        parts=(
            details_part(sources),
            use_part(),
            limits_part(sources),
            results_part(sources),
            metrics_part(evaluation),
            factors_part(sources),
            evaluation_data_part(sources),
            training_data_part(sources),
            training_part(sources),
            speed_part(sources),
            ethics_part(sources.spec.classes),
            provenance_part(sources),
        ),
        metadata=hub_metadata(sources),
    )


def hub_metadata(sources: CardSources) -> dict[str, Any]:
    """The head of card.md in the words of the Hugging Face Hub. What is not known is left out, as it asks."""
    slug = re.sub(r"[^a-z0-9]+", "-", sources.spec.name.lower()).strip("-")
    found: dict[str, Any] = {
        "license": "agpl-3.0",
        "library_name": "ultralytics",
        "pipeline_tag": "object-detection",
        "tags": ["object-detection", "yolo11", "traffic", "vehicles", sources.spec.engine.kind],
        "metrics": ["map", "precision", "recall"],
    }
    if sources.evaluation:
        split = sources.export.baseline.split if sources.export else None
        dataset = {
            "name": f"frozen frames of {slug}",
            "type": "private",
            **({"split": split} if split else {}),
            **({"revision": sources.data_md5} if sources.data_md5 else {}),
        }
        result = {"task": {"type": "object-detection"}, "dataset": dataset, "metrics": _hub_metrics(sources)}
        found["model-index"] = [{"name": sources.spec.name, "results": [result]}]
    return found


def _hub_metrics(sources: CardSources) -> list[dict[str, Any]]:
    assert sources.evaluation
    names = {"map50_95": ("map", "mAP50-95"), "ap50": ("map_50", "AP50"), "ap75": ("map_75", "AP75")}
    names |= {"precision": ("precision", "precision"), "recall": ("recall", "recall")}
    values = {key: getattr(sources.evaluation.challenger.figures, key).value for key in names}
    return [
        {"type": kind, "value": round(values[key], 4), "name": name}
        for key, (kind, name) in names.items()
        if values[key] is not None
    ]


def _sentence(sources: CardSources) -> str:
    return sources.evaluation.sentence if sources.evaluation else "Not evaluated: nothing is claimed about this model."


def write_card_files(card: Card, html: Path, markdown: Path) -> tuple[Path, Path]:
    """Write both files, each whole or not at all."""
    for path, text in ((html, card_page(card)), (markdown, card_markdown(card))):
        write_page(path, text)
    return html, markdown


def _cut(text: str, most: int) -> str:
    """Whole lines, as many as fit."""
    if len(text) <= most:
        return text
    return text[: text.rfind("\n", 0, most - 2)] + "\n…"
