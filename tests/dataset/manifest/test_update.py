"""A pass takes over what it knows, goes on after any interruption, and always writes the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.layout import Frame, read_dataset, write_data_yaml, write_frames
from flows.dataset.manifest import shards
from flows.dataset.manifest import update as manifest_pass
from flows.dataset.manifest.known import KnownImages, maker
from flows.dataset.manifest.manifest import read_manifest
from flows.dataset.manifest.parts import read_part
from flows.dataset.manifest.shards import Findings, Job, cut_shards, inspect_job, label_path
from flows.dataset.manifest.update import PassSummary, map_in_threads, update_manifest
from flows.errors import DataError, OutsideError, ServiceError

NUM_FRAMES = 40


@pytest.fixture(autouse=True)
def old_files_are_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a test are younger than two seconds; here their times are trusted all the same."""
    monkeypatch.setattr(shards, "_SETTLED_NS", -(10**12))


@pytest.fixture
def root(tmp_path: Path, draw_image: Callable[..., None]) -> Path:
    """Forty frames in train, of two cameras, each with one box."""
    root, frames = tmp_path / "data", []
    for index in range(NUM_FRAMES):
        frame = Frame(f"images/train/f{index:03}.jpg", "train", f"cam{index % 2}", "clip", "", "day")
        draw_image(root / frame.image, seed=index)
        (root / frame.label).parent.mkdir(parents=True, exist_ok=True)
        (root / frame.label).write_text(f"{index % 3} 0.5 0.5 0.25 {0.1 + index / 100}\n")
        frames.append(frame)
    write_data_yaml(root, ("car", "truck", "bus"))
    write_frames(root, frames)
    return root


class Pass:
    """Passes over one dataset with one cache, in shards of some eight frames."""

    def __init__(self, root: Path, place: Path) -> None:
        self.root, self.folder, self.cache = root, place / "manifest", place / "parts"

    def __call__(self, **options: Any) -> PassSummary:
        return update_manifest(read_dataset(self.root), self.folder, self.cache, shard_frames=8, **options)

    def digests(self) -> dict[str, str]:
        return digests(self.folder)

    def parts(self) -> list[Path]:
        return sorted(self.cache.glob("*/*.part"))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture
def pass_(root: Path, tmp_path: Path) -> Pass:
    return Pass(root, tmp_path / "pass")


def fresh_digests(root: Path, place: Path) -> dict[str, str]:
    """What a pass without any cache writes."""
    shutil.rmtree(place, ignore_errors=True)
    update_manifest(read_dataset(root), place / "manifest", place / "parts")
    return digests(place / "manifest")


def rewrite(root: Path, change: Callable[[list[Frame]], list[Frame]]) -> None:
    write_frames(root, change(list(read_dataset(root).frames)))


# ---- what is taken over


def test_a_second_pass_reads_no_file_and_writes_the_same(pass_: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pass_() == PassSummary(NUM_FRAMES, 0, NUM_FRAMES)
    first = pass_.digests()
    with monkeypatch.context() as patch:
        patch.setattr(shards, "read_steadily", lambda path: pytest.fail(f"{path} was read"))
        calls: list[tuple[int, int]] = []
        assert pass_(progress=lambda done, total, note: calls.append((done, total))) == PassSummary(40, 40, 0)
    assert pass_.digests() == first and calls == [(40, 40)]


def test_the_manifest_is_the_same_in_other_shards(pass_: Pass, root: Path, tmp_path: Path) -> None:
    pass_()
    assert pass_.digests() == fresh_digests(root, tmp_path / "fresh")


def _touch_all(root: Path) -> None:
    for path in root.rglob("*.*"):
        os.utime(path, (1, 1))


def _check_out_again(root: Path) -> None:
    shutil.copytree(root, root.with_name("copy"))
    shutil.rmtree(root)
    root.with_name("copy").rename(root)


def _rename_one(root: Path) -> None:
    for old in ("images/train/f003.jpg", "labels/train/f003.txt"):
        (root / old).rename(root / old.replace("f003", "z with 'quotes' ü"))
    rewrite(root, lambda frames: [_renamed(one) if "f003" in one.image else one for one in frames])


def _renamed(frame: Frame) -> Frame:
    return Frame(frame.image.replace("f003", "z with 'quotes' ü"), *list(vars(frame).values())[1:])


def _move_to_val(root: Path) -> None:
    def moved(frame: Frame) -> Frame:
        image = frame.image.replace("/train/", "/val/")
        for old, new in ((frame.image, image), (frame.label, frame.label.replace("/train/", "/val/"))):
            (root / new).parent.mkdir(exist_ok=True)
            (root / old).rename(root / new)
        return Frame(image, "val", frame.camera, frame.clip, frame.time, frame.slice)

    rewrite(root, lambda frames: [moved(one) if index % 5 == 0 else one for index, one in enumerate(frames)])


def _rename_classes(root: Path) -> None:
    write_data_yaml(root, ("Auto", "Lkw", "Bus"))


def _change_labels(root: Path) -> None:
    (root / "labels/train/f007.txt").write_text("0 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.2\nx\n")


def _other_cameras(root: Path) -> None:
    rewrite(root, lambda frames: [Frame(one.image, one.split, "new", *list(vars(one).values())[3:]) for one in frames])


@pytest.mark.parametrize(
    "change",
    [_touch_all, _check_out_again, _rename_one, _move_to_val, _rename_classes, _change_labels, _other_cameras],
)
def test_what_was_decoded_is_not_decoded_again(
    pass_: Pass, root: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    pass_()
    change(root)
    assert pass_().num_decoded == 0
    assert pass_.digests() == fresh_digests(root, tmp_path / "fresh")


def test_after_an_inserted_frame_only_its_shard_is_read(
    pass_: Pass, root: Path, tmp_path: Path, draw_image: Callable[..., None]
) -> None:
    pass_()
    draw_image(root / "images/train/new.jpg", seed=999)
    (root / "labels/train/new.txt").write_text("")
    new = Frame("images/train/new.jpg", "train", "cam0", "clip", "", "day")
    rewrite(root, lambda frames: [new, *frames])
    summary = pass_()
    assert summary.num_decoded == 1 and summary.num_reused >= 20
    assert pass_.digests() == fresh_digests(root, tmp_path / "fresh")


def test_a_changed_image_is_seen_even_if_its_time_is_not_new(pass_: Pass, root: Path, tmp_path: Path) -> None:
    pass_()
    path, other = root / "images/train/f005.jpg", root / "images/train/f006.jpg"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time, same inode
    assert path.stat().st_size == before.st_size and other.exists()
    assert pass_().num_decoded == 1
    assert pass_.digests() == fresh_digests(root, tmp_path / "fresh")


def test_a_file_written_a_moment_before_it_was_read_is_read_again(pass_: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SETTLED_NS", 2_000_000_000)
    pass_()
    assert pass_() == PassSummary(NUM_FRAMES, 0, 0)  # read and hashed, but not decoded


def test_a_version_that_comes_back_is_still_known(pass_: Pass, root: Path) -> None:
    pass_()
    frames = read_dataset(root).frames
    write_frames(root, frames[:20])
    pass_()
    write_frames(root, frames)
    assert pass_().num_decoded == 0


def test_parts_that_are_of_no_use_are_deleted(pass_: Pass, root: Path) -> None:
    stale = pass_.cache / "0123456789abcdef" / "old.part"
    stale.parent.mkdir(parents=True)
    stale.write_text("of older code")
    draft = pass_.cache / maker() / "x.part.1.draft"
    draft.parent.mkdir()
    draft.write_text("of a killed process")
    os.utime(draft, (1, 1))
    for round_ in range(6):
        rewrite(root, lambda frames: [Frame(f.image, f.split, f"c{round_}", "k", "", "day") for f in frames])  # noqa: B023
        pass_()
    assert not stale.exists() and not draft.exists()
    assert len(pass_.parts()) <= 2 * len(list(cut_shards(read_dataset(root).frames, 8)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:100],
        lambda content: content[:-1],
        lambda content: content[:500] + bytes([content[500] ^ 255]) + content[501:],
        lambda content: b"X" + content[1:],
        lambda content: content + b"\0",
    ],
)
def test_a_damaged_part_is_made_anew(pass_: Pass, spoil: Callable[[bytes], bytes]) -> None:
    pass_()
    first = pass_.digests()
    part = pass_.parts()[0]
    part.write_bytes(spoil(part.read_bytes()))
    summary = pass_()
    assert 0 < summary.num_decoded < NUM_FRAMES
    assert pass_.digests() == first
    assert pass_() == PassSummary(NUM_FRAMES, NUM_FRAMES, 0)


def test_other_code_or_libraries_reuse_nothing(pass_: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    pass_()
    for module in (manifest_pass, shards):
        monkeypatch.setattr(module, "maker", lambda: "another")
    assert pass_().num_decoded == NUM_FRAMES


def test_a_worker_with_another_version_is_refused(pass_: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "maker", lambda: "another")
    with pytest.raises(ServiceError, match="another version"):
        pass_()


# ---- who works, and in which order


def _shuffled(seed: int) -> Callable[..., Generator[Findings, None, None]]:
    def mapper(function: Callable[[Job], Findings], jobs: Iterable[Job]) -> Generator[Findings, None, None]:
        found = [function(job) for job in jobs]
        random.Random(seed).shuffle(found)
        yield from found

    return mapper


def _in_processes(function: Callable[[Job], Findings], jobs: Iterable[Job]) -> Generator[Findings, None, None]:
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        yield from pool.map(function, jobs)


@pytest.mark.parametrize(
    "mapper", [None, map_in_threads(1), map_in_threads(7), _shuffled(1), _shuffled(2), _in_processes]
)
def test_the_result_does_not_depend_on_who_worked(pass_: Pass, root: Path, tmp_path: Path, mapper: Any) -> None:
    pass_(mapper=mapper)
    assert pass_.digests() == fresh_digests(root, tmp_path / "fresh")
    assert pass_().num_decoded == 0


def test_jobs_are_taken_as_they_are_needed(root: Path) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[Job]:
        for index in range(100):
            taken.append(index)
            yield Job(0, index, (), (), str(root), "data", "", maker(), "x")

    results = map_in_threads(2)(lambda job: job, jobs())  # type: ignore[arg-type, return-value]
    next(results)
    assert len(taken) <= 9
    results.close()


# ---- interruption


class Killed(BaseException):
    """Stands for Ctrl-C and for a power cut: nothing after it runs."""


@pytest.mark.parametrize("after", range(1, 4))
def test_an_interrupted_pass_goes_on(pass_: Pass, root: Path, tmp_path: Path, after: int) -> None:
    def interrupted(function: Callable[[Job], Findings], jobs: Iterable[Job]) -> Generator[Findings, None, None]:
        for number, job in enumerate(jobs):
            if number == after:
                raise Killed
            yield function(job)

    with pytest.raises(Killed):
        pass_(mapper=interrupted)
    assert not pass_.folder.exists()
    kept = len(pass_.parts())
    assert kept == after
    calls: list[int] = []
    summary = pass_(progress=lambda done, total, note: calls.append(done))
    assert summary.num_reused + summary.num_decoded == NUM_FRAMES and summary.num_reused == calls[0] > 0
    assert pass_.digests() == fresh_digests(root, tmp_path / "fresh")


SLOW = """
import signal, sys
from pathlib import Path
from flows.dataset.manifest import shards
from flows.dataset.layout import read_dataset
from flows.dataset.manifest.update import map_in_threads, update_manifest
signal.signal(signal.SIGINT, signal.default_int_handler)  # what started the tests may have it ignored
root, folder, cache = map(Path, sys.argv[1:])
shards._SETTLED_NS = -10**12
def told(done, total, note):
    print(done, flush=True)
    if done > 20:
        sys.stdin.readline()  # nobody answers
update_manifest(read_dataset(root), folder, cache, progress=told, num_workers=1, shard_frames=8)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_its_shards(pass_: Pass, root: Path, tmp_path: Path, number: int) -> None:
    argv = [sys.executable, "-c", SLOW, str(root), str(pass_.folder), str(pass_.cache)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(argv, cwd=Path(__file__).parents[3], text=True, **pipes)
    assert process.stdout is not None and process.stdin is not None
    while int(process.stdout.readline()) <= 20:
        pass
    process.send_signal(number)
    process.wait(timeout=60)
    process.stdin.close()
    process.stdout.close()
    assert not pass_.folder.exists()
    assert pass_.parts()
    summary = pass_()
    assert summary.num_reused >= 8 and summary.num_decoded == NUM_FRAMES - summary.num_reused
    assert pass_.digests() == fresh_digests(root, tmp_path / "fresh")


def test_an_interrupted_assembly_leaves_the_old_manifest(
    pass_: Pass, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pass_()
    before = pass_.digests()
    _change_labels(root)
    with monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            raise Killed

        patch.setattr("flows.dataset.manifest.assembly._stray_table", interrupted)
        with pytest.raises(Killed):
            pass_()
    assert pass_.digests() == before
    pass_()
    assert pass_.digests() != before


def test_an_unchanged_manifest_is_not_written_again(pass_: Pass) -> None:
    pass_()
    before = {path.name: path.stat().st_mtime_ns for path in pass_.folder.iterdir()}
    pass_()
    assert {path.name: path.stat().st_mtime_ns for path in pass_.folder.iterdir()} == before


@pytest.mark.parametrize("spoil", ["delete", "damage", "stray", "stamp"])
def test_a_manifest_that_is_not_the_one_of_the_last_pass_is_written_again(pass_: Pass, root: Path, spoil: str) -> None:
    pass_()
    before = pass_.digests()
    file = pass_.folder / "boxes.parquet"
    if spoil == "delete":
        file.unlink()
    elif spoil == "damage":
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif spoil == "stray":
        (root / "labels/train/gone.txt").touch()
    else:
        (pass_.cache / "assembled.json").write_text("{")
    assert pass_().num_decoded == 0
    assert (pass_.digests() == before) == (spoil != "stray")


def test_a_full_disk_is_told_and_nothing_half_is_kept(pass_: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, found: Findings) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(manifest_pass, "write_part", full)
        with pytest.raises(OutsideError, match="No space left on device"):
            pass_()
    assert pass_().num_decoded == NUM_FRAMES


# ---- a set that changes during the pass


def _meddling(change: Callable[[int], None]) -> Callable[..., Generator[Findings, None, None]]:
    """A mapper during which somebody else works; `change(round)` comes after all jobs of a round."""
    rounds = iter(range(100))

    def mapper(function: Callable[[Job], Findings], jobs: Iterable[Job]) -> Generator[Findings, None, None]:
        yield from [function(job) for job in jobs]
        change(next(rounds))

    return mapper


def test_a_file_changed_during_the_pass_is_read_again(pass_: Pass, root: Path, tmp_path: Path) -> None:
    path = root / "labels/train/f001.txt"
    pass_(mapper=_meddling(lambda number: path.write_text("1 .5 .5 .3 .3\n" * (2 - number)) if number < 2 else None))
    assert pass_.digests() == fresh_digests(root, tmp_path / "fresh")
    boxes = read_manifest(pass_.folder).boxes
    assert list(boxes[boxes["image"] == "images/train/f001.jpg"]["width_px"]) == pytest.approx([0.3 * 96])


def test_a_file_that_keeps_changing_is_named(pass_: Pass, root: Path) -> None:
    path = root / "images/train/f001.jpg"
    with pytest.raises(DataError, match=r"f001\.jpg keeps changing .* Wait until"):
        pass_(mapper=_meddling(lambda number: path.write_bytes(b"x" * (number + 1))))
    assert not pass_.folder.exists()


def test_frames_csv_changed_during_the_pass_is_told(pass_: Pass, root: Path) -> None:
    frames = read_dataset(root).frames
    with pytest.raises(DataError, match=r"frames\.csv .* changed during the pass"):
        pass_(mapper=_meddling(lambda number: write_frames(root, frames[:-1])))


def test_a_part_that_another_pass_deletes_is_told(pass_: Pass) -> None:
    def deleting(number: int) -> None:
        pass_.parts()[-1].unlink()

    def mapper(function: Callable[[Job], Findings], jobs: Iterable[Job]) -> Generator[Findings, None, None]:
        found = [function(job) for job in jobs]
        yield from found
        deleting(0)

    with pytest.raises(DataError, match="does another pass run"):
        pass_(mapper=mapper)


# ---- parts of it


@settings(max_examples=100, deadline=None)
@given(names=st.lists(st.text("abcxyz019", min_size=1, max_size=6), unique=True, max_size=200), size=st.integers(1, 20))
def test_shards_cover_all_frames_in_order(names: list[str], size: int) -> None:
    frames = [Frame(f"images/train/{name}.jpg", "train", "", "", "", "") for name in names]
    ranges = list(cut_shards(frames, size))
    assert [index for start, stop in ranges for index in range(start, stop)] == list(range(len(frames)))
    assert all(0 < stop - start <= 2 * size for start, stop in ranges)


@settings(max_examples=300, deadline=None)
@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12),
    tail=st.sampled_from(["", ".jpg", ".a.b", "/", ".", "/x.jpg", "./y.png"]),
)
def test_label_paths_are_those_of_the_frame(name: str, tail: str) -> None:
    frame = Frame(f"images/train/{name}{tail}", "train", "", "", "", "")
    try:
        expected: object = frame.label
    except ValueError as error:
        expected = str(error)
    try:
        found: object = label_path(frame)
    except ValueError as error:
        found = str(error)
    assert found == expected


def test_facts_of_a_replaced_part_are_not_mistaken(pass_: Pass, root: Path) -> None:
    pass_()
    known = KnownImages(pass_.cache / maker())
    sha256 = hashlib.sha256((root / "images/train/f000.jpg").read_bytes()).hexdigest()
    facts = known.find(sha256)
    assert facts is not None and facts.sha256 == sha256 and facts.thumbnail.shape == (54, 96)
    assert known.find("00" * 32) is None
    again = KnownImages(pass_.cache / maker())
    for part in pass_.parts():
        part.write_bytes(b"replaced")
    assert again.find(sha256) is None


def test_memory_does_not_grow_with_the_frames(root: Path, tmp_path: Path) -> None:
    """All that stays per frame are its row of frames.csv and the signatures: some hundred bytes, no pixels."""
    frames = list(read_dataset(root).frames)
    peaks = []
    for copies in (4, 16):
        many = root.with_name(f"many{copies}")
        (many / "labels/train").mkdir(parents=True)
        (many / "images/train").mkdir(parents=True)
        rows = []
        for copy in range(copies):
            for one in frames:
                row = Frame(one.image.replace("/f", f"/{copy}f"), *list(vars(one).values())[1:])
                os.link(root / one.image, many / row.image)
                os.link(root / one.label, many / row.label)
                rows.append(row)
        write_frames(many, rows)
        write_data_yaml(many, ("car", "truck", "bus"))
        dataset = read_dataset(many)
        place = Pass(many, tmp_path / f"many{copies}-pass")
        tracemalloc.start()
        update_manifest(dataset, place.folder, place.cache, shard_frames=8, num_workers=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    per_frame = (peaks[1] - peaks[0]) / (12 * NUM_FRAMES)
    assert per_frame < 1500  # a thumbnail alone has 5184 bytes, a decoded frame 18432


def test_the_parts_hold_what_was_found(pass_: Pass, root: Path) -> None:
    pass_()
    part = next(found for path in pass_.parts() if (found := read_part(path)) is not None)
    assert part.settled and part.signatures.shape == (len(part.images), 2, 4)
    assert part.thumbnails.shape == (len(part.images), 54, 96) and part.thumbnails.any()
    thumbnails = read_manifest(pass_.folder).thumbnails
    assert isinstance(thumbnails, np.memmap) and thumbnails.shape == (NUM_FRAMES, 54, 96)
    assert inspect_job is shards.inspect_job
