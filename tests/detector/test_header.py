"""The header's reader against a decoder's view of the same bytes, and against anything at all."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bentos.detector.errors import BadImage
from bentos.detector.header import ImageHeader, read_header
from tests.chaos.pictures import png_chunk

FORMS = ("JPEG", "PNG", "WEBP")
START = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "WEBP": b"RIFF\x10\0\0\0WEBPVP8"}


def saved(form: str, size_wh: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    sink = BytesIO()
    Image.new(mode, size_wh).save(sink, form, **options)
    return sink.getvalue()


@given(form=st.sampled_from(FORMS), rest=st.binary(max_size=400))
@example(form="JPEG", rest=b"\xff")
@example(form="JPEG", rest=b"\xe1\0\x10Exif\0\0II*\0\xff\xff\xff\xff")
def test_any_bytes_are_a_header_or_a_bad_image(form, rest) -> None:
    try:
        header = read_header(START[form] + rest)
    except BadImage as error:
        assert error.message
    else:
        assert header.format == form.lower()
        assert min(header.size_wh) > 0
        assert 1 <= header.orientation <= 8


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    size_wh=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    orientation=st.integers(0, 10),
    options=st.sampled_from([{}, {"progressive": True}, {"lossless": True}, {"comment": b"\xff\xc0" * 9}]),
)
def test_size_and_orientation_are_what_was_written(form, size_wh, orientation, options) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    header = read_header(saved(form, size_wh, exif=exif, **options))
    expected = orientation if form == "JPEG" and 1 <= orientation <= 8 else 1
    assert header == ImageHeader(form.lower(), size_wh, expected)


@settings(max_examples=60, deadline=None)
@given(form=st.sampled_from(FORMS), data=st.data())
def test_a_cut_header_is_refused_and_a_cut_body_is_not_looked_at(form, data) -> None:
    whole = saved(form, (40, 30))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        header = read_header(whole[:cut])
    except BadImage:
        assert cut < len(whole)
    else:
        assert header == read_header(whole)


@given(before=st.lists(st.binary(max_size=40), max_size=20), filling=st.integers(0, 50))
def test_segments_and_filling_before_the_frame_are_passed_over(before, filling) -> None:
    segments = b"".join(b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text for text in before)
    whole = saved("JPEG", (21, 12))
    assert read_header(whole[:2] + segments + b"\xff" * filling + whole[2:]).size_wh == (21, 12)


def test_only_cmyk_and_deeper_samples_are_not_plain() -> None:
    assert read_header(saved("JPEG", (8, 8), "L")).plain
    assert not read_header(saved("JPEG", (8, 8), "CMYK")).plain
    assert not read_header(b"\xff\xd8\xff\xc1" + struct.pack(">HBHHB", 17, 12, 8, 8, 3) + bytes(9)).plain


@pytest.mark.parametrize(
    "flood", [b"\xff\xfe\0\2" * 20_000, b"\xff" * 20_000, b"\xff\0" * 20_000], ids=["comments", "filling", "stuffing"]
)
def test_a_jpeg_of_very_many_segments_is_refused(flood) -> None:
    whole = saved("JPEG", (8, 8))
    with pytest.raises(BadImage, match="no frame header among its first 10000 segments"):
        read_header(whole[:2] + flood + whole[2:])


def test_a_png_of_very_many_chunks_is_refused() -> None:
    whole = saved("PNG", (8, 8))
    assert read_header(whole[:33] + png_chunk(b"teXt", b"") * 9_000 + whole[33:]).size_wh == (8, 8)
    with pytest.raises(BadImage, match="more than 10000 chunks"):
        read_header(whole[:33] + png_chunk(b"teXt", b"") * 20_000 + whole[33:])
