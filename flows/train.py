"""Train: one YOLO11 detector on the validated frames, on from the champion where there is one."""

from __future__ import annotations

from pathlib import Path

from flows.data_difference import difference_to_champion
from flows.dataset.layout import read_dataset
from flows.errors import TcaError
from flows.stage import StageRun, main, stage
from flows.training.epochs import EpochMetrics
from flows.training.launch import train_apart
from flows.training.reproducibility import DataDifferenceSummary, TrainReport


@stage(gate="stop")
def train(run: StageRun) -> TrainReport:
    """Metrics of each epoch go to MLflow; the checkpoint, its curve and its digest to artifacts/training."""
    params, out_dir = run.params.train, run.project.artifacts / "training"
    dataset = run.step(read_dataset)(run.project.data)
    registry = run.registry()
    checkpoint = run.step(champion_checkpoint, retries=2)(run)
    difference = run.step(data_since_champion)(run)
    tags = {**run.provenance.tags(), "tca.data_difference": difference.sentence}
    with registry.run("train", tags) as log:
        log.params(params.model_dump())
        log.data("data", run.provenance.data_md5, len(dataset.frames))

        def on_epoch(epoch: EpochMetrics) -> None:
            log.metrics(epoch.numbers(), step=epoch.epoch)

        report = run.step(train_apart)(dataset, params, run.params.seed, out_dir, on_epoch, run.progress, checkpoint)
        log.artifact(out_dir / "epochs.csv")
    made_from = {"data_version": run.provenance.data_md5, "data_difference": difference}
    return report.model_copy(update={"mlflow_run_id": log.run_id, **made_from})


def champion_checkpoint(run: StageRun) -> Path | None:
    """The champion's weights when training goes on from it; None when it starts from `train.model`."""
    if run.params.train.start_from != "champion":
        return None
    registry = run.registry()
    champion = registry.reigning()
    return registry.download(champion) / "model" / "weights.pt" if champion else None


def data_since_champion(run: StageRun) -> DataDifferenceSummary:
    """How the data differ from the champion's. It informs: where it cannot be said, the training goes on."""
    try:
        champion = run.registry().reigning()
    except TcaError as error:
        return DataDifferenceSummary(sentence=f"not comparable with the champion's data: {error.message}")
    return difference_to_champion(run.project, run.provenance.data_md5, champion, run.progress)


if __name__ == "__main__":
    main(train)
