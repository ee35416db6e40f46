"""How a long step tells where it is: one callable, so that rooms need no terminal."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""`progress(done, total, note)`: `done` of `total` units are finished; `note` is a short live figure."""


def silent(done: int, total: int, note: str) -> None:
    """The `Progress` that says nothing."""
