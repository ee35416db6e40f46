"""Which class of a reference model means which class of the data: by name, by common synonyms, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.errors import InputError

_SYNONYMS: tuple[frozenset[str], ...] = (
    frozenset({"car", "automobile", "auto", "passenger car"}),
    frozenset({"bus", "coach", "omnibus"}),
    frozenset({"truck", "lorry", "heavy truck", "heavy goods vehicle", "hgv"}),
    frozenset({"van", "minivan"}),
    frozenset({"motorcycle", "motorbike", "motor", "moto", "scooter", "bike"}),
    frozenset({"bicycle", "cycle", "pushbike", "bike"}),
    frozenset({"person", "pedestrian", "people"}),
    frozenset({"train", "tram"}),
)


@dataclass(frozen=True)
class ClassMap:
    """The correspondence of classes.

    Attributes:
        class_of: Class id of the data by class id of the reference; other classes of the reference are ignored.
        named: Names of the reference's classes by class of the data that has any.
        left_out: Classes of the data that the reference does not know: their labels are not judged.
    """

    class_of: Mapping[int, int]
    named: Mapping[str, tuple[str, ...]]
    left_out: tuple[str, ...]


def map_classes(
    data_classes: Sequence[str], reference_classes: Sequence[str], told: Mapping[str, str | Sequence[str]]
) -> ClassMap:
    """Find for each class of the reference the class of the data that it means.

    What the user told goes first, then the same name, then a synonym that leads to just one class of the data. A class
    that the user told of has no other correspondence than that.

    Args:
        data_classes: Names by class id.
        reference_classes: Names by class id.
        told: Class of the data to one or several classes of the reference.

    Raises:
        InputError: The user names a class that is not there, or gives one to two classes.
    """
    class_of = _told(data_classes, reference_classes, told)
    open_ids = [index for index, name in enumerate(data_classes) if name not in told]
    for reference_id, name in enumerate(reference_classes):
        if reference_id in class_of:
            continue
        same = [index for index in open_ids if _plain(data_classes[index]) == _plain(name)]
        alike = same or [index for index in open_ids if _are_synonyms(data_classes[index], name)]
        if len(alike) == 1:
            class_of[reference_id] = alike[0]
    named = {
        name: tuple(reference_classes[one] for one, index in sorted(class_of.items()) if data_classes[index] == name)
        for name in data_classes
    }
    return ClassMap(
        class_of,
        {name: found for name, found in named.items() if found},
        tuple(n for n in data_classes if not named[n]),
    )


def _told(
    data_classes: Sequence[str], reference_classes: Sequence[str], told: Mapping[str, str | Sequence[str]]
) -> dict[int, int]:
    class_of: dict[int, int] = {}
    for name, meant in told.items():
        _require(name, data_classes, "the data")
        for other in [meant] if isinstance(meant, str) else meant:
            _require(other, reference_classes, "the reference model")
            reference_id, index = list(reference_classes).index(other), list(data_classes).index(name)
            if class_of.setdefault(reference_id, index) != index:
                raise InputError(
                    f"validate.review.classes gives {other} to {data_classes[class_of[reference_id]]} and to {name}",
                    "Give each class of the reference model to one class of the data",
                )
    return class_of


def _require(name: str, known: Sequence[str], whose: str) -> None:
    if name not in known:
        raise InputError(
            f"validate.review.classes names {name!r}, which {whose} does not know",
            f"Expected one of: {', '.join(known[:100])}",
        )


def _plain(name: str) -> str:
    words = " ".join(name.lower().replace("_", " ").replace("-", " ").split())
    known = {each for group in _SYNONYMS for each in group}
    return words[:-1] if words.endswith("s") and words[:-1] in known else words


def _are_synonyms(first: str, second: str) -> bool:
    return any(_plain(first) in group and _plain(second) in group for group in _SYNONYMS)
