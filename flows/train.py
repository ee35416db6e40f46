"""Train: one YOLO11 model on the validated frames, on from the champion where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.adapters.registry import ModelVersion
from flows.artifacts import publish_report
from flows.data_difference import difference_to_champion
from flows.dataset.layout import read_dataset
from flows.early import check_early
from flows.errors import TcaError
from flows.stage import StageRun, main, stage
from flows.tracking import tracked_training
from flows.training.launching.launch import train_apart
from flows.training.reproducibility import DataDifferenceSummary, TrainReport
from flows.training_page.view import JUDGED, training_markdown, write_training_page


@stage(gate="stop")
def train(run: StageRun) -> TrainReport:
    """Metrics of each epoch go to MLflow; the checkpoint, its curve and its digest to artifacts/training.

    A training that was interrupted goes on, in the same MLflow run; with force it begins anew.
    """
    check_early("train", run.params, run.project)
    params, out_dir = run.params.train, run.project.artifacts / "training"
    dataset = run.step(read_dataset)(run.project.data)
    throne = run.step(look_at_throne)(run)
    checkpoint = run.step(champion_checkpoint, retries=2)(run, throne)
    difference = run.step(data_since_champion)(run, throne)
    with tracked_training(run, out_dir, checkpoint, {"tca.data_difference": difference.sentence}) as told:
        told.describe(len(dataset.frames))
        report = told.finished_before() or run.step(train_apart)(
            dataset, params, run.params.seed, out_dir, told.on_epoch, told.progress, checkpoint, tell=told.tell
        )
        made_from = {"data_version": run.provenance.data_md5, "data_difference": difference}
        notes = tuple(dict.fromkeys([*report.notes, *told.notes]))
        report = report.model_copy(update={"mlflow_run_id": told.run_id, "notes": notes, **made_from})
        page = run.project.reports / "train.html"
        gap = run.step(write_training_page)(page, out_dir, report, dataset, run.params, run.provenance, run.progress)
        if gap:
            told.tell(f"the page of the training is not whole: {gap}")
        told.finish(report, out_dir / "epochs.csv", out_dir / JUDGED, page)
    publish_report(run.name, training_markdown(report, page))
    return report


@dataclass(frozen=True)
class Throne:
    """Who reigns, or why that cannot be said."""

    champion: ModelVersion | None
    problem: TcaError | None = None


def look_at_throne(run: StageRun) -> Throne:
    """The champion, also where MLflow does not answer but its package is kept here."""
    try:
        return Throne(run.registry().known_champion())
    except TcaError as error:
        return Throne(None, error)


def champion_checkpoint(run: StageRun, throne: Throne) -> Path | None:
    """The champion's weights when training goes on from it; None when it starts from `train.model`."""
    if not run.params.train.may_start_from_champion:
        return None
    if throne.problem is not None:
        raise throne.problem
    return run.registry().download(throne.champion) / "model" / "weights.pt" if throne.champion else None


def data_since_champion(run: StageRun, throne: Throne) -> DataDifferenceSummary:
    """How the data differ from the champion's. It informs: where it cannot be said, the training goes on."""
    champion, reason = throne.champion, throne.problem.message if throne.problem else ""
    if champion is not None and not champion.run_id:
        reason = "MLflow does not answer"
    if reason:
        return DataDifferenceSummary(sentence=f"not comparable with the champion's data: {reason}")
    return difference_to_champion(run.project, run.provenance.data_md5, champion, run.progress)


if __name__ == "__main__":
    main(train)
