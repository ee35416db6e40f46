"""Dividing groups among train, val and test so that each gets its share of everything that is counted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from flows.dataset.layout import SPLITS
from flows.dataset.leakage.splitting import SHARES

Counts = npt.NDArray[np.float64]
Division = npt.NDArray[np.int64]  # (G,) position in SPLITS of each group

_SHARES = np.array([SHARES[split] for split in SPLITS])
_STARTS = 8
_MAX_STEPS = 2000
_LARGEST_SWAP = 300  # groups; more are not swapped in pairs, since there are many to move alone
_ABSENT = 1e3  # cost of a split without a single one of what is counted: above all else
_MOVED = 1e2  # cost of moving all frames, where few shall move: above even shares


@dataclass(frozen=True)
class _Problem:
    """`counts` (G, F) of the groups as shares of all, `required` (F,) in every split, `moves` (G, S) the cost."""

    counts: Counts
    required: npt.NDArray[np.bool_]
    moves: Counts

    def cost(self, totals: Counts) -> npt.NDArray[np.float64]:  # (..., S, F) -> (...)
        off = ((totals - _SHARES[:, None]) ** 2).sum(axis=(-2, -1))
        absent = ((totals < 1e-12) & self.required).sum(axis=(-2, -1))
        cost: npt.NDArray[np.float64] = off + _ABSENT * absent
        return cost


def divide_groups(
    counts: Counts,  # (G, F)
    required: npt.NDArray[np.bool_],  # (F,)
    seed: int,
    moved: Counts | None = None,  # (G, S)
) -> Division:
    """The split of each group: shares of all that is counted near 70/15/15, and as little as possible absent.

    What is rarest is dealt first, each time to the split that lacks most of it (iterative stratification, Sechidis,
    Tsoumakas and Vlahavas 2011, with groups in the place of examples); then groups are moved and swapped for as long
    as that lowers the squared deviations from the shares. The best of a few such runs in different orders is taken.
    The same counts and seed always give the same answer.

    Args:
        counts: How much each group has of each thing, e.g. frames, boxes of each class, frames of each slice.
        required: Things that no split may lack, if there are groups enough.
        seed: Of the orders.
        moved: Frames that would move if a group went to a split; given, only those move that must.
    """
    totals = counts.sum(axis=0)
    present = totals > 0
    moves = np.zeros((len(counts), len(SPLITS))) if moved is None else _MOVED * moved / counts[:, 0].sum()
    problem = _Problem(counts[:, present] / totals[present], required[present], moves)
    rng = np.random.Generator(np.random.PCG64(seed))
    best, lowest = np.zeros(len(counts), dtype=np.int64), np.inf
    for start in range(_STARTS):
        first = np.argmin(moves, axis=1) if moved is not None and start == 0 else _dealt(problem, rng)
        division, cost = _improved(problem, first)
        if cost < lowest - 1e-12:
            best, lowest = division, cost
    return best


def _dealt(problem: _Problem, rng: np.random.Generator) -> Division:
    """A division by iterative stratification; ties are broken at random."""
    counts = problem.counts
    division = np.full(len(counts), -1, dtype=np.int64)
    lacking = np.repeat(_SHARES[:, None], counts.shape[1], axis=1)  # (S, F)
    order = rng.permutation(len(counts))
    for _ in range(len(counts)):
        waiting = order[division[order] < 0]
        left = (counts[waiting] > 0).sum(axis=0).astype(np.float64)
        rarest = int(np.argmin(np.where(left > 0, left, np.inf)))
        group = int(waiting[np.argmax(counts[waiting, rarest])])
        need = lacking[:, rarest] + 1e-3 * lacking.mean(axis=1) - problem.moves[group]
        split = int(np.argmax(need))
        division[group] = split
        lacking[split] -= counts[group]
    return division


def _improved(problem: _Problem, division: Division) -> tuple[Division, float]:
    """Move and swap groups until nothing lowers the cost."""
    division = division.copy()
    members = np.eye(len(SPLITS))[division]  # (G, S)
    totals = members.T @ problem.counts
    cost = float(problem.cost(totals)) + float((problem.moves * members).sum())
    for _ in range(_MAX_STEPS):
        changes, after = _best_change(problem, division, totals, cost)
        if after > cost - 1e-12:
            break
        for group, split in changes:
            totals[division[group]] -= problem.counts[group]
            totals[split] += problem.counts[group]
            division[group] = split
        cost = after
    return division, cost


def _best_change(
    problem: _Problem, division: Division, totals: Counts, cost: float
) -> tuple[list[tuple[int, int]], float]:
    """The single move, or if none helps the swap of two groups, with the lowest cost after it."""
    base = cost - float(problem.cost(totals))  # what moves cost now
    best: tuple[list[tuple[int, int]], float] = ([], np.inf)
    for origin, target in product(range(len(SPLITS)), repeat=2):
        groups = np.flatnonzero(division == origin)
        if origin == target or not len(groups):
            continue
        after = problem.cost(_shifted(totals, problem.counts[groups], origin, target))
        after += base + problem.moves[groups, target] - problem.moves[groups, origin]
        place = int(np.argmin(after))
        if after[place] < best[1]:
            best = ([(int(groups[place]), target)], float(after[place]))
    if best[1] < cost - 1e-12 or len(division) > _LARGEST_SWAP:
        return best
    return _best_swap(problem, division, totals, base)


def _best_swap(
    problem: _Problem, division: Division, totals: Counts, base: float
) -> tuple[list[tuple[int, int]], float]:
    best: tuple[list[tuple[int, int]], float] = ([], np.inf)
    for origin, target in ((0, 1), (0, 2), (1, 2)):
        there = np.flatnonzero(division == target)
        for group in np.flatnonzero(division == origin).tolist() if len(there) else []:
            after = problem.cost(_shifted(totals, problem.counts[group] - problem.counts[there], origin, target))
            after += base + problem.moves[group, target] - problem.moves[group, origin]
            after += problem.moves[there, origin] - problem.moves[there, target]
            place = int(np.argmin(after))
            if after[place] < best[1]:
                best = ([(group, target), (int(there[place]), origin)], float(after[place]))
    return best


def _shifted(totals: Counts, moving: Counts, origin: int, target: int) -> Counts:  # (K, F) -> (K, S, F)
    shifted = np.repeat(totals[None], len(moving), axis=0)
    shifted[:, origin] -= moving
    shifted[:, target] += moving
    return shifted
