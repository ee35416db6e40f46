"""INT8 on the real libraries: what stays float, what does harm, and that the same inputs give the same bytes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.exporting.calibration import Calibration
from flows.exporting.graph import read_graph, write_onnx
from flows.exporting.int8 import block_of, decode_nodes, rank_blocks
from flows.exporting.openvino_build import build_openvino, read_onnx

HEAD = "model.23"


@pytest.fixture(scope="module")
def onnx_file(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(read_graph(checkpoint, 96, 50), path)
    return path


@pytest.fixture(scope="module")
def pixels(calibration: Calibration) -> np.ndarray:
    return calibration.read((96, 64))[0]


def build(onnx_file: Path, folder: Path, pixels: np.ndarray, *float_blocks: str) -> Path:
    folder.mkdir()
    spec = build_openvino(onnx_file, folder, "int8", pixels, float_blocks)
    assert (spec.precision, spec.file, sorted(spec.versions)) == ("int8", "model.xml", ["nncf", "openvino"])
    return folder


@pytest.fixture(scope="module")
def quantised(onnx_file: Path, pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(onnx_file, tmp_path_factory.mktemp("int8") / "plain", pixels)


def read(folder: Path) -> Any:
    import openvino

    return openvino.Core().read_model(folder / "model.xml")


def quantized_places(folder: Path) -> set[str]:
    """Blocks with quantised activations."""
    nodes = [node for node in read(folder).get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    return {block_of(node.get_friendly_name()) for node in nodes}


def test_weights_shrink_and_the_decoding_stays_float(quantised: Path, onnx_file: Path) -> None:
    assert (quantised / "model.bin").stat().st_size < 0.4 * onnx_file.stat().st_size
    exact = read_onnx(onnx_file)
    decoding = set(decode_nodes(exact))
    assert {node.get_type_name() for node in exact.get_ordered_ops() if "/dfl/conv" in node.get_friendly_name()} >= {
        "Convolution"
    }
    assert any(name.endswith("/dfl/conv/Conv") for name in decoding)
    names = {node.get_friendly_name() for node in read(quantised).get_ordered_ops() if "Fake" in node.get_type_name()}
    assert names
    assert not {name.split("/fq_")[0] for name in names} & decoding


def test_the_same_inputs_give_the_same_bytes(
    quantised: Path, onnx_file: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    again = build(onnx_file, tmp_path / "again", pixels)
    for name in ("model.xml", "model.bin"):
        assert (again / name).read_bytes() == (quantised / name).read_bytes()
    assert str(tmp_path).encode() not in (again / "model.xml").read_bytes()


def test_blocks_can_stay_float(quantised: Path, onnx_file: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    assert {"model.2", f"{HEAD}.cv3"} <= quantized_places(quantised)
    mixed = build(onnx_file, tmp_path / "mixed", pixels, "model.2", f"{HEAD}.cv3")
    kept = [
        node.get_friendly_name()
        for node in read(mixed).get_ordered_ops()
        if node.get_type_name() == "FakeQuantize" and block_of(node.get_friendly_name()) == f"{HEAD}.cv3"
    ]
    assert kept == []
    assert (mixed / "model.bin").stat().st_size > (quantised / "model.bin").stat().st_size


def test_harm_is_ranked_among_the_quantised_blocks(quantised: Path, onnx_file: Path, pixels: np.ndarray) -> None:
    ranked = rank_blocks(read(quantised), read_onnx(onnx_file), pixels)
    assert ranked
    assert len(set(ranked)) == len(ranked)
    assert set(ranked) <= quantized_places(quantised)
    assert ranked == rank_blocks(read(quantised), read_onnx(onnx_file), pixels)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("/model/model.0/conv/Conv/WithoutBiases", "model.0"),
        ("/model/model.10/m/m.0/attn/qkv/conv/Conv", "model.10"),
        ("/model/model.23/cv2.1/cv2.1.0/act/Mul/fq_output_0", "model.23.cv2"),
        ("/model/model.23/cv3.0/cv3.0.2/Conv", "model.23.cv3"),
        ("/model/model.23/Concat_7", "model.23"),
        ("/Cast/fq_output_0", ""),
        ("detections", ""),
    ],
)
def test_blocks_have_the_names_of_the_network(name: str, block: str) -> None:
    assert block_of(name) == block


def test_nothing_is_printed_and_loggers_stay_as_they_were(
    onnx_file: Path, pixels: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = logging.root.manager.disable
    build(onnx_file, tmp_path / "quiet", pixels)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert logging.getLoggerClass() is logging.Logger
    assert logging.root.manager.disable == before
