"""Text on pictures: in a letter that can be drawn, and never wider than its place."""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_NO_LETTER = "\U0010fffd"  # a private code point: whatever is drawn for it stands for a missing letter
_UNKNOWN, _CUT = "?", "…"


@functools.cache
def font(size_px: int) -> Font:
    """DejaVu Sans, which comes with matplotlib and knows most alphabets; else Pillow's own, which knows ASCII."""
    found = importlib.util.find_spec("matplotlib")  # finds it without importing it
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder, "mpl-data/fonts/ttf/DejaVuSans.ttf")
        if path.is_file():
            return ImageFont.truetype(path, size_px)
    return ImageFont.load_default(size_px)


def drawable(text: str, size_px: int) -> str:
    """`text` with letters that the font lacks replaced: by the letter below their accents, else by "?"."""
    return "".join(_drawable_letter(letter, size_px) for letter in text)


def fitting_text(text: str, width_px: float, size_px: int, max_lines: int) -> list[str]:
    """Lines of drawable text, none wider than `width_px`; at least one, perhaps empty, at most `max_lines`.

    Breaks at spaces, and within a word that is too long; text that does not fit ends with "…".
    """
    rest = " ".join(drawable(text, size_px).split())
    lines: list[str] = []
    while len(lines) < max_lines - 1 and not _fits(rest, width_px, size_px):
        line = _longest(rest, width_px, size_px)
        if " " in line.strip() and rest[len(line) : len(line) + 1] not in ("", " "):
            line = line[: line.rindex(" ")]
        lines.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    if not _fits(rest, width_px, size_px):
        rest = _longest(rest, width_px - font(size_px).getlength(_CUT), size_px).rstrip() + _CUT
    return [*lines, rest]


def _fits(text: str, width_px: float, size_px: int) -> bool:
    return font(size_px).getlength(text) <= width_px


def _longest(text: str, width_px: float, size_px: int) -> str:
    """The longest start of `text` that fits; at least one letter."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(text[:middle], width_px, size_px) else (low, middle - 1)
    return text[:low]


@functools.cache
def _drawable_letter(letter: str, size_px: int) -> str:
    if letter.isspace():
        return " "
    for candidate in (letter, *(part for part in unicodedata.normalize("NFKD", letter))):
        if candidate.isprintable() and _drawn(candidate, size_px) != _drawn(_NO_LETTER, size_px):
            return candidate
    return _UNKNOWN


def _drawn(letter: str, size_px: int) -> tuple[tuple[int, int], bytes]:
    mask = font(size_px).getmask(letter)
    return mask.size, bytes(mask)
