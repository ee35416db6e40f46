"""One session: what the network is like in it, and the schedule that it keeps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.errors import ParamsError
from flows.weights import load_ultralytics


def rates_of(train: Callable[..., Any], tiny: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Any]:
    """(rates, momentum, step taken) at the end of every part."""
    load_ultralytics()
    from flows.training.loop.session import Session

    seen: list[Any] = []
    end_part = Session._end_part

    def look(session: Any) -> None:
        groups = {group["param_group"]: group for group in session.optimizer.param_groups}
        seen.append(
            (groups["weight"]["lr"], groups["bias"]["lr"], groups["weight"].get("momentum"), session.accumulate)
        )
        end_part(session)

    monkeypatch.setattr(Session, "_end_part", look)
    train(tiny, **changes)
    return seen


def test_the_warm_up_is_that_of_ultralytics(
    tiny: Any, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 0.01
    seen = rates_of(train, tiny, monkeypatch, epochs=3, warmup_epochs=1.5, optimizer="SGD", learning_rate=rate)
    assert len(seen) == 6
    shares = [1.0, 1.0, 0.67, 0.67, 0.34, 0.34]  # linear to a hundredth over 3 epochs, one value an epoch
    for step, (weight, bias, momentum, accumulate) in enumerate(seen):
        part = min(step / 3, 1.0)
        assert accumulate == 0
        assert weight == pytest.approx(part * rate * shares[step])
        assert bias == pytest.approx(0.1 + part * (rate * shares[step] - 0.1) if step <= 3 else rate * shares[step])
        assert momentum == pytest.approx(0.8 + part * (0.937 - 0.8))


def test_the_optimiser_steps_with_the_last_part_of_a_batch(
    tiny: Any, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import math

    from flows.training.loop.schedule import BatchPlan

    of = BatchPlan.of
    monkeypatch.setattr(BatchPlan, "of", lambda *arguments: of(*arguments[:4], 2))
    seen = rates_of(train, tiny, monkeypatch, batch=5)
    # 8 frames: a batch of 5 in parts of 2, 2 and 1, and one of 3 in parts of 2 and 1
    assert [accumulate for *_, accumulate in seen] == [math.inf, math.inf, 0, math.inf, 0]


def test_the_smallest_images_train_though_the_last_batch_is_one_frame(
    draw: Callable[..., Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    frames = draw(tmp_path / "data", size_wh=(64, 64))
    frames.splits["train"] = frames.splits["train"][:5]
    trained = train(frames, image_size=32, batch=4)
    assert trained.report.passed
    assert [done for done, *_ in trained.progress] == [1]
    with pytest.raises(ParamsError, match=r"train\.batch: 1 is too small, at least 2 \(at 32 px\)"):
        train(frames, image_size=32, batch=1)


def test_a_single_last_frame_is_trained_on_where_that_is_possible(tiny: Any, train: Callable[..., Any]) -> None:
    assert [done for done, *_ in train(tiny, batch=7).progress] == [1, 2]


def test_it_repeats_itself_with_loading_processes_and_another_cache(
    tiny: Any, train: Callable[..., Any], trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_forked_processes_leave_badly(monkeypatch)
    with_processes = train(tiny, epochs=2, workers=2, cache="none")
    monkeypatch.undo()
    assert with_processes.report.weights_sha256 == trained.report.weights_sha256
    assert [epoch.losses for epoch in with_processes.epochs] == [epoch.losses for epoch in trained.epochs]


def test_how_processes_that_load_for_validation_leave_is_of_no_account(
    tiny: Any, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_forked_processes_leave_badly(monkeypatch)
    assert train(tiny, batch=1, workers=1).report.passed  # validated two at a time: what fits at once needs no process


def let_forked_processes_leave_badly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Prefect runs: what it registers for the end of a process fails where its threads are not."""
    monkeypatch.setattr(threading, "_threading_atexits", [lambda: os._exit(1)])


def test_what_an_epoch_took_is_measured(trained: Any) -> None:
    for epoch in trained.epochs:
        assert epoch.score == epoch.map50_95
        assert 0 <= epoch.wait_share < 1
        assert epoch.memory_gb > 0.1
        assert epoch.images_per_s > 0
        assert (epoch.gpu_memory_gb is None) == (epoch.gpu_use is None)


@pytest.mark.deep
def test_a_compiled_network_learns_the_same(
    tiny: Any, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is captured is run as it is; what compiling makes of it is PyTorch's affair, and takes minutes on a CPU."""
    import torch

    compile_model, modes = torch.compile, []

    def capture(model: Any, mode: str, backend: str) -> Any:
        modes.append((mode, backend))
        return compile_model(model, backend="eager")

    monkeypatch.setattr(torch, "compile", capture)
    compiled = train(tiny, compile=True, precision="bf16")
    assert modes == [("default", "inductor")]
    assert compiled.report.weights_sha256 == train(tiny, precision="bf16").report.weights_sha256
