"""Versions as Deployments, against a server with the API's rules and a node that runs their pods as processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.adapters.kubernetes_versions import is_version_name, read_template
from flows.adapters.local_traffic import service_name
from flows.errors import Conflict, InputError, ServiceError
from tests.adapters.kubernetes_node import wait_for
from tests.adapters.kubernetes_stage import TEMPLATE, A, B, Stage


def test_a_version_is_started_once_and_found_by_whoever_comes_later(stage: Stage) -> None:
    assert stage.versions.find("1", A) is None
    backend = stage.versions.start("1", A)
    later = stage.another_versions()
    assert later.start("1", A) == later.find("1", A) == backend
    wait_for(lambda: later.is_ready(backend))
    assert later.is_alive(backend)
    assert len(stage.node.processes) == 1


def test_what_the_operator_wrote_stays_and_what_identifies_the_version_is_set(stage: Stage) -> None:
    stage.versions.start("1", A)
    deployment, service = (
        stage.api.read("deployments", "detector-1-aaaaaa"),
        stage.api.read("services", "detector-1-aaaaaa"),
    )
    assert deployment is not None
    assert service is not None
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/detector:1"
    assert {"name": "DETECTOR_MODEL_VERSION", "value": "1"} in pod["containers"][0]["env"]
    assert pod["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert [one["uid"] for one in service["metadata"]["ownerReferences"]] == [deployment["metadata"]["uid"]]


def test_killed_between_deployment_and_service_it_is_completed_by_the_next_start(stage: Stage) -> None:
    stage.api.plan("patch", "services", code=500, times=3)
    with pytest.raises(ServiceError, match="500"):
        stage.versions.start("1", A)
    assert stage.api.read("deployments", "detector-1-aaaaaa") is not None
    assert stage.versions.find("1", A) is None
    backend = stage.versions.start("1", A)
    assert stage.versions.find("1", A) == backend


def test_an_answer_that_got_lost_is_asked_for_again(stage: Stage) -> None:
    stage.api.plan("patch", "deployments", times=2)  # carried out, but the connection breaks
    backend = stage.versions.start("1", A)
    assert stage.versions.find("1", A) == backend


def test_a_deployment_of_that_name_which_is_not_the_version_is_left_alone(stage: Stage) -> None:
    stage.versions.start("1", A)
    other = "aaaaaa" + B[6:]
    with pytest.raises(
        ServiceError, match="holds version 1 of digest aaaaaaaaaaaa, expected version 1 of digest aaaaaabb"
    ):
        stage.versions.start("1", other)


def test_a_field_that_somebody_else_sets_is_not_taken_over(stage: Stage) -> None:
    stage.versions.start("1", A)
    stage.api.edit("deployments", "detector-1-aaaaaa", lambda one: one["spec"].update(replicas=0), "kubectl-scale")
    assert stage.versions.find("1", A) is None
    with pytest.raises(Conflict, match="kubectl-scale"):
        stage.versions.start("1", A)


def test_stopped_it_is_gone_with_its_service_and_can_be_started_again(stage: Stage) -> None:
    backend = stage.versions.start("1", A)
    wait_for(lambda: stage.versions.is_ready(backend))
    stage.versions.stop(backend, 10.0)
    assert stage.api.read("services", "detector-1-aaaaaa") is None
    assert not stage.versions.is_alive(backend)
    stage.versions.stop(backend, 10.0)
    again = stage.versions.start("1", A)
    assert again.url != backend.url
    stage.versions.stop(backend, 10.0)  # that one is gone: the new one is not meant
    assert stage.versions.find("1", A) == again


def test_a_deployment_of_that_name_which_is_not_the_version_is_not_deleted_either(stage: Stage) -> None:
    """Scaled to zero it is not found as running, but it is somebody's all the same."""
    backend = stage.versions.start("1", A)
    stage.api.edit("deployments", "detector-1-aaaaaa", lambda one: one["metadata"].update(annotations={}))
    stage.api.edit("deployments", "detector-1-aaaaaa", lambda one: one["spec"].update(replicas=0))
    with pytest.raises(ServiceError, match="holds version None"):
        stage.versions.stop(backend, 1.0)
    found = stage.api.read("deployments", "detector-1-aaaaaa")
    assert found is not None
    assert "deletionTimestamp" not in found["metadata"]


def test_a_start_waits_for_a_namesake_that_is_being_deleted(stage: Stage) -> None:
    backend = stage.versions.start("1", A)
    wait_for(lambda: stage.versions.is_ready(backend))
    stage.versions.stop(backend, 0.0)
    again = stage.versions.start("1", A)
    assert stage.versions.find("1", A) == again


@pytest.mark.parametrize("fault", ["crash", "no-image"])
def test_a_version_whose_pods_do_not_come_up_is_dead(stage: Stage, fault: str) -> None:
    stage.node.faults["1"] = fault
    backend = stage.versions.start("1", A)
    wait_for(lambda: not stage.versions.is_alive(backend))
    assert not stage.versions.is_ready(backend)
    assert stage.versions.find("1", A) == backend


def test_a_version_whose_last_process_died_is_dead(stage: Stage) -> None:
    backend = stage.versions.start("1", A)
    wait_for(lambda: stage.versions.is_ready(backend))
    stage.node.kill("detector-1-aaaaaa")
    wait_for(lambda: not stage.versions.is_alive(backend))


def test_a_deployment_that_gave_up_is_dead_before_it_ever_had_a_pod(stage: Stage) -> None:
    stage.node.close()
    backend = stage.versions.start("1", A)
    assert stage.versions.is_alive(backend)
    failed = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    stage.api.edit_status("deployments", "detector-1-aaaaaa", {"conditions": failed})
    assert not stage.versions.is_alive(backend)


def test_status_of_an_earlier_generation_is_not_readiness(stage: Stage) -> None:
    stage.node.close()
    backend = stage.versions.start("1", A)
    good = {"observedGeneration": 1, "availableReplicas": 1}
    stage.api.edit_status("deployments", "detector-1-aaaaaa", good)
    assert stage.versions.is_ready(backend)
    stage.api.edit("deployments", "detector-1-aaaaaa", lambda one: one["spec"].update(minReadySeconds=5))
    assert not stage.versions.is_ready(backend)


def test_all_replicas_are_waited_for_at_the_start_and_one_is_enough_later(stage: Stage) -> None:
    stage.node.close()
    stage.template.deployment["spec"]["replicas"] = 3
    backend = stage.another_versions().start("1", A)
    complete = {"conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}
    for more, available, expected in (({}, 2, False), ({}, 3, True), (complete, 1, True), (complete, 0, False)):
        status = {"observedGeneration": 1, "availableReplicas": available, **more}
        stage.api.edit_status("deployments", "detector-1-aaaaaa", status)
        assert stage.versions.is_ready(backend) == expected


def test_a_version_that_makes_no_name_is_refused(stage: Stage) -> None:
    for version in ("V_1", "-1", "1" * 48):
        with pytest.raises(InputError, match="lower-case"):
            stage.versions.start(version, A)
    stage.node.close()
    longest = stage.versions.start("1" * 47, A)
    assert is_version_name(service_name(longest.version, longest.digest))


@pytest.mark.parametrize(
    ("content", "image", "problem"),
    [
        (None, "detector:{version}", "no template of a version at"),
        ("- 1", "detector:{version}", "is no template"),
        ("kind: Deployment\nspec: {}", "detector:{version}", "Expected one Deployment"),
        (
            TEMPLATE.read_text("utf-8").replace("- name: detector", "- name: other"),
            "detector:{version}",
            "no container is named",
        ),
        (TEMPLATE.read_text("utf-8"), "detector:{tag}", "only {version} and {digest}"),
    ],
)
def test_a_template_that_is_none_is_refused(tmp_path: Path, content: str | None, image: str, problem: str) -> None:
    path = tmp_path / "version.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_template(path, image)
    assert problem in str(caught.value)
