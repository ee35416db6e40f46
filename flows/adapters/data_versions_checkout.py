"""Bringing a version of data/ back, so that an interruption is known of, and ended by the same command.

A small file in .dvc/tmp says between which versions data/ is while DVC works. data.dvc names the new one from the
start, so that no stage takes the mixture for a version.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from flows.adapters.data_versions import DATA_DVC, VersionFiles, size_of
from flows.adapters.versioning import run_dvc
from flows.errors import ProjectError

_MARKER = Path(".dvc", "tmp", "tca-checkout.json")


def interrupted_checkout(root: Path) -> tuple[str, str] | None:
    """The md5 that a stopped checkout came from and the one it was going to; None when none was stopped."""
    try:
        content = json.loads((root / _MARKER).read_text(encoding="utf-8"))
        return str(content["from"]), str(content["to"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise ProjectError(f"{_MARKER} is damaged", "Look at data/, then remove that file") from None


def check_out(root: Path, before: str, target: VersionFiles) -> None:
    """Make data.dvc name `target`, whose files are all in the cache, and data/ hold it.

    Raises:
        OutsideError: DVC failed; data/ may be between the two, which `interrupted_checkout` tells.
    """
    _write(root / _MARKER, json.dumps({"from": before, "to": target.md5}))
    out = {
        "md5": target.md5,
        "size": size_of(target),
        "nfiles": len(target.md5_of),
        "hash": "md5",
        "path": "data",
    }
    _write(root / DATA_DVC, yaml.safe_dump({"outs": [out]}, sort_keys=False))
    restore(root)


def restore(root: Path) -> None:
    """Make data/ hold what data.dvc names, from the cache. What data/ held besides is removed. Raises OutsideError."""
    run_dvc(root, "checkout", "--force", "--quiet", DATA_DVC)
    (root / _MARKER).unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
