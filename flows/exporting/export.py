"""From a checkpoint to a model directory with the fastest engine that is proven to lose next to nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bentos.detector.contract import write_spec
from flows.errors import DataError
from flows.exporting.build import Source
from flows.exporting.candidates import Candidate, list_candidates
from flows.exporting.choice import choose
from flows.exporting.contest import Contest, Entry, Evidence
from flows.exporting.decoding import DecodeReport, decide_decoding, keep_full
from flows.exporting.graph import read_graph, write_onnx
from flows.exporting.report import ExportReport
from flows.exporting.steps import Steps
from flows.exporting.verdict import Outcome, make_report
from flows.params import ExportParams
from flows.progress import Progress, silent
from flows.weights import threads

_READ_S, _ONNX_S, _DECODE_S = 4, 5, 3


def export_model(
    checkpoint: Path,
    model_dir: Path,
    params: ExportParams,
    name: str,
    image_size: int,
    evidence: Evidence,
    progress: Progress = silent,
) -> ExportReport:
    """Build every engine that `params` and this machine allow, prove each, and leave the chosen one in `model_dir`.

    `model_dir` is replaced when all is done: weights.pt, model.onnx, the engine and model.json. Where no engine may be
    taken, the most exact one is written all the same, to be looked at, and the report says that it did not pass.

    Args:
        name: Name of the model in model.json.
        image_size: Side of the input, px, for a checkpoint that does not say what it was trained at.

    Raises:
        CheckpointError: The file is no detection checkpoint.
        EngineUnavailable: Nothing that was asked for can be built here.
        DataError: There are no frames to compare on.
    """
    if not evidence.images:
        raise DataError("there are no frames to compare engine and PyTorch on", "The split val must not be empty")
    candidates, missing = list_candidates(params)
    steps = Steps(progress)
    steps.expect(_READ_S + _ONNX_S + Contest.weight(candidates) + _DECODE_S)
    with _draft(model_dir) as folder, threads(1):
        steps.begin(_READ_S, "reading the checkpoint")
        graph = read_graph(checkpoint, image_size, params.top_k)
        steps.begin(_ONNX_S, "writing ONNX")
        write_onnx(graph, folder / "model.onnx")
        timing_cache = model_dir.with_name("tensorrt-timing.cache")
        source = Source(graph, folder / "model.onnx", params, name, evidence.calibration, timing_cache)
        outcome = _compete(source, candidates, evidence, folder, steps)
        shutil.copyfile(checkpoint, outcome.taken.built.folder / "weights.pt")
        report = make_report(replace(outcome, missing=(*missing, *outcome.missing)), source, evidence)
        _publish(outcome.taken.built.folder, model_dir)
    steps.finish()
    return report


def _compete(
    source: Source, candidates: Sequence[Candidate], evidence: Evidence, folder: Path, steps: Steps
) -> Outcome:
    contest = Contest(source, evidence, folder, steps)
    entries, missing = contest.run(candidates)
    params = source.params
    winner = choose([contest.contender(entry) for entry in entries], params.min_speedup)
    taken = entries[winner or 0]
    steps.begin(_DECODE_S, "scaled decoding")
    if winner is None:
        decoding = keep_full("no engine may be taken")
    elif params.scaled_decode == "never":
        decoding = keep_full("export.scaled_decode is never")
    else:
        decoding = _decide_decoding(taken, evidence, params.max_loss, steps.within)
    return Outcome(contest.baseline, tuple(entries), tuple(missing), taken, winner is not None, decoding)


def _decide_decoding(taken: Entry, evidence: Evidence, max_loss: float, progress: Progress) -> DecodeReport:
    detector = taken.built.load()
    try:
        decoding = decide_decoding(detector, evidence.images, evidence.judge, max_loss, progress)
    finally:
        detector.close()
    spec = taken.built.spec
    write_spec(
        taken.built.folder,
        spec.model_copy(update={"input": spec.input.model_copy(update={"scaled_decode": decoding.scaled})}),
    )
    return decoding


@contextmanager
def _draft(model_dir: Path) -> Iterator[Path]:
    folder = model_dir.with_name(f"{model_dir.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(made: Path, model_dir: Path) -> None:
    old = model_dir.with_name(f"{model_dir.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if model_dir.exists():
        model_dir.rename(old)
    made.rename(model_dir)
    shutil.rmtree(old, ignore_errors=True)
