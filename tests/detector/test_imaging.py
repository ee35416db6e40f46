"""Decoding what cameras and attackers send, and placing it in a slot."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bentos.detector.errors import BadImage, ImageTooLarge, RequestError
from bentos.detector.header import read_header
from bentos.detector.imaging import Picture, decode_image, letterbox_into, turn_upright

# One distinct value in each corner tells every orientation from the others.
CORNERS = np.full((16, 32, 3), 128, dtype=np.uint8)
CORNERS[:8, :16], CORNERS[:8, 16:], CORNERS[8:, :16] = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(4)


def jpeg_header(width: int, height: int) -> bytes:
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)


def webp_header(width: int, height: int) -> bytes:
    extent = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + extent


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the body is empty"),
        (b"hello", "this is no JPEG, PNG or WebP image: it starts with 68 65 6c 6c 6f"),
        (b"GIF89a" + bytes(100), "this is no JPEG, PNG or WebP"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "without a frame header"),
        (b"\xff\xd8\xff\xd9", "no frame header"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "header chunk"),
        (b"RIFF\0\0\0\0WEBPVP8X", "truncated"),
        (b"RIFF\0\0\0\0WEBPABCD" + bytes(40), "unknown chunk"),
        (jpeg_header(0, 10), "0 x 10 pixels"),
        (jpeg_header(10, 10), "does not decode"),
        (png_header(10, 10), "does not decode"),
        (webp_header(10, 10), "does not decode"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(data, reason) -> None:
    with pytest.raises(BadImage, match=reason):
        decode_image(data)


@pytest.mark.parametrize("header", [png_header, jpeg_header, webp_header])
def test_a_huge_header_is_refused_before_anything_is_allocated(header) -> None:
    with pytest.raises(ImageTooLarge, match="60000 x 60000 pixels, accepted are 40 million"):
        decode_image(header(60000, 60000))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_files_are_refused(form, share, encode) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    data = encode(rgb, form)
    with pytest.raises(BadImage):
        decode_image(data[: int(len(data) * share)])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_a_jpeg_without_its_last_bytes_is_refused(options, encode) -> None:
    data = encode(CORNERS, **options)
    assert decode_image(data).size_wh == (32, 16)
    with pytest.raises(BadImage, match="is it complete"):
        decode_image(data[:-2])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied(orientation, form, encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(CORNERS, form, exif=exif, **options)
    with Image.open(BytesIO(data)) as image:
        from PIL import ImageOps

        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    picture = decode_image(data)
    assert picture.size_wh == (expected.shape[1], expected.shape[0])
    assert picture.rgb.shape == expected.shape
    np.testing.assert_allclose(picture.rgb.astype(int), expected.astype(int), atol=12)


def test_turning_is_exact_and_contiguous() -> None:
    for orientation in range(1, 9):
        turned = turn_upright(CORNERS, orientation)
        assert turned.flags.c_contiguous
        assert turned.shape == (CORNERS.shape if orientation < 5 else (32, 16, 3))


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_of_exif_are_read(order) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tiff = mark + struct.pack(order + "IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)
    block = b"Exif\0\0" + tiff
    data = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg_header(20, 10)[2:]
    assert read_header(data).orientation == 6


@pytest.mark.parametrize("tiff", [b"", b"II*\0", b"XX*\0" + bytes(20), b"MM\0*" + b"\xff" * 20])
def test_damaged_exif_means_upright(tiff) -> None:
    block = b"Exif\0\0" + tiff
    data = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg_header(20, 10)[2:]
    assert read_header(data).orientation == 1


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("L", "PNG", {}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("LA", "PNG", {}),
        ("1", "PNG", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "WEBP", {"quality": 90}),
        ("RGBA", "WEBP", {"lossless": True}),
    ],
)
def test_odd_but_legal_images_keep_their_pixels(mode, form, options) -> None:
    image = Image.new("RGB", (40, 20), (200, 200, 200)).convert(mode)
    buffer = BytesIO()
    image.save(buffer, form, **options)
    picture = decode_image(buffer.getvalue())
    assert picture.rgb.shape == (20, 40, 3)
    np.testing.assert_allclose(picture.rgb.astype(int), np.asarray(image.convert("RGB")).astype(int), atol=4)


def test_sixteen_bits_keep_their_upper_byte() -> None:
    buffer = BytesIO()
    Image.fromarray(np.full((20, 40), 0x8012, dtype=np.uint16)).save(buffer, "PNG")
    assert np.unique(decode_image(buffer.getvalue()).rgb).tolist() == [0x80]


def test_a_progressive_jpeg_with_endless_scans_is_refused(encode) -> None:
    data = encode(CORNERS, progressive=True)
    scan = data.index(b"\xff\xda")
    with pytest.raises(BadImage, match="scans"):
        decode_image(data[:scan] + b"\xff\xda\x00\x02" * 600 + data[scan:])


def test_two_frame_headers_that_disagree_are_refused(encode) -> None:
    data = encode(CORNERS)
    with pytest.raises(BadImage):
        decode_image(jpeg_header(8, 8) + data[2:])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_but_a_request_error(data) -> None:
    form = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))
    buffer = BytesIO()
    Image.fromarray(CORNERS).save(buffer, form)
    content = bytearray(buffer.getvalue())
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)
    ):
        content[position] = value
    try:
        picture = decode_image(bytes(content), max_pixels=1_000_000)
    except RequestError as error:
        assert error.message
    else:
        assert picture.rgb.dtype == np.uint8
        assert picture.rgb.shape[2] == 3


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"]))
def test_any_bytes_have_a_header_or_a_reason(tail, head) -> None:
    try:
        header = read_header(head + tail)
    except BadImage as error:
        assert error.message
    else:
        assert min(header.size_wh) > 0


def test_a_smaller_decode_still_covers_the_input_and_keeps_the_sent_size(encode) -> None:
    data = encode(np.full((720, 1280, 3), 90, dtype=np.uint8))
    picture = decode_image(data, cover_wh=(320, 320))
    assert picture.size_wh == (1280, 720)
    assert 320 <= picture.rgb.shape[1] < 1280
    small = decode_image(encode(np.full((50, 100, 3), 90, dtype=np.uint8)), cover_wh=(320, 320))
    assert small.rgb.shape == (50, 100, 3)


@pytest.mark.parametrize("size_wh", [(1, 1), (64, 32), (128, 64), (100, 100), (7, 300), (640, 480)])
def test_letterbox_paints_the_whole_slot_and_only_the_slot(size_wh) -> None:
    frames = np.full((3, 32, 64, 3), 7, dtype=np.uint8)
    rgb = np.full((size_wh[1], size_wh[0], 3), 200, dtype=np.uint8)
    box = letterbox_into(frames[1], Picture(rgb, size_wh), fill=114)
    assert (frames[0] == 7).all()
    assert (frames[2] == 7).all()
    inner = np.zeros((32, 64), dtype=bool)
    inner[box.top : box.top + box.content_wh[1], box.left : box.left + box.content_wh[0]] = True
    assert (frames[1][inner] == 200).all()
    assert (frames[1][~inner] == 114).all()


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_scans_are_limited_by_the_work_that_they_make(mode, monkeypatch) -> None:
    """Also where Pillow decodes: each scan walks over all blocks, which for a large image takes a second for fifty."""
    from tests.chaos.bodies import many_scans

    with pytest.raises(BadImage, match="more than 500 scans"):
        decode_image(many_scans(mode, 64, 501))
    monkeypatch.setattr("bentos.detector.imaging._MAX_SCANNED_PIXELS", 20 * 64 * 64)
    assert decode_image(many_scans(mode, 64, 0)).size_wh == (64, 64)
    with pytest.raises(BadImage, match="more than 20 scans"):
        decode_image(many_scans(mode, 64, 21))
