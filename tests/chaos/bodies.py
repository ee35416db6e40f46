"""Bodies that no decoder likes: damaged at random, or made with intent. What is random follows from the seed alone."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from tests.chaos.pictures import JPEG, PNG, WEBP, legal_pictures, png_chunk, png_with, save, scene

MEDIA = (JPEG, PNG, WEBP)
ODD_MEDIA = ("", "text/html", "image/gif", "image/jpeg; charset=\x80", "application/json", "multipart/form-data")
REFUSED = frozenset({400, 413})
ANY_ANSWER = frozenset({200, 400, 404, 405, 408, 411, 413, 415, 422, 431})


@dataclass(frozen=True)
class Body:
    """What is sent, and which statuses are right."""

    name: str
    data: bytes
    media: str = JPEG
    statuses: frozenset[int] = ANY_ANSWER


def damaged_bodies(num: int, seed: int) -> Iterator[Body]:
    """`num` bodies, each a legal image with something done to it."""
    dice = random.Random(seed)
    pool = [(one.media, one.data) for one in legal_pictures() if len(one.data) < 20_000]
    pool += [(JPEG, _noise(form)) for form in ("JPEG", "PNG", "WEBP")]
    for index in range(num):
        media, data = dice.choice(pool)
        damage = dice.choice(_DAMAGES)
        if dice.random() < 0.1:
            media = dice.choice(MEDIA + ODD_MEDIA)
        yield Body(f"{damage.__name__} {index}", damage(dice, data, dice.choice(pool)[1]), media)


def _noise(form: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    return save(Image.fromarray(pixels), form)


def truncated(dice: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def flipped(dice: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5, 30))):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def flipped_early(dice: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        changed[dice.randrange(min(64, len(changed)))] = dice.randrange(256)
    return bytes(changed)


def spliced(dice: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: dice.randrange(len(data))] + other[dice.randrange(len(other)) :]


def repeated(dice: random.Random, data: bytes, other: bytes) -> bytes:
    start = dice.randrange(len(data))
    part = data[start : start + dice.randrange(1, 200)]
    return data[:start] + part * dice.choice((2, 3, 50)) + data[start:]


def cut_out(dice: random.Random, data: bytes, other: bytes) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + data[start + dice.randrange(1, 200) :]


def overwritten(dice: random.Random, data: bytes, other: bytes) -> bytes:
    start = dice.randrange(len(data))
    filling = dice.choice((b"\0", b"\xff", b"\xff\xd9", b"\xff\xda", dice.randbytes(4)))
    return data[:start] + filling * dice.randrange(1, 40) + data[start + 40 :]


def other_length(dice: random.Random, data: bytes, other: bytes) -> bytes:
    """A length in the file's structure says something else: the two bytes after a JPEG's marker, or four of a PNG."""
    changed = bytearray(data)
    marks = [index for index in range(2, len(data) - 4) if data[index] == 0xFF and 0xC0 <= data[index + 1] < 0xFF]
    start = dice.choice(marks) + 2 if marks else dice.randrange(len(data))
    changed[start : start + 2] = dice.choice((b"\0\0", b"\0\1", b"\xff\xff", dice.randbytes(2)))
    return bytes(changed)


def wrapped(dice: random.Random, data: bytes, other: bytes) -> bytes:
    """Two things at once: a page, an archive or another image around or behind the image."""
    return dice.choice(
        (b"<html><script>" + data, b"PK\3\4" + data, data + b"PK\5\6" + other, data + other, b"\n" + data)
    )


def senseless(dice: random.Random, data: bytes, other: bytes) -> bytes:
    return dice.choice(
        (b"", b"\0" * dice.randrange(1, 2000), dice.randbytes(dice.randrange(1, 2000)), b"GIF89a" + data)
    )


def only_magic(dice: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: dice.choice((3, 8, 12, 16))] + dice.randbytes(dice.randrange(0, 400))


_DAMAGES = (
    truncated, flipped, flipped_early, spliced, repeated, cut_out, overwritten, other_length, wrapped, senseless,
    only_magic,
)  # fmt: skip


def bombs(quick: bool = False) -> Iterator[Body]:
    """Small bodies that ask for much memory or time; `quick`: for a little of it."""
    less = 20 if quick else 1
    for width, height in ((60000, 60000), (65535, 65535), (7000, 7000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1)):
        yield Body(f"PNG of {width} x {height}", _png(width, height, b""), PNG, REFUSED)
    yield Body("PNG that inflates beyond its rows", _png(16, 16, zlib.compress(bytes(200_000_000 // less))), PNG)
    side = 6000 // less
    yield Body("PNG of many pixels in few bytes", _png(side, side, zlib.compress(bytes((side + 1) * side), 9), 0), PNG)
    png = save(Image.fromarray(scene()), "PNG")
    bomb = zlib.compress(bytes(100_000_000 // less), 9)
    for name, head in ((b"iCCP", b"icc\0\0"), (b"zTXt", b"t\0\0"), (b"iTXt", b"t\0\1\0\0\0")):
        yield Body(f"PNG with a bomb in {name.decode()}", png_with(png, name, head + bomb), PNG)
        many = png[:33] + png_chunk(name, head + bomb[:100_000]) * 40 + png[33:]
        yield Body(f"PNG with forty bombs in {name.decode()}", many, PNG)
    yield Body("PNG of a hundred thousand chunks", png[:33] + png_chunk(b"teXt", b"") * 100_000 + png[33:], PNG)
    yield from _jpeg_bombs(less)
    yield from _webp_bombs()
    blank = Image.new("RGB", (64, 64), (9, 9, 9))
    frames = {
        "save_all": True,
        "append_images": [Image.new("RGB", (64, 64), (i % 256, 0, 0)) for i in range(1500 // less)],
    }
    yield Body("animated PNG of many frames", save(blank, "PNG", duration=1, **frames), PNG, frozenset({200}))
    yield Body("animated WebP of many frames", save(blank, "WEBP", duration=1, **frames), WEBP, frozenset({200}))


def _png(width: int, height: int, rows: bytes, colour: int = 2) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def _jpeg_bombs(less: int) -> Iterator[Body]:
    jpeg = save(Image.fromarray(scene()), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    for width, height in ((65535, 65535), (6300, 6300), (65535, 600)):
        grown = jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]
        yield Body(f"JPEG that says {width} x {height}", grown, JPEG, REFUSED)
    for mode, side in (("RGB", 64), ("RGB", 6000 // less), ("CMYK", 64), ("CMYK", 4000 // less), ("L", 6000 // less)):
        for num_scans in (60, 400, 5000):
            yield Body(f"{mode} JPEG of {side} px with {num_scans} scans", many_scans(mode, side, num_scans), JPEG)
    yield Body("JPEG of a hundred thousand comments", jpeg[:2] + b"\xff\xfe\0\2" * 100_000 + jpeg[2:], JPEG)
    yield Body("JPEG of a million filling bytes", jpeg[:2] + b"\xff" * 1_000_000 + jpeg[2:], JPEG)
    for tiff in (
        b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\1\0\0\0\x09\0\0\0" * 4000,
        b"MM\0*\0\0\0\x08\0\0\0\0\0\x08",
        b"II*\0\xff\xff\xff\xff",
    ):
        block = b"Exif\0\0" + tiff
        yield Body("JPEG with odd EXIF", jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:])


def many_scans(mode: str, side: int, num_scans: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again: each costs a walk over all blocks."""
    sink = BytesIO()
    Image.new(mode, (side, side)).save(sink, "JPEG", progressive=True)
    data = sink.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (num_scans - data.count(b"\xff\xda")) + data[-2:]


def _webp_bombs() -> Iterator[Body]:
    for width, height in ((16384, 16384), (2**24, 2**24)):
        extent = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunk = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + extent
        yield Body(f"WebP of {width} x {height}", b"RIFF" + struct.pack("<I", 30) + b"WEBP" + chunk, WEBP, REFUSED)
    small = save(Image.fromarray(scene()), "WEBP", lossless=True)
    extent = (6000).to_bytes(3, "little") * 2
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + extent
    yield Body("WebP whose canvas is not its image", small[:12] + canvas + small[12:], WEBP)
    yield Body("WebP with a wrong length", small[:4] + b"\xff\xff\xff\xff" + small[8:], WEBP)


def forms() -> Iterator[Body]:
    """Multipart forms, whole and broken."""
    jpeg = save(Image.fromarray(scene()), "JPEG", quality=90)
    kind = "multipart/form-data; boundary=line"
    head = b'--line\r\ncontent-disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    good = head + jpeg + b"\r\n--line--\r\n"
    yield Body("a form", good, kind, frozenset({200}))
    yield Body("a form with many fields", (b"--line\r\nx: y\r\n\r\nz\r\n" * 20_000) + good, kind, frozenset({200, 400}))
    refused = frozenset({400})
    for name, data, media in (
        ("no boundary", good, "multipart/form-data"),
        ("an empty boundary", good, "multipart/form-data; boundary="),
        ("another boundary", good, "multipart/form-data; boundary=other"),
        ("an endless boundary", good, "multipart/form-data; boundary=" + "b" * 5000),
        ("a boundary that is no text", good, "multipart/form-data; boundary=\xe9\xff"),
        ("no field", b"--line--\r\n", kind),
        ("another field", good.replace(b'"image"', b'"imago"'), kind),
        ("no name", good.replace(b'; name="image"', b""), kind),
        ("cut off", good[: len(good) // 2], kind),
        ("no last line", good[:-6], kind),
        ("a header without end", b"--line\r\n" + b"a" * 300_000, kind),
        ("a broken header", good.replace(b"content-disposition:", b"content\0disposition"), kind),
        ("an empty body", b"", kind),
        ("nothing but ends of lines", b"\r" * 1_000_000, kind),
        ("nothing but starts of boundaries", b"\r\n--lin" * 200_000, kind),
        ("a field without end", head + b"\r\n--lin" * 200_000, kind),
    ):
        yield Body(f"a form: {name}", data, media, refused)
