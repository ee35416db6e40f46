from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.layout import SPLITS, read_dataset
from flows.dataset.leakage.repair import group_frames, propose_split, straddling
from flows.dataset.leakage.splitting import SHARES
from flows.dataset.leakage.stratification import divide_groups
from flows.dataset.manifest.manifest import Manifest, build_manifest
from flows.dataset.rendering.scene import render_dataset
from flows.errors import DataError
from flows.params_data import RenderParams
from flows.params_file import read_params

LEAKAGE = read_params(Path(__file__).parents[3] / "params.yaml").validate_.leakage
CLASSES = ("car", "truck", "bus")


def manifest_of(
    sizes: list[int], boxes: list[tuple[int, ...]], seed: int = 0
) -> tuple[Manifest, npt.NDArray[np.int64]]:
    """Frames in groups of these sizes, each frame with these boxes of each class, scattered over splits."""
    rng = np.random.default_rng(seed)
    rows, labels, groups = [], [], []
    for group, (size, counts) in enumerate(zip(sizes, boxes, strict=True)):
        for number in range(size):
            split = str(rng.choice(SPLITS))
            image = f"images/{split}/{group}_{number}.jpg"
            rows.append({"image": image, "split": split, "camera": "cam", "clip": str(group), "slice": "day"}
                        | {"sha256": f"{group}-{number}"})  # fmt: skip
            groups.append(group)
            for name, count in zip(CLASSES, counts, strict=True):
                labels += [{"image": image, "split": split, "class_name": name}] * count
    tables = pd.DataFrame(rows), pd.DataFrame(labels, columns=["image", "split", "class_name"])
    empty = pd.DataFrame(), np.zeros((len(rows), 54, 96), np.uint8)
    return Manifest(*tables, *empty), np.array(groups)


GROUPS = st.lists(st.tuples(st.integers(1, 6), st.tuples(*[st.integers(0, 3)] * len(CLASSES))), min_size=3, max_size=14)


@given(GROUPS, st.integers(0, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_group_straddles_and_every_frame_has_one_split(
    drawn: list[tuple[int, tuple[int, ...]]], seed: int, keep: bool
) -> None:
    manifest, groups = manifest_of([size for size, _ in drawn], [counts for _, counts in drawn])
    proposal = propose_split(manifest, groups, seed, keep)
    assert straddling(groups, proposal.splits) == 0
    assert len(proposal.splits) == len(groups)
    assert set(proposal.splits) == set(SPLITS)


@given(GROUPS, st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_same_seed_gives_the_same_split_in_whatever_order_and_split_the_frames_lie(
    drawn: list[tuple[int, tuple[int, ...]]], seed: int, random: object
) -> None:
    sizes, boxes = [size for size, _ in drawn], [counts for _, counts in drawn]
    manifest, groups = manifest_of(sizes, boxes, seed=1)
    elsewhere, _ = manifest_of(sizes, boxes, seed=2)  # the same contents in other splits
    order = np.random.default_rng(seed).permutation(len(groups))
    shuffled = Manifest(
        elsewhere.images.iloc[order].reset_index(drop=True), elsewhere.boxes, elsewhere.problems, elsewhere.thumbnails
    )
    renumbered = np.unique(groups[order] * 7919 % 10007, return_inverse=True)[1]
    first, second = propose_split(manifest, groups, seed), propose_split(shuffled, renumbered, seed)
    assert [first.splits[place] for place in order] == list(second.splits)


@given(st.lists(st.integers(0, 2), min_size=9, max_size=30))
@settings(max_examples=40, deadline=None)
def test_every_class_is_in_every_split_when_it_is_in_groups_enough(main_class: list[int]) -> None:
    """Groups of one frame and one class each: three groups of a class are enough for three splits."""
    main_class = [*main_class, *[0, 1, 2] * 3]
    boxes = [tuple(int(index == group) for index in range(3)) for group in main_class]
    manifest, groups = manifest_of([1] * len(boxes), boxes)
    proposal = propose_split(manifest, groups, seed=0)
    of_image = dict(zip(manifest.images["image"], proposal.splits, strict=True))
    assert len(set(zip(manifest.boxes["class_name"], manifest.boxes["image"].map(of_image), strict=True))) == 9
    assert proposal.notes == ()


def test_the_shares_of_frames_and_of_every_class_are_met() -> None:
    rng = np.random.default_rng(5)
    boxes = [tuple(rng.poisson((6, 1, 0.3))) for _ in range(120)]
    manifest, groups = manifest_of([4] * 120, boxes)
    proposal = propose_split(manifest, groups, seed=0)
    of_image = dict(zip(manifest.images["image"], proposal.splits, strict=True))
    counted = {"frames": Counter(proposal.splits)}
    for name in CLASSES:
        chosen = manifest.boxes.loc[manifest.boxes["class_name"] == name, "image"]
        counted[name] = Counter(chosen.map(of_image))
    for counts in counted.values():
        for split in SPLITS:
            assert counts[split] / sum(counts.values()) == pytest.approx(SHARES[split], abs=0.02)


def test_a_sound_split_is_kept_when_few_frames_shall_move() -> None:
    manifest, groups = manifest_of([1] * 40, [(1, 1, 1)] * 40)
    kept = propose_split(manifest, groups, seed=0, keep=True)
    assert list(kept.splits) == manifest.images["split"].tolist()


def test_a_group_that_straddles_goes_where_most_of_it_lies_when_few_frames_shall_move() -> None:
    manifest, groups = manifest_of([1] * 40 + [7], [(1, 1, 1)] * 41)
    images = manifest.images
    images.loc[40:, "split"] = ["val"] * 5 + ["train"] * 2
    kept = propose_split(manifest, groups, seed=0, keep=True)
    assert kept.splits[40:] == ("val",) * 7
    assert list(kept.splits[:40]) == images["split"].tolist()[:40]


def test_too_few_groups_are_refused_with_what_to_do() -> None:
    manifest, groups = manifest_of([5, 5], [(1, 1, 1)] * 2)
    with pytest.raises(DataError, match=r"the 10 frames form only 2 groups .* Give cameras and clips"):
        propose_split(manifest, groups, seed=0)


def test_a_class_in_two_groups_and_a_group_of_most_frames_are_noted() -> None:
    manifest, groups = manifest_of([60, 2, 2, 2, 2], [(1, 0, 0), (1, 1, 0), (1, 1, 0), (1, 0, 0), (1, 0, 0)])
    notes = propose_split(manifest, groups, seed=0).notes
    assert notes[0].startswith("One group holds 88% of the frames")
    assert notes[1].startswith("truck lies in 2 groups only: none in ")


@given(st.integers(3, 12), st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_division_cannot_be_bettered_by_moving_one_group(number: int, things: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 9, (number, things)).astype(float)
    counts[:, 0] += 1
    required = np.ones(things, dtype=bool)
    division = divide_groups(counts, required, seed)

    def cost(division: npt.NDArray[np.int64]) -> float:
        totals = np.stack([counts[division == split].sum(axis=0) for split in range(3)])
        present = counts.sum(axis=0) > 0
        shares = totals[:, present] / counts.sum(axis=0)[present]
        goal = np.array([[SHARES[split]] for split in SPLITS])
        return float(((shares - goal) ** 2).sum() + 1e3 * (shares == 0).sum())

    for group in range(number):
        for split in range(3):
            other = division.copy()
            other[group] = split
            assert cost(other) >= cost(division) - 1e-9


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("rendered") / "data"
    params = RenderParams(cameras=4, clips_per_camera=4, frames_per_clip=2, size_wh=[480, 288], jpeg_quality=90)
    render_dataset(root, params, seed=0)
    return build_manifest(read_dataset(root))


def changed(manifest: Manifest, **columns: object) -> Manifest:
    return Manifest(manifest.images.assign(**columns), manifest.boxes, manifest.problems, manifest.thumbnails)


def test_the_groups_are_the_clips_of_named_cameras_or_whole_cameras(rendered: Manifest) -> None:
    assert len(set(group_frames(rendered, LEAKAGE).tolist())) == 16
    assert len(set(group_frames(rendered, LEAKAGE, whole_cameras=True).tolist())) == 4


def test_the_groups_are_the_scenes_where_no_camera_is_known(rendered: Manifest) -> None:
    nameless = changed(rendered, camera="unknown", clip="frame")
    groups = group_frames(nameless, LEAKAGE)
    assert len(set(zip(groups.tolist(), rendered.images["camera"], strict=True))) == len(set(groups.tolist())) == 4
    proposal = propose_split(nameless, groups, seed=0)
    assert straddling(groups, proposal.splits) == 0
    assert len(set(proposal.clips)) == 4  # the guess "frame" bound all of them
    assert {clip.startswith("frame-group") for clip in proposal.clips} == {True}


def test_copies_tie_clips_together(rendered: Manifest) -> None:
    content = rendered.images["sha256"].copy()
    content.iloc[-1] = content.iloc[0]
    assert len(set(group_frames(changed(rendered, sha256=content), LEAKAGE).tolist())) == 15
