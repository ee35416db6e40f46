"""Dividing frames among train, val and test so that no group of near-duplicates lies in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence

from flows.dataset.layout import SPLITS

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}


def split_groups(groups: Sequence[Hashable], seed: int) -> list[str]:
    """The split of each frame, given the group (camera and clip) of each.

    Groups are taken in the order of a hash of the seed and their name; each goes to the split that lacks most frames.
    The last ones go to splits that are still empty, so that three groups are enough for three splits. The same groups
    and seed always give the same answer, in whatever order the frames come.
    """
    sizes = Counter(groups)
    waiting = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}\0{group!r}".encode()).digest())
    lacking = {split: SHARES[split] * len(groups) for split in SPLITS}
    chosen: dict[Hashable, str] = {}
    for position, group in enumerate(waiting):
        empty = [split for split in SPLITS if split not in chosen.values()]
        must_fill = empty and len(waiting) - position <= len(empty)
        split = max(empty if must_fill else SPLITS, key=lambda name: lacking[name])
        chosen[group] = split
        lacking[split] -= sizes[group]
    return [chosen[group] for group in groups]
