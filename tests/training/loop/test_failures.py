"""What exceptions of PyTorch, OpenCV and Ultralytics are told as."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from flows.errors import DataError, MemoryShort, OutsideError, ParamsError, TcaError
from flows.training.loop.failures import explained, is_disk_full, os_error_of, told_of_full_disk


class _OfOpenCV(Exception):
    __module__ = "cv2"


@pytest.mark.parametrize(
    ("raised", "expected", "told"),
    [
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
            MemoryShort,
            "Tried to allocate 2.00 GiB",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), MemoryShort, "can't allocate"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"), MemoryShort, "memory is short"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), MemoryShort, "memory is short"),
        (RuntimeError("CUDA error: out of memory"), MemoryShort, "memory is short"),
        (_OfOpenCV("OpenCV(4) Insufficient memory: Failed to allocate 99 bytes"), MemoryShort, "memory is short"),
        (MemoryError(), MemoryShort, "memory is short"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), OutsideError, r"fewer train\.workers"),
        (RuntimeError("No valid images found in x.cache"), DataError, "no usable frame"),
    ],
)
def test_what_can_be_acted_on_is_told(raised: Exception, expected: type[TcaError], told: str) -> None:
    with pytest.raises(expected, match=told) as caught, explained():
        raise raised
    assert type(caught.value) is expected
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize(
    "raised", [RuntimeError("mat1 and mat2 cannot be multiplied"), ValueError("out of memory"), ParamsError("wrong")]
)
def test_other_exceptions_pass(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, explained():
        raise raised
    assert caught.value is raised


def test_a_full_disk_is_told_with_what_it_needs() -> None:
    with (
        pytest.raises(OutsideError, match=r"need 3 MB in results\. Free 3 MB"),
        told_of_full_disk(Path("results"), 2_000_001),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), told_of_full_disk(Path("results"), 1):
        raise PermissionError(errno.EACCES, "denied")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_that_is_used_up_is_a_full_disk(number: int) -> None:
    assert is_disk_full(OSError(number, "full"))
    assert not is_disk_full(OSError(errno.EIO, "broken"))
    assert not is_disk_full(RuntimeError("other"))


def test_the_error_of_the_system_is_found_under_that_of_pytorch() -> None:
    cause, other = OSError(errno.EIO, "broken"), ValueError("other")
    hiding, plain = RuntimeError("unexpected pos"), RuntimeError("other")
    hiding.__context__, plain.__context__, other.__context__ = cause, ValueError(), cause
    assert os_error_of(hiding) is os_error_of(cause) is cause
    assert os_error_of(plain) is os_error_of(other) is None


def test_a_disk_that_fills_up_under_pytorch_is_told_as_full() -> None:
    import torch

    class Filling(io.BytesIO):
        def write(self, content: Any) -> int:
            if self.tell() > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    with pytest.raises(OutsideError, match="the disk is full"), told_of_full_disk(Path("results"), 1):
        torch.save({"weights": torch.zeros(10_000)}, Filling())
    with pytest.raises(RuntimeError, match="other"), told_of_full_disk(Path("results"), 1):
        raise RuntimeError("other")
