"""Text on pictures: always drawable, never too wide."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from flows.dataset.report import captions
from flows.dataset.report.captions import drawable, fitting_text, font


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(40, 400), st.integers(1, 4))
def test_lines_fit_whatever_the_text(text: str, width_px: int, max_lines: int) -> None:
    lines = fitting_text(text, width_px, 12, max_lines)
    assert 1 <= len(lines) <= max_lines
    assert all(font(12).getlength(line) <= width_px for line in lines)


def test_text_that_fits_stays_and_other_text_breaks_at_spaces_and_ends_with_dots() -> None:
    assert fitting_text("cam01 · day", 300, 12, 2) == ["cam01 · day"]
    assert fitting_text("", 300, 12, 2) == [""]
    first, second = fitting_text("one two three four five six seven eight nine ten eleven", 120, 12, 2)
    assert "one two three four five six seven eight nine ten eleven".startswith(f"{first} {second.rstrip('…')}")
    assert second.endswith("…") and not first.endswith("…")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Straße é", "Straße é"), ("камера", "камера"), ("a\x00b\u200bc", "a?b?c"), ("a\nb\tc", "a b c"), ("東 1", "? 1")],
)
def test_letters_that_the_font_lacks_are_replaced(text: str, shown: str) -> None:
    assert drawable(text, 12) == shown


def test_accents_are_dropped_where_only_pillows_own_font_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions.importlib.util, "find_spec", lambda name: None)
    for cached in (captions.font, captions._drawable_letter):
        cached.cache_clear()
    try:
        assert isinstance(font(12), ImageFont.FreeTypeFont)
        assert drawable("é ž Ж", 12) == "e z ?"
    finally:
        for cached in (captions.font, captions._drawable_letter):
            cached.cache_clear()
