"""`tca data review`: which labels does a reference model doubt? Also what validation asks it."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Literal

from flows.console import Console
from flows.dataset.layout import Dataset, read_dataset
from flows.dataset.manifest.manifest import Manifest, build_manifest
from flows.dataset.review.classes import map_classes
from flows.dataset.review.page import review_page
from flows.dataset.review.record import KINDS, Case
from flows.dataset.review.review import Review, Witness, review_labels
from flows.errors import CheckpointError, InputError
from flows.page import write_page
from flows.params_data import ReviewParams
from flows.params_file import read_params
from flows.progress import Progress, silent
from flows.reference import open_reference
from flows.reference_detections import detect_images
from flows.serving import registry_of
from flows.settings import Project

CHAMPION = "champion"
COLUMNS = ("kind", "score", "file", "line", "image", "split", "camera", "label_class", "proposed_class")
_CORNERS = ("x1", "y1", "x2", "y2")

console = Console()


def review_data(project: Project, reference: str = "", top: int | None = None, full: bool = False) -> Review:
    """Review the labels in data/ and write reports/review.html, .json, .csv and review_images.txt.

    Args:
        project: Where the data are.
        reference: Checkpoint, model directory or "champion"; empty takes validate.review.reference.
        top: Cases of each kind to show as pictures; None takes validate.review.top.
        full: Show pictures in full detail, faces and plates included.

    Raises:
        InputError: No reference is named, or it is none.
    """
    params = read_params(project.params_file).validate_
    asked = params.review.model_copy(
        update={"reference": reference or params.review.reference, "top": top or params.review.top}
    )
    find_reference(project, asked.reference)  # a wrong name shows before the images are read
    dataset = read_dataset(project.data)
    with console.step("manifest") as shown:
        manifest = build_manifest(dataset, progress=shown.progress)
        shown.done(f"{len(manifest.images):,} frames, {len(manifest.boxes):,} boxes")
    with console.step("review") as shown:
        review = review_manifest(project, dataset, manifest, asked, shown.progress)
        shown.done(f"{len(review.cases):,} cases")
    write_review(project.reports, review, dataset, manifest, asked.top, "full" if full else params.pictures)
    return review


def review_manifest(
    project: Project, dataset: Dataset, manifest: Manifest, params: ReviewParams, progress: Progress = silent
) -> Review:
    """Ask the reference model about every readable frame, and judge the labels by what it says.

    What it found is remembered under the project's home, by the content of model and image.

    Raises:
        InputError: `params.reference` is empty or no model, or `params.classes` names unknown classes.
    """
    path = find_reference(project, params.reference)
    model = open_reference(
        path,
        params.image_size,
        lambda names: list(map_classes(dataset.classes, names, params.classes).class_of),
        project.home / "review",
    )
    class_map = map_classes(dataset.classes, model.classes, params.classes)
    readable = manifest.images[manifest.images["readable"]]
    found = detect_images(model, dataset.root, readable, project.home / "review", progress)
    name = CHAMPION if params.reference == CHAMPION else model.name
    witness = Witness(name, model.key, model.side_px, class_map, model.scores_every_class, model.is_ours)
    return review_labels(dataset, manifest, found, witness, params)


def find_reference(project: Project, reference: str) -> Path:
    """The file or folder that a reference names, seen from the project. Raises InputError when there is none."""
    if not reference:
        raise InputError(
            "no reference model is named",
            "Name one: tca data review --reference yolo11n.pt, or champion; or set validate.review.reference",
        )
    if reference != CHAMPION:
        path = project.root / reference
        if not path.exists():
            raise CheckpointError(f"there is no checkpoint at {path}", "Give the path of a .pt file, or champion")
        return path
    registry = registry_of(project)
    champion = registry.reigning()
    if champion is None:
        raise InputError("there is no champion to review the labels", "Give a checkpoint: --reference yolo11n.pt")
    return registry.download(champion) / "model" / "weights.pt"  # its engine keeps the best class of a place only


def write_review(
    reports: Path, review: Review, dataset: Dataset, manifest: Manifest, top: int, detail: Literal["reduced", "full"]
) -> None:
    """Write the page, the record, all cases as CSV, and the images with cases, the most doubtful first."""
    reports.mkdir(parents=True, exist_ok=True)
    content = review_page(review, dataset, manifest, top, detail)
    write_page(reports / "review.html", content)
    record = {"stage": "review", **review.model_dump(mode="json")}
    (reports / "review.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    with (reports / "review.csv").open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(
            [*COLUMNS, *(f"label_{each}" for each in _CORNERS), *(f"found_{each}" for each in _CORNERS), "what"]
        )
        writer.writerows(_row(case, found) for case in review.cases for found in case.found_xyxy or (None,))
    doubt: dict[str, float] = defaultdict(float)
    for case in review.cases:
        doubt[case.image] += case.score
    images = sorted(doubt, key=lambda image: (-doubt[image], image))
    (reports / "review_images.txt").write_text("".join(f"{image}\n" for image in images), encoding="utf-8")


def review_text(review: Review) -> str:
    """The review as a terminal shows it: the sentence, counts by kind, agreement by class."""
    lines = [review.sentence, ""]
    lines += [f"  {KINDS[kind]:<40} {number:>6,}" for kind, number in review.num_cases.items()]
    lines.append("")
    for one in review.agreement:
        if one.doubted_share is None or one.lower is None or one.upper is None:
            lines.append(f"  {one.class_name}: none of its {one.num_labels:,} labels is seen clearly")
        else:
            lines.append(
                f"  {one.class_name}: {one.num_doubted:,} of {one.num_seen:,} labels seen clearly look like another "
                f"class ({one.doubted_share:.1%}; 95 % interval {one.lower:.1%} to {one.upper:.1%}); "
                f"{one.num_missing:,} without a label"
            )
    lines += ["", *(f"note: {note}" for note in review.notes)]
    return "\n".join(lines)


def _row(case: Case, found: tuple[float, float, float, float] | None) -> list[object]:
    values = case.model_dump()
    return [
        *(f"{case.score:.3f}" if column == "score" else values[column] for column in COLUMNS),
        *(case.label_xyxy or ("",) * 4),
        *(found or ("",) * 4),
        case.sentence,
    ]
