"""The parts of a card about the model itself: what it is, what it is for and not for, where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.cards.blocks import Part, Points, Rows, Words, code, pairs
from flows.cards.limits import measured_limits
from flows.cards.sources import CardSources
from flows.training.report.page import flat

WEIGHTS_LICENCE = "AGPL-3.0, as all weights trained with Ultralytics under its open licence"
_TASKS = {"detect": "object detection", "segment": "segmentation", "classify": "classification", "pose": "poses"}
_DIRTY = {True: "yes: the commit alone does not give this model", False: "no"}
_PEOPLE = ("person", "people", "pedestrian", "pedestrians", "cyclist", "rider")
_MEANT_FOR = (
    "Counting and locating vehicles in frames of fixed traffic cameras of the kind it was trained on.",
    "Statistics of traffic: flow, density, queues, occupancy, made from its boxes by other software.",
    "Hints to people who watch cameras, with a person deciding.",
)
_NOT_FOR = (
    "Identifying persons, faces or number plates, or following one vehicle or person across cameras.",
    "Evidence in law enforcement, fines, or any decision about a person without a person judging the frame.",
    "Steering vehicles or signals where a miss endangers somebody: it is not a safety component.",
    "Moving cameras, drones, dash cameras, or views other than those listed below.",
    "Anything beyond its classes: it never reports it, so its absence from an answer means nothing.",
)


def details_part(sources: CardSources) -> Part:
    """What it is."""
    spec, training, export = sources.spec, sources.training, sources.export
    width, height = spec.input.size_wh
    task = training.task if training else "detect"
    engine = f"{spec.engine.kind}, {spec.engine.precision}, on {spec.engine.device or 'any device'}"
    values = {
        "name": spec.name,
        "version": sources.version or "given when it is registered; the registry's description names it",
        "digest of model.json": f"`{spec.digest}`",
        "weights, sha256": f"`{training.weights_sha256}`" if training else None,
        "bento": f"`{sources.background.bento_tag}`" if sources.background.bento_tag else None,
        "task": _TASKS.get(task, task),
        "architecture": f"YOLO11, trained from {training.started_from}" if training else "YOLO11",
        "parameters": f"{training.num_parameters:,}" if training else None,
        "input": f"{width} x {height} px RGB, letterboxed",
        "output": f"boxes with class and confidence; served from confidence {spec.thresholds.conf:g} on, "
        f"at most {spec.thresholds.max_det} a frame, overlaps suppressed at IoU {spec.thresholds.iou:g}",
        "classes": ", ".join(spec.classes),
        "engine": engine,
        "agreement with PyTorch": export.parity.sentence if export else None,
        "trained": sources.records.get("train", {}).get("finished_at"),
        "licence of the weights": WEIGHTS_LICENCE,
        "contact": "nobody is named",
    }
    return Part("details", "Model details", (pairs(values),))


def use_part() -> Part:
    """What it is for, and what it is not for."""
    return Part(
        "use",
        "Intended use",
        (Words("Meant for:"), Points(_MEANT_FOR), Words("Not meant for, and not judged for:"), Points(_NOT_FOR)),
    )


def factors_part(sources: CardSources) -> Part:
    """What its figures may depend on, as far as the data tell it apart."""
    validation = sources.validation
    if validation is None:
        return Part("factors", "Factors", (Words("What the data tell apart is not known."),))
    named = [name for name in validation.slices if name]
    points = (
        f"Conditions (slices): {', '.join(named) or 'none are named'}.",
        f"Cameras: {len(validation.images_per_camera)}; each has its own viewpoint, height and lens.",
        f"Classes: {', '.join(validation.classes)}.",
        "Object size, as COCO cuts it: small below 32 x 32 px of the stored frame, large above 96 x 96 px.",
    )
    return Part(
        "factors",
        "Factors",
        (Points(points), Words("Weather, country, season and camera model beyond these were not told apart.")),
    )


def limits_part(sources: CardSources) -> Part:
    """Caveats, drawn from the figures."""
    found = tuple(measured_limits(sources)) or ("Nothing was measured that would show its limits.",)
    return Part("limits", "Limits", (Words("Drawn from what was measured, not from opinion:"), Points(found)))


def ethics_part(classes: Sequence[str]) -> Part:
    """What it means for people."""
    people = [name for name in classes if name.lower() in _PEOPLE]
    told = f"It detects people as a whole ({', '.join(people)})" if people else "It has no class for people"
    return Part(
        "ethics",
        "Ethical considerations",
        (
            Words(
                f"Frames of streets show people who did not ask to be filmed. {told}; it reads neither faces nor "
                "plates and tells nobody apart. The pictures on its reports are "
                "reduced to 320 px unless the operator asked for full detail. Whoever deploys it answers for the "
                "cameras, for how long frames are kept, and for the law of the place."
            ),
            Words(
                "Where it is weaker (see Limits) traffic is undercounted. Decisions that follow such counts would then "
                "favour the conditions, cameras and kinds of vehicles that it sees better."
            ),
        ),
    )


def provenance_part(sources: CardSources) -> Part:
    """Where it comes from, and how to make it again."""
    found = sources.provenance
    dirty = found.get("git_dirty")
    version = sources.version or "VERSION"
    values = {
        "git commit": code(found.get("git_commit")),
        "changed files beside it": None if dirty is None else _DIRTY[bool(dirty)],
        "data version (md5 of data.dvc)": code(sources.data_md5),
        "params digest": code(found.get("params_digest")),
        "dvc.lock, sha256": code(found.get("dvc_lock_sha256")),
        "seed": None if found.get("seed") is None else str(found["seed"]),
        "hardware of the training": found.get("hardware"),
        "MLflow run of the training": code(sources.training.mlflow_run_id if sources.training else None),
    }
    versions = tuple((name, str(number)) for name, number in dict(found.get("versions") or {}).items())
    params = tuple((name, _text(value)) for name, value in flat(sources.background.params))
    folded = [("Package versions", (Rows(("package", "version"), versions),))] if versions else []
    if params:
        folded.append(("Parameters", (Rows(("parameter", "value"), params),)))
    again = Words(
        f"To make it again from its record, in a fresh worktree: `tca reproduce {version}`. On a CPU of the same kind "
        "the weights come out the same, bit for bit; on a GPU the figures do, within their spread."
    )
    lacks = tuple(map(str, sources.records.get("record", {}).get("lacks") or ()))
    if lacks:
        again = Words(f"It cannot be made again from its record: {'; '.join(lacks)}.")
    lacking = () if params else (Words("The parameters were not kept with this package; their digest is above."),)
    return Part("provenance", "Provenance", (pairs(values), again, *lacking), tuple(folded))


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping) or value is None or value == "":
        return "none"
    return {"True": "yes", "False": "no"}.get(str(value), str(value))
