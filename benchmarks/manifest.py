"""How many images a second the manifest takes in, and how many the same threads could decode and do nothing else."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT, Result, median, new_parser, publish, read_machine, read_versions
from bentos.detector.imaging import decode_image
from flows.dataset.inspection import decode_rgb
from flows.dataset.layout import Dataset, read_dataset
from flows.dataset.manifest import build_manifest
from flows.dataset.scene import render_dataset
from flows.machine import count_cores
from flows.params_file import read_params

_HEADERS = ("what, on the same threads", "images/s", "ms an image and core", "manifest / this")


def main() -> int:
    parser = new_parser("manifest", (__doc__ or "").split("\n")[0])
    parser.add_argument("-S", dest="overrides", action="append", default=[], help="another value than in params.yaml")
    given = parser.parse_args()
    machine = read_machine()
    params = read_params(ROOT / "params.yaml", given.overrides)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        root = Path(folder, "data")
        render_dataset(root, params.render, params.seed)
        render_s = time.perf_counter() - began
        dataset = read_dataset(root)
        rates = _measure(dataset, given.rounds)
        num_bytes = sum((root / frame.image).stat().st_size for frame in dataset.frames)
    figures = _figures(rates, dataset, num_bytes, render_s)
    share = figures["ways"]["decode, Pillow"]["manifest_share"]
    result = Result(
        name="manifest",
        sentence=f"The manifest takes in {figures['ways']['manifest']['rate']:.0f} images/s, {share:.0%} of what its "
        "decoder alone does.",
        headers=_HEADERS,
        rows=[
            [way, f"{of['rate']:.0f}", f"{of['core_ms']:.2f}", f"{of['manifest_share']:.2f}"]
            for way, of in figures["ways"].items()
        ],
        settings={"rounds": given.rounds, "render": params.render.model_dump(), "threads": count_cores()},
        figures=figures,
        machine=machine,
        versions=read_versions("numpy", "pillow", "pandas", "simplejpeg", "opencv-python-headless"),
    )
    publish(result, given.results)
    return 0


def _measure(dataset: Dataset, rounds: int) -> dict[str, list[float]]:
    """Images a second of each way, the ways taking turns; a first turn, which fills the caches, does not count."""
    num_threads = count_cores()
    ways: dict[str, Callable[[], Any]] = {
        "manifest": lambda: build_manifest(dataset, num_threads),
        "decode, Pillow": lambda: _decode_all(dataset, num_threads, decode_rgb),
        "decode, libjpeg-turbo": lambda: _decode_all(dataset, num_threads, decode_image),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, work in ways.items():
            began = time.perf_counter()
            work()
            if turn:
                rates[way].append(len(dataset.frames) / (time.perf_counter() - began))
    return rates


def _decode_all(dataset: Dataset, num_threads: int, decode: Callable[[bytes], Any]) -> None:
    def read(image: str) -> None:
        decode((dataset.root / image).read_bytes())

    with ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(read, [frame.image for frame in dataset.frames]):
            pass


def _figures(rates: dict[str, list[float]], dataset: Dataset, num_bytes: int, render_s: float) -> dict[str, Any]:
    """Medians over the turns; ratios are formed within a turn."""
    return {
        "num_images": len(dataset.frames),
        "mean_image_kb": num_bytes / len(dataset.frames) / 1000,
        "render_images_per_s": len(dataset.frames) / render_s,
        "ways": {
            way: {
                "rate": median(own),
                "core_ms": median(1000 * count_cores() / rate for rate in own),
                "manifest_share": median(m / rate for m, rate in zip(rates["manifest"], own, strict=True)),
            }
            for way, own in rates.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
