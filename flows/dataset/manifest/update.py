"""The pass over all frames that makes the manifest: shards of frames, mapped over threads, processes or machines.

What a pass has found out about a shard is kept as a part. The next pass takes over the parts of shards whose files are
the same, and of the others decodes only images whose content it has not seen. An interrupted pass goes on where it was,
and the manifest is the same to the byte whoever made the parts, and when.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.dataset.layout import DATA_YAML, FRAMES_CSV, Dataset, Frame
from flows.dataset.manifest.assembly import assemble_manifest
from flows.dataset.manifest.known import maker
from flows.dataset.manifest.parts import SUFFIX, part_name, read_part, write_part
from flows.dataset.manifest.reading import read_signature, still_changing
from flows.dataset.manifest.shards import (
    SHARD_FRAMES,
    Findings,
    Job,
    cut_shards,
    inspect_job,
    join_findings,
    label_path,
)
from flows.errors import DataError, OutsideError
from flows.progress import Progress, silent

Mapper = Callable[[Callable[[Job], Findings], Iterable[Job]], Generator[Findings, None, None]]
"""`mapper(inspect_job, jobs)`: the findings of each job, in any order. It must take jobs only as it needs them."""

_JOB_FRAMES = 16  # per job of a thread, so that all threads end at about the same time
_ROUNDS = 3  # looks at files that change during the pass
_DRAFT_AGE_S = 3600.0


@dataclass(frozen=True)
class PassSummary:
    """What a pass had to do: frames taken over with their shards, and images decoded."""

    num_frames: int
    num_reused: int
    num_decoded: int


@dataclass
class _Shard:
    """Where the shard lies in the list of frames, its part, and what is known of its files."""

    start: int
    stop: int
    part: Path
    signatures: npt.NDArray[np.int64] | None = None  # (n, 2, 4)
    pending: dict[int, Findings] = field(default_factory=dict)  # by the first frame of the job


def update_manifest(
    dataset: Dataset,
    folder: Path,
    cache: Path,
    mapper: Mapper | None = None,
    progress: Progress = silent,
    *,
    num_workers: int = 0,
    shard_frames: int = SHARD_FRAMES,
) -> PassSummary:
    """Write the manifest of `dataset` into `folder`, which is replaced as a whole; read it with `read_manifest`.

    Args:
        dataset: What frames.csv lists.
        folder: Where the tables and thumbnails go.
        cache: Folder of the parts, kept from pass to pass. Workers on other machines that do not see it decode all.
        mapper: Who inspects the shards; None: threads of this process.
        progress: Told how many frames are done; those of finished shards are done at once.
        num_workers: Threads, if there is no mapper; 0 takes one per core.
        shard_frames: Frames of a shard, about.

    Raises:
        DataError: Files or frames.csv change during the pass.
    """
    one = _Pass(dataset, cache, mapper, progress, num_workers, shard_frames)
    before = _listing_digests(dataset.root)
    summary = one.run()
    with writing(folder):
        assemble_manifest(dataset, one.folder, [shard.part for shard in one.shards], folder, cache / "assembled.json")
    if _listing_digests(dataset.root) != before:
        raise DataError(
            f"{dataset.root / FRAMES_CSV} or {DATA_YAML} changed during the pass", "Wait until nothing writes, go on"
        )
    one.clean_up()
    return summary


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the disk in words. Raises OutsideError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutsideError(
            f"{path} cannot be written: {reason}", "Mend it; the pass then goes on where it was"
        ) from None


def folder_name(dataset: Dataset) -> str:
    """How people call the folder of the dataset."""
    return dataset.root.resolve().name


def map_in_threads(num_workers: int = 0) -> Mapper:
    """A mapper of threads: decoding, hashing and arithmetic release the interpreter lock."""

    def mapper(function: Callable[[Job], Findings], jobs: Iterable[Job]) -> Generator[Findings, None, None]:
        num_threads = num_workers or _count_cores()
        pool = ThreadPoolExecutor(num_threads)
        waiting: set[Future[Findings]] = set()
        try:
            for job in jobs:
                waiting.add(pool.submit(function, job))
                if len(waiting) >= 4 * num_threads:  # enough to keep all busy, and no more in memory
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        finally:
            pool.shutdown(cancel_futures=True)

    return mapper


class _Pass:
    """One pass: its shards, and how far it is."""

    def __init__(
        self,
        dataset: Dataset,
        cache: Path,
        mapper: Mapper | None,
        progress: Progress,
        num_workers: int,
        shard_frames: int,
    ) -> None:
        self.dataset, self.cache, self.progress = dataset, cache, progress
        self.mapper = mapper or map_in_threads(num_workers)
        self.job_frames = _JOB_FRAMES if mapper is None else 2 * shard_frames
        self.parts = cache / maker()
        self.folder, frames = folder_name(dataset), dataset.frames
        self.shards = [
            _Shard(start, stop, self.parts / part_name(self.folder, dataset.classes, frames[start:stop], dataset.form))
            for start, stop in cut_shards(frames, shard_frames)
        ]
        self.num_done = self.num_decoded = 0

    def run(self) -> PassSummary:
        """Inspect what is not current, again where a file changed meanwhile, so that every part is true at the end."""
        stale = [number for number, shard in enumerate(self.shards) if not self._is_current(shard)]
        num_frames = len(self.dataset.frames)
        self.num_done = num_reused = num_frames - self._count(stale)
        self.progress(self.num_done, num_frames, f"{num_reused} frames as they were")
        for _ in range(_ROUNDS):
            if not stale:
                return PassSummary(num_frames, num_reused, self.num_decoded)
            self._inspect(stale)
            stale = [number for number, shard in enumerate(self.shards) if self._changed_file(shard)]
            self.num_done = num_frames - self._count(stale)
        if stale:
            raise still_changing(self._changed_file(self.shards[stale[0]]) or "a file")
        return PassSummary(num_frames, num_reused, self.num_decoded)

    def clean_up(self) -> None:
        """Delete parts that no shard has, but not the newest: an older version of the set may come back."""
        own = {shard.part.name for shard in self.shards}
        others = sorted(
            (path for path in self.parts.glob(f"*{SUFFIX}") if path.name not in own),
            key=lambda path: path.stat().st_mtime_ns,
        )
        for path in others[: max(0, len(others) - len(own))]:
            path.unlink(missing_ok=True)
        for path in [*self.cache.glob("*/*.draft"), *self.cache.glob(f"*/*{SUFFIX}")]:
            is_left_over = path.suffix == ".draft" and time.time() - path.stat().st_mtime > _DRAFT_AGE_S
            if is_left_over or (path.suffix == SUFFIX and path.parent != self.parts):  # of an older version of the code
                path.unlink(missing_ok=True)

    def _count(self, numbers: Sequence[int]) -> int:
        return sum(self.shards[number].stop - self.shards[number].start for number in numbers)

    def _paths(self, shard: _Shard) -> Iterator[str]:
        for frame in self.dataset.frames[shard.start : shard.stop]:
            yield f"{self.dataset.root}/{frame.image}"
            yield f"{self.dataset.root}/{label_path(frame)}"

    def _is_current(self, shard: _Shard) -> bool:
        """Whether the part is whole and about the very files that lie there now."""
        part = read_part(shard.part)
        if part is None or len(part.images) != shard.stop - shard.start or not part.settled:
            return False
        shard.signatures = part.signatures
        # what is said about a missing image depends on its neighbours, so it is looked at each time
        return bool((shard.signatures[:, 0, 3] >= 0).all()) and self._changed_file(shard) is None

    def _changed_file(self, shard: _Shard) -> str | None:
        """A file of the shard that is not the one whose signature we have."""
        if shard.signatures is None:
            return None
        found = np.array([read_signature(path) for path in self._paths(shard)], dtype=np.int64).reshape(-1, 2, 4)
        if np.array_equal(found, shard.signatures):
            return None
        at = int(np.flatnonzero((found != shard.signatures).any(axis=2).reshape(-1))[0])
        return list(self._paths(shard))[at]

    def _inspect(self, numbers: Sequence[int]) -> None:
        with closing(self.mapper(inspect_job, self._jobs(numbers))) as results:
            for found in results:
                self.num_done += len(found.images)
                self.num_decoded += found.num_decoded
                self._keep(found)
                first = self.dataset.frames[self.shards[found.shard].start + found.start].image
                self.progress(self.num_done, len(self.dataset.frames), first)

    def _jobs(self, numbers: Sequence[int]) -> Iterator[Job]:
        pass_id = f"{os.getpid()} {time.time_ns()}"
        for number in numbers:
            shard = self.shards[number]
            for start in range(shard.start, shard.stop, self.job_frames):
                frames = self.dataset.frames[start : min(start + self.job_frames, shard.stop)]
                yield self._job(number, start - shard.start, frames, pass_id)

    def _job(self, number: int, start: int, frames: tuple[Frame, ...], pass_id: str) -> Job:
        return Job(
            shard=number,
            start=start,
            frames=frames,
            classes=self.dataset.classes,
            root=str(self.dataset.root.absolute()),
            folder=self.folder,
            cache=str(self.cache.absolute()),
            maker=self.parts.name,
            pass_id=pass_id,
            form=self.dataset.form,
        )

    def _keep(self, found: Findings) -> None:
        """Write the part as soon as the last of its jobs is there."""
        shard = self.shards[found.shard]
        shard.pending[found.start] = found
        if sum(len(one.images) for one in shard.pending.values()) < shard.stop - shard.start:
            return
        whole = join_findings([shard.pending[start] for start in sorted(shard.pending)])
        shard.pending = {}
        shard.signatures = whole.signatures
        with writing(shard.part):
            write_part(shard.part, whole)


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _listing_digests(root: Path) -> list[str]:
    return [_digest(root / name) for name in (FRAMES_CSV, DATA_YAML)]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
