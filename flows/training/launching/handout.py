"""The job as each process gets it: from the first, with folders of its own, and with the frames of its own machine."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

from flows.errors import DataError
from flows.training.checkpoints import find_start
from flows.training.distributed.company import broadcast_bytes, gather_texts
from flows.training.distributed.seat import Seat
from flows.training.frames import TRAINING_SPLITS
from flows.training.launching.messages import TrainJob

DATA = "TCA_TRAIN_DATA"
"""Where this machine has the frames, if not where the first one has them."""


def hand_out(job: TrainJob | None, seat: Seat, scratch: Path) -> TrainJob:
    """The job on every process; the first gives its own, the others None.

    The weights to start from are handed over as bytes, since another machine need not have the file.

    Raises:
        CheckpointError: There are no such weights.
        DataError: A machine's frames differ from those of the first.
    """
    if seat.is_alone:
        assert job
        return job
    job = TrainJob.model_validate_json(broadcast_bytes(job.model_dump_json().encode() if job else None))
    if seat.num_nodes > 1:
        if root := os.environ.get(DATA):
            job = job.model_copy(update={"root": Path(root)})
        _compare_frames(job, seat)
    start = (job.start_checkpoint or find_start(job.params.model, job.params.task)) if seat.is_first else None
    name = broadcast_bytes(start.name.encode() if isinstance(start, Path) else b"").decode()
    if name:
        content = broadcast_bytes(start.read_bytes() if isinstance(start, Path) else None)
        if not seat.is_first:
            start = scratch / name
            start.write_bytes(content)
    if seat.is_first:
        return job
    return job.model_copy(update={"start_checkpoint": start, "out_dir": scratch / "out"})


def _compare_frames(job: TrainJob, seat: Seat) -> None:
    told = f"{frames_digest(job)} {socket.gethostname()}" if seat.local_rank == 0 else ""
    digests = [text.split(maxsplit=1) for text in gather_texts(told) if text]
    for digest, host in digests:
        if digest != digests[0][0]:
            raise DataError(
                f"the frames under data/ on {host} differ from those of the first machine, {digests[0][1]}",
                "Check out the same version on all machines: tca data pull",
            )


def frames_digest(job: TrainJob) -> str:
    """sha256 hex over names and sizes of the images and the contents of the labels; a missing file counts as such."""
    digest = hashlib.sha256()
    for frame in (frame for split in TRAINING_SPLITS for frame in job.split(split)):
        try:
            size = (job.root / frame.image).stat().st_size
            digest.update(f"{frame.image} {size}\n".encode() + (job.root / frame.label).read_bytes())
        except OSError:
            digest.update(f"{frame.image} missing\n".encode())
    return digest.hexdigest()
