"""What an image file's first bytes say: format, size and orientation, read before anything is decoded or allocated."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from bentos.detector.errors import BadImage

Format = Literal["jpeg", "png", "webp"]

_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # among 0xC0..0xCF: Huffman tables, reserved, arithmetic conditioning
_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length
_MAX_SEGMENTS = 10_000  # a walk over millions of empty ones would keep every other thread waiting


@dataclass(frozen=True)
class ImageHeader:
    """`size_wh` is the size as stored, px. `orientation` (EXIF, 1..8) says how it is turned for display.

    The orientation is read for JPEG only. `plain`: 8 bits a sample, and one or three components.
    """

    format: Format
    size_wh: tuple[int, int]
    orientation: int = 1
    plain: bool = True


def read_header(data: bytes) -> ImageHeader:
    """Read the header of a JPEG, PNG or WebP file, whatever its name or content type says.

    Raises:
        BadImage: It is empty, is none of these, ends before its size, or is cut into very many parts.
    """
    if not data:
        raise BadImage("the body is empty; send the bytes of a JPEG, PNG or WebP image")
    try:
        if data.startswith(b"\xff\xd8\xff"):
            header = _read_jpeg(data)
        elif data.startswith(b"\x89PNG\r\n\x1a\n"):
            header = _read_png(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            header = _read_webp(data)
        else:
            raise BadImage(f"this is no JPEG, PNG or WebP image: it starts with {data[:8].hex(' ')}")
    except (struct.error, IndexError):
        raise BadImage("the image is truncated: it ends within its header") from None
    if 0 in header.size_wh:
        raise BadImage(f"the image's header says {header.size_wh[0]} x {header.size_wh[1]} pixels")
    return header


def _read_jpeg(data: bytes) -> ImageHeader:
    offset, orientation = 2, 1
    for _ in range(_MAX_SEGMENTS):
        offset = data.find(b"\xff", offset)
        if offset < 0:
            raise BadImage("the image is truncated: a JPEG without a frame header")
        marker = data[offset + 1]
        if marker == 0xFF:  # filling
            offset += 1
            continue
        offset += 2
        if marker in _ALONE or marker == 0:
            continue
        if marker in (0xD9, 0xDA):
            raise BadImage("the JPEG has no frame header before its pixels")
        (length,) = struct.unpack_from(">H", data, offset)
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            bits, height, width, num_components = struct.unpack_from(">BHHB", data, offset + 2)
            return ImageHeader("jpeg", (width, height), orientation, bits == 8 and num_components in (1, 3))
        if marker == 0xE1 and data.startswith(_EXIF, offset + 2):
            orientation = _read_orientation(data[offset + 2 + len(_EXIF) : offset + length])
        offset += max(length, 2)
    raise BadImage(f"the JPEG has no frame header among its first {_MAX_SEGMENTS} segments")


def _read_orientation(tiff: bytes) -> int:
    """Orientation in the first directory of a TIFF block; 1 where it is absent or damaged, as viewers do."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (num_entries,) = struct.unpack_from(order + "H", tiff, start)
        for index in range(num_entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return value if kind == 3 and count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _read_png(data: bytes) -> ImageHeader:
    length, name, width, height = struct.unpack_from(">I4sII", data, 8)
    if name != b"IHDR" or length != 13:
        raise BadImage("the PNG does not start with its header chunk")
    _require_few_chunks(data)
    return ImageHeader("png", (width, height))


def _require_few_chunks(data: bytes) -> None:
    offset = 8
    for _ in range(_MAX_SEGMENTS):
        if offset + 8 > len(data):
            return
        offset += 12 + int.from_bytes(data[offset : offset + 4], "big")
    raise BadImage(f"the PNG has more than {_MAX_SEGMENTS} chunks; save it anew")


def _read_webp(data: bytes) -> ImageHeader:
    chunk = data[12:16]
    if chunk == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return ImageHeader("webp", (low_w + (high_w << 16) + 1, low_h + (high_h << 16) + 1))
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader("webp", ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("webp", (width & 0x3FFF, height & 0x3FFF))
    raise BadImage(f"the WebP starts with an unknown chunk {chunk!r}")
