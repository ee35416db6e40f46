from __future__ import annotations

import pytest

from flows.dataset.review.classes import map_classes
from flows.errors import InputError

COCO = ("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck")


@pytest.mark.parametrize(
    ("data", "told", "named", "left_out"),
    [
        pytest.param((), {}, {}, (), id="no classes"),
        pytest.param(("car",), {}, {"car": ("car",)}, (), id="same name"),
        pytest.param(("Lorry", "Cars"), {}, {"Lorry": ("truck",), "Cars": ("car",)}, (), id="synonyms and plural"),
        pytest.param(("bus",), {}, {"bus": ("bus",)}, (), id="bus is no plural"),
        pytest.param(("heavy_truck",), {}, {"heavy_truck": ("truck",)}, (), id="underscore"),
        pytest.param(("bike",), {}, {"bike": ("bicycle", "motorcycle")}, (), id="a bike may be either"),
        pytest.param(
            ("bike", "motorcycle"), {}, {"bike": ("bicycle",), "motorcycle": ("motorcycle",)}, (), id="name first"
        ),
        pytest.param(("bike",), {"bike": "motorcycle"}, {"bike": ("motorcycle",)}, (), id="the user knows better"),
        pytest.param(("van", "car"), {}, {"car": ("car",)}, ("van",), id="nobody knows vans"),
        pytest.param(("vehicle",), {"vehicle": ["car", "bus"]}, {"vehicle": ("car", "bus")}, (), id="several for one"),
        pytest.param(("car", "automobile"), {}, {"car": ("car",)}, ("automobile",), id="same name before synonym"),
        pytest.param(("auto", "automobile"), {}, {}, ("auto", "automobile"), id="two that it could be: neither"),
    ],
)
def test_correspondence(
    data: tuple[str, ...],
    told: dict[str, str | list[str]],
    named: dict[str, tuple[str, ...]],
    left_out: tuple[str, ...],
) -> None:
    found = map_classes(data, COCO, told)
    assert (dict(found.named), found.left_out) == (named, left_out)
    assert all(data[index] in named for index in found.class_of.values())


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"lorry": "truck"}, "names 'lorry', which the data does not know. Expected one of: car, truck"),
        ({"truck": "lorry"}, "names 'lorry', which the reference model does not know"),
        ({"truck": "car", "car": "car"}, "gives car to truck and to car"),
    ],
)
def test_wrong_correspondence_is_named(told: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        map_classes(("car", "truck"), COCO, told)
