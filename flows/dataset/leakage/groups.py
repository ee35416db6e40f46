"""Frames that belong together because each is tied to another one of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def connected(num_items: int, links: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:  # (num_items,)
    """The number of the connected component of each item, counted in the order of their first items."""
    parents = list(range(num_items))

    def root(item: int) -> int:
        while parents[item] != item:
            parents[item] = parents[parents[item]]  # halves the way for the next time
            item = parents[item]
        return item

    for first, second in links:
        one, two = sorted((root(int(first)), root(int(second))))
        parents[two] = one
    roots = [root(item) for item in range(num_items)]
    numbers = {found: number for number, found in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[found] for found in roots], dtype=np.int64)
