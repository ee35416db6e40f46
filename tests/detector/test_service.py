"""Real processes: `python -m bentos.detector`, and a bento that was built and served."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bentos.detector.__main__ import main
from bentos.detector.contract import DetectAnswer
from bentos.detector.recorder import read_records

ROOT = Path(__file__).resolve().parents[2]
JPEG = {"content-type": "image/jpeg"}


def test_a_served_model_answers_over_http(served: tuple[str, Path], picture: bytes) -> None:
    url, records = served
    answer = httpx.post(f"{url}/v1/detect", content=picture, headers={**JPEG, "x-camera-id": "gate"})
    assert answer.status_code == 200
    content = DetectAnswer.model_validate(answer.json())
    assert content.model.version == "7"
    assert [found.class_name for found in content.detections] == ["car"]
    assert httpx.get(f"{url}/livez").status_code == 200
    assert httpx.get(f"{url}/v1/model").json()["name"] == "tiny"
    assert records.is_dir()


def test_the_typed_api_answers_the_same_and_is_in_the_schema(served: tuple[str, Path], picture: bytes) -> None:
    url, _ = served
    answer = httpx.post(f"{url}/detect", content=picture, headers=JPEG)
    fast = httpx.post(f"{url}/v1/detect", content=picture, headers=JPEG)
    assert DetectAnswer.model_validate(answer.json()).detections == DetectAnswer.model_validate(fast.json()).detections
    assert httpx.post(f"{url}/detect", content=b"nothing", headers=JPEG).status_code == 400
    (route,) = httpx.get(f"{url}/schema.json").json()["routes"]
    assert route["route"] == "/detect"
    assert set(route["output"]["properties"]) == set(DetectAnswer.model_fields)


def test_large_bodies_are_refused_by_the_real_server(served: tuple[str, Path]) -> None:
    url, _ = served
    for path in ("/v1/detect", "/detect"):
        answer = httpx.post(url + path, content=bytes(50_000_000), headers=JPEG)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")

    def endless():
        for _ in range(50):
            yield bytes(1_000_000)

    assert httpx.post(f"{url}/v1/detect", content=endless(), headers=JPEG).status_code == 413


def test_a_body_without_length_is_411(served: tuple[str, Path]) -> None:
    connection = http.client.HTTPConnection(served[0].removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/v1/detect")
    connection.putheader("content-type", "image/jpeg")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_metrics_have_stages_around_100_ms_and_no_camera(served: tuple[str, Path], picture: bytes) -> None:
    url, _ = served
    httpx.post(f"{url}/v1/detect", content=picture, headers={**JPEG, "x-camera-id": "secret-camera"})
    text = httpx.get(f"{url}/metrics").text
    assert 'detector_requests_total{code="ok",model_version="7"}' in text
    for edge in ("0.09", "0.1", "0.12"):
        assert f'detector_stage_seconds_bucket{{le="{edge}",model_version="7",stage="inference"}}' in text
    assert "secret-camera" not in text


def test_stopping_finishes_and_leaves_records(
    make_fake_dir, start_service: Any, tmp_path: Path, picture: bytes
) -> None:
    model = make_fake_dir('{"delay_ms": 1}')
    command = [sys.executable, "-m", "bentos.detector", "--model-dir", str(model)]
    url = start_service(
        command, tmp_path / "log", DETECTOR_RECORD_DIR=str(tmp_path / "records"), DETECTOR_DRILL="fail:1@2"
    )
    headers = {**JPEG, "x-camera-id": "gate"}
    statuses = [httpx.post(f"{url}/v1/detect", content=picture, headers=headers).status_code for _ in range(2)]
    assert statuses == [200, 500]
    process = start_service.processes[-1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert [record.camera for record in read_records(tmp_path / "records")] == ["gate"]


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "reason"),
    [
        (["--model-dir", "nowhere"], {}, 2, "nowhere is no folder"),
        ([], {"DETECTOR_MAX_BATCH": "0"}, 2, "DETECTOR_MAX_BATCH = '0'"),
        ([], {"DETECTOR_DRILL": "explode"}, 2, "DETECTOR_DRILL = 'explode'"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_starts(
    arguments, environment, code, reason, fake_dir, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("DETECTOR_MODEL_DIR", str(fake_dir))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == code
    assert reason in capsys.readouterr().err


def test_a_port_in_use_is_said(fake_dir, monkeypatch, capsys) -> None:
    monkeypatch.setenv("DETECTOR_MODEL_DIR", str(fake_dir))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 3
    assert f"port {port} on 127.0.0.1 cannot be used: Address already in use" in capsys.readouterr().err


def test_a_model_for_another_library_version_is_outside_trouble(make_onnx_dir, capsys, monkeypatch) -> None:
    monkeypatch.setenv("DETECTOR_MODEL_DIR", "")
    assert main(["--model-dir", str(make_onnx_dir("openvino", versions={"openvino": "1.0.0"}))]) == 3
    assert "Re-export here: tca export" in capsys.readouterr().err


def test_a_bento_is_built_offline_and_served(
    make_onnx_dir, service_environment: dict[str, str], start_service: Any, tmp_path: Path, picture: bytes
) -> None:
    context = tmp_path / "context"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bentos" / "detector", context / "bentos" / "detector", ignore=ignore)
    shutil.copy(ROOT / "bentos" / "__init__.py", context / "bentos" / "__init__.py")
    shutil.copy(ROOT / "bentos" / "detector" / "bentofile.yaml", context / "bentofile.yaml")
    shutil.copytree(make_onnx_dir("openvino"), context / "model")
    command = [sys.executable, "-m", "bentoml"]
    build = [
        *command,
        "build",
        "-f",
        str(context / "bentofile.yaml"),
        "--name",
        "tiny",
        "--version",
        "v1",
        str(context),
    ]
    done = subprocess.run(build, env=service_environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    url = start_service(
        [*command, "serve", "tiny:v1", "--host", "127.0.0.1"], tmp_path / "log", DETECTOR_NUM_THREADS="1"
    )
    answer = httpx.post(f"{url}/v1/detect?conf=0.49", content=picture, headers=JPEG)
    assert answer.status_code == 200, answer.text
    assert [found["class_id"] for found in answer.json()["detections"]] == [2]


def test_the_bento_asks_for_the_versions_that_are_tested_here() -> None:
    from importlib import metadata

    tree = yaml.safe_load((ROOT / "bentos" / "detector" / "bentofile.yaml").read_text())
    packages = dict(line.split("==") for line in tree["python"]["packages"])
    assert packages == {name: metadata.version(name) for name in packages}
    assert not {"torch", "ultralytics", "ultralytics-opencv-headless"} & set(packages)


def test_the_online_half_imports_neither_torch_nor_ultralytics() -> None:
    code = "import sys, bentos.detector.service; print(set(sys.modules) & {'torch', 'ultralytics', 'flows', 'pandas'})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "set()"
