from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from flows.page import (
    Markup,
    Picture,
    contents,
    figure,
    folded,
    gallery,
    legend,
    matrix,
    page,
    section,
    table,
    tiles,
    write_page,
)


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


def test_every_part_escapes_its_text() -> None:
    parts = [
        section("<a>", "<b>", ""),
        contents([("<a>", "<b>")]),
        tiles([("<a>", "<b>", "<c>")]),
        matrix(["<a>"], {"<b>": [1]}),
        legend({"<a>": "#000000"}),
        gallery([Picture(("data:x",), "<a>", "<b>")]),
        figure("<svg></svg>", "<a>", {"<b>": "#000000"}),
        table(["<a>"], [["<b>"]], '"<c>'),
    ]
    assert not re.search("<a>|<b>|<c>", "".join(parts))


def test_contents_lead_to_their_sections() -> None:
    text = contents([("one", "First")]) + section("one", "First", "<p>x</p>")
    assert 'href="#one"' in text and 'id="one"' in text and "<p>x</p>" in text


def test_a_pair_of_pictures_is_one_figure_and_each_picture_has_its_words() -> None:
    text = gallery(
        [Picture(("data:a", "data:b"), "frame", Markup("<code>c</code>")), Picture(("data:c",), "other", "d")]
    )
    assert text.count("<figure") == 2 and text.count('class="pair"') == 1
    assert re.findall('alt="([^"]*)"', text) == ["frame", "frame (for comparison)", "other"]
    assert "<code>c</code>" in text


def test_a_matrix_is_strongest_where_it_counts_most_and_an_empty_one_is_a_table() -> None:
    text = matrix(["camera", "train", "val"], {"cam1": [1000, 250], "cam2": [0, 500]})
    assert re.findall(r"--share:([\d.]+)", text) == ["1.00", "0.25", "0.00", "0.50"]
    assert "1,000" in text
    assert "<tbody></tbody>" in matrix(["camera"], {})


def test_a_tile_without_a_remark_has_none() -> None:
    assert tiles([("Frames", "12", "")]).count("<dd>") == 1


def test_a_page_is_written_whole_whatever_its_letters(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    write_page(path, "ü \udcff")
    assert path.read_text(encoding="utf-8") == "ü ?"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]


def test_a_page_that_cannot_be_written_leaves_the_old_one_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*whatever: object) -> None:
        raise OSError("no space left")

    path = tmp_path / "page.html"
    write_page(path, "old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_page(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_several_write_at_once_is_always_a_whole_one(tmp_path: Path) -> None:
    """As workers of one study do; a draft that they shared would vanish under one of them."""
    path, failed = tmp_path / "page.html", []

    def write(letter: str) -> None:
        try:
            for _ in range(50):
                write_page(path, letter * 10_000)
                text = path.read_text(encoding="utf-8")
                assert len(text) == 10_000 and len(set(text)) == 1
        except (OSError, AssertionError) as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
