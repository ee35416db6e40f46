"""Grey pixels are those that Pillow gives, and no damaged file passes that Pillow would refuse."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bentos.detector.features import grey_features, image_features, sample_grey
from flows.dataset.manifest import decoding
from flows.dataset.manifest.decoding import decode_grey, decode_rgb


def frame(size_wh: tuple[int, int] = (320, 180), seed: int = 3) -> Image.Image:
    """Smooth colours with some structure, as of a camera."""
    coarse = np.random.default_rng(seed).integers(40, 210, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size_wh, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


SMALL = {name: encoded(frame((48, 32)), progressive=name == "progressive") for name in ("baseline", "progressive")}


def pillow_reads(content: bytes) -> bool:
    try:
        decode_rgb(content)
    except Exception:
        return False
    return True


def we_read(content: bytes) -> bool:
    try:
        decode_grey(content)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_grey_is_the_luma_of_the_colours(form: str, mode: str) -> None:
    content = encoded(frame().convert(mode), form)
    found = decode_grey(content)
    rgb, name, _ = decode_rgb(content)
    assert found.format == name == form
    assert found.grey.dtype == np.uint8 and found.grey.shape == (180, 320) and found.size_wh == (320, 180)
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(found.grey - luma).max() <= 2 and np.abs((found.grey - luma).mean()) < 0.2


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"subsampling": 0}, {"subsampling": 2}, {"quality": 30}, {"keep_rgb": True}]
)
def test_kinds_of_jpeg_are_read_alike(options: dict[str, object]) -> None:
    content = encoded(frame(), **options)
    luma = decode_rgb(content)[0] @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode_grey(content).grey - luma).mean() < 0.6


def test_cmyk_is_read_by_pillow() -> None:
    content = encoded(frame().convert("CMYK"))
    np.testing.assert_array_equal(decode_grey(content).grey, cv2.cvtColor(decode_rgb(content)[0], cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(frame((64, 40)), exif=exif, quality=95)
    found = decode_grey(content)
    rgb, _, told = decode_rgb(content)
    assert found.orientation == told == orientation
    assert np.abs(found.grey - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 2


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_is_none_is_told(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert decode_grey(encoded(frame((64, 40)), exif=exif)).orientation == (0 if value == 0 else -1)


def test_an_orientation_in_xmp_turns_as_pillow_turns() -> None:
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    content = encoded(frame((64, 40)), xmp=packet)
    assert decode_grey(content).grey.shape == decode_rgb(content)[0].shape[:2]


@pytest.mark.parametrize("kind", SMALL)
def test_a_file_cut_anywhere_is_noticed(kind: str) -> None:
    content = SMALL[kind]
    assert we_read(content)
    assert [end for end in range(len(content)) if we_read(content[:end])] == []


@settings(max_examples=300, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(SMALL)))
def test_what_pillow_refuses_never_passes(data: st.DataObject, kind: str) -> None:
    spoilt = bytearray(SMALL[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(spoilt)
    if we_read(content):
        assert pillow_reads(content)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"]))
def test_any_bytes_end_in_an_exception(content: bytes, start: bytes) -> None:
    assert not we_read(start + content)


def test_broken_data_that_other_decoders_paint_over_are_told() -> None:
    content = bytearray(encoded(frame((320, 180)), quality=90))
    middle = len(content) // 2
    content[middle : middle + 40] = b"\x55" * 40
    assert pillow_reads(bytes(content))
    with pytest.raises(ValueError, match="the JPEG is damaged"):
        decode_grey(bytes(content))


def test_a_few_bytes_of_padding_before_or_after_the_end_are_harmless() -> None:
    content = encoded(frame())
    for good in (content[:-2] + b"\0" * 10 + content[-2:], content + b"\0" * 100):
        np.testing.assert_array_equal(decode_grey(good).grey.shape, (180, 320))
    with pytest.raises(ValueError, match="damaged"):
        decode_grey(content[:-2] + b"\0" * 500 + content[-2:])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
def test_a_header_that_claims_too_many_pixels_is_not_believed(form: str) -> None:
    content = bytearray(encoded(frame((64, 64)), form))
    at, size = {
        "JPEG": (content.find(b"\xff\xc0") + 5, (60000).to_bytes(2, "big") * 2),
        "PNG": (16, (60000).to_bytes(4, "big") * 2),
        "BMP": (18, (60000).to_bytes(4, "little") * 2),
    }[form]
    content[at : at + len(size)] = size
    if form == "PNG":
        import zlib

        content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    with pytest.raises(Exception, match=r"60000 x 60000|exceeds limit"):
        decode_grey(bytes(content))


def test_a_jpeg_of_very_many_scans_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MOST_SCANS", 3)
    with pytest.raises(ValueError, match="more than 3 scans"):
        decode_grey(SMALL["progressive"])
    assert we_read(SMALL["baseline"])


@pytest.mark.parametrize("seed", range(5))
def test_figures_from_grey_are_those_from_colour(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(-12, 13, (360, 640, 3))
    rough = Image.fromarray((np.asarray(frame((640, 360), seed)) + noise).clip(0, 255).astype(np.uint8))
    content = encoded(rough, quality=90)
    of_grey, of_colour = grey_features(sample_grey(decode_grey(content).grey)), image_features(decode_rgb(content)[0])
    assert of_grey["brightness"] == pytest.approx(of_colour["brightness"], abs=0.5)
    assert of_grey["contrast"] == pytest.approx(of_colour["contrast"], abs=0.5)
    assert of_grey["sharpness"] == pytest.approx(of_colour["sharpness"], rel=0.03)


@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (900, 2), (319, 640), (1080, 1920)])
def test_a_sample_is_its_own_sample(shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sample = sample_grey(grey)
    np.testing.assert_array_equal(sample_grey(sample), sample)
    assert max(sample.shape) == min(max(shape), 320)


@pytest.mark.parametrize("size", [(640, 360), (1280, 720), (1920, 1080), (1000, 562), (360, 1280)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_decoded_at_a_fraction_has_the_figures_of_the_whole(size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(frame(size), exif=exif, quality=92)
    found, whole = decode_grey(content), decode_rgb(content)[0]
    assert found.size_wh == (whole.shape[1], whole.shape[0])
    assert 320 <= max(found.grey.shape) <= max(size) // 1.5
    ours, theirs = grey_features(sample_grey(found.grey)), image_features(whole)
    assert ours["brightness"] == pytest.approx(theirs["brightness"], abs=0.7)
    assert ours["contrast"] == pytest.approx(theirs["contrast"], rel=0.03)
    assert ours["sharpness"] == pytest.approx(theirs["sharpness"], rel=0.25)


@pytest.mark.parametrize("array", [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), np.zeros((0, 2), np.uint8)])
def test_figures_of_something_else_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected a uint8 array"):
        grey_features(array)


def test_libjpeg_turbo_is_strict() -> None:
    """What the decoding relies on: warnings are errors."""
    with pytest.raises(ValueError, match="Premature end"):
        simplejpeg.decode_jpeg(SMALL["baseline"][:-50], "GRAY")
