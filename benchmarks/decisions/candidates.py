"""How often the best of many candidates is wrongly promoted, or wrongly called better, with and without correction.

Every set draws cameras anew. A model's accuracy differs from camera to camera far more than models differ, and what is
drawn for the champion is in the difference of every candidate, as on real frames. All candidates are exactly as bad as
they may be: each promotion is one too many.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import RESULTS, Result, publish, read_machine, read_versions
from flows.comparison.max_t import p_any_better
from flows.comparison.predictions import Floats
from flows.comparison.resampling import Estimate, holm, jackknife, p_worse
from flows.machine import count_cores

ALPHA = 0.05
_GAIN = 0.1  # mAP50-95 that the better one is better by
_CHUNK = 50
_HEADERS = (
    "cameras", "candidates", "a worse one promoted, alpha each %", "alpha over their number %",
    "equal ones called better, max t %", "a better one found, Holm %", "max t %",
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What one set of candidates led to; all are equal, but where one is to be found, the first is better."""

    promoted: bool
    promoted_corrected: bool
    called_any: bool
    found: bool
    found_any: bool


def main() -> int:
    given = _parse()
    machine = read_machine()
    rows, figures = [], {}
    for cameras in given.cameras:
        for num in given.candidates:
            said = _run(given.simulations, cameras, num, given.deals)
            shares = {key: float(np.mean([getattr(one, key) for one in said])) for key in Said.__dataclass_fields__}
            figures[f"{cameras} cameras, {num} candidates"] = shares
            rows.append([str(cameras), str(num), *(f"{100 * share:.1f}" for share in shares.values())])
    worst = max(one["promoted_corrected"] for one in figures.values())
    bare = max(one["promoted"] for one in figures.values())
    result = Result(
        name="decisions-candidates",
        sentence=f"Of candidates that are all exactly the margin worse, one is promoted in at most {100 * worst:.1f} % "
        f"of the sets (allowed are {100 * ALPHA:g} %); each judged as if alone: in up to {100 * bare:.0f} %.",
        headers=_HEADERS,
        rows=rows,
        settings={key: value for key, value in vars(given).items() if key != "results"} | {"alpha": ALPHA},
        figures=figures,
        machine=machine,
        versions=read_versions("numpy", "scipy"),
    )
    publish(result, given.results)
    return 0


def simulate(seed: int, *, cameras: int, candidates: int, deals: int) -> Said:
    """Judge one set of candidates by every rule."""
    rng = np.random.default_rng([seed, cameras, candidates])
    values = draw_models(rng, cameras, candidates)
    gaps = [_estimate(one - values[0], ALPHA) for one in values[1:]]
    corrected = [_estimate(one - values[0], ALPHA / candidates) for one in values[1:]]
    better = values.copy()
    better[1] += _GAIN
    return Said(
        # Exactly the margin worse and not below it: the lower bound of the same noise is above zero.
        promoted=any(one.lower is not None and one.lower > 0 for one in gaps),
        promoted_corrected=any(one.lower is not None and one.lower > 0 for one in corrected),
        called_any=_any(values, deals, seed),
        found=holm(_p_better(better))[0] < ALPHA,
        found_any=_any(better, deals, seed),
    )


def draw_models(rng: np.random.Generator, cameras: int, candidates: int) -> Floats:
    """Accuracy of the champion and of candidates as good as it, by camera: (1 + candidates, cameras)."""
    of_camera = rng.beta(4, 6, (1, cameras))
    return of_camera + 0.05 * rng.standard_t(5, (1 + candidates, cameras))


def _estimate(values: Floats, alpha: float) -> Estimate:
    """The mean over cameras with its bounds."""
    left_out = (values.sum() - values) / (len(values) - 1)
    return jackknife(np.concatenate([[values.mean()], left_out]), alpha, 2)


def _p_better(values: Floats) -> list[float]:
    return [1.0 - (p_worse(_estimate(one - values[0], ALPHA)) or 0.0) for one in values[1:]]


def _any(values: Floats, deals: int, seed: int) -> bool:
    p_value = p_any_better(values, deals, seed)
    return p_value is not None and p_value <= ALPHA


def _run(simulations: int, cameras: int, candidates: int, deals: int) -> list[Said]:
    one = functools.partial(simulate, cameras=cameras, candidates=candidates, deals=deals)
    with ProcessPoolExecutor(count_cores()) as pool:
        return list(pool.map(one, range(simulations), chunksize=_CHUNK))


def _parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.decisions.candidates", description=__doc__)
    add = functools.partial(parser.add_argument, type=int)
    add("--simulations", default=4000, help="of each number of cameras and candidates (default: %(default)s)")
    add("--candidates", nargs="+", default=[1, 5, 20], help="numbers of candidates (default: 1 5 20)")
    add("--cameras", nargs="+", default=[6, 10, 20], help="of the frozen frames (default: 6 10 20)")
    add("--deals", default=199, help="of each permutation test (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
