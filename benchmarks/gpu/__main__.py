"""Measure the detector's graph on this machine's GPU: PyTorch, ONNX Runtime and TensorRT, whichever are there.

python -m benchmarks.gpu --weights W.pt               where the whole project is installed
python -m benchmarks.gpu --prepare FOLDER --weights W.pt     there, for a GPU machine without it
python -m benchmarks.gpu --from FOLDER                       on that machine: needs PyTorch and numpy
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.bundle import Bundle, BundleError, Notes, prepare, read_bundle
from benchmarks.gpu.cases import HEADERS, Case
from benchmarks.gpu.contenders import Absent, list_runs
from benchmarks.gpu.decoding import decode_on_gpu, decode_on_host
from benchmarks.gpu.facts import PACKAGES, read_facts
from benchmarks.gpu.ladder import climb
from benchmarks.report import RESULTS, Result, publish, read_versions
from flows.errors import TcaError

NO_GPU = 3


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 2: what was given is wrong; 3: there is no GPU."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        if given.prepare:
            notes = _prepare(given, given.prepare)
            print(f"written: {given.prepare} ({notes.name}, {notes.size_wh[0]} x {notes.size_wh[1]})")
            return 0
        if given.device == "cuda" and (obstacle := _find_obstacle()):
            print(f"error: {obstacle}. --device cpu tries the script without one", file=sys.stderr)
            return NO_GPU
        with tempfile.TemporaryDirectory() as folder:
            source = given.bundle or Path(folder)
            if not given.bundle:
                _prepare(given, source)
            bundle = read_bundle(source)
            result = _measure(bundle, given)
    except (BundleError, TcaError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _tell(result, given)
    return 0


def _parser() -> argparse.ArgumentParser:
    description, *_ = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=description)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, help="YOLO11 checkpoint (.pt)")
    source.add_argument("--model", type=Path, help="model directory with a weights.pt, as `tca export` writes it")
    source.add_argument("--from", dest="bundle", type=Path, help="folder that --prepare wrote")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="write what a GPU machine needs, and stop")
    parser.add_argument("--images", type=Path, help="folder of JPEGs (default: drawn frames)")
    parser.add_argument("--image-size", type=int, default=640, help="input of a checkpoint that does not say its own")
    parser.add_argument("--batches", type=_sizes, default=(1, 2, 4, 8, 16, 32), help="batch sizes (default: 1 to 32)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run, nothing is written")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text} is no list of batch sizes like 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


def _prepare(given: argparse.Namespace, folder: Path) -> Notes:
    if given.bundle:
        raise BundleError("--prepare makes what --from reads: give --weights or --model with it")
    weights = given.weights or given.model / "weights.pt"
    return prepare(weights, folder, given.image_size, given.images)


def _find_obstacle() -> str | None:
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed, and without it nothing is measured"
    if not torch.cuda.is_available():
        return f"no NVIDIA GPU here that PyTorch {torch.__version__} can use"
    return None


def _measure(bundle: Bundle, given: argparse.Namespace) -> Result:
    machine = read_facts()
    figures: dict[str, Any] = {"ceilings": _ceilings(given.device), "gflop_per_frame": bundle.notes.gflop_per_frame}
    missing: dict[str, str] = {}
    cases: list[Case] = []
    for name, run in list_runs(bundle, given.batches, given.seconds, given.device):
        cases += _collect(name, run, missing)
    parts: dict[str, Callable[[], Any]] = {
        "decode on the host": lambda: decode_on_host(bundle.frames, given.seconds),
        "decode on the GPU": lambda: decode_on_gpu(bundle.frames, given.seconds, given.device),
        "serving ladder": lambda: climb(
            bundle, "fp16" if given.device == "cuda" else "fp32", given.seconds, given.device
        ),
    }
    for name, part in parts.items():
        figures[name] = _attempt(name, part, missing)
    figures |= {"cases": [case.figures() for case in cases], "not_run": missing}
    return Result(
        name="gpu",
        sentence=_sentence(bundle, cases, machine, given.device),
        headers=HEADERS,
        rows=[case.row() for case in cases],
        settings={"batches": list(given.batches), "seconds": given.seconds, "device": given.device,
                  "bundle": asdict(bundle.notes)},
        figures=figures,
        machine=machine,
        versions=read_versions(*PACKAGES),
    )  # fmt: skip


def _ceilings(device: str) -> dict[str, float]:
    from benchmarks.gpu.torch_runs import measure_ceilings

    return measure_ceilings(device)


def _collect(name: str, run: Callable[[], Iterator[Case]], missing: dict[str, str]) -> list[Case]:
    """The cases of one contender; those before a failure count."""
    cases: list[Case] = []

    def gather() -> None:
        for case in run():
            cases.append(case)
            print("  ".join(case.row()), flush=True)

    _attempt(name, gather, missing)
    return cases


def _attempt(name: str, part: Callable[[], Any], missing: dict[str, str]) -> Any:
    """What `part` gives; None, and why in `missing`, where it does not run: one failure must not cost the rest."""
    try:
        return part()
    except Absent as error:
        missing[name] = str(error)
    except Exception as error:
        missing[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return None


def _sentence(bundle: Bundle, cases: list[Case], machine: dict[str, Any], device: str) -> str:
    sound = [case for case in cases if case.parity.passed]
    where = ", ".join(gpu["name"] for gpu in machine["gpus"]) if device == "cuda" else "the CPU (a dry run)"
    width, height = bundle.notes.size_wh
    if not sound:
        return f"On {where} nothing ran that finds the same boxes."
    best = max(sound, key=lambda case: case.frames_per_s)
    quickest = min(sound, key=lambda case: case.latency.p50_ms / case.batch if case.batch == 1 else float("inf"))
    return (
        f"On {where}, at {width} x {height}: {best.contender} computes {best.frames_per_s:.0f} frames/s "
        f"(batches of {best.batch}); {quickest.contender} answers a lone frame in {quickest.latency.p50_ms:.2f} ms."
    )


def _tell(result: Result, given: argparse.Namespace) -> None:
    print()
    if given.device == "cuda":
        publish(result, given.results)
    else:
        shown = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(shown):
            publish(result, Path(folder))
        print(shown.getvalue().split("\nwritten: ")[0])
        print("a dry run on the CPU: nothing is kept")
    others = {
        key: result.figures[key] for key in ("ceilings", "decode on the host", "decode on the GPU", "serving ladder")
    }
    for name, found in others.items():
        if found:
            print(f"{name}: {json.dumps({key: round(value, 2) for key, value in found.items()})}")
    for name, reason in result.figures["not_run"].items():
        print(f"not run: {name}: {reason}")


if __name__ == "__main__":
    sys.exit(main())
