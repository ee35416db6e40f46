"""INT8 for OpenVINO: NNCF's post-training quantisation, with the decoding of boxes and harmful blocks left in float.

Decoding turns sums into coordinates of hundreds of pixels: 256 steps are too few for them, and float costs next to
nothing there. NNCF's own accuracy control validates once for every layer, for minutes; here the blocks of the network
are ranked by what their quantised activations do to the answers, in seconds, and the worst go back to float.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.engines.quiet import import_openvino
from flows.exporting.parity import BOXES_PER_FRAME, find_partners

Pixels = npt.NDArray[np.uint8]
_BLOCK = re.compile(r"/model/(model\.\d+)/(?:(cv\d+)\.\d+/)?")
_PLACE = re.compile(r"(?P<node>.*)/fq_(?P<side>output|input)_(?P<port>\d+)")
_RANKED_FRAMES = 8


def quantise(model: Any, frames: Pixels, float_blocks: Sequence[str] = (), fused_adds: bool = False) -> Any:
    """Quantise an `openvino.Model` whose input takes one of `frames`, (N, H, W, 3), at a time.

    Args:
        float_blocks: Blocks that stay float, as `block_of` names them.
        fused_adds: Quantise for CPUs that add a shortcut inside an integer convolution, as those with AMX do.
    """
    names = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in _QUANTISABLE]
    ignored = set(decode_nodes(model)) | {name for name in names if block_of(name) in float_blocks}
    with _quiet():
        nncf = _import_nncf()
        return nncf.quantize(
            model,
            nncf.Dataset(list(frames), lambda frame: frame[None]),
            subset_size=len(frames),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU_SPR if fused_adds else nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=sorted(ignored)),
        )


def decode_nodes(model: Any) -> list[str]:
    """Everything behind the head's last convolutions: distances to boxes, class maximum, top-K."""
    waiting, found = [model.get_results()[0]], {}
    while waiting:
        node = waiting.pop()
        name, kind = node.get_friendly_name(), node.get_type_name()
        # The expected distance is written as a convolution, too.
        if name in found or kind == "Constant" or (kind in _CONVOLUTIONS and "/dfl/" not in name):
            continue
        found[name] = kind
        waiting += [value.get_node() for value in node.input_values()]
    return [name for name, kind in found.items() if kind != "Result"]


def block_of(name: str) -> str:
    """The block of the network that a node belongs to: model.0, model.1, ..., of the head model.23.cv2; or nothing."""
    found = _BLOCK.match(name)
    return ".".join(part for part in found.groups() if part) if found else ""


def rank_blocks(quantised: Any, exact: Any, frames: Pixels) -> list[str]:
    """Blocks by the harm of their quantised activations, worst first; those that do none are left out.

    Harm is by how much the answers to the first few of `frames` change when the float model `exact` gets the
    quantisers of that block alone.
    """
    shown = frames[:_RANKED_FRAMES]
    wanted = _answers(exact, shown)
    by_block: dict[str, list[Any]] = {}
    for node in quantised.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize" and (block := block_of(node.get_friendly_name())):
            by_block.setdefault(block, []).append(node)
    harm = {block: _distance(_answers(_with(exact, nodes), shown), wanted) for block, nodes in by_block.items()}
    return sorted((block for block in harm if harm[block] > 0), key=lambda block: (-harm[block], block))


_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_QUANTISABLE = (*_CONVOLUTIONS, "MatMul", "Add", "Multiply", "Concat", "MaxPool", "Interpolate", "Swish", "Softmax")


def _with(exact: Any, quantizers: Sequence[Any]) -> Any:
    """A copy of the float model with the given quantisers of activations, which NNCF names after their places."""
    opset = import_openvino().opset13
    copy = exact.clone()
    nodes = {node.get_friendly_name(): node for node in copy.get_ordered_ops()}
    for quantizer in quantizers:
        place = _PLACE.fullmatch(quantizer.get_friendly_name())
        if place is None or place["node"] not in nodes:
            continue
        node, port = nodes[place["node"]], int(place["port"])
        source = node.output(port) if place["side"] == "output" else node.input_value(port)
        targets = source.get_target_inputs() if place["side"] == "output" else [node.input(port)]
        limits = [opset.constant(value.get_node().get_data()) for value in quantizer.input_values()[1:]]
        rounded = opset.fake_quantize(source, *limits, quantizer.get_attributes()["levels"])
        for target in targets:
            target.replace_source_output(rounded.output(0))
    return copy


def _answers(model: Any, frames: Pixels) -> npt.NDArray[np.float32]:  # (N, K, 6)
    config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = import_openvino().Core().compile_model(model, "CPU", config)
    return np.array(compiled(frames)[compiled.output(0)], dtype=np.float32)


def _distance(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:  # (N, K, 6) each
    """Mean over the strongest boxes of `wanted`: score difference and lack of overlap with the partner, 1 without."""
    strangeness = []
    for ours, theirs in zip(found, wanted[:, :BOXES_PER_FRAME], strict=True):
        partners = find_partners(theirs, ours)
        strangeness += [1 - iou + difference for iou, difference in partners] + [1.0] * (len(theirs) - len(partners))
    return float(np.mean(strangeness))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence progress bars on standard output, and the warning of PyTorch's extensions that there is no CUDA."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


def _import_nncf() -> Any:
    """NNCF without its telemetry (see `import_openvino`), and without its own class for everybody's loggers."""
    import_openvino()
    logger_class = logging.getLoggerClass()
    try:
        import nncf
    finally:
        logging.setLoggerClass(logger_class)
    nncf.set_log_level(logging.ERROR)
    return nncf
