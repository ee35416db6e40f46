from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.dataset.layout import Frame, read_dataset, write_data_yaml, write_frames
from flows.dataset.versions.boxes import BoxChange, NamedBox, compare_boxes
from flows.dataset.versions.difference import DataDifference, FrameDifference, compare_snapshots
from flows.dataset.versions.page import difference_page, frames_to_draw
from flows.dataset.versions.snapshot import Snapshot, read_snapshot
from flows.errors import DataError

CLASSES = ("car", "bus")
SWAPPED = {"added": "removed", "removed": "added", "moved": "moved", "relabelled": "relabelled"}

boxes = st.builds(
    NamedBox,
    st.sampled_from(CLASSES),
    st.tuples(*[st.sampled_from([0.2, 0.2003, 0.25, 0.5, 0.52])] * 2, *[st.sampled_from([1e-9, 0.1, 0.12, 0.4])] * 2),
)
box_lists = st.lists(boxes, max_size=6)


def mirrored_box(change: BoxChange) -> BoxChange:
    return BoxChange(
        kind=SWAPPED[change.kind],  # type: ignore[arg-type]
        class_before=change.class_after,
        class_after=change.class_before,
        before_xywhn=change.after_xywhn,
        after_xywhn=change.before_xywhn,
    )


@given(box_lists)
def test_the_same_boxes_in_another_order_are_no_difference(found: list[NamedBox]) -> None:
    assert compare_boxes(found, found[::-1]) == ()


@given(box_lists, box_lists)
def test_boxes_compared_the_other_way_round_mirror(first: list[NamedBox], second: list[NamedBox]) -> None:
    there, back = compare_boxes(first, second), compare_boxes(second, first)
    assert Counter(map(mirrored_box, there)) == Counter(back)
    kinds = Counter(change.kind for change in there)
    assert len(first) + kinds["added"] - kinds["removed"] == len(second)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (("car", (0.5, 0.5, 0.2, 0.2)), ("bus", (0.5, 0.5, 0.2, 0.2)), "relabelled"),
        (("car", (0.5, 0.5, 0.2, 0.2)), ("bus", (0.51, 0.5, 0.2, 0.2)), "relabelled"),
        (("car", (0.5, 0.5, 0.2, 0.2)), ("car", (0.53, 0.5, 0.2, 0.2)), "moved"),
        (("car", (0.5, 0.5, 0.2, 0.2)), ("car", (0.5002, 0.5, 0.2, 0.2)), None),
        (("car", (0.5, 0.5, 1e-9, 0.2)), ("car", (0.5002, 0.5, 1e-9, 0.2)), None),
    ],
)
def test_one_box_is_moved_relabelled_or_the_same(before: tuple, after: tuple, kind: str | None) -> None:
    found = compare_boxes([NamedBox(*before)], [NamedBox(*after)])
    assert [change.kind for change in found] == ([kind] if kind else [])


def test_a_relabelled_box_is_not_taken_for_a_neighbour_that_is_new() -> None:
    before = [NamedBox("car", (0.5, 0.5, 0.2, 0.2))]
    after = [NamedBox("bus", (0.5, 0.5, 0.2, 0.2)), NamedBox("car", (0.55, 0.5, 0.2, 0.2))]
    assert sorted(change.kind for change in compare_boxes(before, after)) == ["added", "relabelled"]


# A version as a list of frames: split, name, content of the image, content of the label file, camera.
rows = st.tuples(
    st.sampled_from(["train", "val"]),
    st.sampled_from(["a", "b ü", "c", "d", "e"]),
    st.sampled_from(["1", "2", "3", "4", ""]),  # "": the image file is missing
    st.sampled_from(["", "0 .5 .5 .2 .2\n", "1 .5 .5 .2 .2\n", "1 .5 .5 .2 .2\n0 .2 .2 .1 .1\n"]),
    st.sampled_from(["cam1", "cam2"]),
)
lists_of_rows = st.lists(rows, max_size=6, unique_by=lambda row: row[:2])
class_lists = st.sampled_from([("car", "bus"), ("bus", "car"), ("car", "bus", "van"), ("car",)])


def version(folder: Path, name: str, found: list[tuple[str, ...]], classes: tuple[str, ...] = CLASSES) -> Snapshot:
    """A version whose label files lie in `folder`, named by their content."""
    frames, md5_of, paths = [], {}, {}
    for split, stem, image, label, camera in found:
        frame = Frame(f"images/{split}/{stem}.jpg", split, camera, "c", "", "day")
        frames.append(frame)
        md5_of |= {frame.image: image} if image else {}
        md5_of[frame.label] = f"label {hash(label)}"
        paths[frame.label] = folder / f"{abs(hash(label))}.txt"
        paths[frame.label].write_text(label)
    return Snapshot(name, classes, tuple(frames), md5_of, lambda file: paths[file])


def mirrored(found: DataDifference) -> set[FrameDifference]:
    return {
        FrameDifference(
            before=one.after,
            after=one.before,
            camera_before=one.camera_after,
            camera_after=one.camera_before,
            content_changed=one.content_changed,
            image_missing=one.image_missing,
            fields=tuple(
                field.model_copy(update={"before": field.after, "after": field.before}) for field in one.fields
            ),
            boxes=tuple(sorted(map(mirrored_box, one.boxes), key=str)),
            num_boxes_before=one.num_boxes_after,
            num_boxes_after=one.num_boxes_before,
        )
        for one in found.frames
    }


def in_order(found: DataDifference) -> set[FrameDifference]:
    return {one.model_copy(update={"boxes": tuple(sorted(one.boxes, key=str))}) for one in found.frames}


@given(lists_of_rows, class_lists)
def test_a_version_does_not_differ_from_itself(
    tmp_path_factory: pytest.TempPathFactory, found: list, classes: tuple
) -> None:
    one = version(tmp_path_factory.getbasetemp(), "a", found, classes)
    difference = compare_snapshots(one, one)
    assert difference.is_empty
    assert difference.sentence == "no difference"


@given(lists_of_rows, lists_of_rows, class_lists, class_lists)
def test_versions_compared_the_other_way_round_mirror_and_the_counts_add_up(
    tmp_path_factory: pytest.TempPathFactory, first: list, second: list, classes: tuple, other: tuple
) -> None:
    folder = tmp_path_factory.getbasetemp()
    one, two = version(folder, "a", first, classes), version(folder, "b", second, other)
    there, back = compare_snapshots(one, two), compare_snapshots(two, one)
    assert mirrored(there) == in_order(back)
    assert (there.classes_added, there.cameras_added) == (back.classes_removed, back.cameras_removed)
    counts = there.counts
    assert len(first) + counts.frames_added - counts.frames_removed == len(second)
    num_before, num_after = (sum(len(each.boxes(frame)) for frame in each.frames) for each in (one, two))
    gained = counts.boxes_added + counts.boxes_on_added_frames
    lost = counts.boxes_removed + counts.boxes_on_removed_frames
    assert num_before + gained - lost == num_after


def test_each_kind_of_change_is_told(tmp_path: Path) -> None:
    car, bus = "0 .5 .5 .2 .2\n", "1 .5 .5 .2 .2\n"
    before = version(
        tmp_path,
        "old",
        [
            ("train", "kept", "1", car, "cam1"),
            ("train", "pixels", "2", car, "cam1"),
            ("train", "moved", "3", car, "cam1"),
            ("train", "old name", "4", car, "cam1"),
            ("train", "label", "5", car, "cam1"),
            ("train", "camera", "6", car, "cam1"),
            ("train", "gone", "7", car, "cam1"),
        ],
    )
    after = version(
        tmp_path,
        "new",
        [
            ("train", "kept", "1", car, "cam1"),
            ("train", "pixels", "2b", car, "cam1"),
            ("val", "moved", "3", car, "cam1"),
            ("train", "new name", "4", car, "cam1"),
            ("train", "label", "5", bus, "cam1"),
            ("train", "camera", "6", car, "cam2"),
            ("train", "added", "8", car, "cam7"),
        ],
        ("car", "bus", "van"),
    )
    found = compare_snapshots(before, after)
    assert found.sentence == (
        "1 frame added (cam7), 1 removed (cam1), 1 with other pixels, 1 in another split, 1 renamed, 1 relabelled, "
        "1 with other camera, clip, time or slice, class van added"
    )
    assert (found.cameras_added, found.classes_reordered) == (("cam2", "cam7"), False)
    assert {one.after for one in found.frames if one.is_moved} == {"images/val/moved.jpg"}
    assert DataDifference.model_validate_json(found.model_dump_json()) == found


def test_files_of_no_frame_are_told(tmp_path: Path) -> None:
    one = version(tmp_path, "a", [("train", "a", "1", "", "cam1")])
    two = Snapshot("b", one.classes, one.frames, {**one.md5_of, "images/train/stray.jpg": "9"}, one.path_of)
    found = compare_snapshots(one, two)
    assert found.other_files == ("images/train/stray.jpg",)
    assert found.sentence == "1 other file differs"


def snapshot(root: Path, name: str) -> Snapshot:
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return read_snapshot(name, {file: path.read_bytes().hex() for file, path in files.items()}, files.__getitem__)


def test_the_page_shows_before_and_after(sound_dataset: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(sound_dataset, other)
    (other / "labels/train/cam1_train_0.txt").write_text("0 0.25 0.5 0.2 0.2\n0 0.5 0.5 0.3 0.4\n")
    frames = [one for one in read_dataset(other).frames if one.image != "images/val/cam2_val_1.jpg"]
    write_frames(other, frames)
    Image.fromarray(np.zeros((64, 96, 3), dtype=np.uint8)).save(other / "images/test/cam1_test_0.jpg")
    (other / "images/test/cam1_test_1.jpg").unlink()
    before, after = snapshot(sound_dataset, "old <1>"), snapshot(other, "new")
    found = compare_snapshots(before, after)
    assert found.counts.frames_relabelled == 1
    html = difference_page(found, before, after)
    assert "big truck is now car" in html and "1 removed (bus)" in html
    assert "old &lt;1&gt;" in html and "old <1>" not in html
    assert len(frames_to_draw(found)) == 4
    assert difference_page(compare_snapshots(before, before), before, before).count("data:image") == 0


def test_a_version_without_its_lists_is_a_data_error(tmp_path: Path) -> None:
    write_data_yaml(tmp_path, CLASSES)
    with pytest.raises(DataError, match=r"v1: frames.csv is missing"):
        snapshot(tmp_path, "v1")


def test_a_frame_that_lost_its_image_file_is_not_called_changed(tmp_path: Path) -> None:
    whole = version(tmp_path, "a", [("train", "a", "1", "", "cam1")])
    broken = version(tmp_path, "b", [("train", "a", "", "", "cam1")])
    difference = compare_snapshots(whole, broken)
    assert difference.sentence == "1 frame with an image file missing"
    assert (difference.counts.frames_without_image, difference.counts.frames_changed) == (1, 0)
