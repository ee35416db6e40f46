"""What every benchmark shares: facts about the machine, medians, one printed table, one JSON file."""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.machine import count_cores, read_cpu_flags, read_gpus, read_memory_gb, read_version

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_NOTABLE_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_tile", "asimd")
_BUSY_PERCENT = 15.0


@dataclass(frozen=True)
class Result:
    """What one benchmark found. `sentence` is the answer; `rows` are cells, ready to print."""

    name: str
    sentence: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    settings: dict[str, Any]
    figures: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str | None]
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def new_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument(
        "--rounds", type=_at_least_one, default=5, help="alternating repetitions (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def read_machine() -> dict[str, Any]:
    """What the figures depend on. Call it first: it looks for a second at what others do with the cores."""
    import psutil

    flags = read_cpu_flags()
    return {
        "cpu": _cpu_name(),
        "cores": count_cores(),
        "memory_gb": round(read_memory_gb(), 1),
        "instruction_sets": [flag for flag in _NOTABLE_FLAGS if flag in flags],
        "gpus": [asdict(gpu) for gpu in read_gpus()],
        "system": f"{platform.system()} {platform.machine()}",
        "busy_before_percent": psutil.cpu_percent(interval=1.0),
    }


def read_versions(*packages: str) -> dict[str, str | None]:
    """Python's version and those of `packages`."""
    return {"python": platform.python_version(), **{package: read_version(package) for package in packages}}


def publish(result: Result, folder: Path) -> None:
    """Print the table, write `folder`/NAME.json."""
    print("\n".join(_table_lines(result.headers, result.rows)))
    print(f"\n{result.sentence}")
    if is_busy(result.machine):
        print(f"The cores were busy before the start ({result.machine['busy_before_percent']:.0f} %): measure again.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    path.write_text(json.dumps(_rounded(asdict(result)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written: {path}")


def is_busy(machine: dict[str, Any]) -> bool:
    """Whether others used the cores when the benchmark began."""
    return bool(machine["busy_before_percent"] > _BUSY_PERCENT)


def median(values: Iterable[float]) -> float:
    """The median; of an even number of values the mean of the middle two."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed; infinite when there are none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else math.inf


def measure_rate(step: Callable[[], int], seconds: float, num_threads: int = 1) -> float:
    """Call `step` again and again from each thread for `seconds`, and return what it did a second, by its own count."""

    def work(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            done += step()
        return done

    step()
    with ThreadPoolExecutor(num_threads) as pool:
        began = time.perf_counter()
        done = sum(pool.map(work, [began + seconds] * num_threads))
        return done / (time.perf_counter() - began)


def _table_lines(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """First column to the left, the others, figures, to the right."""
    widths = [max(len(line[column]) for line in (headers, *rows)) for column in range(len(headers))]
    ruled = (headers, ["-" * width for width in widths], *rows)
    return [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in ruled
    ]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _rounded(value: Any) -> Any:
    """Six significant digits, and null for what is not finite: JSON has no infinity."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return value
