"""The graph that TensorRT is given: its precision is written into it, as casts and as pairs of quantisation steps.

TensorRT 10.12 deprecated the builder flags that let it choose (FP16, BF16, INT8), 10.1 its own INT8 calibrators, and
TensorRT 11 has neither. What all versions from 10 on read alike is a strongly typed network: every tensor has the type
that the ONNX file says. So the file is rewritten here; and as ONNX Runtime reads the same file, a CPU can test it.

From the first convolution to the last the network computes in the lower precision. What comes before (pixels) and after
(distances to boxes, top-K) keeps FP32: coordinates of hundreds of pixels do not fit into eleven bits, let alone eight.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import Precision
from bentos.detector.engines.quiet import import_onnxruntime
from flows.errors import EngineUnavailable

Pixels = npt.NDArray[np.uint8]

_OPSETS: dict[Precision, int] = {"int8": 19, "bf16": 22}
"""Least opset in which ONNX defines what is written: half-precision scales, convolutions in BF16."""
_FLOAT_ONLY = {"Resize": (1, 2)}  # inputs that stay FP32, by kind of node: region and scales
_LEAST_RANGE = 0.016  # of a quantised tensor: a step of it is still a normal number in FP16
_FLOAT = 1  # TensorProto.FLOAT


def rewrite_graph(onnx_file: Path, precision: Precision, calibration: Pixels | None = None) -> bytes:
    """The ONNX file in `precision`, as the bytes of a model.

    Args:
        calibration: (N, H, W, 3) letterboxed frames, for int8.

    Raises:
        EngineUnavailable: INT8 without frames, or the graph has no convolutions.
    """
    import onnx
    from onnx import TensorProto, version_converter

    model = onnx.load(onnx_file)
    if precision == "fp32":
        return bytes(model.SerializeToString())
    if (opset := _OPSETS.get(precision, 0)) > _opset(model):
        model = version_converter.convert_version(model, opset)
        model.ir_version = max(model.ir_version, 10)
    if precision == "int8":
        if calibration is None or not len(calibration):
            raise EngineUnavailable("INT8 needs frames to calibrate on", "Choose another precision")
        model = quantise(model, calibration)
    # What INT8 leaves alone computes in FP16: activations between two convolutions would cost more than they.
    lower(model, TensorProto.BFLOAT16 if precision == "bf16" else TensorProto.FLOAT16)
    return bytes(model.SerializeToString())


def quantise(model: Any, frames: Pixels) -> Any:
    """INT8 weights by channel, activations by tensor, before convolutions alone; symmetric, as TensorRT wants them.

    The first convolution, which sees the pixels, and the last of each branch, whose sums become boxes and scores, stay
    as they are. Ranges are means over the frames, so that no single outlier stretches them.
    """
    import onnx

    import_onnxruntime()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    inner = _inner_names(model)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "int8.onnx")
        quantize_static(
            _prepared(model),
            target,
            _Frames(model.graph.input[0].name, frames),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=inner,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": ["Conv"],
                "MinimumRealRange": _LEAST_RANGE,
                "CalibMovingAverage": True,
            },
        )
        return onnx.load(target)


class _Frames:
    """What ONNX Runtime calls a calibration data reader: one frame after another, then None."""

    def __init__(self, name: str, frames: Pixels) -> None:
        self._inputs = iter([{name: frame[None]} for frame in frames])

    def get_next(self) -> dict[str, Pixels] | None:
        return next(self._inputs, None)


def lower(model: Any, kind: int) -> None:
    """Let every node from the first to the last convolution compute in `kind`, an element type of ONNX, in place.

    Raises:
        EngineUnavailable: The graph has no convolutions.
    """
    from onnx import shape_inference

    graph = model.graph
    region = _region(model)
    floats = {name for name, type_ in _types(shape_inference.infer_shapes(model).graph).items() if type_ == _FLOAT}
    lowered = {name for index in region for name in graph.node[index].output} & floats
    twins = _Twins(graph)
    nodes: list[Any] = []
    for index, node in enumerate(graph.node):
        for place, name in enumerate(node.input):
            wanted = kind if index in region and place not in _FLOAT_ONLY.get(node.op_type, ()) else _FLOAT
            if name in floats and wanted != (kind if name in lowered else _FLOAT):
                node.input[place] = twins.of(name, wanted, nodes)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    del graph.value_info[:]  # types as they were before


class _Twins:
    """The same tensors in another type: constants converted once and for all, others through a cast."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._names: dict[tuple[str, int], str] = {}

    def of(self, name: str, kind: int, nodes: list[Any]) -> str:
        """The name of the twin; where it needs a cast, that is appended to `nodes`."""
        from onnx import TensorProto, helper, numpy_helper

        if (twin := self._names.get((name, kind))) is not None:
            return twin
        twin = self._names[name, kind] = f"{name}_{TensorProto.DataType.Name(kind).lower()}"
        if name in self._constants:
            values = numpy_helper.to_array(self._constants[name])
            lower = values.astype(helper.tensor_dtype_to_np_dtype(kind))
            self._graph.initializer.append(numpy_helper.from_array(lower, twin))
        else:
            nodes.append(helper.make_node("Cast", [name], [twin], to=kind))
        return twin


def convolutions(model: Any) -> list[Any]:
    """The network's convolutions, in order; the expected distance of a box side, written as one, is none."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type == "Conv" and not _is_expectation(node, weights)]


def _is_expectation(node: Any, weights: dict[str, Any]) -> bool:
    weight = weights.get(node.input[1])
    return len(node.input) == 2 and weight is not None and weight.dims[0] == 1


def _region(model: Any) -> set[int]:
    """Indices of the nodes that lie on a path from a convolution of the network to another, both included."""
    body = {node.output[0] for node in convolutions(model)}
    nodes = list(model.graph.node)
    if not body:
        raise EngineUnavailable("the ONNX graph has no convolutions", "Export it from a YOLO11 checkpoint")
    after: set[str] = set()  # tensors that a convolution leads to
    behind = set()
    for index, node in enumerate(nodes):
        if node.output[0] in body or after.intersection(node.input):
            behind.add(index)
            after.update(node.output)
    before: set[str] = set()  # tensors that lead to a convolution
    region = set()
    for index in reversed(range(len(nodes))):
        if nodes[index].output[0] in body or before.intersection(nodes[index].output):
            before.update(nodes[index].input)
            if index in behind or _is_weight_step(nodes[index], model):
                region.add(index)
    return region


def _is_weight_step(node: Any, model: Any) -> bool:
    """Whether the node only turns stored INT8 weights back."""
    return node.op_type == "DequantizeLinear" and node.input[0] in {tensor.name for tensor in model.graph.initializer}


def _inner_names(model: Any) -> list[str]:
    """The convolutions between the first one and those that lead to no other."""
    body = convolutions(model)
    members = {node.output[0] for node in body}
    leading: set[str] = set()  # tensors that lead to a convolution
    last = set()
    for node in reversed(model.graph.node):
        leads = bool(leading.intersection(node.output))
        if node.output[0] in members and not leads:
            last.add(node.name)
        if node.output[0] in members or leads:
            leading.update(node.input)
    return [node.name for node in body[1:] if node.name not in last]


def _prepared(model: Any) -> Any:
    """Folded and simplified it is already; unless it is marked so, ONNX Runtime advises to do it, twice."""
    from onnx import helper

    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    return model


def _types(graph: Any) -> dict[str, int]:
    values = (*graph.input, *graph.value_info, *graph.output)
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _opset(model: Any) -> int:
    return max(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
