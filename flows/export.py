"""Export: the checkpoint becomes an engine that is proven to agree with PyTorch."""

from __future__ import annotations

from pathlib import Path

from flows.dataset.layout import read_dataset
from flows.exporting.export import ExportReport, export_model
from flows.stage import StageRun, main, stage


@stage(gate="stop")
def export(run: StageRun) -> ExportReport:
    """ONNX, then the engine this machine can build; an engine that differs from PyTorch is refused."""
    project, params = run.project, run.params.export
    dataset = run.step(read_dataset)(project.data)
    frames = spread_frames([dataset.root / frame.image for frame in dataset.split("val")], params.parity_frames)
    report = run.step(export_model)(
        project.artifacts / "training" / "best.pt",
        project.model,
        params,
        run.params.package.name,
        run.params.train.image_size,
        frames,
        run.progress,
    )
    with run.registry().run("export", {**run.provenance.tags(), "tca.model_digest": report.model_digest}) as log:
        log.params({"engine": report.engine, "precision": report.precision})
        log.artifact(project.model / "model.json")
    return report


def spread_frames(paths: list[Path], count: int) -> list[bytes]:
    """`count` of the files, evenly spread, so that every camera and slice is likely among them."""
    step = max(1, len(paths) // count)
    return [path.read_bytes() for path in paths[::step][:count]]


if __name__ == "__main__":
    main(export)
