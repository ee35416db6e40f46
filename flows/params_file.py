"""The file params.yaml: reading it, explaining what is wrong with it, and writing overrides into it."""

from __future__ import annotations

import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from flows.errors import ParamsError
from flows.params import Params
from flows.params_section import Section


def read_params(path: Path, overrides: Sequence[str] = ()) -> Params:
    """Read params.yaml, with overrides like `train.epochs=5` applied in memory.

    Raises:
        ParamsError: The file is missing or not YAML, or a key or value is refused.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path.name} is missing", f"Expected it at {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path.name} must hold sections, not {type(tree).__name__}")
    for override in overrides:
        _assign(tree, *parse_override(override))
    return parse_params(tree, path.name)


def parse_params(tree: dict[str, Any], source: str) -> Params:
    """Turn the tree read from `source` into `Params`. Raises ParamsError naming file, key, value and range."""
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError("\n".join(_explain(source, item) for item in error.errors())) from None
    if params.validate_.severity:
        from flows.dataset.checks.suite import dataset_checks

        dataset_checks(params.validate_)  # only there is known which checks exist
    return params


def parse_override(override: str) -> tuple[list[str], Any]:
    """Split `a.b=c` into its key path and its YAML value. Raises ParamsError."""
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ParamsError(f"override {override!r} is not of the form section.key=value", "Example: -S train.epochs=5")
    try:
        return key.strip().split("."), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ParamsError(f"override {override!r}: the value is not YAML") from None


def apply_overrides(path: Path, overrides: Sequence[str]) -> tuple[Params, list[str]]:
    """Write `overrides` into params.yaml, comments kept, and return the params and a line for each change.

    Nothing is written unless the whole result is valid. Raises ParamsError.
    """
    before = read_params(path)
    params = read_params(path, overrides)
    if params == before:
        return params, []
    from ruamel.yaml import YAML

    keeper = YAML()
    keeper.preserve_quotes = True
    keeper.width = 200
    tree = keeper.load(path.read_text(encoding="utf-8"))
    changes = []
    for override in overrides:
        keys, value = parse_override(override)
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        old = node.get(keys[-1])
        if old != value:
            node[keys[-1]] = keeper.load(override.partition("=")[2])  # keeps the style it was typed in
            changes.append(f"params.yaml: {'.'.join(keys)} {old} -> {value}")
    text = io.StringIO()
    keeper.dump(tree, text)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text.getvalue(), encoding="utf-8")
    draft.replace(path)
    return params, changes


# Sections with keys of the user's own.
_OPEN = (("tune", "space"), ("validate", "severity"), ("validate", "review", "classes"))


def describe_params(params: Params) -> str:
    """A line for each key: its value and its meaning."""
    lines = [f"seed = {params.seed}    {Params.model_fields['seed'].description}"]
    for name, field in Params.model_fields.items():
        section = getattr(params, name)
        if not isinstance(section, Section):
            continue
        lines += ["", f"{field.alias or name}:  {(type(section).__doc__ or '').strip()}", *_described(section, "  ")]
    return "\n".join(lines)


def _described(section: Section, indent: str) -> list[str]:
    lines = []
    for key, entry in type(section).model_fields.items():
        value = getattr(section, key)
        nested = isinstance(value, Section)
        shown = key + ("" if nested or key == "space" else f" = {value}")
        lines.append(f"{indent}{shown:<28} {entry.description or 'key of train to a range or to choices'}")
        lines += _described(value, indent + "  ") if nested else []
    return lines


def _assign(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    node = tree
    for depth, key in enumerate(keys):
        if not isinstance(node, dict) or (key not in node and not _is_open(keys)):
            raise ParamsError(
                f"override {'.'.join(keys)}: there is no key {'.'.join(keys[: depth + 1])}{_nearest(key, node)}"
            )
        if depth < len(keys) - 1:
            node = node.setdefault(key, {})
    node[keys[-1]] = value


def _is_open(keys: list[str]) -> bool:
    return any(tuple(keys[: len(section)]) == section for section in _OPEN)


def _nearest(key: str, known: Any) -> str:
    near = difflib.get_close_matches(key, [str(name) for name in known], n=1) if isinstance(known, (dict, list)) else []
    return f" (did you mean {near[0]}?)" if near else ""


def _explain(source: str, item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"] if part not in ("range", "choices"))
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"{source}: {where} is not a known key{_nearest(str(item['loc'][-1]), _siblings(item['loc']))}"
    if item["type"] == "missing":
        return f"{source}: {where} is missing{_description(item['loc'])}"
    if item["type"] == "value_error":
        joint = " = " if not isinstance(item["input"], dict) else ": "
        shown = "" if isinstance(item["input"], dict) else f"{item['input']} "
        return f"{source}: {where}{joint}{shown}{message}"
    return f"{source}: {where} = {item['input']!r}: {message[:1].lower()}{message[1:]}{_description(item['loc'])}"


def _section(loc: tuple[Any, ...]) -> type[BaseModel] | None:
    model: type[BaseModel] = Params
    for part in loc[:-1]:
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return None
        model = field.annotation
    return model


def _siblings(loc: tuple[Any, ...]) -> list[str]:
    model = _section(loc)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _description(loc: tuple[Any, ...]) -> str:
    model = _section(loc)
    field = model.model_fields.get(str(loc[-1])) if model else None
    return f" ({field.description})" if field is not None and field.description else ""
