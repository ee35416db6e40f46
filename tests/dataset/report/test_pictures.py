"""Small pictures: what they show, and what they must not show."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flows.dataset.report.pictures import Box, Cell, Detail, Mark, contact_sheet, draw_cell, picture_uri, picture_uris
from flows.page import PALETTE

BLUE, VERMILION = PALETTE[0], PALETTE[5]
Grey = npt.NDArray[np.uint8]


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    sink = BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def jpeg(pixels: npt.NDArray[np.uint8], **options: object) -> bytes:
    sink = BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=98, subsampling=0, **options)
    return sink.getvalue()


def opened(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(BytesIO(base64.b64decode(content)))


def grey_of(picture: Image.Image) -> npt.NDArray[np.float64]:
    return np.asarray(picture.convert("L"), dtype=np.float64)


def road(size_wh: tuple[int, int] = (1280, 720), value: int = 110) -> Grey:
    return np.full((size_wh[1], size_wh[0], 3), value, np.uint8)


def near(colour: tuple[int, ...], wanted: str, slack: int = 12) -> bool:
    parts = (int(wanted[index : index + 2], 16) for index in (1, 3, 5))
    return all(abs(a - b) <= slack for a, b in zip(colour, parts, strict=True))


# What must not be shown


def plated(period: int, inverted: bool, corner_xy: tuple[int, int]) -> bytes:
    """A road with a plate of 64 x 16 px whose strokes alternate with `period`; `inverted` swaps black and white."""
    frame = road()
    x, y = corner_xy
    rows, columns = np.mgrid[y : y + 16, x : x + 64]
    dark = ((rows // (period // 2) + columns // (period // 2)) % 2).astype(bool) ^ inverted
    frame[y : y + 16, x : x + 64] = np.where(dark, 20, 235)[..., None].astype(np.uint8)
    return jpeg(frame)


@settings(deadline=None)
@given(
    period=st.sampled_from([2, 4]), x=st.integers(0, 1216), y=st.integers(0, 704), is_crop=st.booleans()
)  # strokes of a plate 64 px wide lie about 4 px apart
def test_what_a_plate_says_does_not_reach_a_reduced_picture(period: int, x: int, y: int, is_crop: bool) -> None:
    focus: Box | None = (x, y, x + 64, y + 16) if is_crop else None
    one, other = (grey_of(draw_cell(Cell(plated(period, flag, (x, y)), "", (), focus))) for flag in (False, True))
    # both plates give the same picture but for their rim, where the frame's grey meets a half pixel of either
    assert np.abs(one - other).mean() < 0.5
    assert np.percentile(np.abs(one - other), 99) < 16


def test_full_detail_shows_what_reduced_detail_hides() -> None:
    focus = (600, 300, 664, 316)
    pictures: dict[Detail, list[npt.NDArray[np.float64]]] = {
        detail: [grey_of(draw_cell(Cell(plated(4, flag, (600, 300)), "", (), focus), detail)) for flag in (False, True)]
        for detail in ("reduced", "full")
    }
    hidden, shown = (np.abs(one - other).max() for one, other in pictures.values())
    assert hidden < 40 < 150 < shown


@pytest.mark.parametrize("size_wh", [(1280, 720), (720, 1280), (1500, 1500), (400, 330)])
@pytest.mark.parametrize("encode", [png, jpeg])
def test_a_reduced_crop_holds_no_finer_waves_than_the_reduced_frame(
    size_wh: tuple[int, int], encode: Callable[[Grey], bytes]
) -> None:
    noise = np.random.default_rng(7).integers(0, 256, (size_wh[1], size_wh[0], 3)).astype(np.uint8)
    picture = grey_of(draw_cell(Cell(encode(noise), "", (), (200, 200, 203, 203))))
    assert picture.shape == (240, 320)  # 80 x 60 px of the reduced frame, four times enlarged
    power = np.abs(np.fft.fft2(picture - picture.mean())) ** 2
    rows, columns = np.meshgrid(np.fft.fftfreq(240), np.fft.fftfreq(320), indexing="ij")
    too_fine = np.maximum(np.abs(rows), np.abs(columns)) > 1.5 * 0.5 / 4
    assert power[too_fine].sum() < 0.02 * power.sum()


def test_nothing_of_the_file_but_pixels_goes_along() -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET description"
    exif.get_ifd(0x8825)[1] = "SECRET north"
    source = jpeg(road((400, 300)), exif=exif.tobytes(), comment=b"SECRET comment", icc_profile=b"SECRET profile")
    assert source.count(b"SECRET") == 4
    for uri in (picture_uri(Cell(source, "")), contact_sheet([Cell(source, "")], "full")):
        assert b"SECRET" not in base64.b64decode(uri.partition(",")[2])
        assert set(opened(uri).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


# What is shown


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("detail", ["reduced", "full"])
def test_frames_stand_upright_and_marks_are_in_upright_pixels(orientation: int, detail: Detail) -> None:
    upright = road((800, 600))
    upright[0:150, 0:200] = (255, 255, 255)  # the upper left corner is white
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # transposition that undoes what a viewer does for this tag
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = draw_cell(
        Cell(jpeg(np.asarray(stored), exif=exif.tobytes()), "", (Mark((400, 300, 790, 590), BLUE),)), detail
    )
    width, height = picture.size
    assert width / height == pytest.approx(4 / 3, abs=0.02)
    bright = grey_of(picture) > 200
    assert bright[: height // 5, : width // 5].all() and not bright[height // 3 :, :].any()
    x, y = round(400 / 800 * width), round(450 / 600 * height)
    assert any(near(picture.getpixel((x + step, y)), BLUE, 20) for step in (-1, 0, 1))  # type: ignore[arg-type]


def test_a_mark_lies_where_its_box_is_and_a_dashed_one_has_gaps() -> None:
    for dashed in (False, True):
        picture = draw_cell(Cell(png(road()), "", (Mark((320, 180, 960, 540), VERMILION, dashed=dashed),)))
        left = [near(picture.getpixel((80, y)), VERMILION) for y in range(50, 130)]  # type: ignore[arg-type]
        assert all(left) if not dashed else 0.3 < np.mean(left) < 0.7
        assert not near(picture.getpixel((100, 90)), VERMILION)  # type: ignore[arg-type]


def test_a_crop_shows_its_focus_in_the_middle_and_leaves_out_far_marks() -> None:
    marks = (Mark((600, 340, 680, 400), VERMILION), Mark((0, 0, 60, 40), BLUE, "far away"))
    picture = draw_cell(Cell(png(road()), "", marks, marks[0].box_xyxy))
    assert picture.size == (320, 240)
    pixels = np.asarray(picture).reshape(-1, 3)
    seen = [index for index, pixel in enumerate(pixels) if near(tuple(map(int, pixel)), VERMILION)]
    rows, columns = np.divmod(seen, 320)
    assert abs(columns.mean() - 160) < 12 and abs(rows.mean() - 120) < 12
    assert not any(near(tuple(map(int, pixel)), BLUE) for pixel in pixels[::3])


def test_a_box_smaller_than_a_pixel_is_still_seen() -> None:
    picture = draw_cell(Cell(png(road()), "", (Mark((640, 360, 640.2, 360.1), VERMILION),)))
    assert any(near(picture.getpixel((x, 90)), VERMILION) for x in range(154, 167))  # type: ignore[arg-type]


@settings(deadline=None)
@given(
    box=st.tuples(*[st.one_of(st.floats(-1e9, 1e9), st.sampled_from([float("nan"), float("inf")]))] * 4),
    label=st.text(max_size=80),
    has_focus=st.booleans(),
    detail=st.sampled_from(["reduced", "full"]),
)
def test_no_box_and_no_label_breaks_a_picture(box: Box, label: str, has_focus: bool, detail: Detail) -> None:
    finite = tuple(value if np.isfinite(value) else 0.0 for value in box)
    picture = draw_cell(Cell(SMALL, label, (Mark(finite, BLUE, label, True),), box if has_focus else None), detail)  # type: ignore[arg-type]
    limit = {"reduced": (320, 240), "full": (640, 480)}[detail]
    assert 1 <= picture.width <= limit[0] and 1 <= picture.height <= limit[1]


SMALL = png(road((97, 61)))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1", "I;16"])
def test_every_kind_of_image_is_shown(mode: str) -> None:
    sink = BytesIO()
    picture = Image.new("L", (50, 40), 200)
    made = Image.new(mode, (50, 40), 40000) if mode == "I;16" else picture.convert(mode)
    made.save(sink, "TIFF" if mode == "CMYK" else "PNG")
    assert grey_of(draw_cell(Cell(sink.getvalue(), ""))).mean() > 150


@pytest.mark.parametrize("content", [b"", b"no image", jpeg(road((64, 64)))[:200], b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_what_cannot_be_read_gives_a_picture_that_says_so(content: bytes, tmp_path: Path) -> None:
    broken = tmp_path / "broken ü.jpg"
    broken.write_bytes(content)
    for source in (content, broken, tmp_path / "missing.jpg", tmp_path):
        picture = draw_cell(Cell(source, "x", (Mark((0, 0, 5, 5), BLUE),)))
        assert picture.size == (320, 180)
        assert len(np.unique(np.asarray(picture))) > 10  # there are letters


# Sheets


def test_no_cells_give_no_sheet() -> None:
    assert contact_sheet([]) == ""
    assert picture_uris([]) == []


def test_a_sheet_has_a_row_for_every_four_cells_and_captions_below() -> None:
    cells = [Cell(png(road((320, 180))), f"frame {index}") for index in range(6)]
    one_row, two_rows = (opened(contact_sheet(cells[:number])) for number in (4, 6))
    assert one_row.width == two_rows.width and two_rows.height == 2 * one_row.height
    assert 180 < one_row.height < 220
    caption = grey_of(one_row)[182:, :320]
    assert caption.max() > 150  # letters on a dark ground
    assert opened(contact_sheet(cells[:1])).width == 320
    assert opened(contact_sheet(cells[:2], "full", columns=1)).width == 640


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_caption_runs_into_the_next_cell(caption: str) -> None:
    sheet = grey_of(opened(contact_sheet([Cell(SMALL, caption), Cell(SMALL, "")])))
    assert sheet[204:, 324:].max() < 60  # below the second picture nothing is written


def test_pictures_come_in_the_order_of_their_cells() -> None:
    cells = [Cell(png(road((40, 30), value)), "") for value in range(20, 240, 20)]
    means = [grey_of(opened(uri)).mean() for uri in picture_uris(cells)]
    assert means == sorted(means) and len(means) == len(cells)
