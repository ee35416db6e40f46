"""Images that are odd but legal, all showing the same: a car at (32, 16, 64, 48) of 128 x 64 pixels."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from bentos.detector.imaging import turn_upright

Pixels = npt.NDArray[np.uint8]

SIZE_WH = (128, 64)
CAR = (32, 16, 64, 48)
RED, GREY = (255, 0, 0), (120, 120, 120)
JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"
TOLERANCE_PX = 6.0
"""Two pixels of the 64 x 32 input that the fake model has, and what a JPEG blurs."""

_BACKWARDS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
_ARITHMETIC = (  # from cjpeg -arithmetic -quality 60 -sample 1x1
    "|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6ModmpQ&KWMT47pHU`k"
    "O^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPf!2J01*fPKmdRP0TBQK5"
    "di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zfwhGdwX%PNw5teT3r{{Zn0nRBEunG#~L*vl<Jib7kq7m_&}1U{z4eU?cu|Je"
)


@dataclass(frozen=True)
class Legal:
    """An image, and what must be found: its size as displayed and the car's box, None where nothing is painted."""

    name: str
    media: str
    data: bytes
    size_wh: tuple[int, int] = SIZE_WH
    box: tuple[float, float, float, float] | None = CAR


def scene(size_wh: tuple[int, int] = SIZE_WH) -> Pixels:
    """The scene, (H, W, 3), at any multiple of its size."""
    scale_x, scale_y = size_wh[0] // SIZE_WH[0], size_wh[1] // SIZE_WH[1]
    rgb = np.full((size_wh[1], size_wh[0], 3), GREY[0], dtype=np.uint8)
    x1, y1, x2, y2 = CAR
    rgb[y1 * scale_y : y2 * scale_y, x1 * scale_x : x2 * scale_x] = RED
    return rgb


def save(image: Image.Image, form: str, **options: Any) -> bytes:
    """Encode with Pillow."""
    sink = BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def legal_pictures() -> Iterator[Legal]:
    """All but the largest."""
    yield from _turned()
    yield from _jpegs()
    yield from _pngs()
    yield from _several_frames()
    yield from _narrow()


def _turned() -> Iterator[Legal]:
    for orientation in range(1, 9):
        stored = Image.fromarray(turn_upright(scene(), _BACKWARDS[orientation]))
        exif = Image.Exif()
        exif[0x0112] = orientation
        for form, media, options in (
            ("JPEG", JPEG, {"quality": 95, "subsampling": 0}),
            ("JPEG", JPEG, {"quality": 90, "progressive": True}),
            ("PNG", PNG, {}),
            ("WEBP", WEBP, {"lossless": True}),
        ):
            yield Legal(f"{form} turned {orientation} {options}", media, save(stored, form, exif=exif, **options))


def _jpegs() -> Iterator[Legal]:
    rgb = Image.fromarray(scene())
    for options in ({"subsampling": 1}, {"subsampling": 2}, {"optimize": True}, {"keep_rgb": True, "quality": 95}):
        yield Legal(f"JPEG {options}", JPEG, save(rgb, "JPEG", **options))
    for options in ({"restart_marker_blocks": 3}, {"comment": b"\xff\xda" * 200}, {"icc_profile": bytes(3000)}):
        yield Legal(f"JPEG {list(options)}", JPEG, save(rgb, "JPEG", quality=90, **options))
    yield Legal("JPEG, CMYK", JPEG, save(rgb.convert("CMYK"), "JPEG", quality=95))
    yield Legal("JPEG, CMYK, progressive", JPEG, save(rgb.convert("CMYK"), "JPEG", quality=95, progressive=True))
    yield Legal("JPEG, YCCK", JPEG, _ycck())
    yield Legal("JPEG, arithmetic", JPEG, base64.b85decode(_ARITHMETIC))
    yield Legal("JPEG, grey", JPEG, save(rgb.convert("L"), "JPEG"), box=None)
    yield Legal("JPEG with a ZIP behind it", JPEG, save(rgb, "JPEG", quality=90) + b"PK\3\4" + bytes(500))
    yield Legal("JPEG under another name", PNG, save(rgb, "JPEG", quality=90))
    yield Legal("padded markers", JPEG, save(rgb, "JPEG", quality=90).replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1))


def _ycck() -> bytes:
    """Pillow writes no YCCK: the planes go in as CMYK, then the Adobe marker says what they are."""
    ycc = np.asarray(Image.fromarray(scene()).convert("YCbCr"))
    planes = np.concatenate([ycc, np.zeros((*ycc.shape[:2], 1), dtype=np.uint8)], axis=2)
    data = bytearray(save(Image.frombytes("CMYK", SIZE_WH, planes.tobytes()), "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def _pngs() -> Iterator[Legal]:
    rgb = Image.fromarray(scene())
    clear = rgb.convert("RGBA")
    clear.putalpha(7)
    palette = rgb.quantize(4)
    for name, image, box in (
        ("palette", palette, CAR),
        ("RGBA, nearly transparent", clear, CAR),
        ("grey", rgb.convert("L"), None),
        ("grey and alpha", rgb.convert("LA"), None),
        ("one bit", rgb.convert("1"), None),
    ):
        yield Legal(f"PNG, {name}", PNG, save(image, "PNG"), box=box)
    yield Legal("PNG, palette with transparency", PNG, save(palette, "PNG", transparency=b"\x00\x80\xff\x10"))
    yield Legal("PNG, one colour transparent", PNG, save(rgb, "PNG", transparency=RED))
    deep = scene().astype(np.uint16) * 257
    yield Legal("PNG, 16-bit RGB", PNG, cv2.imencode(".png", deep[:, :, ::-1])[1].tobytes())
    yield Legal(
        "PNG, 16-bit RGBA", PNG, cv2.imencode(".png", np.dstack([deep[:, :, ::-1], deep[:, :, 0]]))[1].tobytes()
    )
    yield Legal("PNG, 16-bit grey", PNG, cv2.imencode(".png", deep[:, :, 0])[1].tobytes(), box=None)
    yield Legal("PNG, interlaced", PNG, _interlaced(scene()))
    yield Legal("PNG with a text", PNG, png_with(save(rgb, "PNG"), b"tEXt", b"Comment\0" + b"x" * 5000))
    yield Legal("WebP", WEBP, save(rgb, "WEBP", quality=95))
    yield Legal("WebP, RGBA", WEBP, save(clear, "WEBP", lossless=True, exact=True))


def png_chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG, with its length and checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(png: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    return png[:33] + png_chunk(name, content) + png[33:]


def _interlaced(rgb: Pixels) -> bytes:
    """Adam7: seven passes over ever denser grids."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in rgb[y::dy, x::dx])
    height, width = rgb.shape[:2]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def _several_frames() -> Iterator[Legal]:
    """Of an animation or a stereo picture the first frame counts."""
    first, blank = Image.fromarray(scene()), Image.new("RGB", SIZE_WH, GREY)
    yield Legal("animated PNG", PNG, save(first, "PNG", save_all=True, append_images=[blank] * 5, duration=40))
    animation = {"save_all": True, "append_images": [blank] * 5, "duration": 40, "lossless": True}
    yield Legal("animated WebP", WEBP, save(first, "WEBP", **animation))
    yield Legal("MPO", JPEG, save(first, "MPO", save_all=True, append_images=[blank], quality=95, subsampling=0))


def _narrow() -> Iterator[Legal]:
    dot = Image.new("RGB", (1, 1), RED)
    for form, media in (("JPEG", JPEG), ("PNG", PNG), ("WEBP", WEBP)):
        yield Legal(f"1 x 1 {form}", media, save(dot, form), (1, 1), (0, 0, 1, 1))
    for size_wh in ((1, 3000), (3000, 1), (60000, 1), (1, 60000)):
        strip = Image.new("RGB", size_wh, RED)
        yield Legal(f"{size_wh} JPEG", JPEG, save(strip, "JPEG"), size_wh, (0, 0, *size_wh))
        yield Legal(f"{size_wh} PNG", PNG, save(strip, "PNG"), size_wh, (0, 0, *size_wh))


def large_pictures() -> Iterator[Legal]:
    """The largest that are accepted by default, about."""
    large = (7680, 3840)
    box = tuple(60.0 * value for value in CAR)
    image = Image.fromarray(scene(large))
    for form, media in (("JPEG", JPEG), ("PNG", PNG)):
        options = {"compress_level": 1} if form == "PNG" else {}
        yield Legal(f"8k {form}", media, save(image, form, **options), large, box)  # type: ignore[arg-type]


def one_frame() -> bytes:
    """The scene as a plain JPEG."""
    return save(Image.fromarray(scene()), "JPEG", quality=90)


def problem_with_boxes(one: Legal, status: int, body: bytes) -> str:
    """What is wrong about an answer of the fake model: empty if size and box are those of the image."""
    if status != 200:
        return f"status {status}: {body[:200]!r}"
    answer = json.loads(body)
    size = answer["image"]["width"], answer["image"]["height"]
    if size != one.size_wh:
        return f"{size} instead of {one.size_wh}"
    boxes = [found["box"] for found in answer["detections"] if found["class_id"] == 0]
    if one.box is None:
        return f"found {boxes}" if boxes else ""
    if len(boxes) != 1:
        return f"found {boxes}, expected {one.box}"
    tolerance = TOLERANCE_PX * max(one.size_wh[0] / 128, one.size_wh[1] / 64, 1.0)
    found = tuple(boxes[0][side] for side in ("x1", "y1", "x2", "y2"))
    off = max(abs(mine - theirs) for mine, theirs in zip(found, one.box, strict=True))
    return f"{found} instead of {one.box}" if off > tolerance else ""
