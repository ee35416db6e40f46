"""All results as Markdown, for the README: `python -m benchmarks.summary`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, is_busy


def main() -> int:
    """Print a section for each JSON file of the results folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.summary", description="All results as Markdown.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    folder = parser.parse_args().results
    found = sorted(folder.glob("*.json"))
    if not found:
        print(f"{folder} holds no results. Make some: python -m benchmarks.router", file=sys.stderr)
        return 2
    print("\n\n".join(_section(json.loads(path.read_text(encoding="utf-8"))) for path in found))
    return 0


def _section(result: dict[str, Any]) -> str:
    machine = result["machine"]
    gpus = "".join(f", {gpu['name']}" for gpu in machine["gpus"])
    where = f"{machine['cores']} cores of {machine['cpu']}{gpus}, {machine['memory_gb']} GB"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    busy = f" Cores busy before the start ({machine['busy_before_percent']:.0f} %)." if is_busy(machine) else ""
    lines = [f"### {result['name']}", "", result["sentence"], "", _row(result["headers"])]
    lines += [_row(["---", *["---:"] * (len(result["headers"]) - 1)]), *map(_row, result["rows"])]
    return "\n".join([*lines, "", f"{result['date'][:10]}, {where}; {versions}.{busy}"])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
