"""Does the drift measurement keep silent on halves of the same data, and find what is planted in one of them?

    python -m benchmarks.drift                      # the demo data, drawn for the purpose
    python -m benchmarks.drift --data FOLDER        # a dataset in our layout

Each trial divides the frames into two random halves, whole clips or single frames in turn. Silence is measured on the
halves as they are; faults are planted in the pixels or labels of the second half.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.drift_faults import BLUR_SIGMA_PX, RELABELLED, SHIFT, Variants, prepare
from benchmarks.report import ROOT, Result, median, new_parser, publish, read_machine, read_versions
from bentos.detector.contract import file_sha256
from flows.dataset.drift.drift import DriftReport, measure_drift
from flows.dataset.drift.embeddings import join_embeddings
from flows.dataset.formats.framing import UNKNOWN_CAMERA
from flows.dataset.layout import read_dataset
from flows.dataset.rendering.scene import render_dataset
from flows.machine import count_cores
from flows.params_data import MonitorParams
from flows.params_file import read_params

_HEADERS = ("what", "trials", "alarms", "95 % interval", "named right")


@dataclass(frozen=True)
class Plan:
    """What is planted in the second half: a fault in all frames, or only in a camera that is to be called `state`."""

    what: str
    fault: str = "sound"
    one_camera: bool = False
    state: str = ""


SILENCE = Plan("nothing: halves of the same data")
LISTED = (
    Plan("darker by 30 %", "darker"),
    Plan(f"blurred, sigma {BLUR_SIGMA_PX:g} px", "blurred"),
    Plan(f"one camera's view shifted by {SHIFT:.0%}", "shifted", True, "moved"),
    Plan(f"class mix: {RELABELLED:.0%} of the first class relabelled", "relabelled"),
    Plan("two cameras swapped", "swapped", True, "other scene"),
)
FURTHER = (
    Plan("one camera covered", "covered", True, "blinded"),
    Plan("one camera of all darker by 30 %", "darker", True),
)


@dataclass(frozen=True)
class Outcome:
    """Whether a trial ended in an alarm, and whether exactly the cameras concerned were called by the right name."""

    alarm: bool
    named: bool
    num_frames: tuple[int, int]
    num_units: tuple[int, int]
    sentence: str


def halves(frames: Any, by_clip: bool, generator: np.random.Generator) -> tuple[npt.NDArray[np.int64], ...]:
    """Row numbers of two random halves."""
    units = frames["unit"].to_numpy() if by_clip else np.arange(len(frames))
    distinct = generator.permutation(np.unique(units))
    first = np.isin(units, distinct[: len(distinct) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def run_trial(variants: Variants, plan: Plan, seed: int, params: MonitorParams) -> Outcome:
    """Measure two halves: of whole clips with an even seed, of single frames with an odd one."""
    frames = variants.frames["sound"]
    generator = np.random.default_rng([seed, 7])
    first, second = halves(frames, seed % 2 == 0, generator)
    column = frames["camera"].to_numpy()
    picked = _two_cameras(column, second, params.min_camera_frames, generator)
    nothing = np.zeros(len(frames), dtype=np.bool_)
    affected = nothing if plan is SILENCE else np.isin(column, picked[:1]) if plan.one_camera else ~nothing
    reference = variants.sample("first half", first, "sound", nothing)
    current = variants.sample("second half", second, plan.fault, affected)
    if plan.fault == "swapped":
        renamed = current.frames["camera"].replace(dict(zip(picked, reversed(picked), strict=True)))
        current = replace(current, frames=current.frames.assign(camera=renamed))
    if variants.vectors:
        vectors = variants.embeddings(first, "sound", nothing), variants.embeddings(second, plan.fault, affected)
        reference, current = join_embeddings(reference, current, *vectors)
    report = measure_drift(reference, current, params, seed=seed)
    concerned = set(picked if plan.fault == "swapped" else picked[:1])
    return _outcome(report, plan, concerned)


def _two_cameras(column: Any, rows: npt.NDArray[np.int64], least: int, generator: np.random.Generator) -> list[str]:
    """Two cameras at random of those that have enough frames on both sides to be judged."""
    names = [
        name
        for name in sorted(set(column))
        if least <= int((column[rows] == name).sum()) <= int((column == name).sum()) - least
    ]
    return [names[at] for at in generator.permutation(len(names))[:2]]


def _outcome(report: DriftReport, plan: Plan, concerned: set[str]) -> Outcome:
    called = {one.camera: one.state for one in report.cameras if one.is_alarm}
    return Outcome(
        alarm=not report.passed,
        named=called == (dict.fromkeys(concerned, plan.state) if plan.state else {}),
        num_frames=(report.num_reference, report.num_current),
        num_units=(report.num_reference_units, report.num_current_units),
        sentence=report.sentence,
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    centre = (successes + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * np.sqrt(successes * (trials - successes) / trials + z * z / 4)
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


@lru_cache(maxsize=1)
def _load(path: Path) -> Variants:
    variants: Variants = pickle.loads(path.read_bytes())
    return variants


def _job(path: Path, plan: Plan, seed: int, params: MonitorParams) -> Outcome:
    plan = SILENCE if plan == SILENCE else plan
    return run_trial(_load(path), plan, seed, params)


def main() -> int:
    parser = new_parser("drift", (__doc__ or "").split("\n")[0])
    parser.set_defaults(rounds=100)
    parser.add_argument("--data", type=Path, help="a dataset in our layout (default: the demo data, drawn anew)")
    parser.add_argument(
        "--weights", type=Path, default=ROOT / "artifacts" / "training" / "best.pt", help="for embeddings"
    )
    given = parser.parse_args()
    machine = read_machine()
    params = read_params(ROOT / "params.yaml", [])
    weights = given.weights if given.weights.is_file() else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.data is None:
            render_dataset(folder / "data", params.render, params.seed)
        dataset = read_dataset(given.data or folder / "data")
        (folder / "variants").write_bytes(pickle.dumps(prepare(dataset, weights, folder)))
        has_cameras = len({frame.camera for frame in dataset.frames} - {UNKNOWN_CAMERA}) > 1
        plans = [plan for plan in (SILENCE, *LISTED, *FURTHER) if has_cameras or not plan.one_camera]
        found = _run_all(plans, folder / "variants", given.rounds, params.monitor)
    settings = {
        "rounds": given.rounds,
        "data": "rendered" if given.data is None else given.data.name,
        "num_frames": len(dataset.frames),
        "weights_sha256": None if weights is None else file_sha256(weights),
        "monitor": params.monitor.model_dump(),
    }
    publish(_result(found, settings, machine), given.results)
    return 0


def _run_all(plans: Sequence[Plan], path: Path, rounds: int, params: MonitorParams) -> dict[Plan, list[Outcome]]:
    """Twice as many trials of silence as of each fault."""
    jobs = [(plan, seed) for plan in plans for seed in range(rounds * (1 + (plan is SILENCE)))]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count_cores(), mp_context=context) as pool:
        pending = [(plan, pool.submit(_job, path, plan, seed, params)) for plan, seed in jobs]
        found: dict[Plan, list[Outcome]] = {}
        for plan, job in pending:
            found.setdefault(plan, []).append(job.result())
    return found


def _result(found: dict[Plan, list[Outcome]], settings: dict[str, Any], machine: dict[str, Any]) -> Result:
    rows: list[list[str]] = []
    figures: dict[str, Any] = {}
    for plan, outcomes in found.items():
        alarms, trials = sum(one.alarm for one in outcomes), len(outcomes)
        low, high = wilson(alarms, trials)
        named = sum(one.named for one in outcomes) / trials
        rows.append([plan.what, f"{trials}", f"{alarms / trials:.1%}", f"{low:.1%} to {high:.1%}", f"{named:.0%}"])
        figures[plan.what] = {
            "plan": asdict(plan),
            "trials": trials,
            "alarms": alarms,
            "alarms_by_clip": sum(one.alarm for one in outcomes[::2]),
            "interval": [low, high],
            "named_share": named,
            "median_frames": _medians([one.num_frames for one in outcomes]),
            "median_units_by_clip": _medians([one.num_units for one in outcomes[::2]]),
        }
    return Result(
        name="drift" if settings["data"] == "rendered" else f"drift-{settings['data']}",
        sentence=_sentence(found),
        headers=_HEADERS,
        rows=rows,
        settings=settings,
        figures=figures,
        machine=machine,
        versions=read_versions("numpy", "scipy", "pandas", "torch", "opencv-python-headless"),
    )


def _sentence(found: dict[Plan, list[Outcome]]) -> str:
    silent = found[SILENCE]
    listed = {plan: sum(one.alarm for one in found[plan]) / len(found[plan]) for plan in LISTED if plan in found}
    frames, units = _medians([one.num_frames for one in silent]), _medians([one.num_units for one in silent[::2]])
    return (
        f"{sum(one.alarm for one in silent)} of {len(silent)} pairs of halves of the same data raise an alarm; each of "
        f"{len(listed)} listed faults is found in at least {min(listed.values()):.0%} of trials "
        f"({frames[0]:.0f} against {frames[1]:.0f} frames, {units[0]:.0f} against {units[1]:.0f} units)."
    )


def _medians(pairs: Sequence[tuple[int, int]]) -> list[float]:
    return [median(pair[side] for pair in pairs) for side in (0, 1)]


if __name__ == "__main__":
    sys.exit(main())
