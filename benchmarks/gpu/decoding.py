"""JPEGs to pixels: on the host as the service does it, on more and more threads, and on the GPU by nvJPEG."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.gpu.contenders import Absent
from benchmarks.report import measure_rate
from flows.machine import count_cores


def decode_on_host(frames: Sequence[bytes], seconds: float) -> dict[str, float]:
    """Frames a second by decoder and number of threads: 1, 2, 4, ... up to the cores. Raises Absent."""
    name, decode = _find_decoder()
    supply = itertools.cycle(frames)

    def step() -> int:
        decode(next(supply))
        return 1

    threads = [1 << power for power in range(count_cores().bit_length()) if 1 << power <= count_cores()]
    return {
        f"{name}, threads {number}": measure_rate(step, seconds, number) for number in sorted({*threads, count_cores()})
    }


def _find_decoder() -> tuple[str, Callable[[bytes], Any]]:
    """The service's own, or torchvision's: both are libjpeg-turbo."""
    try:
        import simplejpeg

        return "simplejpeg", lambda frame: simplejpeg.decode_jpeg(frame, "RGB")
    except ImportError:
        pass
    try:
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:
        raise Absent("there is neither simplejpeg nor torchvision") from None
    return "torchvision", lambda frame: decode_jpeg(
        torch.frombuffer(bytearray(frame), dtype=torch.uint8), mode=ImageReadMode.RGB
    )


def decode_on_gpu(frames: Sequence[bytes], seconds: float, device: str) -> dict[str, float]:
    """Frames a second of torchvision's nvJPEG by batch size, and how far its pixels are from the host's.

    Raises:
        Absent: There is no GPU, no torchvision, or it was built without nvJPEG.
    """
    if device == "cpu":
        raise Absent("nvJPEG needs a GPU")
    try:
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError as error:
        raise Absent(f"there is no {error.name}") from None
    encoded = [torch.from_numpy(np.frombuffer(frame, dtype=np.uint8).copy()) for frame in frames]

    def decode(batch: int) -> Any:
        part = [encoded[index % len(encoded)] for index in range(batch)]
        return decode_jpeg(part, mode=ImageReadMode.RGB, device=device)

    try:
        pixels = decode(1)[0].cpu().to(torch.int16)
    except RuntimeError as error:
        raise Absent(f"nvJPEG does not start: {' '.join(str(error).split())}") from None
    on_host = decode_jpeg(encoded[0], mode=ImageReadMode.RGB).to(torch.int16)
    found = {"mean_difference_of_pixels": float((pixels - on_host).abs().float().mean())}
    for batch in (1, 8, 32):

        def step(batch: int = batch) -> int:
            decode(batch)
            torch.cuda.synchronize()
            return batch

        found[f"batch {batch}"] = measure_rate(step, seconds)
    return found
