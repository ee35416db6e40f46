"""The graphs that TensorRT is given: valid ONNX, and run by ONNX Runtime they find what the FP32 graph finds."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from flows.errors import EngineUnavailable
from flows.exporting.graph import read_graph, write_onnx
from flows.exporting.tensorrt_graph import convolutions, rewrite_graph

LEAST_HALF = 2.0**-14  # the least normal number in FP16


@pytest.fixture(scope="module")
def onnx_file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(read_graph(checkpoint, 96, 50), path)
    return path


@pytest.fixture(scope="module")
def pixels(frames: list[bytes]) -> np.ndarray:  # (4, 64, 96, 3)
    return np.stack([np.asarray(Image.open(BytesIO(frame)).resize((96, 64))) for frame in frames])


@pytest.fixture(scope="module")
def rewritten(onnx_file: Path, pixels: np.ndarray) -> dict[str, onnx.ModelProto]:
    precisions: Any = ("fp32", "fp16", "bf16", "int8")
    return {one: onnx.load_from_string(rewrite_graph(onnx_file, one, pixels)) for one in precisions}


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"frames": pixels})[0]


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_what_comes_out_is_onnx(rewritten: dict[str, onnx.ModelProto], precision: str) -> None:
    model = rewritten[precision]
    onnx.checker.check_model(model, full_check=True)
    (source,), (found,) = model.graph.input, model.graph.output
    assert (source.name, source.type.tensor_type.elem_type) == ("frames", TensorProto.UINT8)
    assert (found.name, found.type.tensor_type.elem_type) == ("detections", TensorProto.FLOAT)


def test_fp32_is_left_as_it_is(rewritten: dict[str, onnx.ModelProto], onnx_file: Path) -> None:
    assert rewritten["fp32"] == onnx.load(onnx_file)


@pytest.mark.parametrize(("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_every_convolution_computes_in_half_and_the_decoding_in_full(
    rewritten: dict[str, onnx.ModelProto], precision: str, kind: int
) -> None:
    model = rewritten[precision]
    types, nodes = types_of(model), {node.name: node for node in model.graph.node}
    body = convolutions(model)
    assert len(body) > 80
    assert {types[name] for node in body for name in (*node.input, *node.output)} == {kind}
    decoding = [node for node in model.graph.node if node.op_type in ("TopK", "ReduceMax") or "/dfl/" in node.name]
    assert {types[node.output[0]] for node in decoding} == {TensorProto.FLOAT}
    resize = next(node for node in nodes.values() if node.op_type == "Resize")
    assert types[resize.input[0]] == kind
    assert {types[name] for name in resize.input[1:] if name and name in types} <= {
        TensorProto.FLOAT,
        TensorProto.INT64,
    }


def test_a_cast_stands_only_where_precisions_meet(rewritten: dict[str, onnx.ModelProto]) -> None:
    before = Counter(node.op_type for node in rewritten["fp32"].graph.node)
    for precision in ("fp16", "bf16"):
        model = rewritten[precision]
        after = Counter(node.op_type for node in model.graph.node)
        assert after["Cast"] - before["Cast"] == 1 + 6  # after the pixels, and behind the last convolutions
        assert set(after - before) <= {"Cast", "Constant"}  # a newer opset has the axes of ReduceMax as an input


def test_fp16_finds_what_fp32_finds(rewritten: dict[str, onnx.ModelProto], pixels: np.ndarray) -> None:
    wanted, found = run(rewritten["fp32"], pixels), run(rewritten["fp16"], pixels)
    assert np.abs(np.sort(found[..., 4]) - np.sort(wanted[..., 4])).mean() < 4e-3  # an untrained net amplifies
    np.testing.assert_allclose(found[:, 0, :4], wanted[:, 0, :4], atol=0.5)


def test_int8_quantises_the_inner_convolutions_alone(rewritten: dict[str, onnx.ModelProto]) -> None:
    model = rewritten["int8"]
    maker = {name: node for node in model.graph.node for name in node.output}
    body = convolutions(model)
    quantised = [node for node in body if maker.get(node.input[0], node).op_type == "DequantizeLinear"]
    left = [node.name for node in body if node not in quantised]
    assert left[0] == body[0].name
    assert len(left) == 7  # the one that sees the pixels, and the last of each of the head's six branches
    assert all("model.23" in name for name in left[1:])
    assert all(maker[node.input[1]].op_type == "DequantizeLinear" for node in quantised)
    biases = {node.input[2] for node in body}
    assert not biases & set(maker)  # TensorRT adds them in float


def test_int8_is_symmetric_and_its_steps_are_normal_numbers(rewritten: dict[str, onnx.ModelProto]) -> None:
    model = rewritten["int8"]
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    steps = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(steps) > 150
    for node in steps:
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        assert scale.dtype == np.float16
        assert float(scale.min()) >= LEAST_HALF


def test_int8_ranks_as_fp32_does(rewritten: dict[str, onnx.ModelProto], pixels: np.ndarray) -> None:
    wanted, found = run(rewritten["fp32"], pixels), run(rewritten["int8"], pixels)
    assert np.isfinite(found).all()
    mean = np.abs(np.sort(found[..., 4]) - np.sort(wanted[..., 4])).mean()
    assert 0 < mean < 0.05


def test_the_batch_stays_free(rewritten: dict[str, onnx.ModelProto], pixels: np.ndarray) -> None:
    for precision in ("fp16", "int8"):
        whole = run(rewritten[precision], pixels)
        alone = np.concatenate([run(rewritten[precision], frame[None]) for frame in pixels])
        np.testing.assert_allclose(whole[..., 4], alone[..., 4], atol=5e-3)


def test_int8_needs_frames(onnx_file: Path, pixels: np.ndarray) -> None:
    for frames in (None, pixels[:0]):
        with pytest.raises(EngineUnavailable, match="INT8 needs frames"):
            rewrite_graph(onnx_file, "int8", frames)


def test_bf16_computes_what_it_should(tmp_path: Path) -> None:
    """No CPU runs convolutions in BF16 here: ONNX's own reference does, on a graph small enough for it."""
    weight = numpy_helper.from_array(np.array([1.0, 1 + 2**-9], dtype=np.float32).reshape(2, 1, 1, 1), "weight")
    bias = numpy_helper.from_array(np.zeros(2, dtype=np.float32), "bias")
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "weight", "bias"], ["sums"], name="conv"),
        helper.make_node("Identity", ["sums"], ["detections"]),
    ]
    source = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["batch", 1, 2, 2])
    found = helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["batch", 2, 2, 2])
    graph = helper.make_graph(nodes, "tiny", [source], [found], [weight, bias])
    path = tmp_path / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    model = onnx.load_from_string(rewrite_graph(path, "bf16"))
    onnx.checker.check_model(model, full_check=True)
    frames = np.array([[[[0, 1], [100, 255]]]], dtype=np.uint8)
    answer = onnx.reference.ReferenceEvaluator(model).run(None, {"frames": frames})[0]
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, np.repeat(frames, 2, axis=1))  # 1 + 1/512 is 1 in BF16


def test_a_graph_without_convolutions_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["frames"], ["detections"], to=TensorProto.FLOAT)
    source = helper.make_tensor_value_info("frames", TensorProto.UINT8, [1])
    found = helper.make_tensor_value_info("detections", TensorProto.FLOAT, [1])
    path = tmp_path / "none.onnx"
    graph = helper.make_graph([node], "none", [source], [found])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(EngineUnavailable, match="no convolutions"):
        rewrite_graph(path, "fp16")
