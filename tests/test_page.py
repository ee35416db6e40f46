from __future__ import annotations

import re

from flows.page import Markup, figure, folded, page, table


def test_text_is_escaped_everywhere_and_markup_is_not() -> None:
    text = page("<t>", 'a "verdict" <b>', True, table(["<h>"], [["<c>", Markup("<i>x</i>")]]))
    assert "<t>" not in text
    assert "<c>" not in text
    assert "<h>" not in text
    assert "<i>x</i>" in text


def test_a_page_needs_nothing_from_outside() -> None:
    text = page("t", "v", None, figure("data:image/png;base64,AA", "caption") + folded("more", "x"))
    assert not re.search(r"(src|href)=\"(https?:)?//", text)
    assert "<script" not in text


def test_each_verdict_has_its_word() -> None:
    words = [re.findall(r"<b>(.*?)</b>", page("t", "v", ok, ""))[0] for ok in (True, False, None)]
    assert words == ["PASSED", "REFUSED", "FOR INFORMATION"]
