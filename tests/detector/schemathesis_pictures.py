"""Loaded by schemathesis: bodies that are pictures, since a schema cannot say what makes a JPEG.

SCHEMATHESIS_HOOKS=tests.detector.schemathesis_pictures st run http://127.0.0.1:3000/openapi.json
"""

from __future__ import annotations

from io import BytesIO

import schemathesis
from hypothesis import strategies as st
from PIL import Image

SIZES_WH = ((64, 32), (33, 200), (1, 1))


def picture(form: str, size_wh: tuple[int, int]) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size_wh, (200, 0, 0)).save(buffer, form)
    return buffer.getvalue()


for form in ("jpeg", "png", "webp"):
    schemathesis.openapi.media_type(f"image/{form}", st.sampled_from([picture(form, size) for size in SIZES_WH]))
