"""How often the offline gates err: coverage of intervals, false promotions by rule, and power, on known truths.

Every simulation draws its own cameras. The truth is that of very many cameras; the gates see few. Matching aside, whose
result is known here (a test shows that it finds the same), all runs through the code that judges real models.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.optimize import brentq

from benchmarks.decisions.offline_scenes import Detections, Scene, World, draw_scene, matches, tables
from benchmarks.report import RESULTS, Result, publish, read_machine, read_versions
from flows.comparison.average_precision import average_precisions, mean_average_precision, rank
from flows.comparison.calibration import calibration_errors, confidence_bins
from flows.comparison.demands import judge_accuracy, judge_parts, judge_slices
from flows.comparison.predictions import Floats, Ints
from flows.comparison.resampling import bootstrap_weights, jackknife, jackknife_weights, percentile_interval
from flows.comparison.served import precision_recall, served_counts
from flows.comparison.slices import SliceTable
from flows.machine import count_cores
from flows.params import EvaluateParams
from flows.params_file import read_params

Found = TypeVar("Found")

SERVED_CONF = 0.25
FIGURES = ("map50_95", "precision", "recall", "calibration_error", "overconfidence")
COVERAGE_ALPHA = 0.025  # of each end: an interval of 95 %


@dataclass(frozen=True)
class Case:
    """A challenger whose true mAP50-95 differs from the champion's by `difference`, at night by `at_night` more."""

    name: str
    difference: float
    at_night: float = 0.0


@dataclass(frozen=True)
class Trial:
    """What one simulation found: per figure whether its interval holds the truth, and what each rule said."""

    covered: dict[str, bool]
    said: dict[str, str]


def main() -> int:
    given = _parse()
    machine = read_machine()
    params = read_params(Path("params.yaml")).evaluate
    cases = _cases(params)
    gains = {case.name: _gain(case.difference, given.population) for case in cases}
    truths = {name: _figures_of_all(gain, given.population) for name, gain in gains.items()}
    trials = {
        (case.name, cameras): _run(
            given.simulations,
            functools.partial(
                simulate, cameras=cameras, gain=gains[case.name], truth=truths[case.name], params=params,
                replicates=given.replicates,
            ),
        )
        for case in cases
        for cameras in given.cameras
    }  # fmt: skip
    settings = {key: value for key, value in vars(given).items() if key != "results"} | {"margin": params.margin}
    facts: dict[str, Any] = {
        "settings": settings | {"alpha": params.alpha, "slice_margin": params.slice_margin},
        "machine": machine,
        "versions": read_versions("numpy", "scipy"),
    }
    publish(_coverage(trials, given.cameras, facts), given.results)
    print()
    publish(_errors(trials, cases, given.cameras, params, facts), given.results)
    print()
    publish(_slices(given, params, facts), given.results)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.decisions.offline", description=(__doc__ or "").split("\n")[0]
    )
    add = functools.partial(parser.add_argument, type=int)
    add("--simulations", default=2000, help="of each case and number of cameras (default: %(default)s)")
    add("--slice-simulations", default=300, help="of each case of slices (default: %(default)s)")
    add("--cameras", nargs="+", default=[6, 10, 20], help="of the frozen frames (default: 6 10 20)")
    add("--population", default=20000, help="cameras that the truth is of (default: %(default)s)")
    add("--replicates", default=200, help="of each bootstrap (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    return parser.parse_args()


def _cases(params: EvaluateParams) -> tuple[Case, ...]:
    return (
        Case("exactly margin worse", -params.margin),
        Case("equal", 0.0),
        Case("worse by .05", -0.05),
        Case("better by .02", 0.02),
        Case("better by .05", 0.05),
    )


def _run(simulations: int, simulate_one: Callable[[int], Found]) -> list[Found]:
    """The results by seed, on all cores."""
    with ProcessPoolExecutor(count_cores()) as pool:
        return list(pool.map(simulate_one, range(simulations), chunksize=max(1, simulations // 50)))


def simulate(
    seed: int, *, cameras: int, gain: float, truth: dict[str, float], params: EvaluateParams, replicates: int
) -> Trial:
    """Draw cameras and judge the challenger on them by every rule."""
    scene = draw_scene(np.random.default_rng([seed, cameras]), World(cameras), gain)
    differences = _differences(scene, jackknife_weights(scene.cameras))
    estimates = {key: jackknife(values, COVERAGE_ALPHA, 2) for key, values in differences.items()}
    covered = {
        key: one.lower is not None and one.upper is not None and one.lower <= truth[key] <= one.upper
        for key, one in estimates.items()
    }
    said = {"gate": judge_accuracy(jackknife(differences["map50_95"], params.alpha, params.min_units), params).state}
    said["bare"] = "passed" if differences["map50_95"][0] > -params.margin else "failed"
    for unit, units in (("camera", scene.cameras), ("frame", np.arange(scene.num_images))):
        gaps = _map_differences(scene, bootstrap_weights(units, replicates, seed))
        wide, narrow = percentile_interval(gaps, COVERAGE_ALPHA), percentile_interval(gaps, params.alpha)
        covered[f"bootstrap by {unit}"] = wide is not None and wide[0] <= truth["map50_95"] <= wide[1]
        said[f"bootstrap by {unit}"] = "passed" if narrow is not None and narrow[0] > -params.margin else "failed"
    return Trial(covered, said)


def _map_differences(scene: Scene, weights: Ints) -> Floats:
    of_new, of_old = (
        mean_average_precision(average_precisions(rank(matches(scene, found)), weights))
        for found in (scene.challenger, scene.champion)
    )
    return of_new - of_old


def _differences(scene: Scene, weights: Ints) -> dict[str, Floats]:
    new, old = (_samples(scene, found, weights) for found in (scene.challenger, scene.champion))
    return {key: new[key] - old[key] for key in FIGURES}


def _samples(scene: Scene, found: Detections, weights: Ints) -> dict[str, Floats]:
    matched = matches(scene, found)
    precision, recall = precision_recall(served_counts(matched, SERVED_CONF), weights)
    error, overconfidence = calibration_errors(confidence_bins(matched, SERVED_CONF), weights)
    return {
        "map50_95": mean_average_precision(average_precisions(rank(matched), weights)),
        "precision": precision,
        "recall": recall,
        "calibration_error": error,
        "overconfidence": overconfidence,
    }


def _figures_of_all(gain: float, population: int) -> dict[str, float]:
    """The true differences, as many cameras have them."""
    scene = draw_scene(np.random.default_rng(0), World(population), gain)
    found = _differences(scene, np.ones((1, scene.num_images), dtype=np.int64))
    return {key: float(values[0]) for key, values in found.items()}


def _gain(difference: float, population: int) -> float:
    """The gain of quality from which that true difference of mAP50-95 follows."""
    found = brentq(lambda gain: _figures_of_all(gain, population)["map50_95"] - difference, -1.0, 1.0, xtol=1e-4)
    return float(found)


def _even_world(cameras: int) -> World:
    """No camera is truly better or worse served than another; only clips are, so that each camera can be judged."""
    return World(cameras, clips=8, frames=4, sd_gap=0.0, sd_clip_gap=0.15)


def _night_gain(difference: float, population: int) -> float:
    """The gain at night that makes the true difference at night so large."""

    def at_night(gain: float) -> float:
        scene = draw_scene(np.random.default_rng(0), _even_world(population // 2), 0.0, gain)
        night = (scene.clips % 2 == 1).astype(np.int64)[None]
        return float(_map_differences(scene, night)[0]) - difference

    return float(brentq(at_night, -3.0, 1.0, xtol=1e-4))


def judge_parts_of(seed: int, *, cameras: int, at_night: float, params: EvaluateParams) -> tuple[str, ...]:
    """State of the slice gate under either rule, from boxes on."""
    scene = draw_scene(np.random.default_rng([seed, cameras]), _even_world(cameras), 0.0, at_night)
    parts = judge_slices(SliceTable(*tables(scene), params).figures(), params)
    strict = judge_parts(parts, params.model_copy(update={"slice_rule": "non-inferior"})).state
    lenient = judge_parts(parts, params.model_copy(update={"slice_rule": "not-worse"})).state
    return strict, lenient


def _coverage(trials: dict[tuple[str, int], list[Trial]], cameras: Sequence[int], facts: dict[str, Any]) -> Result:
    keys = ("map50_95", "bootstrap by camera", "bootstrap by frame", *FIGURES[1:])
    rows, figures = [], {}
    for number in cameras:
        of_equal = trials["equal", number]
        shares = {key: _share(one.covered[key] for one in of_equal) for key in keys}
        figures[str(number)] = shares
        rows.append([str(number), *(f"{100 * share:.1f}" for share in shares.values())])
    low, high = min(one["map50_95"] for one in figures.values()), max(one["map50_95"] for one in figures.values())
    return Result(
        name="decisions-offline-coverage",
        sentence=f"Of intervals that should hold the truth in 95 %, those of the gate hold it in {100 * low:.1f} to "
        f"{100 * high:.1f} %; by frame in {100 * min(one['bootstrap by frame'] for one in figures.values()):.0f} %.",
        headers=("cameras", "jackknife t by camera %", "bootstrap by camera %", "bootstrap by frame %",
                 "precision %", "recall %", "calibration error %", "overconfidence %"),
        rows=rows, figures=figures, **facts,
    )  # fmt: skip


def _errors(
    trials: dict[tuple[str, int], list[Trial]],
    cases: Sequence[Case],
    cameras: Sequence[int],
    params: EvaluateParams,
    facts: dict[str, Any],
) -> Result:
    rows, figures = [], {}
    for case in cases:
        for number in cameras:
            found = trials[case.name, number]
            gate = {state: _share(one.said["gate"] == state for one in found) for state in _STATES}
            others = {rule: _share(one.said[rule] == "passed" for one in found) for rule in _RULES}
            figures[f"{case.name}, {number} cameras"] = {"gate": gate, "promoted by": others}
            shares = [*gate.values(), *others.values()]
            rows.append([case.name, str(number), *(f"{100 * share:.1f}" for share in shares)])
    worst = max(figures[f"{cases[0].name}, {number} cameras"]["gate"]["passed"] for number in cameras)
    return Result(
        name="decisions-offline-errors",
        sentence=f"A challenger that is exactly the margin worse passes in at most {100 * worst:.1f} %, allowed are "
        f"{100 * params.alpha:g} %.",
        headers=("challenger", "cameras", "passed %", "inconclusive %", "failed %", "bare figure passes %",
                 "bootstrap by camera passes %", "bootstrap by frame passes %"),
        rows=rows, figures=figures, **facts,
    )  # fmt: skip


_STATES = ("passed", "inconclusive", "failed")
_RULES = ("bare", "bootstrap by camera", "bootstrap by frame")


def _slices(given: argparse.Namespace, params: EvaluateParams, facts: dict[str, Any]) -> Result:
    cases = {
        "equal everywhere": 0.0,
        "night exactly the margin worse": _night_gain(-params.slice_margin, given.population),
        "night worse by .20": _night_gain(-0.20, given.population),
    }
    rows, figures = [], {}
    for name, at_night in cases.items():
        for number in given.cameras:
            one = functools.partial(judge_parts_of, cameras=number, at_night=at_night, params=params)
            found = _run(given.slice_simulations, one)
            shares = {
                f"{rule} {state}": _share(states[index] == state for states in found)
                for index, rule in enumerate(("non-inferior", "not-worse"))
                for state in _STATES
            }
            figures[f"{name}, {number} cameras"] = shares
            rows.append([name, str(number), *(f"{100 * share:.1f}" for share in shares.values())])
    wrongly = max(figures[f"equal everywhere, {number} cameras"]["not-worse failed"] for number in given.cameras)
    return Result(
        name="decisions-offline-slices",
        sentence=f"With equal models some part is called worse in at most {100 * wrongly:.1f} %.",
        headers=("challenger", "cameras", *(f"{rule} {state} %" for rule in ("non-inferior", "not-worse")
                                            for state in _STATES)),
        rows=rows, figures=figures, **facts,
    )  # fmt: skip


def _share(found: Iterable[bool]) -> float:
    return float(np.mean(list(found)))


if __name__ == "__main__":
    sys.exit(main())
