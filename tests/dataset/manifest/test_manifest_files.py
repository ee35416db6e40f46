"""Files that are not what they should be: each ends in a row that says so, none stops the pass or makes it wait."""

from __future__ import annotations

import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.dataset.layout import Dataset, Frame, read_dataset, write_data_yaml, write_frames
from flows.dataset.manifest import reading
from flows.dataset.manifest.manifest import Manifest, build_manifest
from flows.dataset.manifest.reading import namesake, read_steadily
from flows.dataset.manifest.strays import walk_files
from flows.errors import DataError

IMAGE = "images/train/cam1_train_0.jpg"
LABEL = "labels/train/cam1_train_0.txt"


def problems_of(manifest: Manifest) -> list[tuple[str, int, str, str]]:
    return [(row.file, row.line, row.check, row.message) for row in manifest.problems.itertuples()]


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (lambda path: path.mkdir(), "this is a folder, not a file"),
    "pipe": (os.mkfifo, "this is a named pipe, not a file"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "this is a device, not a file"),
    "empty device": (lambda path: path.symlink_to("/dev/null"), "this is a device, not a file"),
    "socket": (make_socket, "No such device or address"),
    "loop of links": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(("file", "check"), [(IMAGE, "image_readable"), (LABEL, "label_syntax")])
def test_what_is_no_file_is_told_at_once(sound_dataset: Path, kind: str, file: str, check: str) -> None:
    make, reason = ODD[kind]
    (sound_dataset / file).unlink()
    make(sound_dataset / file)
    manifest = build_manifest(read_dataset(sound_dataset))
    assert problems_of(manifest) == [(f"data/{file}", 0, check, f"cannot be read: {reason}")]
    assert manifest.images["readable"].sum() == (11 if file == IMAGE else 12)


def test_a_link_to_nowhere_is_a_missing_file(sound_dataset: Path) -> None:
    (sound_dataset / IMAGE).unlink()
    (sound_dataset / IMAGE).symlink_to("gone.jpg")
    [problem] = problems_of(build_manifest(read_dataset(sound_dataset)))
    assert problem[2:] == ("image_readable", "the file is missing")


def test_a_link_to_a_file_is_that_file(sound_dataset: Path, tmp_path: Path) -> None:
    before = build_manifest(read_dataset(sound_dataset))
    for file in (IMAGE, LABEL):
        (sound_dataset / file).rename(tmp_path / Path(file).name)
        (sound_dataset / file).symlink_to(tmp_path / Path(file).name)
    after = build_manifest(read_dataset(sound_dataset))
    assert after.images.equals(before.images) and after.boxes.equals(before.boxes) and len(after.problems) == 0


@pytest.mark.parametrize("folder", ["images", "labels", "images/train", "labels/val"])
def test_links_that_lead_back_are_followed_once(sound_dataset: Path, folder: str) -> None:
    (sound_dataset / folder / "back").symlink_to(sound_dataset, target_is_directory=True)
    (sound_dataset / folder / "self").symlink_to("self")
    (sound_dataset / folder / "up").symlink_to("..", target_is_directory=True)
    assert problems_of(build_manifest(read_dataset(sound_dataset))) == []


def test_strays_behind_a_linked_folder_are_found(sound_dataset: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "extra.jpg").write_bytes(b"x")
    (sound_dataset / "images" / "more").symlink_to(elsewhere, target_is_directory=True)
    [problem] = problems_of(build_manifest(read_dataset(sound_dataset)))
    assert problem[:3] == ("data/images/more/extra.jpg", 0, "image_unlisted")


def test_files_that_may_not_be_read_say_so(sound_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = os.open

    def forbidding(path: str, flags: int, *rest: int, **options: int) -> int:
        if str(path).endswith((IMAGE, LABEL)):
            raise PermissionError(13, "Permission denied", path)
        return really_open(path, flags, *rest, **options)

    monkeypatch.setattr(reading.os, "open", forbidding)
    assert problems_of(build_manifest(read_dataset(sound_dataset))) == [
        (f"data/{IMAGE}", 0, "image_readable", "cannot be read: Permission denied"),
        (f"data/{LABEL}", 0, "label_syntax", "cannot be read: Permission denied"),
    ]


def test_folders_that_may_not_be_read_say_so(sound_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_scan = os.scandir

    def forbidding(path: str) -> object:
        if str(path).endswith("labels/val"):
            raise PermissionError(13, "Permission denied", path)
        return really_scan(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    assert problems_of(build_manifest(read_dataset(sound_dataset))) == [
        ("data/labels/val", 0, "label_orphan", "this folder cannot be read: Permission denied")
    ]


@pytest.mark.parametrize("file", [IMAGE, LABEL])
def test_a_file_that_is_far_too_large_is_not_read(sound_dataset: Path, file: str) -> None:
    with (sound_dataset / file).open("r+b") as stream:
        stream.truncate(10**12)  # sparse
    [problem] = problems_of(build_manifest(read_dataset(sound_dataset)))
    assert problem[3] == "cannot be read: 1,000,000 MB are too large, at most 537 MB"


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("0 .5 .5 .1 .1\n".encode("utf-16"), 1, "UTF-16"),
        (b"0 .5 .5 .1 .1\n0 .5 .5 .1 .1 \xe9\n", 2, "not UTF-8"),
        (b"\0" * 40, 1, "NUL"),
    ],
)
def test_labels_in_another_encoding_are_told_with_their_line(
    sound_dataset: Path, content: bytes, line: int, reason: str
) -> None:
    (sound_dataset / LABEL).write_bytes(content)
    [problem] = problems_of(build_manifest(read_dataset(sound_dataset)))
    assert problem[:3] == (f"data/{LABEL}", line, "label_syntax") and reason in problem[3]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_line_ends_of_all_systems_are_the_same(sound_dataset: Path, end: str) -> None:
    lines = ["0 0.5 0.5 0.1 0.1", "", "1 0.3 0.3 0.1 0.1", ""]
    (sound_dataset / LABEL).write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
    manifest = build_manifest(read_dataset(sound_dataset))
    assert list(manifest.boxes[manifest.boxes["image"] == IMAGE]["line"]) == [1, 3] and len(manifest.problems) == 0


def rename(root: Path, name: str) -> Frame:
    """Give the first frame another name, in frames.csv and on disk."""
    frames = list(read_dataset(root).frames)
    new = Frame(f"images/train/{name}.jpg", *list(vars(frames[0]).values())[1:])
    (root / IMAGE).rename(root / new.image)
    (root / LABEL).rename(root / new.label)
    write_frames(root, [new, *frames[1:]])
    return new


NAMES = (
    "two words",
    "'single' \"double\" `back`",
    "new\nline",
    "tab\t",
    "größe",
    "北京",
    "😀",
    "a,b;c",
    "#%&?*[x]",
    "-rf",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_may_be_anything(sound_dataset: Path, name: str) -> None:
    new = rename(sound_dataset, name)
    (sound_dataset / new.label).write_text("9 .5 .5 .1 .1\n")
    manifest = build_manifest(read_dataset(sound_dataset))
    assert manifest.images["image"][0] == new.image and manifest.images["readable"].all()
    [problem] = problems_of(manifest)
    assert problem[:3] == (f"data/{new.label}", 1, "label_class")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20))
def test_any_name_is_read_as_it_is_listed(tmp_path: Path, draw_image: Callable[..., None], name: str) -> None:
    frame = Frame(f"images/train/x{name}.jpg", "train", "c", "", "", "day")
    root = tmp_path / f"{abs(hash(name))}"
    draw_image(root / frame.image, seed=1)
    (root / frame.label).parent.mkdir(parents=True, exist_ok=True)
    (root / frame.label).touch()
    write_data_yaml(root, ("car",))
    write_frames(root, [frame])
    manifest = build_manifest(read_dataset(root))
    assert list(manifest.images["image"]) == [frame.image] and len(manifest.problems) == 0


@pytest.mark.parametrize(
    ("listed", "on_disk"),
    [
        (unicodedata.normalize("NFC", "größe"), unicodedata.normalize("NFD", "größe")),
        (unicodedata.normalize("NFD", "größe"), unicodedata.normalize("NFC", "größe")),
        ("frame", "Frame"),
    ],
)
def test_a_name_that_only_looks_the_same_is_pointed_out(sound_dataset: Path, listed: str, on_disk: str) -> None:
    new = rename(sound_dataset, listed)
    (sound_dataset / new.image).rename(sound_dataset / f"images/train/{on_disk}.jpg")
    problems = problems_of(build_manifest(read_dataset(sound_dataset)))
    message = f"the file is missing; '{on_disk}.jpg' beside it is another name to the computer"
    assert (f"data/{new.image}", 0, "image_readable", message) in problems
    assert (f"data/images/train/{on_disk}.jpg", 0, "image_unlisted") in [problem[:3] for problem in problems]


def test_no_namesake_where_there_is_no_folder(tmp_path: Path) -> None:
    assert namesake(tmp_path / "gone" / "a.jpg") == ""


def test_names_that_are_no_text_are_shown(sound_dataset: Path) -> None:
    raw = os.fsencode(sound_dataset / "images" / "val") + b"/caf\xe9.jpg"
    try:
        with open(raw, "wb"):  # noqa: PTH123
            pass
    except OSError:
        pytest.skip("this file system knows no such names")
    [problem] = problems_of(build_manifest(read_dataset(sound_dataset)))
    assert problem[0] == "data/images/val/caf\\xe9.jpg"


def test_a_folder_without_images_and_labels_is_a_list_of_missing_files(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_data_yaml(root, ("car",))
    write_frames(root, [Frame("images/train/a.jpg", "train", "", "", "", "")])
    manifest = build_manifest(read_dataset(root))
    assert [(row[2], row[3][:11]) for row in problems_of(manifest)] == [
        ("image_readable", "the file is"),
        ("label_present", "the label f"),
    ]
    assert not manifest.images["readable"].any() and len(manifest.boxes) == 0


def test_no_frames_at_all_give_empty_tables(tmp_path: Path) -> None:
    write_frames(tmp_path, [])
    write_data_yaml(tmp_path, ("car",))
    with pytest.raises(DataError, match="lists no frames"):
        read_dataset(tmp_path)
    manifest = build_manifest(Dataset(tmp_path, ("car",), ()))
    assert len(manifest.images) == len(manifest.boxes) == len(manifest.problems) == 0
    assert manifest.thumbnails.shape == (0, 54, 96)


def test_one_class_is_enough(sound_dataset: Path) -> None:
    write_data_yaml(sound_dataset, ("vehicle",))
    for label in sound_dataset.rglob("*.txt"):
        label.write_text("0 0.5 0.5 0.25 0.25\n")
    manifest = build_manifest(read_dataset(sound_dataset))
    assert set(manifest.boxes["class_name"]) == {"vehicle"} and len(manifest.problems) == 0


def test_a_file_that_grows_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    really_read, growths = os.read, iter([b" two"])

    def growing(descriptor: int, size: int) -> bytes:
        content = really_read(descriptor, size)
        if more := next(growths, b""):
            with path.open("ab") as stream:
                stream.write(more)
        return content

    monkeypatch.setattr(reading.os, "read", growing)
    content, signature = read_steadily(str(path))
    assert content == b"one two" and signature[0] == 7


def test_a_file_that_never_rests_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"")
    really_read = os.read

    def growing(descriptor: int, size: int) -> bytes:
        content = really_read(descriptor, size)
        with path.open("ab") as stream:
            stream.write(b"x")
        return content

    monkeypatch.setattr(reading.os, "read", growing)
    with pytest.raises(DataError, match="keeps changing"):
        read_steadily(str(path))


def test_large_files_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "a").write_bytes(content)
    really_read = os.read
    monkeypatch.setattr(reading.os, "read", lambda descriptor, size: really_read(descriptor, min(size, 4096)))
    assert read_steadily(str(tmp_path / "a"))[0] == content


def test_files_come_in_order_and_hidden_ones_not(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c", ".hidden", ".git/x"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [name for name, _ in walk_files(str(tmp_path), "images")] == [
        "images/a",
        "images/c",
        "images/b/1",
        "images/b/2",
    ]
    assert list(walk_files(str(tmp_path), "gone")) == []
