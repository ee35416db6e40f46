"""Whether dvc.lock is true of a tree, where the outputs themselves need not be there: in a fresh clone, in CI.

`dvc status` calls what is not there deleted. Whether that matters can be told from dvc.lock alone: the stage (or
data.dvc) that makes the missing thing names a hash, and so does the stage that needs it. The same rule is behind
`dvc repro --allow-missing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NOT_HERE = ("deleted", "not in cache")


def without_missing(status: Mapping[str, Any], lock: Mapping[str, Any], data_md5: str | None) -> dict[str, Any]:
    """The JSON of `dvc status` without what is only not here.

    Args:
        status: By stage, or by `data.dvc`: a list of texts and of {kind: {path: state}}.
        lock: Content of dvc.lock.
        data_md5: The data version that data.dvc names.
    """
    made = produced(lock, data_md5)
    needed = {stage: _hashes(entry.get("deps")) for stage, entry in (lock.get("stages") or {}).items()}
    kept: dict[str, Any] = {}
    for stage, entries in status.items():
        found = [one for entry in entries if (one := _kept(entry, needed.get(stage, {}), made))]
        if found:
            kept[stage] = found
    return kept


def produced(lock: Mapping[str, Any], data_md5: str | None) -> dict[str, str]:
    """The hash of each path that some stage, or data.dvc, makes."""
    made = {"data": data_md5} if data_md5 else {}
    for entry in (lock.get("stages") or {}).values():
        made |= _hashes(entry.get("outs"))
    return made


def _kept(entry: Any, needed: Mapping[str, str], made: Mapping[str, str]) -> Any:
    if isinstance(entry, str):
        return entry
    found = {}
    for kind, changed in entry.items():
        if kind == "changed outs":
            rest = {path: state for path, state in changed.items() if state not in _NOT_HERE}
        elif kind == "changed deps":
            rest = {path: _state(state, needed.get(path), made.get(path)) for path, state in changed.items()}
            rest = {path: state for path, state in rest.items() if state is not None}
        else:
            rest = changed
        if rest:
            found[kind] = rest
    return found


def _state(state: Any, needed: str | None, made: str | None) -> Any:
    if state not in _NOT_HERE or made is None:
        return state
    return None if needed == made else "modified"


def _hashes(entries: Any) -> dict[str, str]:
    return {str(one["path"]): str(one.get("md5")) for one in entries or []}
