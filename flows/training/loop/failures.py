"""What an exception out of PyTorch, OpenCV or Ultralytics means for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.errors import DataError, MemoryShort, OutsideError, TcaError

# Texts of PyTorch 2, CUDA's libraries and OpenCV 4. CUDA's own OutOfMemoryError is a RuntimeError, too.
_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "insufficient memory",
    "std::bad_alloc",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)
_LOADER_DEATHS = ("exited unexpectedly", "is killed by signal")


@contextmanager
def explained() -> Iterator[None]:
    """Raise what the user can act on instead of what PyTorch and Ultralytics say; other exceptions pass unchanged."""
    try:
        yield
    except Exception as error:
        meaning = None if isinstance(error, TcaError) else explain(error)
        if meaning is None:
            raise
        raise meaning from error


def explain(error: Exception) -> TcaError | None:
    """The error that `error` means; None where there is no better one."""
    text = str(error)
    if is_memory_short(error):
        return MemoryShort(f"memory is short: {text.splitlines()[0]}" if text else "memory is short")
    if isinstance(error, RuntimeError) and any(death in text for death in _LOADER_DEATHS):
        return OutsideError(
            "a process that loads frames was killed", "Was memory short? Try fewer train.workers, or train.cache: disk"
        )
    if isinstance(error, RuntimeError) and "No valid images" in text:
        return DataError("Ultralytics found no usable frame with labels", "Run: tca validate")
    return None


def is_memory_short(error: Exception) -> bool:
    """Whether an allocation failed, on a GPU or in main memory."""
    known = isinstance(error, RuntimeError) or type(error).__module__.startswith("cv2")
    text = str(error).lower()
    return isinstance(error, MemoryError) or (known and any(part in text for part in _MEMORY_TEXTS))


def os_error_of(error: Exception) -> OSError | None:
    """The system's error that `error` is or hides: PyTorch's archive writer tells a failed write as one of its own."""
    cause = error.__context__ if isinstance(error, RuntimeError) else error
    return cause if isinstance(cause, OSError) else None


def is_disk_full(error: Exception) -> bool:
    """Whether a write found no room, on the disk or within the user's share of it."""
    cause = os_error_of(error)
    return cause is not None and cause.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def told_of_full_disk(directory: Path, needed_bytes: int) -> Iterator[None]:
    """Say how much room the results need where there is none. Raises OutsideError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        needed_mb = -(-needed_bytes // 1_000_000)
        raise OutsideError(
            f"the disk is full: the results of the training need {needed_mb} MB in {directory}",
            f"Free {needed_mb} MB; the same command goes on from the last epoch",
        ) from error
