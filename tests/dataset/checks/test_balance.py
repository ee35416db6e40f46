"""The class mix of splits: what chance explains is no fault, what it does not is told with the class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.dataset.checks.balance import balance_tables
from flows.dataset.checks.check import Evidence
from flows.dataset.layout import SPLITS, Dataset
from flows.dataset.manifest.manifest import TABLES, Manifest
from flows.params_data import LabelParams
from flows.params_file import read_params

PARAMS = read_params(Path(__file__).parents[3] / "params.yaml").validate_
CLASSES = ("car", "bus")


def balance(clips: list[tuple[str, int, int]], named: bool = True, **changes: float) -> dict[str, pd.DataFrame]:
    """The tables for clips of (split, cars, buses), whose boxes are spread over their frames."""
    images, boxes = [], []
    for number, (split, *counts) in enumerate(clips):
        names = [f"images/{split}/{number}_{frame}.jpg" for frame in range(25)]
        images += [
            {"image": name, "split": split, "camera": "cam1", "clip": f"c{number}" if named else ""} for name in names
        ]
        for class_id, count in enumerate(counts):
            boxes += [
                {
                    "image": names[k % 25],
                    "split": split,
                    "class_id": class_id,
                    "class_name": CLASSES[class_id],
                }
                for k in range(count)
            ]
    manifest = Manifest(
        pd.DataFrame(images),
        pd.DataFrame(boxes, columns=["image", "split", "class_id", "class_name"]),
        pd.DataFrame(columns=list(TABLES["problems"])),
        np.zeros((len(images), 54, 96), dtype=np.uint8),
    )
    labels: LabelParams = PARAMS.labels.model_copy(update=changes)
    dataset = Dataset(Path("/tmp/data"), CLASSES, ())
    return balance_tables(Evidence(dataset, manifest, PARAMS.model_copy(update={"labels": labels})))


def uneven(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    table = tables["split_mixes"]
    return dict(table.loc[table["uneven"].notna(), ["file", "uneven"]].itertuples(index=False, name=None))


def test_even_splits_are_silent() -> None:
    assert uneven(balance([(split, 30, 10) for split in SPLITS for _ in range(6)])) == {}


def test_a_split_of_another_mix_is_told_with_its_class() -> None:
    tables = balance([(split, 10, 30) if split == "test" else (split, 30, 10) for split in SPLITS for _ in range(8)])
    assert uneven(tables) == {
        "data/labels/test": "car has 25% of the boxes of test, but 58% of all (distance of the mixes 0.33)"
    }


def test_one_odd_clip_is_chance() -> None:
    """Test consists of two clips, one of them full of buses, as every fourth is: that may well happen."""
    usual, odd = (30, 5), (5, 60)
    clips = [("train", *usual)] * 9 + [("train", *odd)] * 3 + [("val", *usual)] * 3 + [("val", *odd)]
    tables = balance([*clips, ("test", *usual), ("test", *odd)])
    distances = tables["split_mixes"].set_index("file")["distance"]
    assert distances["data/labels/test"] > PARAMS.labels.max_mix_distance
    assert uneven(tables) == {}


def test_chance_deals_whole_clips_and_single_frames_that_have_none() -> None:
    clips = [("train", 90, 10)] * 3 + [("test", 10, 90)]
    assert uneven(balance(clips, named=True)) == {}  # one clip of four: chance deals it to test once in four times
    assert list(uneven(balance(clips, named=False))) == ["data/labels/train", "data/labels/test"]


@pytest.mark.parametrize(
    ("buses", "changes", "words"),
    [
        (9, {}, "only 9 boxes are of the class bus"),
        (10, {}, None),
        (12, {"min_class_share": 0.05}, "bus has 12 of 312 boxes (3.85%)"),
        (0, {}, None),  # the check for every class in every split says that
    ],
)
def test_scarce_classes_are_told(buses: int, changes: dict[str, float], words: str | None) -> None:
    tables = balance([("train", 300, buses)], **changes)
    scarce = tables["class_totals"].set_index("class_name")["scarce"]
    assert pd.isna(scarce["car"])
    assert pd.isna(scarce["bus"]) if words is None else words in scarce["bus"]


def test_a_split_without_boxes_has_no_mix() -> None:
    tables = balance([("train", 5, 5), ("val", 0, 0)])
    assert tables["split_mixes"]["file"].tolist() == ["data/labels/train"]
    assert tables["classes"].set_index(["split", "class_name"])["num_boxes"].to_dict()["val", "car"] == 0
    assert len(balance([("train", 0, 0)])["split_mixes"]) == 0
