"""`-S section.key=value`: checked like params.yaml itself, then written into it, where DVC, git and records see it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from flows.params import Params, parse_override, read_params


def apply_overrides(path: Path, overrides: Sequence[str]) -> tuple[Params, list[str]]:
    """Write `overrides` into params.yaml, comments kept, and return the params and a line for each change.

    Nothing is written unless the whole result is valid. Raises ParamsError.
    """
    before = read_params(path)
    params = read_params(path, overrides)
    if params == before:
        return params, []
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    tree = yaml.load(path.read_text(encoding="utf-8"))
    changes = []
    for override in overrides:
        keys, value = parse_override(override)
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        old = node.get(keys[-1])
        if old != value:
            node[keys[-1]] = yaml.load(override.partition("=")[2])  # keeps the style it was typed in
            changes.append(f"params.yaml: {'.'.join(keys)} {old} -> {value}")
    text = io.StringIO()
    yaml.dump(tree, text)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text.getvalue(), encoding="utf-8")
    draft.replace(path)
    return params, changes
