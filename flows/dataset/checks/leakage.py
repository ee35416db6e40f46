"""Checks of what splits share: frames, moments, clips, scenes. A set that leaks measures its memory, not its skill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.dataset.checks.check import BETWEEN, NULL, Check, Evidence, Row, root_name, stated, told
from flows.dataset.layout import FRAMES_CSV, SPLITS
from flows.dataset.leakage.duplicates import near_duplicates
from flows.dataset.leakage.kinship import alike_by_nature, is_named
from flows.dataset.leakage.scenes import NO_SCENE, find_scenes
from flows.params_data import ValidateParams

if TYPE_CHECKING:
    import pandas as pd

_REPAIR = "`tca data split` mends it"


def leakage_checks(params: ValidateParams) -> tuple[Check, ...]:
    """What splits must not share.

    A clip in two splits stops where the camera is named. Where it is not, clips are file names without their number,
    which may bind frames of different days, so that is a warning. A named camera in several splits is no fault: whole
    clips are divided, not cameras.
    """
    moment = stated(params, "leakage.max_hash_bits", "leakage.max_difference")
    scene = stated(params, "leakage.min_scene_similarity")
    one = {"max_value": 1}
    return (
        Check("no_duplicates_across_splits", "No image lies in two splits", "stop",
              "shared_frames", "same_image_in", NULL, told("same_image_in")),
        Check("no_near_duplicates_across_splits", "No moment is seen in two splits",
              "stop", "shared_frames", "same_moment_in", NULL, told("same_moment_in"),
              threshold=moment, worst="-difference"),
        Check("clips_in_one_split", "No clip of a named camera lies in two splits", "stop",
              "shared_clips", "num_splits_told", BETWEEN, _straddling, one, worst="num_frames"),
        Check("guessed_clips_in_one_split", "No clip guessed from file names lies in two splits", "warn",
              "shared_clips", "num_splits_guessed", BETWEEN, _straddling, one, worst="num_frames"),
        Check("scenes_in_one_split", "No scene of the training frames is met again under another or no camera name",
              "warn", "shared_frames", "same_scene_in", NULL, told("same_scene_in"), threshold=scene),
        Check("no_duplicates_in_split", "No image lies twice in a split", "warn",
              "shared_frames", "copy_of", NULL, told("copy_of")),
        Check("no_near_duplicates_in_split", "No moment is seen twice in a split", "warn",
              "shared_frames", "same_moment_as", NULL, told("same_moment_as"),
              threshold=moment, worst="-difference"),
    )  # fmt: skip


def leakage_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`shared_frames`: a row per frame, with what it shares with which; `shared_clips`: a row per clip with a name.

    `partner` of a frame is the image that its messages name first, relative to the dataset; empty: none.
    """
    return {"shared_frames": _frames(evidence), "shared_clips": _clips(evidence)}


def _frames(evidence: Evidence) -> pd.DataFrame:
    root = root_name(evidence.dataset)
    images = evidence.manifest.images.reset_index(drop=True)
    frames = images[["image", "split", "camera"]].copy()
    for column in ("same_image_in", "same_moment_in", "same_scene_in", "copy_of", "same_moment_as"):
        frames[column] = None
        frames[column] = frames[column].astype(object)
    frames["partner"], frames["difference"] = "", float("nan")
    _add_copies(frames, images["sha256"].tolist(), root)
    _add_moments(frames, images, evidence, root)
    _add_scenes(frames, evidence, root)
    frames["file"] = root + "/" + frames["image"]
    frames["line"] = 0
    return frames


def _add_copies(frames: pd.DataFrame, contents: Sequence[str], root: str) -> None:
    """Files with the same bytes: the first of another split, and the first of the same one."""
    places: dict[str, dict[str, int]] = {}
    names, splits = frames["image"].tolist(), frames["split"].tolist()
    for index, content in enumerate(contents):
        if content:
            places.setdefault(content, {}).setdefault(splits[index], index)
    for index, content in enumerate(contents):
        firsts = places.get(content, {})
        for split, first in firsts.items():
            column = "copy_of" if split == splits[index] else "same_image_in"
            if first != index and frames.at[index, column] is None:
                frames.at[index, column] = f"is byte for byte the same as {root}/{names[first]}"
                _name_partner(frames, index, names[first])


def _add_moments(frames: pd.DataFrame, images: pd.DataFrame, evidence: Evidence, root: str) -> None:
    """Near-duplicates, the most alike first; of those in one split only the later one is told."""
    params = evidence.params.leakage
    found = near_duplicates(images, evidence.manifest.thumbnails, params.max_hash_bits, params.max_difference)
    names, splits, contents = (images[column].tolist() for column in ("image", "split", "sha256"))
    alike = alike_by_nature(images)
    for pair in found.pairs:
        if contents[pair.first] == contents[pair.second] or alike(pair.first, pair.second):
            continue
        inside = splits[pair.first] == splits[pair.second]
        column = "same_moment_as" if inside else "same_moment_in"
        pairs = [(pair.second, pair.first)] if inside else [(pair.first, pair.second), (pair.second, pair.first)]
        for index, partner in pairs:
            if frames.at[index, column] is None:
                flip = f", {pair.flip}" if pair.flip else ""
                frames.at[index, column] = f"shows the same moment as {root}/{names[partner]}{flip}"
                frames.at[index, "difference"] = pair.difference
                _name_partner(frames, index, names[partner])


def _add_scenes(frames: pd.DataFrame, evidence: Evidence, root: str) -> None:
    """Frames of val and test whose scene is one of train, though the names of their cameras do not say so."""
    manifest = evidence.manifest
    scenes = find_scenes(manifest.images, manifest.thumbnails, evidence.params.leakage.min_scene_similarity)
    cameras, splits, names = frames["camera"].tolist(), frames["split"].tolist(), frames["image"].tolist()
    trained: dict[int, int] = {}
    known: set[tuple[int, str]] = set()
    for index, scene in enumerate(scenes.tolist()):
        if splits[index] == "train" and scene != NO_SCENE:
            trained.setdefault(scene, index)
            known.add((scene, cameras[index]))
    for index, scene in enumerate(scenes.tolist()):
        said = is_named(cameras[index]) and (scene, cameras[index]) in known
        told_already = frames.at[index, "same_image_in"] is not None or frames.at[index, "same_moment_in"] is not None
        if splits[index] == "train" or scene not in trained or said or told_already:
            continue
        first = trained[scene]
        why = "the camera is not known" if not is_named(cameras[index]) else f"there the camera is {cameras[first]!r}"
        frames.at[index, "same_scene_in"] = f"shows the scene of {root}/{names[first]}, and {why}; {_REPAIR}"
        _name_partner(frames, index, names[first])


def _clips(evidence: Evidence) -> pd.DataFrame:
    """Frames without a clip belong to no known clip."""
    listing = evidence.manifest.images[["image", "split", "camera", "clip"]].reset_index(drop=True)
    for column in ("camera", "clip"):
        listing[column] = listing[column].str.strip()
    listing["line"] = listing.index + 2  # below the header
    clips = listing[listing["clip"] != ""].groupby(["camera", "clip"], as_index=False).agg(
        line=("line", "min"),
        image=("image", "first"),
        num_frames=("image", "size"),
        num_splits=("split", "nunique"),
        splits=("split", lambda found: ", ".join(split for split in SPLITS if split in set(found))),
    )  # fmt: skip
    named = clips["camera"].map(is_named).astype(bool)
    numbers = clips["num_splits"].astype("float64")
    return clips.assign(
        file=f"{root_name(evidence.dataset)}/{FRAMES_CSV}",
        num_splits_told=numbers.where(named),
        num_splits_guessed=numbers.where(~named),
    )


def _name_partner(frames: pd.DataFrame, index: int, partner: str) -> None:
    if not frames.at[index, "partner"]:
        frames.at[index, "partner"] = partner


def _straddling(row: Row) -> str:
    whose = f"clip {row['clip']} of camera {row['camera']}"
    return f"{whose} lies in {row['splits']}: its frames resemble each other; {_REPAIR}"
