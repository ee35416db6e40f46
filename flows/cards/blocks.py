"""What a model card consists of, before it is HTML or Markdown. Texts may hold `code` in backticks, nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from flows.training.epochs import EpochMetrics
from flows.training.report.curves import Moments

UNKNOWN = "not known"
# Harmless letters alone: a name from the data with backticks in it must not smuggle signs past the escaping.
CODE = re.compile(r"`([\w .:/+=-]+)`")


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """A table of texts."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Curve:
    """The epochs of the training."""

    epochs: tuple[EpochMetrics, ...]
    moments: Moments


Block: TypeAlias = Words | Points | Rows | Curve


@dataclass(frozen=True)
class Part:
    """A section; what is folded is asked for by few."""

    anchor: str
    heading: str
    blocks: tuple[Block, ...]
    folded: tuple[tuple[str, tuple[Block, ...]], ...] = ()


@dataclass(frozen=True)
class Card:
    """A whole card; `metadata` is the YAML that heads the Markdown, as the Hugging Face Hub reads it."""

    title: str
    sentence: str
    ok: bool | None
    parts: tuple[Part, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def code(text: str | None) -> str | None:
    """The text in backticks; None where there is none."""
    return f"`{text}`" if text else None


def pairs(values: Mapping[str, str | None]) -> Rows:
    """A table of names and values; what is not known says so."""
    return Rows(("", ""), tuple((name, UNKNOWN if value is None else value) for name, value in values.items()))
