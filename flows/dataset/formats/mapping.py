"""What file names or a table tell about frames: camera, clip, time, slice, split."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath

from flows.errors import DataError

FACTS = ("camera", "clip", "time", "slice", "split")
Mapping = Callable[[str], dict[str, str]]
"""From the path of an image relative to the source folder to those of `FACTS` that are known of it."""


def no_mapping(name: str) -> dict[str, str]:
    """The `Mapping` that knows nothing."""
    return {}


def mapping_from_regex(pattern: str) -> Mapping:
    """Facts from the named groups of a regular expression that is searched in the relative file name.

    Raises:
        DataError: The pattern is malformed, or has no group or another than camera, clip, time, slice, split.
    """
    example = r"Example: (?P<camera>cam\d+)_(?P<clip>c\d+)"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"the pattern {pattern!r} is malformed: {error}", example) from None
    unknown = sorted(set(compiled.groupindex) - set(FACTS))
    if unknown or not compiled.groupindex:
        has = f"the groups {', '.join(unknown)}" if unknown else "no named group"
        raise DataError(f"the pattern {pattern!r} has {has}", f"Known: {', '.join(FACTS)}. {example}")

    def facts(name: str) -> dict[str, str]:
        match = compiled.search(name)
        return {key: value for key, value in match.groupdict().items() if value} if match else {}

    return facts


def mapping_from_csv(path: Path) -> Mapping:
    """Facts from a table with the column `image` and any of camera, clip, time, slice, split.

    `image` is a path relative to the source folder or its last parts; the longest fit counts.

    Raises:
        DataError: The file is missing, is not such a table, or has two rows for one image.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = _read_rows(path, csv.DictReader(stream))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "Give the path of a CSV table") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a UTF-8 CSV table: {error}", "Save it as UTF-8 CSV") from None

    def facts(name: str) -> dict[str, str]:
        parts = PurePosixPath(name).parts
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((rows[tail] for tail in tails if tail in rows), {})

    return facts


def _read_rows(path: Path, reader: csv.DictReader[str]) -> dict[str, dict[str, str]]:
    """The known facts by the path of the image."""
    _check_columns(path, list(reader.fieldnames or []))
    rows: dict[str, dict[str, str]] = {}
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            raise DataError(f"{where}: the row has not as many columns as the header", "Put commas in quotes")
        image = PurePosixPath(row.pop("image").strip()).as_posix()
        if image in rows:
            raise DataError(f"{where}: a second row for {image}", "Keep one")
        rows[image] = {name: value.strip() for name, value in row.items() if value.strip()}
    if not rows:
        raise DataError(f"{path} has no rows", "Write one per image")
    return rows


def checked_time(name: str, time: str) -> str:
    """`time` if it is ISO-8601 with a zone, or empty. Raises DataError naming the image."""
    if not time:
        return ""
    try:
        zoned = datetime.fromisoformat(time).tzinfo is not None
    except ValueError:
        raise DataError(f"{name} has the time {time!r}, which is not ISO-8601", _TIME_REMEDY) from None
    if not zoned:
        raise DataError(f"{name} has the time {time!r}, which has no zone", _TIME_REMEDY)
    return datetime.fromisoformat(time).isoformat()


_TIME_REMEDY = "Expected e.g. 2026-05-01T17:30:00+02:00; leave time out of the mapping if it is not known"


def _check_columns(path: Path, columns: list[str]) -> None:
    known = ("image", *FACTS)
    if "image" not in columns or len(columns) < 2 or set(columns) - set(known) or len(set(columns)) < len(columns):
        shown = ", ".join(repr(column) for column in columns) or "none"
        raise DataError(f"{path}:1: the columns are {shown}", f"Expected image and some of {', '.join(FACTS)}")
