"""The page of a promotion: everything a person asks about, and nothing from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows.adapters.fake_traffic import Behaviour
from flows.rollout.curve_plots import evidence_plot
from flows.rollout.curves import MOST_POINTS, NUM_WINDOWS, read_story
from flows.rollout.page import deciding_verdicts, promotion_page
from flows.rollout.record import Record, read_record
from flows.rollout.summary import frames_judged

VOID = {"meta", "br", "img", "line", "rect", "circle", "polyline", "link", "input"}


class Balanced(HTMLParser):
    """Notes every tag that is not closed, or closed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def page_of(path: Path) -> str:
    text = promotion_page(1, read_record(path))
    found = Balanced()
    found.feed(text)
    assert (found.open, found.wrong) == ([], [])
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text), "a page needs nothing from outside"
    assert "nan" not in text.replace("nance", "")
    return text


def test_the_page_of_a_promotion(rollout) -> None:
    one = rollout()
    report = one.run()
    text = page_of(one.record)
    assert report.sentence in text
    assert "PASSED" in text
    for metric in ("errors", "latency", "agreement", "bake errors", "bake latency", "error certificate"):
        assert f"ln E of {metric} over the frames judged" in text
    assert text.count("<h3>") == 4, "a verdict for shadow, two steps and the bake"
    assert "tca promotion verify 1" in text
    assert 'href="1.jsonl"' in text


@pytest.mark.parametrize(
    ("behaviour", "options", "word"),
    [
        (Behaviour(from_answer=26, then=Behaviour(latency_ms=400.0, sigma=0.01)), {}, "REFUSED"),
        (Behaviour(becomes_ready=False), {}, "No frame was judged"),
        (Behaviour(), {"num_cameras": 0}, "FOR INFORMATION"),
        (Behaviour(), {"has_champion": False}, "is the first champion"),
    ],
)
def test_pages_of_other_endings(rollout, behaviour: Behaviour, options: dict, word: str) -> None:
    one = rollout(behaviour, **options)
    one.run()
    assert word in page_of(one.record)


def test_people_are_named_and_escaped(rollout, make_params) -> None:
    one = rollout(params=make_params(approval="canary"))
    one.run(on_event=lambda event: event.awaits and one.answer("CANARY", who="<anna>"))
    text = page_of(one.record)
    assert "<td>&lt;anna&gt;</td>" in text
    assert "agreed (cli)" in text


def test_the_page_of_one_that_was_broken_off(rollout) -> None:
    one = rollout()
    one.run()
    lines = one.record.read_text().splitlines()
    for end in (1, 2, 5, len(lines) // 2):
        one.record.write_text("\n".join(lines[:end]) + "\n")
        assert "when it was broken off" in page_of(one.record)


def test_curves_end_where_the_evidence_ends(rollout) -> None:
    one = rollout()
    report = one.run()
    story = read_story(read_record(one.record))
    by_metric = {figure.metric: figure for figure in report.evidence}
    assert {curve.metric for curve in story.curves} == {name for name, one in by_metric.items() if one.num}
    for curve in story.curves:
        assert curve.nums[-1] == report.frames_judged
        assert list(curve.nums) == sorted(curve.nums)
    assert frames_judged(story.replay.evidence) == report.frames_judged
    assert [(band.state, band.share) for band in story.bands if band.ended_num > band.began_num] == [
        ("SHADOW", 0.0),
        ("CANARY step 1", 0.1),
        ("CANARY step 2", 0.5),
        ("BAKE", 1.0),
    ]
    assert [share for _, share in story.shares] == [0.0, 0.0, 0.1, 0.5, 1.0, 1.0, 1.0]
    assert sum(band.ended_num - band.began_num for band in story.bands) == report.frames_judged
    assert len(list(deciding_verdicts(read_record(one.record)))) == 4


def test_the_challenger_that_stands_in_has_all_cameras(rollout) -> None:
    one = rollout()
    one.traffic.at(4.0, lambda: one.traffic.kill("1"))
    one.run()
    story = read_story(read_record(one.record))
    assert (story.bands[-1].state, story.bands[-1].share) == ("HOLD", 1.0)


def test_a_long_record_makes_a_short_page(rollout, ram_folder: Path) -> None:
    one = rollout()
    one.run()
    lines = read_record(one.record)
    record = Record(ram_folder / "long" / "1.jsonl")
    evidence = next(line for line in lines if line["kind"] == "evidence" and line["samples"])
    for line in (lines[0], *([evidence] * 1300)):
        content = {
            key: line[key] for key in ("challenger", "champion", "params", "mode", "counts", "samples") if key in line
        }
        record.append(line["kind"], line["state"], line["sentence"], 100.0, **content)
    story = read_story(read_record(ram_folder / "long" / "1.jsonl"))
    assert all(len(curve.nums) <= MOST_POINTS + 1 for curve in story.curves)
    assert len(story.windows) <= NUM_WINDOWS
    assert len(page_of(ram_folder / "long" / "1.jsonl")) < 300_000


def test_a_curve_far_below_stays_within_its_picture(rollout) -> None:
    one = rollout()
    one.run()
    story = read_story(read_record(one.record))
    deep = story.curves[0].__class__(**{**vars(story.curves[0]), "ln_es": tuple(-700.0 for _ in story.curves[0].nums)})
    drawn = evidence_plot(deep, story.bands, 100)
    ys = [float(point.split(",")[1]) for points in re.findall(r'points="([^"]*)"', drawn) for point in points.split()]
    assert 0 <= min(ys) <= max(ys) <= 190
