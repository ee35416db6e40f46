"""The OpenAPI document: complete, valid, and what the service really does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis

from bentos.detector import errors
from bentos.detector.contract import DetectAnswer, ErrorAnswer, ModelAnswer
from bentos.detector.errors import DetectorError
from bentos.detector.openapi import openapi_document
from bentos.detector.request import CAMERA_ID_PATTERN

ROOT = Path(__file__).resolve().parents[2]


def kinds_below(kind: type[DetectorError]) -> set[type[DetectorError]]:
    return {kind}.union(*(kinds_below(each) for each in kind.__subclasses__()))


def refusals_of(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Code of an error to its status and example."""
    found = {}
    for status, response in operation["responses"].items():
        for code, example in response["content"].get("application/json", {}).get("examples", {}).items():
            found[code] = {"status": int(status), **example["value"]}
    return found


def test_the_document_is_valid_openapi(make_spec) -> None:
    for document in (openapi_document(), openapi_document(make_spec(), keys_required=True)):
        assert json.loads(json.dumps(document)) == document
        schemathesis.openapi.from_dict(document).validate()


def test_every_error_of_a_frame_is_there_with_its_status() -> None:
    documented = refusals_of(openapi_document()["paths"]["/v1/detect"]["post"])
    never = {errors.RequestError, errors.ServiceError, errors.NotFound, errors.ClientGone}
    sent = kinds_below(errors.RequestError) | kinds_below(errors.ServiceError) | {DetectorError}
    assert {code: refusal["status"] for code, refusal in documented.items()} == {
        kind.code: kind.status for kind in sent - never
    }


def test_every_example_is_of_its_model() -> None:
    document = openapi_document()
    for path in document["paths"].values():
        for operation in path.values():
            for code, refusal in refusals_of(operation).items():
                assert ErrorAnswer.model_validate({"error": refusal["error"]}).error.code == code
    answer = document["paths"]["/v1/detect"]["post"]["responses"]["200"]["content"]["application/json"]
    assert DetectAnswer.model_validate(answer["example"]).detections


def test_whoever_must_wait_is_told_so_in_a_header() -> None:
    responses = openapi_document()["paths"]["/v1/detect"]["post"]["responses"]
    assert {status for status, response in responses.items() if "Retry-After" in response["headers"]} == {"429", "503"}


def test_limits_are_those_of_the_model_and_of_the_code(make_spec) -> None:
    def schemas(document: dict[str, Any]) -> dict[str, Any]:
        return {item["name"]: item["schema"] for item in document["paths"]["/v1/detect"]["post"]["parameters"]}

    served = schemas(openapi_document(make_spec()))
    assert (served["max_det"]["maximum"], served["max_det"]["default"]) == (8, 5)
    assert served["conf"]["default"] == 0.25
    assert schemas(openapi_document())["max_det"]["maximum"] == 8400
    assert CAMERA_ID_PATTERN in served["X-Camera-ID"]["pattern"]


def test_keys_are_a_choice_unless_the_service_has_some() -> None:
    assert {} in openapi_document()["security"]
    required = openapi_document(keys_required=True)
    assert {} not in required["security"]
    unguarded = {path for path, item in required["paths"].items() if item.get("get", {}).get("security") == []}
    assert unguarded == {"/livez", "/readyz", "/ui", "/openapi.json"}


def test_the_service_sends_it_and_what_it_says_of_the_model(served: tuple[str, Path]) -> None:
    url, _ = served
    model = ModelAnswer.model_validate(httpx.get(f"{url}/v1/model").json())
    sent = httpx.get(f"{url}/openapi.json")
    assert sent.headers["content-type"] == "application/json"
    assert sent.json() == openapi_document(model)


def schemathesis_says(url: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Ask with right and wrong requests, a bounded number, and check every answer against the document."""
    command = [str(Path(sys.executable).with_name("st")), "run", f"{url}/openapi.json", "--checks", "all"]
    command += ["--phases", "examples,coverage,fuzzing", "--mode", "all", "--seed", "1", "--max-examples", "60"]
    command += ["--generation-database", "none", "--no-color", "--continue-on-failure", *more]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.detector.schemathesis_pictures", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **hooks}, capture_output=True, text=True, check=False, timeout=240
    )


def test_schemathesis_finds_no_fault(served: tuple[str, Path], tmp_path: Path) -> None:
    done = schemathesis_says(served[0], tmp_path)
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout and "Tested: 6" in done.stdout


def test_schemathesis_finds_no_fault_behind_keys(served_with_keys: tuple[str, str], tmp_path: Path) -> None:
    url, token = served_with_keys
    done = schemathesis_says(url, tmp_path, "-H", f"Authorization: Bearer {token}", "--max-examples", "20")
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout


def test_schemathesis_does_find_faults(served: tuple[str, Path], tmp_path: Path) -> None:
    """It asks at all: without keys, a service that should have them is caught."""
    document = openapi_document(keys_required=True)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    command = [str(Path(sys.executable).with_name("st")), "run", "openapi.json", "--url", served[0], "--no-color"]
    command += ["--checks", "ignored_auth", "--include-path", "/v1/model", "--generation-database", "none"]
    command += ["--phases", "fuzzing", "--no-shrink", "--seed", "1"]
    done = subprocess.run(
        [*command, "--max-examples", "5"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 1, done.stdout


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/ui", "/openapi.json", "/v1/model"])
@pytest.mark.parametrize("method", ["POST", "PUT", "TRACE"])
def test_another_method_is_405_and_says_which_are_right(served: tuple[str, Path], path: str, method: str) -> None:
    answer = httpx.request(method, served[0] + path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert ErrorAnswer.model_validate(answer.json()).error.code == "method_not_allowed"
