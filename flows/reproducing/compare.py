"""Whether a version that was made again is the same: digests first, then figures against the registered interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.reproducing.record import Environment, Figure, Results

Verdict = Literal["identical", "equivalent", "different"]
Sameness = Literal["same", "within", "differs", "other"]

# Packages whose code a figure goes through; another version of one of them may change a digest.
SHAPING = (
    *("torch", "torchvision", "ultralytics-opencv-headless", "numpy", "opencv-python-headless", "pillow", "scipy"),
    *("openvino", "onnx", "onnxruntime", "onnxslim", "nncf", "simplejpeg", "tensorrt"),
    *("nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-nccl-cu13", "triton"),
)


class Comparison(BaseModel):
    """One thing that was recorded, and what came of it now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="what is compared")
    recorded: str = Field(description="in the record")
    rebuilt: str = Field(description="now")
    state: Sameness = Field(
        description="same; within the registered interval; differs; other: may differ, informs only"
    )


class Judgement(BaseModel):
    """The verdict and what it rests on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict = Field(
        description="identical: the same weights and detections; equivalent: mAP50-95 on the frozen frames within the "
        "registered interval; different: neither"
    )
    reason: str = Field(description="what the verdict rests on, in one sentence")
    comparisons: tuple[Comparison, ...] = Field(description="weights first")


def judge_rebuild(recorded: Results, rebuilt: Results) -> Judgement:
    """Compare what a record says with what was made from it.

    Identical weights are the same model. Where they differ, the figure decides with which the version was registered:
    mAP50-95 on the frozen frames, whose interval says how far it may move with the choice of cameras.
    """
    rows = tuple(_rows(recorded, rebuilt))
    same_weights = recorded.weights_sha256 == rebuilt.weights_sha256
    served = _served(recorded, rebuilt)
    if same_weights and served != "differs":
        verdict: Verdict = "equivalent" if served == "within" else "identical"
    else:
        verdict = "equivalent" if served in ("same", "within") else "different"
    return Judgement(verdict=verdict, reason=_reason(recorded, rebuilt, same_weights, served), comparisons=rows)


def list_differences(recorded: Environment, now: Environment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What differs in packages that shape a result and in hardware, and the packages beside that differ."""
    shaping: list[str] = []
    beside: list[str] = []
    if recorded.python != now.python:
        shaping.append(f"Python {recorded.python} -> {now.python}")
    for name, version in recorded.packages.items():
        here = now.packages.get(name, "absent")
        # "absent" was recorded by versions that had no list of what is installed.
        if here != version:
            (shaping if name in SHAPING else beside).append(f"{name} {version} -> {here}")
    if recorded.hardware != now.hardware:
        shaping.append(f"hardware {recorded.hardware} -> {now.hardware}")
    return tuple(shaping), tuple(beside)


def _rows(recorded: Results, rebuilt: Results) -> Iterator[Comparison]:
    yield _exact("weights", recorded.weights_sha256[:12], rebuilt.weights_sha256[:12])
    yield _epochs(recorded.epochs, rebuilt.epochs)
    yield _exact("mAP50-95 on val", f"{recorded.map50_95:.6f}", f"{rebuilt.map50_95:.6f}")
    yield _exact("best epoch", str(recorded.best_epoch), str(rebuilt.best_epoch))
    for name, ours, theirs in (
        ("threads", recorded.num_threads, rebuilt.num_threads),
        ("processes", recorded.num_processes, rebuilt.num_processes),
        ("arithmetic", recorded.precision, rebuilt.precision),
    ):
        yield _other(name, ours, theirs)
    if rebuilt.engine is not None:
        yield _exact("ONNX", (recorded.onnx_sha256 or "none")[:12], (rebuilt.onnx_sha256 or "none")[:12])
        yield _other("engine (chosen by speed)", recorded.engine, rebuilt.engine)
        yield _other("model.json", (recorded.model_digest or "none")[:12], (rebuilt.model_digest or "none")[:12])
    if recorded.frozen_map50_95 and rebuilt.frozen_map50_95:
        state = _served(recorded, rebuilt) or "differs"
        yield Comparison(
            name="mAP50-95 on the frozen frames",
            recorded=_text(recorded.frozen_map50_95),
            rebuilt=_text(rebuilt.frozen_map50_95),
            state=state,
        )


def _served(recorded: Results, rebuilt: Results) -> Sameness | None:
    """How the figures on the frozen frames compare; None where they were not taken."""
    ours, theirs = recorded.frozen_map50_95, rebuilt.frozen_map50_95
    if ours is None or theirs is None or rebuilt.predictions_sha256 is None:
        return None
    if recorded.ground_truth_sha256 != rebuilt.ground_truth_sha256:
        return "differs"
    if recorded.predictions_sha256 == rebuilt.predictions_sha256:
        return "same"
    if theirs.value is None or ours.lower is None or ours.upper is None:
        return "differs"
    return "within" if ours.lower <= theirs.value <= ours.upper else "differs"


def _reason(recorded: Results, rebuilt: Results, same_weights: bool, served: Sameness | None) -> str:
    weights = f"the same weights ({recorded.weights_sha256[:12]})" if same_weights else "other weights"
    figure = (
        f"mAP50-95 {_text(rebuilt.frozen_map50_95)} on the frozen frames, registered {_text(recorded.frozen_map50_95)}"
    )
    labels = (recorded.ground_truth_sha256, rebuilt.ground_truth_sha256)
    match served:
        case "differs" if labels[0] != labels[1]:
            return f"{weights}; the frozen frames have other labels ({str(labels[0])[:12]}, now {str(labels[1])[:12]})"
        case "same":
            return f"{weights} and the same detections on the frozen frames"
        case "within":
            return f"{weights}; {figure}: within its interval"
        case None if same_weights:
            return weights
        case None:
            return f"{weights}; mAP50-95 {rebuilt.map50_95:.3f} on val, recorded {recorded.map50_95:.3f}"
        case _:
            return f"{weights}; {figure}{': not within' if _has_interval(recorded) else ', which has no interval'}"


def _epochs(recorded: Sequence[dict[str, float]], rebuilt: Sequence[dict[str, float]]) -> Comparison:
    name = "figures of each epoch"
    if not recorded:
        return Comparison(name=name, recorded="not recorded", rebuilt=f"{len(rebuilt)} epochs", state="other")
    for number, (ours, theirs) in enumerate(zip(recorded, rebuilt, strict=False), start=1):
        apart = {key: abs(ours[key] - theirs[key]) for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]}
        if apart:
            key = max(sorted(apart), key=lambda one: apart[one])
            return Comparison(
                name=f"{name}, first apart at {number}: {key}",
                recorded=f"{ours[key]:.6g}",
                rebuilt=f"{theirs[key]:.6g}",
                state="differs",
            )
    state: Sameness = "same" if len(recorded) == len(rebuilt) else "differs"
    return Comparison(name=name, recorded=f"{len(recorded)} epochs", rebuilt=f"{len(rebuilt)} epochs", state=state)


def _exact(name: str, recorded: str, rebuilt: str) -> Comparison:
    return Comparison(name=name, recorded=recorded, rebuilt=rebuilt, state="same" if recorded == rebuilt else "differs")


def _other(name: str, recorded: object, rebuilt: object) -> Comparison:
    state: Sameness = "same" if recorded == rebuilt else "other"
    return Comparison(name=name, recorded=str(recorded), rebuilt=str(rebuilt), state=state)


def _has_interval(results: Results) -> bool:
    figure = results.frozen_map50_95
    return figure is not None and figure.lower is not None and figure.upper is not None


def _text(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "not defined"
    if figure.lower is None or figure.upper is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.lower:.3f}, {figure.upper:.3f}]"
