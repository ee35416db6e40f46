"""Monitor: is what comes in still like what the model was trained on? When not, say so to whoever listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.dataset.drift.batch import batch_sample
from flows.dataset.drift.drift import DriftReport, measure_drift
from flows.dataset.drift.embeddings import embed_samples, without_embeddings
from flows.dataset.drift.page import drift_page
from flows.dataset.drift.samples import Sample, record_sample, split_sample
from flows.dataset.drift.sentences import drifted_names
from flows.dataset.formats.mapping import mapping_from_regex, no_mapping
from flows.dataset.layout import DATA_YAML, SPLITS, read_classes
from flows.dataset.manifest.manifest import read_manifest
from flows.errors import InputError
from flows.page import write_page
from flows.settings import Project
from flows.stage import StageRun, main, stage

DRIFT_EVENT = "tca.drift.detected"
EVIDENTLY_PAGE = "monitor_evidently.html"
RECORDS = "records"


@stage(gate="stop", tracked=False)
def monitor(run: StageRun, reference: str = "train", current: str = RECORDS, regex: str = "") -> DriftReport:
    """Compare two sets of frames: train, val, test, records, records:FOLDER, or a folder of images not imported yet.

    `regex` says where the paths of such a folder name camera, clip and slice. By default recorded production frames
    (those of the local service) are compared with the training split.
    """
    project = run.project
    before, now = embed_both(run, read_sample(run, reference, regex), read_sample(run, current, regex))
    project.reports.mkdir(exist_ok=True)
    evidently_page = project.reports / EVIDENTLY_PAGE
    evidently_page.unlink(missing_ok=True)
    report = run.step(measure_drift)(before, now, run.params.monitor, evidently_page, run.params.seed)
    page = drift_page(report, before, now, EVIDENTLY_PAGE if evidently_page.exists() else "")
    write_page(project.reports / "monitor.html", page)
    if report.verdict == "drifted" and _is_production(current):
        run.step(announce_drift, retries=2)(report, run.params.package.name)
    return report


def read_sample(run: StageRun, given: str, regex: str = "") -> Sample:
    """The frames that `given` names. Raises InputError when it names nothing, DataError when they cannot be read."""
    project = run.project
    if _is_production(given):
        folder = given.partition(":")[2]
        return run.step(record_sample)(Path(folder or project.home / "records"), run.params.monitor.block_s)
    if given not in SPLITS and not Path(given).is_dir():
        kinds = f"{', '.join(SPLITS)}, {RECORDS}, {RECORDS}:FOLDER or a folder of images"
        raise InputError(f"{given!r} is neither a split nor a folder", f"Expected {kinds}")
    manifest = run.step(read_manifest)(project.artifacts / "manifest")
    if given in SPLITS:
        return split_sample(manifest, given, project.data)
    classes = () if (Path(given) / DATA_YAML).is_file() else read_classes(project.data / DATA_YAML)
    mapping = mapping_from_regex(regex) if regex else no_mapping
    return run.step(batch_sample)(Path(given), classes, set(manifest.images["camera"]), mapping, run.progress)


def find_weights(project: Project) -> Path | None:
    """The checkpoint of the exported model, else that of the last training, else None."""
    places = (project.model / "weights.pt", project.artifacts / "training" / "best.pt")
    return next((place for place in places if place.is_file()), None)


def embed_both(run: StageRun, before: Sample, now: Sample) -> tuple[Sample, Sample]:
    """Both samples with embeddings of the detector's backbone, where both have images and there is a detector."""
    max_frames = run.params.monitor.embedding_frames
    if not max_frames or before.paths is None or now.paths is None:
        return before, now
    weights = find_weights(run.project)
    if weights is None:
        return before, without_embeddings(now, "no detector is trained yet")
    store = run.project.home / "embeddings.db"
    return run.step(embed_samples)(before, now, weights, store, max_frames, run.progress)


def announce_drift(report: DriftReport, model_name: str) -> None:
    """Emit the event that a retraining automation listens to."""
    from prefect.events import emit_event

    emit_event(
        event=DRIFT_EVENT,
        resource={"prefect.resource.id": f"tca.model.{model_name}", "prefect.resource.name": model_name},
        payload=drift_payload(report),
    )


def drift_payload(report: DriftReport) -> dict[str, Any]:
    """What the event carries: the sentence, the counts, what has drifted by how much, and the cameras to look at."""
    return {
        "sentence": report.sentence,
        "num_current": report.num_current,
        "columns": drifted_names(report.features),
        "distances": {f"{one.name} ({one.group})": one.distance for one in report.features if one.drifted},
        "cameras": {one.camera: one.state for one in report.cameras if one.is_alarm},
    }


def _is_production(given: str) -> bool:
    return given.partition(":")[0] == RECORDS


if __name__ == "__main__":
    main(monitor)
