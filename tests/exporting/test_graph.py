"""The graph: its input, its candidates, and the checkpoints that it can be made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from flows.exporting.graph import num_anchors, read_graph, write_onnx


@pytest.mark.parametrize(
    ("size_wh", "expected"), [((32, 32), 21), ((64, 64), 84), ((320, 192), 1260), ((640, 640), 8400)]
)
def test_num_anchors(size_wh: tuple[int, int], expected: int) -> None:
    assert num_anchors(size_wh) == expected


def test_candidates_are_the_best_of_the_model_best_first(checkpoint: Path) -> None:
    import torch

    from flows.weights import read_weights

    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    candidates = read_graph(checkpoint, 640, top_k=7).infer(pixels)
    assert candidates.shape == (2, 7, 6)
    assert candidates.dtype == np.float32
    with torch.inference_mode():  # the model as Ultralytics runs it: centre, width and height
        raw = read_weights(checkpoint).model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)[0].numpy()
    for rows, predictions in zip(candidates, raw, strict=True):  # (K, 6), (4 + C, A)
        best = np.argsort(-predictions[4:].max(axis=0), kind="stable")[:7]
        centre, half = predictions[:2, best].T, predictions[2:4, best].T / 2
        np.testing.assert_allclose(rows[:, :4], np.hstack([centre - half, centre + half]), rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(rows[:, 4], predictions[4:, best].max(axis=0), rtol=1e-5)
        np.testing.assert_array_equal(rows[:, 5], predictions[4:, best].argmax(axis=0))
        assert (np.diff(rows[:, 4]) <= 0).all()


def test_onnx_takes_any_batch_of_bytes(checkpoint: Path, tmp_path: Path) -> None:
    write_onnx(read_graph(checkpoint, 640, top_k=300), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    (taken,), (given) = graph.input, graph.output
    assert taken.name == "frames"
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shapes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (taken, *given)]
    assert shapes == [["batch", 64, 96, 3], ["batch", 126, 6]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [({}, (160, 160)), ({"train_args": {"imgsz": 64}}, (64, 64)), ({"train_args": None}, (160, 160))],
)
def test_the_input_size_comes_from_the_checkpoint_where_it_says(
    checkpoint: Path, tmp_path: Path, content: dict[str, object], expected: tuple[int, int]
) -> None:
    import torch

    from flows.weights import read_weights

    path = tmp_path / "other.pt"
    torch.save({"model": read_weights(checkpoint).model, **content}, path)
    assert read_graph(path, 160, 300).size_wh == expected
