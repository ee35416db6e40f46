"""The frames on which champion and challenger contradict each other most, as labelling tasks in reports/."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from flows.comparison.predictions import GroundTruth, Predictions
from flows.comparison.tasks import label_config, label_studio_tasks, most_doubtful, tasks_csv
from flows.errors import DataError
from flows.page import write_page

NUM_TASKS = 50
TASKS, LIST, CONFIG = "label_tasks.json", "label_tasks.csv", "label_config.xml"


@dataclass(frozen=True)
class Written:
    """What was written: so many tasks, into these files."""

    num: int
    paths: tuple[Path, ...]


def write_label_tasks(
    reports: Path,
    data: Path,
    truth: GroundTruth,
    challenger: Predictions,
    champion: Predictions | None,
    num: int = NUM_TASKS,
) -> Written:
    """Write label_tasks.json for Label Studio, label_config.xml beside it, and the list as label_tasks.csv.

    The predictions are those that each model serves.

    Raises:
        DataError: A frame cannot be read.
    """
    chosen = most_doubtful(truth, challenger, champion, num)
    models = {"challenger": challenger} if champion is None else {"challenger": challenger, "champion": champion}

    def size_of(image: str) -> tuple[int, int]:
        try:
            with Image.open(data / image) as opened:
                return opened.size
        except OSError:
            raise DataError(f"{image}: is not an image that can be read", "Run: tca validate") from None

    tasks = label_studio_tasks(chosen, truth, models, size_of)
    paths = (reports / TASKS, reports / LIST, reports / CONFIG)
    texts = (
        json.dumps(tasks, indent=1) + "\n",
        tasks_csv(chosen, truth, champion is not None),
        label_config(truth.classes),
    )
    for path, text in zip(paths, texts, strict=True):
        write_page(path, text)
    return Written(len(chosen), paths)
