"""Promotions in simulation: how often is an equal challenger rolled back, a worse one found, missing data promoted?

Thousands of rollouts a case go through the real state machine, on frames drawn from recorded latencies; the rules of
others see the same frames. Cases that are done are kept, so that an interrupted run goes on where it was.

    python -m benchmarks.decisions.online                     all cases, 2,000 rollouts each
    python -m benchmarks.decisions.online --rollouts 50 --only identical,bake
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.decisions.cases import CASES, Case
from benchmarks.decisions.figures import HEADERS, CaseFigures, count, row, sentence
from benchmarks.decisions.rollouts import Outcome, roll_out
from benchmarks.report import RESULTS, ROOT, Result, publish, read_machine, read_versions

_AT_ONCE = 20
"""Rollouts that a process does before it asks for more."""


@dataclass
class Progress:
    """How far all cases are, and the time left, on one line of the terminal."""

    num_all: int
    num_done: int = 0
    began_s: float = 0.0
    _shown_s: float = 0.0

    def skip(self, num: int) -> None:
        """These need not be done."""
        self.num_all -= num

    def step(self, name: str, num: int, of: int) -> None:
        """Show that `num` of a case are done, at most every other second."""
        now = time.monotonic()
        if now - self._shown_s < 2 and num < of:
            return
        self._shown_s = now
        done = self.num_done + num
        left_s = (now - self.began_s) / done * (self.num_all - done)
        print(f"{name}: {num:,} of {of:,}; all: {done / self.num_all:.0%}, {left_s / 60:.1f} min left", flush=True)


def main() -> int:
    """Simulate, print the table, write benchmarks/results/decisions-online.json."""
    given = _parse()
    chosen = [case for case in CASES if not given.only or any(part in case.name for part in given.only)]
    if not chosen:
        print(f"no case is named so; there are: {'; '.join(case.name for case in CASES)}", file=sys.stderr)
        return 2
    machine, began_s = read_machine(), time.monotonic()
    progress = Progress(len(chosen) * given.rollouts, began_s=began_s)
    figures = {}
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for case in chosen:
            figures[case.name] = _simulate(case, given, pool, progress)
    publish(_result(chosen, figures, given, machine, time.monotonic() - began_s), given.results)
    return 0 if all(figures[case.name].passed for case in chosen) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decisions.online", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--rollouts", type=int, default=2000, help="of each case (default: %(default)s)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], help="cases: parts of names, by commas"
    )
    parser.add_argument(
        "--processes", type=int, default=len(os.sched_getaffinity(0)), help="at once (default: %(default)s)"
    )
    parser.add_argument("--anew", action="store_true", help="also simulate cases anew that are done")
    parser.add_argument("--keep", type=Path, default=ROOT / ".tca" / "benchmarks" / "decisions", help="of cases done")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser.parse_args()


def _simulate(case: Case, given: argparse.Namespace, pool: Any, progress: Progress) -> CaseFigures:
    kept = given.keep / f"{_digest(case, given.rollouts)}.json"
    if kept.exists() and not given.anew:
        progress.skip(given.rollouts)
        print(f"{case.name}: kept from an earlier run", flush=True)
        return CaseFigures(**json.loads(kept.read_text(encoding="utf-8")))
    outcomes: list[Outcome] = []
    pieces = [(case.name, first, min(first + _AT_ONCE, given.rollouts)) for first in range(0, given.rollouts, _AT_ONCE)]
    for some in pool.imap(_roll_out, pieces):
        outcomes += some
        progress.step(case.name, len(outcomes), given.rollouts)
    progress.num_done += given.rollouts
    figures = count(case, outcomes)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(asdict(figures)), encoding="utf-8")
    return figures


def _roll_out(piece: tuple[str, int, int]) -> list[Outcome]:
    name, first, end = piece
    case = next(one for one in CASES if one.name == name)
    gc.collect()
    gc.disable()  # a rollout makes no cycles worth the time to look for them
    return [roll_out(case, seed) for seed in range(first, end)]


def _digest(case: Case, num: int) -> str:
    """Of all that the figures of a case depend on: its definition, the simulation and the code that decides."""
    digest = hashlib.sha256(f"{case.name} {num} {case.promote_params.model_dump_json()}".encode())
    for path in _sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterable[Path]:
    here = Path(__file__).parent
    yield from (here / f"{name}.py" for name in ("cases", "figures", "rollouts", "rules", "shapes", "streams"))
    yield here / "shapes.json"
    yield ROOT / "flows/adapters/fake_traffic.py"
    yield from sorted((ROOT / "flows/rollout").glob("*.py"))


def _result(
    chosen: Sequence[Case],
    figures: dict[str, CaseFigures],
    given: argparse.Namespace,
    machine: dict[str, Any],
    seconds: float,
) -> Result:
    return Result(
        name="decisions-online",
        sentence=sentence(chosen, figures),
        headers=HEADERS,
        rows=[row(case, figures[case.name]) for case in chosen],
        settings={"rollouts": given.rollouts, "processes": given.processes, "seconds": seconds},
        figures={name: asdict(one) for name, one in figures.items()},
        machine=machine,
        versions=read_versions("numpy", "scipy"),
    )


if __name__ == "__main__":
    sys.exit(main())
