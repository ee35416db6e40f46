"""The pass over all images: beside decoding alone, a second time, after a new checkout, and with 100,000 files."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

from benchmarks.report import ROOT, Result, median, new_parser, publish, read_machine, read_versions
from bentos.detector.imaging import decode_image
from flows.dataset.layout import Dataset, Frame, read_dataset, write_data_yaml, write_frames
from flows.dataset.manifest.decoding import decode_grey, decode_rgb
from flows.dataset.manifest.update import update_manifest
from flows.dataset.rendering.scene import render_dataset
from flows.machine import count_cores
from flows.params_file import read_params

_HEADERS = ("set", "what, on all cores", "images/s", "ms an image and core", "first pass / this")
_LARGER_WH, _NUM_LARGER = (1280, 720), 256
_SETTLE_S = 2.5  # a file this old is known by its times alone
_MANY = (5_000, 100_000)
_NUM_PICTURES = 500  # different ones among the many
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "decode as the pass does": decode_grey,
    "decode to RGB, libjpeg-turbo": decode_image,
    "decode to RGB, Pillow": decode_rgb,
}


def main() -> int:
    parser = new_parser("manifest", (__doc__ or "").split("\n")[0])
    parser.add_argument("-S", dest="overrides", action="append", default=[], help="another value than in params.yaml")
    parser.add_argument(
        "--many", type=int, nargs=2, default=_MANY, help="numbers of small files (default: %(default)s)"
    )
    given = parser.parse_args()
    machine = read_machine()
    params = read_params(ROOT / "params.yaml", given.overrides)
    sets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        demo, larger = Path(place, "demo"), Path(place, "larger")
        render_dataset(demo, params.render, params.seed)
        _write_larger(read_dataset(demo), larger)
        for name, root in (("demo", demo), ("1280x720", larger)):
            sets[name] = _measure(read_dataset(root), Path(place, "pass"), given.rounds)
            shutil.rmtree(root)
        many = [_measure_many(Path(place, "many"), number) for number in given.many]
    figures = {"sets": sets, "many": many, "bytes_per_image": _growth(many)}
    result = Result(
        name="manifest",
        sentence=_sentence(figures),
        headers=_HEADERS,
        rows=list(_rows(sets, many)),
        settings={"rounds": given.rounds, "render": params.render.model_dump(), "threads": count_cores()},
        figures=figures,
        machine=machine,
        versions=read_versions("numpy", "pillow", "pyarrow", "simplejpeg", "opencv-python-headless"),
    )
    publish(result, given.results)
    return 0


def _write_larger(dataset: Dataset, root: Path) -> None:
    """The first frames of `dataset` at the size that cameras send: to draw so large takes minutes."""
    frames = dataset.frames[:_NUM_LARGER]
    for frame in frames:
        for file in (frame.image, frame.label):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
        rgb = decode_rgb((dataset.root / frame.image).read_bytes())[0]
        larger = cv2.resize(rgb, _LARGER_WH, interpolation=cv2.INTER_CUBIC)
        (root / frame.image).write_bytes(simplejpeg.encode_jpeg(larger, 90, "RGB", "420"))
        shutil.copy(dataset.root / frame.label, root / frame.label)
    write_data_yaml(root, dataset.classes)
    write_frames(root, frames)


def _measure(dataset: Dataset, place: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each way, the ways taking turns; a first turn, which fills the caches, does not count."""
    seconds: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        for way, spent in _turn(dataset, place):
            seconds.setdefault(way, [])
            if turn:
                seconds[way].append(spent)
    number = len(dataset.frames)
    firsts = seconds["first pass"]
    return {
        "num_images": number,
        "mean_image_kb": sum((dataset.root / one.image).stat().st_size for one in dataset.frames) / number / 1000,
        "ways": {
            way: {
                "rate": number / median(own),
                "core_ms": 1000 * count_cores() * median(own) / number,
                # ratios are formed within a turn
                "pass_share": median(other / first for other, first in zip(own, firsts, strict=True)),
            }
            for way, own in seconds.items()
        },
    }


def _turn(dataset: Dataset, place: Path) -> Iterator[tuple[str, float]]:
    shutil.rmtree(place, ignore_errors=True)
    for frame in dataset.frames:
        os.utime(dataset.root / frame.image)
    time.sleep(_SETTLE_S)
    for way, decode in _DECODERS.items():
        yield way, _timed(lambda decode=decode: _decode_all(dataset, decode))  # type: ignore[misc]
    yield "first pass", _timed(lambda: update_manifest(dataset, place / "manifest", place / "parts"))
    yield "second pass", _timed(lambda: update_manifest(dataset, place / "manifest", place / "parts"))
    for frame in dataset.frames:
        os.utime(dataset.root / frame.image)
    yield "pass after a new checkout", _timed(lambda: update_manifest(dataset, place / "manifest", place / "parts"))


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _decode_all(dataset: Dataset, decode: Callable[[bytes], Any]) -> None:
    def read(image: str) -> None:
        decode((dataset.root / image).read_bytes())

    with ThreadPoolExecutor(count_cores()) as pool:
        for _ in pool.map(read, [frame.image for frame in dataset.frames]):
            pass


def _measure_many(root: Path, number: int) -> dict[str, Any]:
    """Two passes over many small files, in a process of its own, so that its peak of memory is that of the pass."""
    _write_many(root, number)
    time.sleep(_SETTLE_S)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(_pass_many, root).result()
    shutil.rmtree(root)
    return {"num_images": number, **found}


def _write_many(root: Path, number: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(_NUM_PICTURES):
        stream = BytesIO()
        Image.fromarray(rng.integers(0, 256, (36, 64, 3), dtype=np.uint8)).save(stream, "JPEG", quality=50)
        pictures.append(stream.getvalue())
    frames = [Frame(f"images/train/{index:06}.jpg", "train", "camera", "", "", "day") for index in range(number)]
    for folder in ("images", "labels"):
        (root / folder / "train").mkdir(parents=True)
    for index, frame in enumerate(frames):
        (root / frame.image).write_bytes(pictures[index % _NUM_PICTURES])
        (root / f"labels/train/{index:06}.txt").write_bytes(b"0 0.5 0.5 0.1 0.1\n0 0.3 0.3 0.1 0.1\n")
    write_data_yaml(root, ("car",))
    write_frames(root, frames)


def _pass_many(root: Path) -> dict[str, Any]:
    import pyarrow.parquet  # noqa: F401 - loaded before memory is looked at

    dataset = read_dataset(root)
    before = _peak_bytes()
    first = _timed(lambda: update_manifest(dataset, root / "manifest", root / "parts"))
    peak = _peak_bytes()
    second = _timed(lambda: update_manifest(dataset, root / "manifest", root / "parts"))
    return {"first_s": first, "second_s": second, "peak_mb": peak / 1e6, "peak_of_pass_mb": (peak - before) / 1e6}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _growth(many: list[dict[str, Any]]) -> float:
    """Bytes by which the peak of a pass grows with each image."""
    few, most = many[0], many[-1]
    grown = most["peak_of_pass_mb"] - few["peak_of_pass_mb"]
    return 1e6 * grown / max(1, most["num_images"] - few["num_images"])


def _rows(sets: dict[str, Any], many: list[dict[str, Any]]) -> Iterator[list[str]]:
    for name, found in sets.items():
        for way, of in found["ways"].items():
            yield [name, way, f"{of['rate']:.0f}", f"{of['core_ms']:.3f}", f"{of['pass_share']:.2f}"]
    for found in many:
        number, first = found["num_images"], found["first_s"]
        for way, spent in (("first pass", first), ("second pass", found["second_s"])):
            core_ms = 1000 * count_cores() * spent / number
            yield [f"{number:,} of 64x36", way, f"{number / spent:.0f}", f"{core_ms:.3f}", f"{spent / first:.2f}"]


def _sentence(figures: dict[str, Any]) -> str:
    ways = figures["sets"]["1280x720"]["ways"]
    own, rgb = (ways[name]["pass_share"] for name in ("decode as the pass does", "decode to RGB, libjpeg-turbo"))
    times = min(1 / found["ways"]["second pass"]["pass_share"] for found in figures["sets"].values())
    return (
        f"Of 1280x720 the pass takes in {ways['first pass']['rate']:.0f} images/s: {rgb:.0%} of the rate of decoding "
        f"to RGB and nothing else, {own:.0%} of that of its own decoding. A second pass over unchanged files is at "
        f"least {times:.0f} times as fast. Memory grows by {figures['bytes_per_image']:.0f} bytes an image."
    )


if __name__ == "__main__":
    sys.exit(main())
