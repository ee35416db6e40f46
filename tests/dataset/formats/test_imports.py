"""A user's set, in any of three formats and however named, becomes the layout; or a message says why not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.dataset.formats.framing import file_names
from flows.dataset.formats.imports import ImportSummary, import_dataset, mapping_from_csv, mapping_from_regex
from flows.dataset.labels import LabelBox, parse_labels
from flows.dataset.layout import SPLITS, read_dataset
from flows.dataset.leakage.splitting import SHARES, split_groups
from flows.dataset.replacing import replaced_folder
from flows.errors import DataError

Draw = Callable[..., None]
LINE = "1 0.5 0.5 0.25 0.5\n"
BOX = LabelBox(1, 0.5, 0.5, 0.25, 0.5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my set"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def labels_of(root: Path, name: str) -> list[LabelBox]:
    [path] = root.rglob(f"labels/*/{name}.txt")
    boxes, problems = parse_labels(path.read_text(), 99)
    assert problems == []
    return boxes


def yolo_set(source: Path, draw_image: Draw, images: list[str], labels: list[str]) -> None:
    """A YOLO set of two classes with these images, and these label files of one line."""
    (source / "data.yaml").write_text("names: [bus, 'big car']\n")
    for seed, name in enumerate(images):
        draw_image(source / name, seed)
    for name in labels:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(LINE)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["images/train/a.jpg", "images/val/b.jpg"], ["labels/train/a.txt", "labels/val/b.txt"]),
        (["train/images/a.jpg", "valid/images/b.jpg"], ["train/labels/a.txt", "valid/labels/b.txt"]),
        (["images/train2017/a.png", "images/dev/b.JPG"], ["labels/train2017/a.txt", "labels/dev/b.txt"]),
        (["training/a.jpg", "validation/b.webp"], ["training/a.txt", "validation/b.txt"]),
        (["images/train_a.jpg", "images/valid_b.bmp"], ["labels/train_a.txt", "labels/valid_b.txt"]),
    ],
)
def test_the_usual_yolo_layouts(
    source: Path, target: Path, draw_image: Draw, images: list[str], labels: list[str]
) -> None:
    yolo_set(source, draw_image, images, labels)
    summary = import_dataset("yolo", source, target)
    assert summary.images_per_split == {"train": 1, "val": 1, "test": 0}
    dataset = read_dataset(target)
    assert dataset.classes == ("bus", "big car")
    for frame, image in zip(dataset.frames, images, strict=True):
        assert (target / frame.image).read_bytes() == (source / image).read_bytes()
        assert (target / frame.label).read_text() == LINE


@pytest.mark.parametrize("name", ["obj.names", "classes.txt", "labels/classes.txt"])
def test_class_names_may_stand_in_a_list(source: Path, target: Path, draw_image: Draw, name: str) -> None:
    yolo_set(source, draw_image, ["images/train/a.jpg"], ["labels/train/a.txt"])
    (source / "data.yaml").unlink()
    (source / name).write_text("bus\r\nbig car\r\n\r\n")
    assert import_dataset("yolo", source, target).classes == ("bus", "big car")


def test_another_yaml_may_name_the_classes(source: Path, target: Path, draw_image: Draw) -> None:
    yolo_set(source, draw_image, ["images/train/a.jpg"], ["labels/train/a.txt"])
    (source / "data.yaml").rename(source / "traffic.yml")
    (source / "hyp.yaml").write_text("lr0: 0.1\n")
    assert import_dataset("yolo", source, target).classes == ("bus", "big car")


def test_faulty_label_lines_are_kept_for_the_validation(source: Path, target: Path, draw_image: Draw) -> None:
    yolo_set(source, draw_image, ["images/train/a.jpg"], ["labels/train/a.txt"])
    (source / "labels/train/a.txt").write_bytes(b"0 nan 1\r\n\xff")
    import_dataset("yolo", source, target)
    assert (target / "labels/train/a.txt").read_bytes() == b"0 nan 1\r\n\xff"


def coco(boxes: list[object] | None = None, **more: object) -> dict[str, object]:
    rows = [[36.0, 16, 24, 32]] if boxes is None else boxes
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 96, "height": 64}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 3, "bbox": box} for i, box in enumerate(rows)],
        "categories": [{"id": 3, "name": "big car"}, {"id": 1, "name": "bus"}, {"id": 2, "name": "boat"}],
        **more,
    }


def write_coco(
    source: Path, draw_image: Draw, tree: object, name: str = "annotations/instances_train2017.json"
) -> None:
    draw_image(source / "images/a.jpg", 1)
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / name).write_text(tree if isinstance(tree, str) else json.dumps(tree))


def test_coco_categories_get_contiguous_ids(source: Path, target: Path, draw_image: Draw) -> None:
    tree = coco()
    tree["annotations"] += [  # type: ignore[operator]
        {"id": 8, "image_id": 7, "category_id": 1, "bbox": [0, 0, 96, 64]},
        {"id": 9, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"id": 10, "image_id": 55, "category_id": 1, "bbox": [0, 0, 9, 9]},
    ]
    tree["images"].append({"id": 8, "file_name": "gone.jpg", "width": 9, "height": 9})  # type: ignore[attr-defined]
    write_coco(source, draw_image, tree)
    summary = import_dataset("coco", source, target)
    assert summary.classes == ("bus", "big car")  # in the order of ids, without the unused boat
    assert labels_of(target, "a") == [BOX, LabelBox(0, 0.5, 0.5, 1, 1)]
    assert summary.num_missing_images == 2 and summary.missing_images[1] == "gone.jpg"
    assert any("boat" in warning for warning in summary.warnings)
    assert any("crowd" in warning for warning in summary.warnings)


def test_coco_files_beside_their_images_may_repeat_names(source: Path, target: Path, draw_image: Draw) -> None:
    for seed, (split, width) in enumerate((("train", 24), ("valid", 48), ("test", 96))):
        draw_image(source / split / "a.jpg", seed)
        (source / split / "_annotations.coco.json").write_text(json.dumps(coco([[0, 0, width, 64]])))
    import_dataset("coco", source, target)
    widths = [parse_labels((target / f"labels/{split}/a.txt").read_text(), 9)[0][0].w for split in SPLITS]
    assert widths == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ('{"images": [],\n oops', r"instances_train2017\.json:2:2: malformed JSON"),
        ("[1, 2]", "no COCO file lies below"),
        (coco(categories={}), "'categories' is no list"),
        (coco(boxes=[[1, 2, 3]]), r"annotation 0 has the bbox \[1, 2, 3\]"),
        (coco(boxes=[[1, 2, "3", 4]]), "annotation 0 has the bbox"),
        (coco(boxes=[]), "hold no annotation"),
        (coco(annotations=[{"id": 5, "image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4]}]), "the category 9, which"),
        (coco(annotations=[3]), "annotation 3 has the category_id None"),
        (coco(images=[{"id": 7, "file_name": "a.jpg", "width": 0, "height": 64}]), "has the size 0 x 64 px"),
        (coco(images=[{"id": "7", "file_name": "a.jpg"}]), "has the id '7'"),
        (coco(categories=[{"id": 3, "name": "x"}, {"id": 4, "name": "x"}]), "share an id or a name"),
    ],
)  # fmt: skip
def test_a_faulty_coco_file_is_named_with_the_place(
    source: Path, target: Path, draw_image: Draw, tree: object, reason: str
) -> None:
    write_coco(source, draw_image, tree)
    with pytest.raises(DataError, match=reason) as caught:
        import_dataset("coco", source, target)
    assert caught.value.remedy and not target.exists()


def test_an_image_in_two_coco_files_is_refused(source: Path, target: Path, draw_image: Draw) -> None:
    write_coco(source, draw_image, coco())
    write_coco(source, draw_image, coco(), "annotations/persons_train2017.json")
    with pytest.raises(DataError, match=r"images/a\.jpg was listed before"):
        import_dataset("coco", source, target)


def voc(name: str = "big car", image: str = "a.jpg", xmax: object = 60) -> str:
    box = f"<bndbox><xmin>36</xmin><ymin>16.0</ymin><xmax>{xmax}</xmax><ymax>48</ymax></bndbox>"
    return f"""<annotation><filename>{image}</filename><size><width>96</width><height>64</height></size>
    <object><name>{name}</name>{box}</object></annotation>"""


def write_voc(source: Path, draw_image: Draw, files: dict[str, str], images: list[str]) -> None:
    for seed, name in enumerate(images):
        draw_image(source / name, seed)
    (source / "Annotations").mkdir()
    for name, text in files.items():
        (source / "Annotations" / name).write_text(text)


def test_voc_names_are_sorted_and_splits_come_from_the_lists(source: Path, target: Path, draw_image: Draw) -> None:
    files = {"a.xml": voc("zebra"), "b.xml": voc("big car", "b"), "gone.xml": voc("car", "gone.jpg"), "x.xml": "<x/>"}
    write_voc(source, draw_image, files, ["JPEGImages/a.jpg", "JPEGImages/b.png"])
    (source / "ImageSets/Main").mkdir(parents=True)
    (source / "ImageSets/Main/train.txt").write_text("a\n")
    (source / "ImageSets/Main/val.txt").write_text("b\r\ngone\r\n")
    (source / "ImageSets/Main/car_train.txt").write_text("a -1\n")
    summary = import_dataset("voc", source, target)
    assert summary.classes == ("big car", "car", "zebra")
    assert labels_of(target, "a") == [LabelBox(2, 0.5, 0.5, 0.25, 0.5)]
    assert [frame.image for frame in read_dataset(target).frames] == ["images/train/a.jpg", "images/val/b.png"]
    assert summary.missing_images == ("gone.jpg (annotated by Annotations/gone.xml)",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>\n <object>", r"a\.xml:2:\d+: malformed XML"),
        ("<note/>", "no VOC file lies below"),
        (voc(name=""), "an <object> has no <name>"),
        (voc(xmax="wide"), r"<bndbox><xmax> is 'wide'"),
        (voc().replace("<width>96</width>", ""), "<size><width> is missing"),
        (voc().replace("96", "0"), r"<size> is 0 x 64 px"),
        (re.sub("<object>.*</object>", "", voc()), "hold no <object>"),
    ],
)
def test_a_faulty_voc_file_is_named_with_the_place(
    source: Path, target: Path, draw_image: Draw, text: str, reason: str
) -> None:
    write_voc(source, draw_image, {"a.xml": text}, ["a.jpg"])
    with pytest.raises(DataError, match=reason) as caught:
        import_dataset("voc", source, target)
    assert caught.value.remedy and not target.exists()


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
def test_an_empty_or_missing_folder_is_refused(source: Path, target: Path, kind: str) -> None:
    for folder in (source, source / "none"):
        with pytest.raises(DataError) as caught:
            import_dataset(kind, folder, target)  # type: ignore[arg-type]
        assert str(folder) in caught.value.message and caught.value.remedy
    assert not target.exists()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda source: (source / "data.yaml").unlink(), "data.yaml is missing, and so are obj.names and classes.txt"),
        (lambda source: (source / "data.yaml").write_text("nc: 2"), "names no classes"),
        (lambda source: (source / "labels/train/a.txt").unlink(), "none of the 1 images .* has a label file"),
        (lambda source: (source / "images/train/b.jpg").symlink_to("nowhere.jpg"), "No such file"),
    ],
)
def test_a_yolo_set_that_lacks_something_is_refused(
    source: Path, target: Path, draw_image: Draw, spoil: Callable[[Path], object], reason: str
) -> None:
    yolo_set(source, draw_image, ["images/train/a.jpg"], ["labels/train/a.txt"])
    spoil(source)
    with pytest.raises(DataError, match=reason) as caught:
        import_dataset("yolo", source, target)
    assert caught.value.remedy and names_in(target.parent) == ["my set"]


def test_what_does_not_fit_together_is_told(source: Path, target: Path, draw_image: Draw) -> None:
    yolo_set(source, draw_image, ["images/train/a.jpg", "images/train/b.jpg"], ["labels/train/a.txt"])
    (source / "labels/train/gone.txt").write_text(LINE)
    (source / "images/loop").symlink_to(source)
    summary = import_dataset("yolo", source, target)
    assert (summary.num_images, summary.num_unlabelled, summary.num_label_lines) == (2, 1, 1)
    assert summary.missing_images == ("labels/train/gone.txt",)
    told = "\n".join(summary.warnings)
    assert '2 of 2 frames have the camera "unknown"' in told
    assert "1 of 2 frames have no label file" in told
    assert "No frame in val and test" in told


def grid(source: Path, draw_image: Draw) -> list[str]:
    """Three cameras with two clips of two frames, no split told."""
    names = [f"c{camera}-clip{clip}-{n:03d}" for camera in range(3) for clip in range(2) for n in range(2)]
    yolo_set(source, draw_image, [f"images/{n}.jpg" for n in names], [f"labels/{n}.txt" for n in names])
    return names


def test_a_pattern_gives_camera_clip_and_time(source: Path, target: Path, draw_image: Draw) -> None:
    yolo_set(source, draw_image, ["train/camA_2026-05-01T12:00:00Z_k7.jpg"], ["train/camA_2026-05-01T12:00:00Z_k7.txt"])
    pattern = r"(?P<split>test|train)/(?P<camera>cam\w)_(?P<time>[^_]+)_(?P<clip>k\d)(?P<slice>x)?"
    import_dataset("yolo", source, target, mapping_from_regex(pattern))
    [frame] = read_dataset(target).frames
    assert (frame.split, frame.camera, frame.clip, frame.slice) == ("train", "camA", "k7", "light")
    assert frame.time == "2026-05-01T12:00:00+00:00"


def test_a_prefix_gives_the_split_where_the_pattern_does_not_match(
    source: Path, target: Path, draw_image: Draw
) -> None:
    names = ["train_A1", "train_6", "valid_B2", "test_7"]
    yolo_set(source, draw_image, [f"images/{n}.jpg" for n in names], [f"labels/{n}.txt" for n in names])
    mapping = mapping_from_regex("(?P<split>train|valid|test)_(?P<camera>[A-Z]+)")
    summary = import_dataset("yolo", source, target, mapping)
    assert summary.images_per_split == {"train": 2, "val": 1, "test": 1}
    assert summary.images_per_camera == {"A": 1, "B": 1, "unknown": 2}


def test_a_table_gives_all_of_it(source: Path, target: Path, draw_image: Draw, tmp_path: Path) -> None:
    names = grid(source, draw_image)
    rows = [f"images/{names[0]}.jpg,east,wet,dev", *(f"{name}.jpg,west,,test" for name in names[1:])]
    (tmp_path / "map.csv").write_text("image,camera,slice,split\n" + "\n".join(rows))
    import_dataset("yolo", source, target, mapping_from_csv(tmp_path / "map.csv"))
    first, *others = read_dataset(target).frames
    assert (first.split, first.camera, first.slice, first.clip) == ("val", "east", "wet", "c0-clip0")
    assert {(frame.split, frame.camera, frame.slice) for frame in others} == {("test", "west", "light")}


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("(", "is malformed"), ("cam", "has no named group"), ("(?P<kamera>x)", "has the groups kamera")],
)
def test_a_bad_pattern_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        mapping_from_regex(pattern)
    assert caught.value.remedy and "camera" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("", "the columns are none"),
        ("name,camera\na,b\n", "the columns are 'name', 'camera'"),
        ("image,kamera\na,b\n", "the columns are 'image', 'kamera'"),
        ("image,camera\n", "has no rows"),
        ("image,camera\na,b\na,c\n", ":3: a second row for a"),
        ("image,camera\na,b,c\n", ":2: the row has not as many columns"),
        ("image,camera,clip\na,b\n", ":2: the row has not as many columns"),
        ("image,camera\na,\xff\n", "is not a UTF-8 CSV table"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "map.csv"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=reason):
        mapping_from_csv(path)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.jpg,train,yesterday", "time 'yesterday', which is not ISO-8601"),
        ("a.jpg,train,2026-05-01T12:00:00", "which has no zone"),
        ("a.jpg,holdout,", "a.jpg has the split 'holdout'"),
        ("b.jpg,train,", "1 of 2 images say no split, the first is images/a.jpg"),
    ],
)
def test_facts_that_cannot_be_read_are_refused(
    source: Path, target: Path, draw_image: Draw, tmp_path: Path, row: str, reason: str
) -> None:
    yolo_set(source, draw_image, ["images/a.jpg", "images/b.jpg"], ["labels/a.txt"])
    other = "" if row.startswith("b") else "\nb.jpg,train,"
    (tmp_path / "map.csv").write_text(f"image,split,time\n{row}{other}\n")
    with pytest.raises(DataError, match=reason) as caught:
        import_dataset("yolo", source, target, mapping_from_csv(tmp_path / "map.csv"))
    assert caught.value.remedy


def by_clip(root: Path) -> dict[tuple[str, str], set[str]]:
    groups: dict[tuple[str, str], set[str]] = {}
    for frame in read_dataset(root).frames:
        groups.setdefault((frame.camera, frame.clip), set()).add(frame.split)
    return groups


def test_untold_splits_keep_clips_together_and_repeat(source: Path, target: Path, draw_image: Draw) -> None:
    grid(source, draw_image)
    mapping = mapping_from_regex(r"(?P<camera>c\d)-(?P<clip>clip\d)")
    summary = import_dataset("yolo", source, target, mapping)
    first = by_clip(target)
    assert len(first) == 6 and all(len(splits) == 1 for splits in first.values())
    assert all(summary.images_per_split.values())
    assert any("6 clips were divided 70/15/15" in warning for warning in summary.warnings)
    import_dataset("yolo", source, target, mapping)
    assert by_clip(target) == first
    seeds = [import_dataset("yolo", source, target, mapping, seed=seed) and by_clip(target) for seed in range(1, 5)]
    assert any(other != first for other in seeds)


def test_told_splits_can_be_divided_anew(source: Path, target: Path, draw_image: Draw) -> None:
    names = [f"train/k{clip}_{n}" for clip in range(4) for n in range(2)]
    yolo_set(source, draw_image, [f"{n}.jpg" for n in names], [f"{n}.txt" for n in names])
    assert import_dataset("yolo", source, target).images_per_split == {"train": 8, "val": 0, "test": 0}
    summary = import_dataset("yolo", source, target, resplit=True)
    assert all(summary.images_per_split.values())
    assert all(len(splits) == 1 for splits in by_clip(target).values())


def test_one_clip_is_divided_frame_by_frame_and_that_is_told(source: Path, target: Path, draw_image: Draw) -> None:
    yolo_set(source, draw_image, [f"images/f{n}.jpg" for n in range(6)], ["labels/f0.txt"])
    summary = import_dataset("yolo", source, target)
    assert all(summary.images_per_split.values())
    assert any("divided one by one" in warning for warning in summary.warnings)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.integers(0, 9))
def test_groups_never_straddle_whatever_their_sizes(groups: list[int], seed: int) -> None:
    splits = split_groups(groups, seed)
    assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
    assert len(set(splits)) == min(3, len(set(groups)))
    reverse = split_groups(groups[::-1], seed)
    assert reverse[::-1] == splits


def test_many_groups_come_near_the_shares() -> None:
    splits = split_groups([index // 5 for index in range(1000)], seed=3)
    for split, share in SHARES.items():
        assert splits.count(split) == pytest.approx(1000 * share, abs=5)


def test_dark_frames_are_told_from_light_ones(source: Path, target: Path, draw_image: Draw) -> None:
    yolo_set(source, draw_image, ["train/a.jpg"], ["train/a.txt"])
    draw_image(source / "val/b.jpg", 2, 30)
    (source / "test").mkdir()
    (source / "test/c.jpg").write_bytes(b"broken")
    assert import_dataset("yolo", source, target).images_per_slice == {"dark": 1, "light": 1, "unreadable": 1}


def test_odd_names_survive(source: Path, target: Path, draw_image: Draw) -> None:
    name = "images/train/night 'x' \"é\", 夜 [1]"
    yolo_set(source, draw_image, [f"{name}.jpg"], [f"{name.replace('images', 'labels')}.txt"])
    import_dataset("yolo", source, target)
    [frame] = read_dataset(target).frames
    assert frame.image == f"{name}.jpg" and (target / frame.label).read_text() == LINE


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["a/x.jpg", "b/y.jpg"], ["x.jpg", "y.jpg"]),
        (["b/x.jpg", "a/x.JPG"], ["b_x.jpg", "a_x.jpg"]),
        (["a/x.jpg", "a/x.png", "a/X.bmp"], ["a_x_2.jpg", "a_x_3.png", "a_X.bmp"]),
        (["x.jpg", "a/x.jpg", "a_x.jpg"], ["x.jpg", "a_x_2.jpg", "a_x.jpg"]),
        (["a/x\ny.jpg"], ["x_y.jpg"]),
    ],
)
def test_names_that_collide_get_their_folder_or_a_number(names: list[str], expected: list[str]) -> None:
    assert file_names(names, ["train"] * len(names)) == expected


PATHS = st.text("aAb/_\n2", max_size=6).map(lambda text: text.strip("/") + "x.jpg")


@given(st.lists(PATHS, unique=True, max_size=12))
def test_new_names_never_collide(names: list[str]) -> None:
    new = file_names(names, ["val"] * len(names))
    stems = [Path(name).stem.casefold() for name in new]
    assert len(set(stems)) == len(names)
    again = file_names(names[::-1], ["val"] * len(names))
    assert again[::-1] == new


def imported(source: Path, target: Path, draw_image: Draw) -> ImportSummary:
    yolo_set(source, draw_image, ["train/a.jpg"], ["train/a.txt"])
    return import_dataset("yolo", source, target)


def test_an_older_dataset_is_replaced_and_its_cache_untouched(
    source: Path, target: Path, draw_image: Draw, tmp_path: Path
) -> None:
    imported(source, target, draw_image)
    image = target / "images/train/a.jpg"
    os.link(image, tmp_path / "cached")
    before = image.read_bytes()
    draw_image(source / "train/a.jpg", 99)
    import_dataset("yolo", source, target)
    assert image.read_bytes() == (source / "train/a.jpg").read_bytes() != before
    assert (tmp_path / "cached").read_bytes() == before
    assert names_in(tmp_path) == ["cached", "data", "my set"]


def test_an_interruption_leaves_the_older_dataset(source: Path, target: Path, draw_image: Draw) -> None:
    imported(source, target, draw_image)
    old = (target / "images/train/a.jpg").read_bytes()
    draw_image(source / "train/a.jpg", 99)

    def interrupt(done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset("yolo", source, target, progress=interrupt)
    assert (target / "images/train/a.jpg").read_bytes() == old
    assert names_in(target.parent) == ["data", "my set"]


def test_a_process_that_died_between_the_renames_lost_nothing(source: Path, target: Path, draw_image: Draw) -> None:
    imported(source, target, draw_image)
    target.rename(target.parent / ".data.old")
    (target.parent / ".data.new").mkdir()
    with pytest.raises(RuntimeError, match="not this time either"), replaced_folder(target):
        raise RuntimeError("not this time either")
    assert len(read_dataset(target).frames) == 1
    assert names_in(target.parent) == ["data", "my set"]


def test_a_folder_that_is_no_dataset_is_not_replaced(source: Path, target: Path, draw_image: Draw) -> None:
    target.mkdir()
    (target / "holiday.jpg").touch()
    with pytest.raises(DataError, match="is not empty and is no dataset"):
        imported(source, target, draw_image)
    assert (target / "holiday.jpg").exists()


@pytest.mark.parametrize("place", [".", "data", ".."])
def test_source_and_target_must_lie_apart(source: Path, draw_image: Draw, place: str) -> None:
    with pytest.raises(DataError, match="lie in each other"):
        imported(source, source / place, draw_image)
