"""What the names of camera and clip say about which frames belong together, and where they say nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from flows.dataset.formats.framing import UNKNOWN_CAMERA

if TYPE_CHECKING:
    import pandas as pd

TELLING_SHARE = 0.1  # of all frames; a clip guessed from file names that covers more says little


def is_named(camera: str) -> bool:
    """Whether a frame's camera is known."""
    return camera.strip() not in ("", UNKNOWN_CAMERA)


def telling_clips(images: pd.DataFrame) -> set[tuple[str, str]]:
    """The clips (camera, clip) whose frames must stay together.

    A clip of an unknown camera is a file name without its number. It counts while it covers at most `TELLING_SHARE`
    of the frames: a name like "frame" binds all that somebody ever numbered.
    """
    sizes = Counter(zip(images["camera"].astype(str), images["clip"].astype(str), strict=True))
    return {
        (camera, clip)
        for (camera, clip), size in sizes.items()
        if clip and (is_named(camera) or size <= TELLING_SHARE * len(images))
    }


def alike_by_nature(images: pd.DataFrame) -> Callable[[int, int], bool]:
    """Tells of two positions in the table `images` of a manifest whether the frames may look the same without a leak.

    Such are neighbours in a clip of a named camera, which stays whole, and the road of one named camera while it is
    empty, on whatever day.
    """
    columns = [images[name].tolist() for name in ("camera", "clip", "split", "num_boxes")]
    facts = list(zip(*columns, strict=True))

    def alike(first: int, second: int) -> bool:
        camera, clip, split, num_boxes = facts[first]
        other_camera, other_clip, other_split, other_num_boxes = facts[second]
        if camera != other_camera or not is_named(camera) or not (clip and other_clip):
            return False
        if clip == other_clip:
            return bool(split == other_split)
        return not (num_boxes or other_num_boxes)

    return alike
