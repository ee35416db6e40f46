"""Charts: shapes as long, high and wide as their numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.dataset.report.charts import WIDTH_PX, histogram, spreads, stacked_bars

NAMES = st.text(max_size=40)
VALUES = st.lists(st.floats(-1e6, 1e6), max_size=30).map(lambda values: np.asarray(values, dtype=np.float64))


def numbers(pattern: str, svg: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, svg)]


@pytest.mark.parametrize(
    ("counts", "widths"),
    [
        ({}, []),
        ({"a": {"train": 0, "val": 0}}, [0, 0]),
        ({"a": {"train": 3, "val": 1}, "b": {"train": 2, "val": 0}}, [240, 80, 160, 0]),
    ],
)
def test_bars_are_as_long_as_their_numbers(counts: dict[str, dict[str, int]], widths: list[float]) -> None:
    assert numbers(r'<rect [^>]*width="([\d.]+)"', stacked_bars(counts, "t")) == widths


def test_bars_of_shares_all_have_the_full_width() -> None:
    svg = stacked_bars({"a": {"car": 3, "bus": 1}, "b": {"car": 5, "bus": 5}}, "t", as_shares=True)
    assert numbers(r'<rect [^>]*width="([\d.]+)"', svg) == [240, 80, 160, 160]
    assert "75% · 25%" in svg


def test_a_histogram_counts_each_group_for_itself_and_what_lies_beyond_at_the_ends() -> None:
    groups = {"train": np.array([0.5, 0.5, 1.5, 9.0]), "val": np.array([]), "test": np.array([-3.0])}
    svg = histogram(groups, [0, 1, 2], {0.0: "0", 2.0: "2"}, "t")
    first, second = re.findall(r'points="([^"]+)"', svg)
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in (first, second)]
    assert heights[1] == [6.0, 6.0, 120.0, 120.0]  # all of test is in the first bin: the top of the plot
    assert heights[0] == [63.0, 63.0, 63.0, 63.0]  # half of train is in either
    assert "val" not in svg


def test_a_spread_shows_percentiles_on_a_logarithmic_axis() -> None:
    values = 2.0 ** np.linspace(0, 8, 1001)
    svg = spreads({"car": values, "bus": values[500:501], "none": np.array([])}, "px", "t")
    width, _ = numbers(r'<rect [^>]*width="([\d.]+)"', svg)
    start, end = np.log2(np.quantile(values, 0.05)) - 0.2, np.log2(np.quantile(values, 0.95)) + 0.2
    assert width == pytest.approx(4 / (end - start) * WIDTH_PX, rel=0.02)
    assert "median 16 px, n = 1,001" in svg and "none" not in svg


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(0, 10**9), max_size=5), max_size=5), st.booleans())
def test_bars_are_well_formed_whatever_the_names(counts: dict[str, dict[str, int]], as_shares: bool) -> None:
    check_drawing(stacked_bars(counts, "title <&>", as_shares))


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_plots_are_well_formed_whatever_the_numbers(values: dict[str, np.ndarray]) -> None:
    check_drawing(histogram(values, [0, 1, 5, 9], {0.0: "0"}, "t"))
    check_drawing(spreads(values, "px", "t"))


def check_drawing(svg: str) -> None:
    printable = "".join(letter if letter.isprintable() else "?" for letter in svg)  # XML knows no control characters
    root = ElementTree.fromstring(printable)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"]
    for shape in root.iter():
        for name in ("x", "x1", "x2", "width"):
            assert -0.1 <= float(shape.attrib.get(name, 0)) <= WIDTH_PX + 1.1
