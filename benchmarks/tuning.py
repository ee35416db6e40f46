"""Within the same budget of epochs: does a guided search that stops hopeless trials beat random search that does not?

    python -m benchmarks.tuning

A detector trained on some cameras of the demo data is to be trained on for other cameras. Two searches over the same
space look for the values to do so with: TPE with median pruning, as `tca tune` has it in params.yaml, and random
sampling without pruning. Each may train BUDGET epochs in all, and is repeated with several seeds.

The best of many trials looks better than it is, and the more so the more trials there were. So neither search is judged
by what it saw: the values that it names best are trained again with fresh seeds, and judged on frames that no search
has seen, after the last epoch. Epochs are counted, not seconds: other load on the machine does not touch the result.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT, Result, median, new_parser, publish, read_machine, read_versions
from flows.dataset.layout import Dataset, Frame, read_dataset, write_frames
from flows.dataset.rendering.scene import render_dataset
from flows.machine import count_cores
from flows.params_data import RenderParams
from flows.params_file import read_params
from flows.params_train import TrainParams
from flows.params_tune import TuneParams
from flows.training.epochs import EpochMetrics
from flows.training.loop.trainer import train_model
from flows.training.reproducibility import TrainReport
from flows.training.search.search import TrialJob, search
from flows.training.search.space import with_values
from flows.training.search.store import JournalStore
from flows.training.search.study import SharedStudy, open_study, study_facts

BUDGET, EPOCHS, TRIALS = 60, 6, 24  # epochs of a search, epochs of a trial, more trials than the budget can pay
START_EPOCHS, JUDGES = 40, 4
SPACE: dict[str, Any] = {
    "learning_rate": {"low": 0.00005, "high": 0.05, "log": True},
    "optimizer": {"choices": ["AdamW", "SGD"]},
    "batch": {"choices": [4, 8, 16]},
    "mosaic": {"low": 0.0, "high": 1.0},
    "freeze": {"low": 0, "high": 20},
    "warmup_epochs": {"low": 0.0, "high": 2.0, "when": {"optimizer": ["SGD"]}},
}
ARMS = {"TPE, median pruning": ("tpe", "median"), "random, no pruning": ("random", "none")}
_HEADERS = ("search", "judged, median", "judged, range", "seen, median", "trials, median")


@dataclass(frozen=True)
class Found:
    """What one search named best: what it saw of it on val, and what fresh trainings reach on test."""

    arm: str
    seed: int
    seen: float
    judged: float
    num_trials: int
    num_complete: int
    values: dict[str, Any]


class BudgetSpent(Exception):
    """The search has trained all the epochs it may."""


def main() -> int:
    """Draw, train the start, search, judge, publish."""
    parser = new_parser("tuning", __doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder in which the work stays (default: a temporary one)")
    given = parser.parse_args()
    machine = read_machine()
    with tempfile.TemporaryDirectory(prefix="tuning-") as name:
        folder = given.keep or Path(name)
        if not (folder / "unseen").exists():
            _draw(folder)
        with ProcessPoolExecutor(count_cores(), mp_context=multiprocessing.get_context("spawn")) as pool:
            start = pool.submit(_train_start, folder).result()
            jobs = [pool.submit(_search, folder, arm, seed) for seed in range(given.rounds) for arm in ARMS]
            found = [job.result() for job in jobs]
    publish(_result(found, start, machine), given.results)
    return 0


def _draw(folder: Path) -> None:
    for name, seed, cameras in (("before", 100, 6), ("now", 0, 4)):
        params = RenderParams(
            cameras=cameras, clips_per_camera=8, frames_per_clip=4, size_wh=[192, 128], jpeg_quality=90
        )
        render_dataset(folder / name, params, seed)
    _put_test_for_val(folder / "now", folder / "unseen")


def _put_test_for_val(root: Path, target: Path) -> None:
    """A copy of a dataset that validates on its test frames."""
    dataset = read_dataset(root)
    shutil.copytree(root, target)
    frames = [*dataset.split("train"), *(_as_val(frame) for frame in dataset.split("test"))]
    for kind in ("images", "labels"):
        shutil.rmtree(target / kind / "val")
        (target / kind / "test").rename(target / kind / "val")
    write_frames(target, frames)


def _as_val(frame: Frame) -> Frame:
    return replace(frame, split="val", image=frame.image.replace("images/test/", "images/val/"))


def base_params(**changes: Any) -> TrainParams:
    """params.yaml's train, at 160 px on one thread, with some keys replaced."""
    fixed = {"image_size": 160, "batch": 8, "precision": "fp32", "cache": "ram", "threads": 1, "workers": 0}
    return with_values(read_params(ROOT / "params.yaml").train, {**fixed, "epochs": EPOCHS, **changes})


def _train_start(folder: Path) -> float:
    params = base_params(epochs=START_EPOCHS, learning_rate=0.005, model="yolo11n.yaml")
    if not (folder / "start" / "training.json").exists():
        train_model(read_dataset(folder / "before"), params, 100, folder / "start", lambda epoch: None)
    report = TrainReport.model_validate_json((folder / "start" / "training.json").read_text(encoding="utf-8"))
    return report.map50_95


def _search(folder: Path, arm: str, seed: int) -> Found:
    """One search to the end of its budget, and the judgement of what it found."""
    dataset, train = read_dataset(folder / "now"), base_params()
    sampler, pruner = ARMS[arm]
    params = TuneParams.model_validate(
        {
            **read_params(ROOT / "params.yaml").tune.model_dump(),
            **{"trials": TRIALS, "epochs": EPOCHS, "sampler": sampler, "pruner": pruner, "space": SPACE},
        }
    )
    own = folder / f"{sampler}-{seed}"
    study = open_study(JournalStore(own / "study.journal"), params, train, study_facts(params, train, seed, "", ""))

    def train_once(job: TrialJob) -> dict[str, float]:
        def on_epoch(epoch: EpochMetrics) -> None:
            job.report(epoch.epoch, epoch.map50_95)
            if epoch.epoch < EPOCHS:
                _require_budget(study)

        _require_budget(study)
        return {"map50_95": _fine_tune(dataset, job.values, seed, folder, own / f"{job.number}", on_epoch)}

    with contextlib.suppress(BudgetSpent):
        search(train_once, study)
    report = study.report()
    assert report.best_value is not None
    tried = {row.origin for row in report.trials if row.epochs}
    judged = _judge(report.best_params, seed, folder, own)
    return Found(arm, seed, report.best_value, judged, len(tried), report.num_complete, report.best_params)


def _require_budget(study: SharedStudy) -> None:
    if study.report().num_epochs >= BUDGET:
        raise BudgetSpent


def _fine_tune(
    dataset: Dataset, values: dict[str, Any], seed: int, folder: Path, out_dir: Path, on_epoch: Any
) -> float:
    params = with_values(base_params(), values)
    report = train_model(dataset, params, seed, out_dir, on_epoch, start_checkpoint=folder / "start" / "best.pt")
    assert report is not None
    return report.map50_95


def _judge(values: dict[str, Any], seed: int, folder: Path, own: Path) -> float:
    """Mean mAP50-95 on test after the last epoch of trainings with fresh seeds."""
    kept = own / "judged.json"
    if kept.exists():
        return float(json.loads(kept.read_text(encoding="utf-8")))
    unseen, scores = read_dataset(folder / "unseen"), []
    for judge in range(JUDGES):
        curve: list[float] = []
        fresh = 1000 + JUDGES * seed + judge
        _fine_tune(unseen, values, fresh, folder, own / f"judge{judge}", lambda one, to=curve: to.append(one.map50_95))
        scores.append(curve[-1])
    kept.write_text(json.dumps(sum(scores) / len(scores)), encoding="utf-8")
    return sum(scores) / len(scores)


def _result(found: Sequence[Found], start: float, machine: dict[str, Any]) -> Result:
    rows = []
    for arm in ARMS:
        ours = [one for one in found if one.arm == arm]
        judged = sorted(one.judged for one in ours)
        seen, trials = (median(getattr(one, name) for one in ours) for name in ("seen", "num_trials"))
        spread = f"{judged[0]:.3f} to {judged[-1]:.3f}"
        rows.append([arm, f"{median(judged):.3f}", spread, f"{seen:.3f}", f"{trials:.0f}"])
    settings = {"seeds": len(found) // 2, "budget_epochs": BUDGET, "trial_epochs": EPOCHS, "space": SPACE}
    return Result(
        name="tuning",
        sentence=_sentence(found),
        headers=_HEADERS,
        rows=rows,
        settings={**settings, "judging_seeds": JUDGES, "image_size": 160, "start_epochs": START_EPOCHS},
        figures={"start_map50_95": start, "searches": [asdict(one) for one in found]},
        machine=machine,
        versions=read_versions("optuna", "torch", "ultralytics-opencv-headless"),
    )


def _sentence(found: Sequence[Found]) -> str:
    return (
        f"Within {BUDGET} epochs TPE with median pruning against random search without, over {len(found) // 2} seeds: "
        f"the best that the search saw on val is {_against(found, 'seen')}; trained again with fresh seeds and judged "
        f"on unseen frames it is {_against(found, 'judged')}."
    )


def _against(found: Sequence[Found], figure: str) -> str:
    """Both medians of one figure, and how the pairs of a seed differ."""
    guided, blind = ([one for one in sorted(found, key=_seed) if one.arm == arm] for arm in ARMS)
    pairs = [(getattr(ours, figure), getattr(theirs, figure)) for ours, theirs in zip(guided, blind, strict=True)]
    gains = [ours - theirs for ours, theirs in pairs]
    medians = " against ".join(f"{median(side):.3f}" for side in zip(*pairs, strict=True))
    ahead, behind = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return f"{medians} (ahead in {ahead} of {len(gains)}, behind in {behind}, {median(gains):+.4f} in the median)"


def _seed(one: Found) -> int:
    return one.seed


if __name__ == "__main__":
    sys.exit(main())
