"""Tune: a search over training parameters; hopeless trials are pruned, a broken-off study goes on."""

from __future__ import annotations

from typing import Any

from flows.dataset.layout import read_dataset
from flows.stage import StageRun, main, stage
from flows.training.epochs import EpochMetrics
from flows.training.launch import train_apart
from flows.training.search import EpochReport, TuneReport, search


@stage(gate="stop", tracked=False)
def tune(run: StageRun) -> TuneReport:
    """Each trial is a training of its own with an MLflow run of its own; the study is a journal on disk."""
    dataset = run.step(read_dataset)(run.project.data)
    registry, tune_params = run.registry(), run.params.tune
    scratch = run.project.home / "tune"

    def train_once(number: int, values: dict[str, Any], on_epoch: EpochReport) -> float:
        params = run.params.train.model_copy(update={**values, "epochs": tune_params.epochs})
        with registry.run("tune", {**run.provenance.tags(), "tca.trial": str(number)}) as log:
            log.params(params.model_dump())

            def report(epoch: EpochMetrics) -> None:
                log.metrics(epoch.numbers(), step=epoch.epoch)
                on_epoch(epoch.epoch, epoch.map50_95)

            return train_apart(dataset, params, run.params.seed, scratch / f"trial{number}", report).map50_95

    return run.step(search)(train_once, tune_params, run.params.seed, scratch / "study.journal", run.progress)


if __name__ == "__main__":
    main(tune)
