"""A stack with a reigning champion, for promotions between real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.promotion.stack import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    one = Stack(tmp_path / "stack")
    try:
        one.enthrone("1")
        yield one
    finally:
        one.close()
