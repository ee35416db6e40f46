"""The page of a study: verdict first, every drawing, nothing fetched, nothing overflowing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from flows.params_train import TrainParams
from flows.params_tune import TuneParams
from flows.training.search.page import tuning_page
from flows.training.search.plots import history_plot
from flows.training.search.report import settled
from flows.training.search.search import TrialFailed, TrialJob, TuneReport, search
from flows.training.search.store import JournalStore
from flows.training.search.study import open_study, study_facts

SPACE = {
    "learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
    "optimizer": {"choices": ["AdamW", "SGD"]},
    "model": {"choices": ["<b>n.yaml"]},
    "warmup_epochs": {"low": 0, "high": 3, "step": 0.5, "when": {"optimizer": ["SGD"]}},
}


def quality(job: TrialJob) -> dict[str, float]:
    if job.number == 2:
        raise TrialFailed("memory & patience <ran out>")
    value = job.values["learning_rate"] * 5
    for epoch in range(1, 5):
        job.report(epoch, value * epoch / 4)
    return {"map50_95": value, "latency_ms": 100 * value + job.number}


@pytest.fixture
def study(tmp_path: Path, make_params: Callable[..., TrainParams]) -> Callable[..., TuneReport]:
    def run(train: Any = quality, **changes: Any) -> TuneReport:
        values = {
            **{"trials": 12, "epochs": 4, "objectives": ["map50_95"], "sampler": "random", "pruner": "median"},
            **{"prune_from": 1, "retries": 2, "space": SPACE},
        }
        params = TuneParams.model_validate({**values, **changes})
        facts = study_facts(params, make_params(), 0, "data", "start")
        store = JournalStore(tmp_path / "study.journal")
        return search(train, open_study(store, params, make_params(), facts))

    return run


def test_the_verdict_comes_first_then_the_values(study: Callable[..., TuneReport]) -> None:
    report = study()
    text = tuning_page(report)
    assert text.index("PASSED") < text.index(f"{report.best_value:.4g}") < text.index("Best values")
    assert f"Trial {report.best_number}." in text
    for drawing in ("best value by trial", "value after each epoch", "parallel coordinates"):
        assert f'aria-label="{drawing}' in text
    assert "Pareto" not in text
    assert text.count("stopped early") > 3
    assert "memory &amp; patience &lt;ran out&gt;" in text
    assert "<b>n.yaml" not in text


def test_trials_are_drawn_in_the_order_of_their_numbers(study: Callable[..., TuneReport]) -> None:
    """As where another worker was still at the first trial, failed, and tried it again after the others."""
    report = study(trials=4, pruner="none", train=lambda job: {"map50_95": 0.1 * (job.number + 1)})
    first = report.trials[0]
    again = first.model_copy(update={"number": 4, "values": {"map50_95": 0.9}})
    failed = first.model_copy(update={"state": "fail", "values": {}})
    report = report.model_copy(update={"trials": (failed, *report.trials[1:], again), "best_number": 4})
    assert [row.number for row in settled(report.trials)] == [1, 2, 3, 4]
    drawing = history_plot(report)
    (line,) = re.findall(r'<polyline points="([^"]+)"', drawing)
    xs = [float(point.partition(",")[0]) for point in line.split()]
    assert xs == sorted(xs)
    assert [int(number) for number in re.findall(r">trial (\d+): ", drawing)] == [1, 2, 3, 4]


def test_what_not_every_trial_searched_is_not_weighed(study: Callable[..., TuneReport]) -> None:
    report = study(pruner="none")
    assert "warmup_epochs" not in report.importance
    assert report.importance["learning_rate"] > 0.5
    assert "Not judged, since not every trial searched it: warmup_epochs" in tuning_page(report)


def test_the_front_is_drawn_and_listed(study: Callable[..., TuneReport]) -> None:
    report = study(objectives=["map50_95", "latency_ms"], pruner="none")
    text = tuning_page(report)
    assert 'aria-label="Pareto front' in text
    listed = text[text.index('id="front"') : text.index('id="history"')]
    assert [int(number) for number in re.findall(r"<tr><td>(\d+)</td>", listed)] == list(report.front)


@pytest.mark.parametrize("trials", [1, 2])
def test_few_trials_make_a_page(study: Callable[..., TuneReport], trials: int) -> None:
    text = tuning_page(study(trials=trials))
    assert "it takes at least 8" in text


def test_values_that_are_all_alike_make_a_page(study: Callable[..., TuneReport]) -> None:
    def alike(job: TrialJob) -> dict[str, float]:
        job.report(1, 0.0)
        return {"map50_95": 0.0, "latency_ms": 5.0}

    assert "best mAP50-95 0 " in tuning_page(study(alike))
    assert "Pareto" in tuning_page(study(alike, objectives=["map50_95", "latency_ms"], pruner="none"))


def test_a_study_that_runs_is_for_information(study: Callable[..., TuneReport]) -> None:
    report = study(trials=3).model_copy(update={"num_wanted": 9})
    text = tuning_page(report)
    assert "FOR INFORMATION" in text
    assert "(3 of 9 trials)" in text
    nothing = report.model_copy(update={"trials": (), "best_number": None, "num_trials": 0, "front": ()})
    assert "No trial has come to its end yet" in tuning_page(nothing)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on the path (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--no-first-run"])
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_in_a_browser_nothing_overflows_and_nothing_is_fetched(
    study: Callable[..., TuneReport], tmp_path: Path, browser: Browser, width: int, scheme: Any
) -> None:
    path = tmp_path / "tune.html"
    path.write_text(tuning_page(study(objectives=["map50_95", "latency_ms"], pruner="none")), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert asked == [path.as_uri()]
    page.close()
