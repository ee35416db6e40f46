"""Real processes: `python -m bentos.detector`, and a bento that was built and served."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bentos.detector.__main__ import main
from bentos.detector.contract import DetectAnswer
from bentos.detector.keys import KeyFile, make_key, write_keys
from bentos.detector.recorder import read_records
from bentos.detector.settings import Settings

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
    assert 'detector_requests_total{code="ok",model_version="7",status="200"}' in text
    assert "detector_breaker_state 0.0" in text
    assert "detector_queue_frames 0.0" in text
    assert "detector_cache_lookups" not in text
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


def test_stopping_answers_what_it_has_accepted(
    make_fake_dir: Any, start_service: Any, tmp_path: Path, picture: bytes
) -> None:
    model = make_fake_dir('{"delay_ms": 1000}')
    command = [sys.executable, "-m", "bentos.detector", "--model-dir", str(model)]
    limits = {"DETECTOR_MAX_BATCH": "2", "DETECTOR_MAX_WAIT_MS": "60000"}
    url = start_service(command, tmp_path / "log", **limits)
    process = start_service.processes[-1]
    with ThreadPoolExecutor(4) as pool:
        posts = [
            pool.submit(httpx.post, f"{url}/v1/detect", content=picture, headers=JPEG, timeout=30) for _ in range(4)
        ]
        while "detector_queue_frames 4.0" not in httpx.get(f"{url}/metrics").text:
            assert not all(post.done() for post in posts)
        process.send_signal(signal.SIGTERM)
        answers = [post.result() for post in posts]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert process.wait(timeout=30) == 0


def test_a_guarded_service(make_fake_dir: Any, start_service: Any, tmp_path: Path, picture: bytes) -> None:
    model, keys, log = make_fake_dir(), tmp_path / "keys.json", tmp_path / "log"
    token, key = make_key("gate-cameras", ("detect",), rate_per_s=1e-3, burst=1)
    write_keys(keys, KeyFile(keys=(key,)))
    command = [sys.executable, "-m", "bentos.detector", "--model-dir", str(model)]
    options = {"DETECTOR_KEYS_FILE": str(keys), "DETECTOR_LOG": "json", "DETECTOR_ACCESS_LOG": "1"}
    url = start_service(command, log, **options)
    bearer = {**JPEG, "authorization": f"Bearer {token}", "x-request-id": "r-1"}
    statuses = [
        httpx.post(f"{url}/v1/detect", content=picture, headers=headers).status_code for headers in (JPEG, bearer)
    ]
    assert statuses == [401, 200]
    again = httpx.post(f"{url}/detect", content=picture, headers=bearer)
    assert (again.status_code, again.headers["retry-after"]) == (429, "1000")
    for path in ("/metrics", "/schema.json", "/docs.json", "/"):
        assert httpx.get(url + path).status_code == 401
    assert httpx.get(f"{url}/ui").status_code == httpx.get(f"{url}/openapi.json").status_code == 200
    assert "security" in httpx.get(f"{url}/openapi.json").json()
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (frame,) = [line for line in lines if line.get("code") == "ok" and line.get("path") == "/v1/detect"]
    assert (frame["request_id"], frame["key"], frame["status"]) == ("r-1", "gate-cameras", 200)
    assert token not in log.read_text()


def test_an_open_service_says_so(served: tuple[str, Path]) -> None:
    _, records = served
    assert "DETECTOR_KEYS_FILE is unset" in (records.parent / "log").read_text()


def test_an_engine_that_hangs_makes_the_service_unready(
    make_fake_dir: Any, start_service: Any, tmp_path: Path, picture: bytes
) -> None:
    model = make_fake_dir('{"delay_ms": 500}')
    command = [sys.executable, "-m", "bentos.detector", "--model-dir", str(model)]
    limits = {"ENGINE_TIMEOUT_S": "0.1", "BREAKER_FAILURES": "1", "BREAKER_COOLDOWN_S": "600", "MAX_BATCH": "1"}
    limits["BREAKER_MAX_COOLDOWN_S"] = "600"
    url = start_service(command, tmp_path / "log", **{f"DETECTOR_{name}": value for name, value in limits.items()})
    codes = []
    for _ in range(2):
        answer = httpx.post(f"{url}/v1/detect", content=picture, headers=JPEG)
        assert answer.status_code == 503
        codes.append(answer.json()["error"]["code"])
    assert codes == ["engine_timeout", "engine_suspended"]
    assert httpx.get(f"{url}/readyz").status_code == 503
    assert "detector_breaker_state 2.0" in httpx.get(f"{url}/metrics").text


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "reason"),
    [
        (["--model-dir", "nowhere"], {}, 2, "nowhere is no folder"),
        ([], {"DETECTOR_MAX_BATCH": "0"}, 2, "DETECTOR_MAX_BATCH = '0'"),
        ([], {"DETECTOR_DRILL": "explode"}, 2, "DETECTOR_DRILL = 'explode'"),
        ([], {"DETECTOR_KEYS_FILE": "nowhere.json"}, 2, "nowhere.json, the file of API keys, is missing"),
        ([], {"DETECTOR_TRACING": "yes"}, 2, "DETECTOR_TRACING = 'yes'"),
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
    ours = [sys.executable, "-m", "bentos.detector", "--bento", "tiny:v1"]
    unpacked = str(Path(service_environment["BENTOML_HOME"], "bentos", "tiny", "v1"))
    for serve in (ours, [*ours[:-1], unpacked], [*command, "serve", "tiny:v1", "--host", "127.0.0.1"]):
        url = start_service(serve, tmp_path / "log", DETECTOR_NUM_THREADS="1", DETECTOR_MODEL_DIR="")
        answer = httpx.post(f"{url}/v1/detect?conf=0.49", content=picture, headers=JPEG)
        assert answer.status_code == 200, answer.text
        assert [found["class_id"] for found in answer.json()["detections"]] == [2]


def test_a_bento_that_is_not_there_is_said(service_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "bentos.detector", "--bento", "nothing:1"]
    done = subprocess.run(command, env=service_environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bento 'nothing:1'" in done.stderr


def test_help_lists_every_variable_with_its_default(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"DETECTOR_{name.upper()} (" in text
    assert "DETECTOR_MAX_QUEUE (64)\n      frames under way before more are refused" in text
    assert str(ROOT) not in text


def test_the_typed_api_refuses_with_the_envelope_and_no_traceback(
    make_fake_dir, start_service: Any, tmp_path: Path, picture: bytes
) -> None:
    command = [sys.executable, "-m", "bentos.detector", "--model-dir", str(make_fake_dir())]
    url = start_service(command, tmp_path / "log") + "/detect"
    for answer in (
        httpx.post(url, content=b"nothing", headers=JPEG),
        httpx.post(url, content=b"nothing", headers={"content-type": "multipart/form-data"}),
        httpx.post(url, files={"imago": picture}),
    ):
        assert (answer.status_code, set(answer.json()["error"])) == (400, {"code", "message", "request_id", "details"})
    assert httpx.post(url, files={"image": picture}).json()["detections"][0]["class_name"] == "car"
    assert "Traceback" not in (tmp_path / "log").read_text()


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
