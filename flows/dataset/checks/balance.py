"""Checks of classes: in every split, often enough, in about the same mix everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flows.dataset.checks.check import BETWEEN, NULL, Check, Evidence, root_name, stated, told
from flows.dataset.layout import DATA_YAML, SPLITS, Dataset
from flows.dataset.manifest.manifest import Manifest
from flows.params_data import LabelParams, ValidateParams

if TYPE_CHECKING:
    import pandas as pd

Ints = npt.NDArray[np.int64]
_DEALS = 1000  # enough to tell a chance of 1 %
_SEED = 0  # the same data get the same verdict


def balance_checks(params: ValidateParams) -> tuple[Check, ...]:
    """What must hold of the numbers of boxes."""
    few, rare = params.labels.min_class_boxes, params.labels.min_class_share
    return (
        Check("classes_in_every_split", "Every class occurs in every split", "stop", "classes", "num_boxes", BETWEEN,
              lambda row: f"no {row['class_name']} among the {row['num_frames']} frames of {row['split']}",
              {"min_value": 1}),
        Check("classes_frequent", f"Every class has {few:,} boxes and {rare:.1%} of all, or more", "warn",
              "class_totals", "scarce", NULL, told("scarce"),
              threshold=stated(params, "labels.min_class_boxes", "labels.min_class_share"), worst="-num_boxes"),
        Check("class_mix_even", "The classes have about the same shares in every split", "warn",
              "split_mixes", "uneven", NULL, told("uneven"),
              threshold=stated(params, "labels.max_mix_distance", "labels.mix_alpha"), worst="distance"),
    )  # fmt: skip


def balance_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`classes`: a row per split and class; `class_totals`: per class; `split_mixes`: per split."""
    dataset, manifest, labels = evidence.dataset, evidence.manifest, evidence.params.labels
    return {
        "classes": _classes(dataset, manifest),
        "class_totals": _totals(dataset, manifest, labels),
        "split_mixes": _mixes(dataset, manifest, labels),
    }


def _classes(dataset: Dataset, manifest: Manifest) -> pd.DataFrame:
    import pandas as pd

    counts = manifest.boxes.groupby(["split", "class_name"]).size()
    frames = manifest.images["split"].value_counts()
    rows = [
        {
            "file": f"{root_name(dataset)}/labels/{split}",
            "line": 0,
            "split": split,
            "class_name": name,
            "num_boxes": int(counts.get((split, name), 0)),
            "num_frames": int(frames.get(split, 0)),
        }
        for split in SPLITS
        for name in dataset.classes
    ]
    return pd.DataFrame(rows)


def _totals(dataset: Dataset, manifest: Manifest, labels: LabelParams) -> pd.DataFrame:
    """Classes without any box are left to the check that asks for one in every split."""
    import pandas as pd

    counts = manifest.boxes["class_name"].value_counts()
    numbers = [int(counts.get(name, 0)) for name in dataset.classes]
    table = pd.DataFrame({"class_name": dataset.classes, "num_boxes": numbers})
    table["file"], table["line"] = f"{root_name(dataset)}/{DATA_YAML}", 0
    table["scarce"] = [
        _scarce(name, number, sum(numbers), labels)
        for name, number in table[["class_name", "num_boxes"]].itertuples(index=False)
    ]
    return table


def _scarce(name: str, number: int, total: int, labels: LabelParams) -> str | None:
    if 0 < number < labels.min_class_boxes:
        return f"only {number:,} boxes are of the class {name}: too few to learn from, or to measure"
    if 0 < number < labels.min_class_share * total:
        return f"{name} has {number:,} of {total:,} boxes ({number / total:.2%}): it will hardly be learnt"
    return None


def _mixes(dataset: Dataset, manifest: Manifest, labels: LabelParams) -> pd.DataFrame:
    """How far the class mix of each split is from that of the whole set, and whether chance explains that."""
    import pandas as pd

    counts, splits = _counts_by_group(dataset, manifest)
    present = [index for index in range(len(SPLITS)) if counts[splits == index].sum()]
    distances = {index: _distance(counts[splits == index].sum(axis=0), counts.sum(axis=0)) for index in present}
    far = [index for index in present if distances[index] > labels.max_mix_distance]
    chances = _chances(counts, splits, {index: distances[index] for index in far})
    rows = []
    for index in present:
        own, all_boxes = counts[splits == index].sum(axis=0), counts.sum(axis=0)
        uneven = None
        if index in far and chances[index] < labels.mix_alpha:
            shares, usual = own / own.sum(), all_boxes / all_boxes.sum()
            worst = int(np.abs(shares - usual).argmax())
            uneven = (
                f"{dataset.classes[worst]} has {shares[worst]:.0%} of the boxes of {SPLITS[index]}, but"
                f" {usual[worst]:.0%} of all (distance of the mixes {distances[index]:.2f})"
            )
        file = f"{root_name(dataset)}/labels/{SPLITS[index]}"
        rows.append({"file": file, "line": 0, "distance": distances[index], "uneven": uneven})
    return pd.DataFrame(rows, columns=["file", "line", "distance", "uneven"])


def _counts_by_group(dataset: Dataset, manifest: Manifest) -> tuple[Ints, Ints]:  # (G, C), (G,)
    """Boxes of each class in each group of frames, and the split of each group.

    Frames of a clip are alike, so the clip (within its split) is what chance deals; without one, the frame.
    """
    import pandas as pd

    images = manifest.images
    clip = images["camera"] + "\n" + images["clip"]
    group = clip.where(images["clip"].str.strip() != "", images["image"]) + "\n" + images["split"]
    codes, names = pd.factorize(group)
    code_of = dict(zip(images["image"], codes, strict=True))
    counts = np.zeros((len(names), len(dataset.classes)), dtype=np.int64)
    np.add.at(counts, (manifest.boxes["image"].map(code_of).to_numpy(dtype=np.int64), manifest.boxes["class_id"]), 1)
    splits = np.zeros(len(names), dtype=np.int64)
    splits[codes] = images["split"].map({name: index for index, name in enumerate(SPLITS)})
    return counts, splits


def _chances(counts: Ints, splits: Ints, distances: dict[int, float]) -> dict[int, float]:
    """For some splits the share of deals of whole groups to splits in which its mix is as far off (permutation test).

    Each split keeps its number of groups. The deal that was found counts as one, so that no chance is zero.
    """
    if not distances:
        return {}
    random, whole = np.random.default_rng(_SEED), counts.sum(axis=0)
    as_far = dict.fromkeys(distances, 1)
    for _ in range(_DEALS):
        dealt = random.permutation(splits)
        for index, distance in distances.items():
            as_far[index] += _distance(counts[dealt == index].sum(axis=0), whole) >= distance - 1e-12
    return {index: number / (_DEALS + 1) for index, number in as_far.items()}


def _distance(counts: Ints, others: Ints) -> float:
    """Total variation distance of two mixes; 1 where one is empty."""
    if not counts.sum() or not others.sum():
        return 1.0
    return float(np.abs(counts / counts.sum() - others / others.sum()).sum() / 2)
