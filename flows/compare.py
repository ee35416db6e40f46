"""Compare: several models against the champion on the same frozen frames, with their number accounted for."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from flows.candidate_models import Exported, Kind, export_entry, find_entries, require_different
from flows.comparison.candidates import Candidate, CandidatesReport, Contender, compare_candidates
from flows.comparison.candidates_page import candidates_page
from flows.comparison.engine_latency import NUM_PAIRS, EngineTimes
from flows.comparison.predictions import GroundTruth
from flows.comparison.tables import read_ground_truth, read_predictions, write_ground_truth, write_predictions
from flows.contestants import detect_with, find_champion, frames_to_time, loaded, time_in_turns
from flows.dataset.layout import Dataset, read_dataset
from flows.early import refuse_task
from flows.errors import GateRefused, ProjectError
from flows.frozen import frozen_frames
from flows.page import write_page
from flows.progress import Progress
from flows.stage import StageRun, main, stage

_INDEX = "contenders.json"
_TRUTH, _CHAMPION = "ground_truth.parquet", "champion.parquet"


class Source(BaseModel):
    """Where a candidate comes from, and what to do if it is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="as in the list of candidates")
    kind: Kind = Field(description="version, directory, checkpoint or trial")
    version: str | None = Field(description="registered version; null: it is not registered")
    digest: str = Field(description="digest of its model.json")
    engine: str = Field(description="engine and precision")
    next_step: str = Field(description="what to do if it is taken")


class LeftOut(BaseModel):
    """A candidate that was not compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="as it was named")
    reason: str = Field(description="why, in a sentence")


class CandidatesRecord(CandidatesReport):
    """The comparison, where its models come from, and which one was taken."""

    champion_version: str | None = Field(description="registered version that reigned; null: none did")
    sources: tuple[Source, ...] = Field(description="of each candidate, in the order they were named")
    left_out: tuple[LeftOut, ...] = Field(description="what could not be compared; does not count as a candidate")
    chosen: str | None = Field(default=None, description="version that was made the challenger; null: none was")

    def source(self, name: str) -> Source:
        """Where the candidate of that name comes from."""
        return next(one for one in self.sources if one.name == name)

    def highlights(self) -> list[str]:
        """A line for each candidate, best first, and what to do next."""
        lines = [_line(one, self.source(one.name)) for one in self.candidates]
        lines += [f"  {one.name:<20} left out: {one.reason}" for one in self.left_out]
        if self.chosen is not None:
            return [*lines, f"  version {self.chosen} is the challenger now; next: tca promote"]
        return [*lines, f"  next: {self.source(self.candidates[0].name).next_step}"] if self.passed else lines


class _Kept(BaseModel):
    """What a comparison rests on beside its tables, so that it can be judged again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion_version: str | None
    sources: tuple[Source, ...]
    left_out: tuple[LeftOut, ...]
    served_conf: tuple[float, ...]
    champion_conf: float | None
    times: tuple[EngineTimes, ...]


@stage(gate="stop", tracked=False)
def compare(
    run: StageRun, models: list[str] | None = None, front: bool = False, choose: bool = False, again: bool = False
) -> CandidatesRecord:
    """Judge registered versions, model directories, checkpoints and the front of a tuning against the champion.

    `choose` makes the winner the challenger, where it is a registered version. `again` judges what the last comparison
    kept with the params of today.
    """
    refuse_task("compare", run.params)
    folder = run.project.artifacts / "compare"
    if not again:
        run.step(gather)(run, models or [], front, folder)
    record = run.step(judge)(run, folder)
    hints = {one.name: one.next_step for one in record.sources}
    write_page(
        run.project.reports / "compare.html",
        candidates_page(record, hints, {one.name: one.reason for one in record.left_out}),
    )
    run.table([{"candidate": one.name, "outcome": one.outcome, "why": one.reasons[0]} for one in record.candidates])
    return run.step(make_challenger)(run, record) if choose and record.passed else record


def gather(run: StageRun, named: Sequence[str], front: bool, folder: Path) -> None:
    """Send the frozen frames through champion and candidates, each once, and keep what they found in `folder`.

    Raises:
        InputError: Something named is no model, or one is named twice.
    """
    dataset = read_dataset(run.project.data)
    champion, champion_dir = find_champion(run)
    exported = [export_entry(run, dataset, entry) for entry in find_entries(run, named, front)]
    require_different(exported, champion)
    compared = [one for one in exported if not one.refusal]
    left_out = tuple(LeftOut(name=one.entry.name, reason=one.refusal) for one in exported if one.refusal)
    if not compared:
        raise GateRefused(f"no candidate has an engine that may serve: {left_out[0].name}: {left_out[0].reason}")
    truth = frozen_frames(dataset, run.params.evaluate.split)
    shutil.rmtree(folder, ignore_errors=True)
    write_ground_truth(folder / _TRUTH, truth)
    conf, champion_conf, times = _send_all(run, dataset, truth, champion_dir, compared, folder)
    kept = _Kept(
        champion_version=None if champion is None else champion.version,
        sources=tuple(map(_source, compared)),
        left_out=left_out,
        served_conf=conf,
        champion_conf=champion_conf,
        times=times,
    )
    (folder / _INDEX).write_text(kept.model_dump_json(indent=1) + "\n", encoding="utf-8")


def judge(run: StageRun, folder: Path) -> CandidatesRecord:
    """Judge what `gather` kept, with the present params.

    Raises:
        ProjectError: Nothing is kept.
    """
    try:
        kept = _Kept.model_validate_json((folder / _INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise ProjectError("no comparison is kept to be judged again", "Run: tca compare MODEL [MODEL ...]") from None
    contenders = [
        Contender(source.name, read_predictions(folder / f"{number}.parquet"), conf, times)
        for number, (source, conf, times) in enumerate(zip(kept.sources, kept.served_conf, kept.times, strict=True))
    ]
    champion = None if kept.champion_version is None else read_predictions(folder / _CHAMPION)
    report = compare_candidates(
        read_ground_truth(folder / _TRUTH),
        champion,
        contenders,
        run.params.evaluate,
        champion_conf=kept.champion_conf,
        seed=run.params.seed,
        progress=run.progress,
    )
    return CandidatesRecord(
        **dict(report), champion_version=kept.champion_version, sources=kept.sources, left_out=kept.left_out
    )


def make_challenger(run: StageRun, record: CandidatesRecord) -> CandidatesRecord:
    """Make the winner the challenger, which `tca promote` takes.

    Raises:
        GateRefused: The winner is not registered, or another champion reigns than the one it was compared with.
    """
    first = record.candidates[0]
    source = record.source(first.name)
    if source.version is None:
        raise GateRefused(f"{first.name} is not registered and cannot be chosen", f"Next: {source.next_step}")
    registry = run.registry()
    champion = registry.reigning()
    reigns = None if champion is None else champion.version
    if reigns != record.champion_version:
        raise GateRefused(
            f"compared was with champion {record.champion_version or 'none'}, but now it is {reigns or 'none'}",
            f"Compare anew: tca compare {source.version} --choose",
        )
    version = registry.get(source.version)
    registry.register(version.run_id, registry.download(version), version.digest, version.tags)
    return record.model_copy(update={"chosen": version.version})


def _send_all(
    run: StageRun,
    dataset: Dataset,
    truth: GroundTruth,
    champion_dir: Path | None,
    compared: Sequence[Exported],
    folder: Path,
) -> tuple[tuple[float, ...], float | None, tuple[EngineTimes, ...]]:
    """Write what each model finds; give the confidences served with, and each candidate's times beside the champion."""
    frames = frames_to_time(dataset, truth)
    num_pairs = max(NUM_PAIRS, pairs_needed(run.params.evaluate.alpha / len(compared)))
    conf, times = [], []
    with ExitStack() as stack:
        old = None if champion_dir is None else stack.enter_context(loaded(champion_dir, dataset, reigns=True))
        if old is not None:
            write_predictions(folder / _CHAMPION, detect_with(old, dataset, truth, _named_progress(run, "champion")))
        for number, one in enumerate(compared):
            with loaded(one.model_dir, dataset) as new:
                found = detect_with(new, dataset, truth, _named_progress(run, one.entry.name))
                write_predictions(folder / f"{number}.parquet", found)
                conf.append(new.spec.thresholds.conf)
                times.append(time_in_turns(new, old, frames, num_pairs))
    return tuple(conf), None if old is None else old.spec.thresholds.conf, tuple(times)


def pairs_needed(alpha: float) -> int:
    """Frames from which a 95th percentile has an upper 1 - alpha bound: .95 to that power is alpha or less."""
    return math.ceil(math.log(alpha) / math.log(0.95))


def _named_progress(run: StageRun, name: str) -> Progress:
    return lambda done, total, note: run.progress(done, total, f"{name}: {note}")


def _source(one: Exported) -> Source:
    entry = one.entry
    return Source(
        name=entry.name,
        kind=entry.kind,
        version=None if entry.version is None else entry.version.version,
        digest=one.digest,
        engine=one.engine,
        next_step=entry.next_step,
    )


def _line(one: Candidate, source: Source) -> str:
    figure = one.figures.map50_95 if one.difference is None else one.difference.map50_95
    times = "" if one.latency is None else f"  p95 {one.latency.challenger.p95_ms.value:.3g} ms"
    return (
        f"  {one.name:<20} {one.outcome:<13} {figure.text(signed=one.difference is not None)}{times}  {source.engine}"
    )


if __name__ == "__main__":
    main(compare)
