"""The place of one process among those that train together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Seat:
    """One process of a training: which of how many, and on how many machines."""

    rank: int
    world_size: int
    local_rank: int
    num_nodes: int

    @property
    def is_first(self) -> bool:
        """Whether it writes the results and talks to the flow."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether no other process takes part."""
        return self.world_size == 1


ALONE = Seat(rank=0, world_size=1, local_rank=0, num_nodes=1)
"""The seat of a training in one process."""
