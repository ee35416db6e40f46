"""The whole train on tiny data: real DVC, Prefect, MLflow, BentoML, real HTTP. The tests build on each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.adapters.processes import is_alive, read_services
from tests.integration.conftest import SmallProject

pytestmark = pytest.mark.train


def detect(small: SmallProject) -> dict[str, Any]:
    frame = next((small.root / "data" / "images" / "test").glob("*.jpg")).read_bytes()
    request = urllib.request.Request(
        f"{small.address}/v1/detect", data=frame, headers={"content-type": "image/jpeg", "x-request-id": "one"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
        return json.loads(answer.read())


@contextmanager
def replayed(small: SmallProject) -> Iterator[Path]:
    """Cameras that send until the body ends; then their report lies at the path, and no frame may be lost."""
    path = small.root / "reports" / "replay.json"
    argv = [
        sys.executable,
        "-m",
        "flows.adapters.replay",
        "data",
        "--url",
        small.address,
        "--cameras",
        "6",
        "--fps",
        "3",
    ]
    process = subprocess.Popen([*argv, "--json", str(path)], cwd=small.root, env=small.env)
    try:
        yield path
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    report = json.loads(path.read_text())
    assert report["sent"] > 0
    assert report["exactly_once"] == report["sent"]


def stale_stages(small: SmallProject) -> set[str]:
    return set(json.loads(small.run(sys.executable, "-m", "dvc", "status", "--json")))


def test_1_a_first_champion_is_made_and_answers(small: SmallProject) -> None:
    small.tca("data", "render")
    report = json.loads(small.tca("release", "--json"))
    assert report["passed"]
    assert [one["stage"] for one in report["stages"]] == [
        "validate",
        "train",
        "export",
        "evaluate",
        "package",
        "promote",
    ]
    answer = detect(small)
    champion = json.loads((small.root / "champion.json").read_text())
    assert answer["request_id"] == "one"
    assert answer["model"]["version"] == champion["version"] == "1"
    assert answer["model"]["digest"] == champion["digest"]
    assert answer["image"] == {"width": 192, "height": 128}


def test_2_records_say_what_the_champion_was_made_from(small: SmallProject) -> None:
    lock = yaml.safe_load((small.root / "dvc.lock").read_text())
    assert set(lock["stages"]) == {"validate", "train", "export", "evaluate", "package"}
    provenance = small.report("package")["provenance"]
    assert provenance["git_commit"] == small.run("git", "rev-parse", "HEAD").strip()
    assert provenance["git_dirty"] is False
    assert provenance["data_md5"] == yaml.safe_load((small.root / "data.dvc").read_text())["outs"][0]["md5"]
    # The throne is a dependency: what looks at it is stale now, and nothing else is.
    assert stale_stages(small) <= {"train", "evaluate"}


def test_3_a_current_stage_is_skipped_and_a_stage_on_a_stale_one_refused(small: SmallProject) -> None:
    before = small.report("validate")["finished_at"]
    small.tca("validate")
    assert small.report("validate")["finished_at"] == before
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "export"],
        cwd=small.root,
        env=small.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "builds on train, which is stale (champion.json modified)" in done.stderr


def test_4_dvc_repro_is_the_same_door(small: SmallProject) -> None:
    small.run(sys.executable, "-m", "dvc", "repro")
    assert stale_stages(small) == set()
    assert small.report("train")["started_from"] != "yolo11n.yaml"
    assert small.report("package")["model_version"] == "2"


def test_5_a_challenger_is_promoted_under_live_traffic(small: SmallProject) -> None:
    with replayed(small):
        small.tca("promote")
    report = small.report("promote")
    assert report["outcome"] == "promoted"
    assert [one["state"] for one in report["states"]][-1] == "DONE"
    assert detect(small)["model"]["version"] == "2"


def test_6_a_challenger_that_fails_in_service_is_rolled_back(small: SmallProject) -> None:
    with replayed(small):
        small.tca("release", "--drill", "fail:1.0@5", expect=1)
    assert small.report("promote")["outcome"] == "rolled_back"
    assert detect(small)["model"]["version"] == "2"
    assert json.loads((small.root / "champion.json").read_text())["version"] == "2"
    running = [
        one
        for one in read_services(small.root / ".tca").values()
        if one.name.startswith("detector-3-") and is_alive(one)
    ]
    assert running == []


def test_7_what_was_judged_is_not_judged_again(small: SmallProject) -> None:
    before = small.report("promote")["promotion"]
    small.tca("release", expect=1)
    assert small.report("promote")["promotion"] == before


def test_8_rollback_restores_the_previous_champion_in_one_step(small: SmallProject) -> None:
    restored = json.loads(small.tca("rollback", "--json"))
    assert restored["version"] == "1"
    assert detect(small)["model"]["version"] == "1"


def test_9_a_killed_promotion_is_taken_up_again_and_the_champion_answers_throughout(small: SmallProject) -> None:
    argv = [sys.executable, "-m", "flows.cli", "promote", "--force"]
    with replayed(small):
        killed = subprocess.Popen(
            argv, cwd=small.root, env=small.env, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert killed.stderr is not None
        for line in killed.stderr:
            if "SHADOW" in line:
                break
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        assert detect(small)["model"]["version"] == "1"
        small.tca("promote")
    assert small.report("promote")["outcome"] in ("promoted", "rolled_back")
    status = json.loads(small.tca("status", "--json"))
    assert detect(small)["model"]["version"] == status["champion"]["version"]


def test_every_verdict_can_be_recomputed_from_its_record(small: SmallProject) -> None:
    promotions = json.loads(small.tca("promotion", "list", "--json"))
    assert len(promotions) >= 4
    for one in promotions:
        assert "every hash and verdict holds" in small.tca("promotion", "verify", str(one["id"]))


def test_production_frames_are_compared_with_the_training_reference(small: SmallProject) -> None:
    small.tca("monitor", "-S", "monitor.min_frames=1000000", expect=1)
    report = small.report("monitor")
    assert report["verdict"] == "insufficient"
    assert report["num_current"] > 0


def test_a_search_tries_and_names_the_best_parameters(small: SmallProject) -> None:
    overrides = ("tune.trials=2", "tune.epochs=1", "tune.space={learning_rate: {low: 0.0005, high: 0.01, log: true}}")
    small.tca("tune", *(part for override in overrides for part in ("-S", override)))
    assert "learning_rate" in small.report("tune")["best_params"]


def test_a_deployment_run_by_a_worker_is_the_third_door(small: SmallProject) -> None:
    before = small.report("validate")["finished_at"]
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    small.run(*prefect, "work-pool", "create", "--type", "process", "tca")
    small.run(*prefect, "deploy", "--all", "--prefect-file", "infra/prefect.yaml")
    small.run(*prefect, "deployment", "run", "validate/validate", "--param", "force=true")
    env = {**small.env, "TCA_PROJECT": str(small.root)}
    worker = [*prefect, "worker", "start", "--pool", "tca", "--run-once"]
    done = subprocess.run(worker, cwd=small.root, env=env, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert small.report("validate")["finished_at"] > before
    assert "validate" not in stale_stages(small)
