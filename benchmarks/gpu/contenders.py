"""Who competes, each opened, measured and closed by itself; what cannot run here says why.

Every function yields cases, and raises `Absent` when its library, or what it needs, is not there.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.bundle import PRECISIONS, Bundle
from benchmarks.gpu.cases import Case, measure


class Absent(Exception):
    """A part that this machine cannot run, and why."""


def run_torch(
    bundle: Bundle, precision: str, mode: Any, sizes: Sequence[int], seconds: float, device: str
) -> Iterator[Case]:
    """PyTorch in `precision`, one batch size after another."""
    try:
        import torch

        from benchmarks.gpu.torch_runs import TorchEngine, load_program
    except ImportError as error:
        raise Absent(f"there is no {error.name}") from None
    program = load_program(bundle, precision, device)
    for size in sizes:
        before = _free_bytes(device)
        engine = TorchEngine(program, bundle.notes.size_wh, (size,), mode, device)
        try:
            yield measure(
                torch_name(precision, mode), engine, bundle, size, seconds,
                gpu_ms=engine.gpu_ms(size), memory_mb=_taken_mb(before, device),
            )  # fmt: skip
        finally:
            engine.close()
    del program
    if device != "cpu":
        torch.cuda.empty_cache()


def torch_name(precision: str, mode: str) -> str:
    """How a way of PyTorch is called in the table."""
    return f"PyTorch {precision}, {'CUDA graph' if mode == 'graph' else 'kernel by kernel'}"


def run_onnxruntime(bundle: Bundle, sizes: Sequence[int], seconds: float, device: str) -> Iterator[Case]:
    """ONNX Runtime through the detector's own engine: CUDA, or the CPU in a dry run."""

    def build(folder: Path) -> Any:
        import onnxruntime

        if device == "cpu":
            gpu = "CPU"
        elif "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            gpu = _gpu_name()
        else:
            raise Absent("this onnxruntime has no CUDA provider: that is onnxruntime-gpu")
        from bentos.detector.contract import EngineSpec

        return EngineSpec(kind="onnxruntime", file="model.onnx", device=gpu)

    yield from _run_engine(f"ONNX Runtime fp32, {device.upper()}", build, bundle, sizes, seconds, device)


def run_tensorrt(bundle: Bundle, precision: str, sizes: Sequence[int], seconds: float, device: str) -> Iterator[Case]:
    """TensorRT, built here by the export's own code, through the detector's own engine."""
    if device == "cpu":
        raise Absent("TensorRT needs a GPU")

    def build(folder: Path) -> Any:
        from flows.errors import EngineUnavailable
        from flows.exporting.tensorrt_build import build_tensorrt

        try:
            return build_tensorrt(
                folder / "model.onnx", folder, precision, bundle.notes.size_wh,  # type: ignore[arg-type]
                folder.parent / "timing.cache", bundle.inputs,
            )  # fmt: skip
        except EngineUnavailable as error:
            raise Absent(str(error)) from None

    yield from _run_engine(f"TensorRT {precision}", build, bundle, sizes, seconds, device)


def _run_engine(
    name: str, build: Callable[[Path], Any], bundle: Bundle, sizes: Sequence[int], seconds: float, device: str
) -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            from bentos.detector.engines import load_engine
            from bentos.detector.errors import LoadError

            spec = _write_model(Path(folder, "model"), bundle, build)
            before = _free_bytes(device)
            engine = load_engine(Path(folder, "model"), spec)
        except ImportError as error:
            raise Absent(f"there is no {error.name}") from None
        except LoadError as error:
            raise Absent(str(error)) from None
        try:
            for size in sizes:
                if size <= engine.max_batch:
                    engine.infer(bundle.inputs[: min(size, len(bundle.inputs))])
                    memory_mb = _taken_mb(before, device)
                    yield measure(name, engine, bundle, size, seconds, memory_mb=memory_mb)
        finally:
            engine.close()


def _write_model(folder: Path, bundle: Bundle, build: Callable[[Path], Any]) -> Any:
    """A model directory from the bundle. Raises ImportError where the detector's packages are not installed."""
    from bentos.detector.contract import InputSpec, ModelSpec, Thresholds, file_sha256, write_spec

    folder.mkdir()
    shutil.copyfile(bundle.onnx_file, folder / "model.onnx")
    engine, notes = build(folder), bundle.notes
    return write_spec(
        folder,
        ModelSpec(
            name=notes.name,
            classes=notes.classes,
            input=InputSpec(size_wh=notes.size_wh),
            thresholds=Thresholds(conf=0.25, iou=0.6, max_det=min(100, notes.top_k)),
            top_k=notes.top_k,
            engine=engine,
            files={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
        ),
    )


def _gpu_name() -> str:
    from bentos.detector.engines.cuda import device_name, load_cuda

    return device_name(load_cuda("ONNX Runtime with CUDA"))


def _free_bytes(device: str) -> int:
    if device == "cpu":
        return 0
    import torch

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info()[0])


def _taken_mb(before: int, device: str) -> float | None:
    """GPU memory that went since `before`, by the driver's own count."""
    if device == "cpu":
        return None
    import torch

    torch.cuda.synchronize()
    return max(0.0, (before - torch.cuda.mem_get_info()[0]) / 1e6)


def list_runs(
    bundle: Bundle, sizes: Sequence[int], seconds: float, device: str
) -> list[tuple[str, Callable[[], Iterator[Case]]]]:
    """Everyone, by name, in the order in which they are measured."""
    runs: list[tuple[str, Callable[[], Iterator[Case]]]] = []
    for mode in ("kernels", "graph"):
        for precision in PRECISIONS:
            runs.append(
                (
                    torch_name(precision, mode),
                    lambda p=precision, m=mode: run_torch(bundle, p, m, sizes, seconds, device),  # type: ignore[misc]
                )
            )
    runs.append(("ONNX Runtime fp32", lambda: run_onnxruntime(bundle, sizes, seconds, device)))
    for precision in (*PRECISIONS, "int8"):
        runs.append(
            (
                f"TensorRT {precision}",
                lambda p=precision: run_tensorrt(bundle, p, sizes, seconds, device),  # type: ignore[misc]
            )
        )
    return runs
