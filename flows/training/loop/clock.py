"""The time of an epoch."""

from __future__ import annotations

import time


class Clock:
    """Seconds of an epoch: of its training, and in all. It can be put on, for an epoch that was broken off."""

    def __init__(self) -> None:
        self.reset()

    def reset(self, train_seconds: float = 0.0) -> None:
        """Begin an epoch that has already trained that long."""
        self._before, self._train_seconds = train_seconds, 0.0
        self._started = time.monotonic()

    def begin(self) -> None:
        """The training begins, or goes on."""
        self._started = time.monotonic()

    def pause(self) -> None:
        """The training of the epoch is done; validation follows."""
        self._train_seconds = self.seconds

    @property
    def seconds(self) -> float:
        """Since the epoch began."""
        return self._before + time.monotonic() - self._started

    @property
    def train_seconds(self) -> float:
        """Of the training alone, once it is done."""
        return self._train_seconds
