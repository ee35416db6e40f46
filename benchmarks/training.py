"""What the flow, tracking and checkpoints add to a training, and whether cache, precision and compile are well chosen.

    python -m benchmarks.training                     # about 9 minutes on two cores
    python -m benchmarks.training --quick             # a first look
    python -m benchmarks.training --only compile      # not among the default parts: compiling takes minutes

Every training is a process of its own; those that are compared take turns.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import simplejpeg

from benchmarks.report import ROOT, Result, median, new_parser, publish, read_machine, read_versions
from benchmarks.training_runs import WAYS, Job, Run, Way, project_with, run_apart
from flows.dataset.layout import Dataset, read_dataset, write_data_yaml, write_frames
from flows.params_file import read_params
from flows.params_train import TrainParams
from flows.training.loop.caching import measure_reading, pays

_HEADERS = ("part", "what", "epoch s", "beside s", "images/s", "waiting", "mAP50-95", "result")
_PARTS = ("overhead", "loading", "precision", "compile")
_DEFAULT_PARTS = ("overhead", "loading", "precision")
_BASES: tuple[Way, ...] = ("bare", "bare, our settings")
_TEN_MINUTES_S = 600.0
_WANTED_SHARE = 0.03
_LARGER_WH = (1280, 720)


@dataclass(frozen=True)
class Scale:
    """How much is trained: frames of the rendered set (half of them train), epochs of each part, seeds."""

    clips_per_camera: int = 8
    frames_per_clip: int = 6
    image_size: int = 320
    overhead_epochs: int = 4
    loading_epochs: int = 3
    start_epochs: int = 6
    seed_epochs: int = 2
    seeds: int = 5


QUICK = Scale(4, 3, 96, 3, 2, 2, 2, 2)


@dataclass
class Bench:
    """The project, the parameters that all trainings share, and a scratch folder."""

    project: Path
    place: Path
    params: TrainParams
    scale: Scale
    rounds: int
    weights: Path | None = None
    _count: int = 0

    def run(self, way: Way, data: Path | None = None, seed: int = 0, start: Path | None = None, **changes: Any) -> Run:
        """Train once; keyword arguments are keys of train."""
        self._count += 1
        own = self.project if way == "flow" else self.place / f"run{self._count}"
        own.mkdir(exist_ok=True)
        params = TrainParams.model_validate({**self.params.model_dump(), **changes})
        job = Job(way=way, data=data or self.project / "data", place=own, params=params, seed=seed, start=start)
        run = run_apart(job, self.place / f"run{self._count}.log")
        print(f"  {way}, seed {seed}, {changes}: {run.total_s:.1f} s", flush=True)
        return run

    @property
    def last_training(self) -> Path:
        """What the last run of our trainer left."""
        return self.place / f"run{self._count}" / "training"


def main() -> int:
    given = _read_arguments()
    machine = read_machine()
    scale = QUICK if given.quick else Scale()
    rendered = {"cameras": 4, "clips_per_camera": scale.clips_per_camera, "frames_per_clip": scale.frames_per_clip}
    shared = {"image_size": scale.image_size, "precision": "fp32", "start_from": "model", "cache": "ram"}
    params = read_params(ROOT / "params.yaml", [f"train.{key}={value}" for key, value in shared.items()]).train
    measures = {"overhead": _overhead, "loading": _loading, "precision": _precision, "compile": _compile}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with project_with([f"render.{key}={value}" for key, value in rendered.items()], place / "project") as project:
            bench = Bench(project, place, params, scale, given.rounds, given.weights)
            figures = {part: measures[part](bench) for part in _PARTS if part in given.only}
    result = Result(
        name="training",
        sentence=" ".join(found["sentence"] for found in figures.values()),
        headers=_HEADERS,
        rows=[row for part, found in figures.items() for row in _ROWS[part](found)],
        settings={
            "rounds": given.rounds,
            "weights": given.weights and given.weights.name,
            "scale": vars(scale),
            "render": rendered,
            "train": params.model_dump(),
        },
        figures=figures,
        machine=machine,
        versions=read_versions("torch", "ultralytics-opencv-headless", "mlflow", "prefect", "opencv-python-headless"),
    )
    publish(result, given.results)
    return 0


def _read_arguments() -> argparse.Namespace:
    parser = new_parser("training", (__doc__ or "").split("\n")[0])
    parser.set_defaults(rounds=3)
    parser.add_argument("--quick", action="store_true", help="few small frames: whether it runs, not what it costs")
    parser.add_argument(
        "--weights",
        type=lambda text: Path(text).resolve(),
        help="checkpoint from which precision and compile are compared; else one from random weights",
    )
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        default=_DEFAULT_PARTS,
        help=f"some of {','.join(_PARTS)} (default: {','.join(_DEFAULT_PARTS)})",
    )
    given = parser.parse_args()
    if unknown := sorted({*given.only} - {*_PARTS}):
        parser.error(f"--only: there is no part {unknown[0]}; known: {', '.join(_PARTS)}")
    return given


# What the flow adds


def _overhead(bench: Bench) -> dict[str, Any]:
    """Each way trains the same epochs on the same frames, round after round."""
    runs: dict[Way, list[Run]] = {way: [] for way in WAYS}
    for _ in range(bench.rounds):
        for way in WAYS:
            runs[way].append(bench.run(way, epochs=bench.scale.overhead_epochs))
    return judge_overhead(runs)


def judge_overhead(runs: dict[Way, list[Run]]) -> dict[str, Any]:
    """Figures of each way against both bare ones; ratios are formed within a round."""
    ways: dict[Way, Any] = {}
    for way, own in runs.items():
        against = {
            base: {
                "epoch_shares": [one.epoch_s / other.epoch_s - 1 for one, other in zip(own, runs[base], strict=True)],
                "ten_minute_shares": [
                    added_to_ten_minutes(other, one) for one, other in zip(own, runs[base], strict=True)
                ],
            }
            for base in _BASES
        }
        ways[way] = {
            "epoch_s": median(run.epoch_s for run in own),
            "fixed_s": median(run.fixed_s for run in own),
            "against": against,
        }
    flow = ways["flow"]["against"]
    shares = {base: median(found["ten_minute_shares"]) for base, found in flow.items()}
    met = shares["bare"] <= _WANTED_SHARE
    sentence = (
        f"Flow, tracking and checkpoints change a ten-minute training by {shares['bare']:+.1%} against Ultralytics as "
        f"it is (at most {_WANTED_SHARE:.0%} wanted: {'met' if met else 'missed'}) and by "
        f"{shares['bare, our settings']:+.1%} against Ultralytics with our settings; an epoch by "
        f"{median(flow['bare']['epoch_shares']):+.1%} and {median(flow['bare, our settings']['epoch_shares']):+.1%}."
    )
    return {"ways": ways, "shares_of_ten_minutes": shares, "met": met, "sentence": sentence}


def added_to_ten_minutes(base: Run, other: Run) -> float:
    """By what share `other` takes longer for the epochs that `base` does in ten minutes, all it does before and after
    included.
    """
    epochs = (_TEN_MINUTES_S - base.fixed_s) / base.epoch_s
    return (other.fixed_s + epochs * other.epoch_s) / _TEN_MINUTES_S - 1


def _overhead_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    for way, of in found["ways"].items():
        shares = of["against"]["bare"]["ten_minute_shares"]
        told = (
            "" if way == "bare" else f"{median(shares):+.1%} ({min(shares):+.1%} to {max(shares):+.1%}) in ten minutes"
        )
        yield ["overhead", WAYS[way], f"{of['epoch_s']:.2f}", f"{of['fixed_s']:.1f}", "", "", "", told]


# How frames come


def _loading(bench: Bench) -> dict[str, Any]:
    """The three caches in turn, on frames of the size that cameras send; then what auto takes."""
    data = bench.place / "larger"
    _write_larger(read_dataset(bench.project / "data"), data)
    epochs = bench.scale.loading_epochs
    runs: dict[str, list[Run]] = {"ram": [], "disk": [], "none": []}
    for _ in range(min(2, bench.rounds)):
        for cache, own in runs.items():
            own.append(bench.run("trainer", data, epochs=epochs, cache=cache))
    auto = bench.run("trainer", data, epochs=epochs, cache="auto")
    times = measure_reading(read_dataset(data), bench.place)
    caches = {
        cache: {
            "epoch_s": median(run.epoch_s for run in own),
            "total_s": median(run.total_s for run in own),
            "fixed_s": median(run.fixed_s for run in own),
            "images_per_s": median(run.images_per_s for run in own),
            "wait_share": median(run.wait_share for run in own),
        }
        for cache, own in runs.items()
    }
    best = min(caches, key=lambda cache: caches[cache]["epoch_s"])
    chosen = (auto.cache or "").partition(":")[0]
    loss = caches[chosen]["epoch_s"] / caches[best]["epoch_s"] - 1
    short = "disk" if pays(times, 100) else "none"
    sentence = (
        f"At {_LARGER_WH[0]}x{_LARGER_WH[1]} the trainer waits for frames {caches[chosen]['wait_share']:.1%} of its "
        f"time with the cache that auto takes ({chosen}), {caches['none']['wait_share']:.1%} with none; the fastest is "
        f"{best}, auto is {loss:.1%} slower. Were memory short, auto would take {short} for 100 epochs."
    )
    measured = {key: 1000 * value for key, value in vars(times).items()}
    return {
        "caches": caches,
        "auto": auto.cache,
        "auto_loss": loss,
        "cold_ms": measured,
        "if_short": short,
        "sentence": sentence,
    }


def _write_larger(dataset: Dataset, root: Path) -> None:
    """The same frames as 1280x720 JPEGs."""
    for frame in dataset.frames:
        for file in (frame.image, frame.label):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
        rgb = simplejpeg.decode_jpeg((dataset.root / frame.image).read_bytes(), "RGB")
        larger = cv2.resize(rgb, _LARGER_WH, interpolation=cv2.INTER_CUBIC)
        (root / frame.image).write_bytes(simplejpeg.encode_jpeg(larger, 90, "RGB", "420"))
        (root / frame.label).write_bytes((dataset.root / frame.label).read_bytes())
    write_data_yaml(root, dataset.classes)
    write_frames(root, dataset.frames)


def _loading_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    for cache, of in found["caches"].items():
        told = "taken by auto" if found["auto"].startswith(cache) else ""
        yield [
            "loading",
            f"cache {cache}",
            f"{of['epoch_s']:.2f}",
            f"{of['fixed_s']:.1f}",
            f"{of['images_per_s']:.1f}",
            f"{of['wait_share']:.1%}",
            "",
            told,
        ]


# What faster arithmetic costs


def _precision(bench: Bench) -> dict[str, Any]:
    chosen = _auto_precision()
    found = _compare_arithmetic(bench, "bf16", {"precision": "bf16"})
    return {**found, "sentence": f"{found['sentence']} train.precision: auto takes {chosen} here."}


def _auto_precision() -> str:
    from flows.training.loop.arguments import choose_precision

    return choose_precision("auto")


def _compile(bench: Bench) -> dict[str, Any]:
    return _compare_arithmetic(bench, "compiled", {"compile": True})


def _compare_arithmetic(bench: Bench, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """From weights trained in fp32, each seed trains on in both ways."""
    bench.run("trainer", start=bench.weights, epochs=bench.scale.start_epochs)
    start = bench.last_training / "best.pt"
    pairs = []
    for seed in range(1, bench.scale.seeds + 1):
        plain = bench.run("trainer", seed=seed, start=start, epochs=bench.scale.seed_epochs)
        pairs.append((plain, bench.run("trainer", seed=seed, start=start, epochs=bench.scale.seed_epochs, **changes)))
    return {"variant": name, **judge_pairs(name, pairs)}


def judge_pairs(name: str, pairs: Sequence[tuple[Run, Run]]) -> dict[str, Any]:
    """Difference in mAP50-95 within each seed with its 95 % interval (Student's t), beside the noise between seeds."""
    plain, changed = ([run.score or 0.0 for run in runs] for runs in zip(*pairs, strict=True))
    differences = [after - before for before, after in zip(plain, changed, strict=True)]
    mean, half = mean_with_interval(differences)
    noise = statistics.stdev(plain)
    speedup = median(other.images_per_s / one.images_per_s for one, other in pairs)
    sentence = (
        f"{name} is {speedup:.2f} times as fast as fp32; mAP50-95 changes by {mean:+.4f} (95 % interval "
        f"{mean - half:+.4f} to {mean + half:+.4f}) over {len(pairs)} seeds, which differ by {noise:.4f} (standard "
        "deviation) among themselves."
    )
    runs = {
        "fp32": _arithmetic_figures([one for one, _ in pairs]),
        name: _arithmetic_figures([other for _, other in pairs]),
    }
    numbers = {"difference": mean, "half_interval": half, "noise": noise, "speedup": speedup}
    return {**numbers, "differences": differences, "runs": runs, "sentence": sentence}


def mean_with_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval (Student's t), of at least 2 values."""
    from scipy.special import stdtrit

    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), float(stdtrit(len(values) - 1, 0.975)) * error


def _arithmetic_figures(runs: Sequence[Run]) -> dict[str, float]:
    return {
        "epoch_s": median(run.epoch_s for run in runs),
        "fixed_s": median(run.fixed_s for run in runs),
        "images_per_s": median(run.images_per_s for run in runs),
        "score": statistics.mean(run.score or 0.0 for run in runs),
    }


def _arithmetic_rows(found: dict[str, Any]) -> Iterator[list[str]]:
    for name, of in found["runs"].items():
        told = "" if name == "fp32" else f"{found['difference']:+.4f} ± {found['half_interval']:.4f} mAP50-95"
        yield [
            "arithmetic",
            name,
            f"{of['epoch_s']:.2f}",
            f"{of['fixed_s']:.1f}",
            f"{of['images_per_s']:.1f}",
            "",
            f"{of['score']:.3f}",
            told,
        ]


_ROWS = {
    "overhead": _overhead_rows,
    "loading": _loading_rows,
    "precision": _arithmetic_rows,
    "compile": _arithmetic_rows,
}


if __name__ == "__main__":
    sys.exit(main())
