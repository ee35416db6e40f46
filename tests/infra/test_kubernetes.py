"""infra/kubernetes against the schema of Kubernetes' API, and its parts against each other and the code."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from flows.cli import join
from flows.errors import GateRefused, InputError, Preempted
from flows.params_train import DistributedParams

KUBERNETES = Path(__file__).resolve().parents[2] / "infra" / "kubernetes"
FOLDERS = sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))
FIRST_VERSION = "1.31"  # successPolicy is on by default from here on
JOBS = ("project/checkout.yaml", "training/job.yaml", "tuning/job.yaml")


def load(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8")))


def pod_of(name: str) -> dict[str, Any]:
    return dict(load(name)[0]["spec"]["template"]["spec"])


def settings_of(folder: str) -> dict[str, str]:
    generators = load(f"{folder}/kustomization.yaml")[0].get("configMapGenerator", [])
    return dict(line.split("=", 1) for one in generators for line in one.get("literals", []))


def is_custom(manifest: dict[str, Any]) -> bool:
    """Whether it is of a kind that comes with a CustomResourceDefinition; test_promotion.py checks those."""
    return str(manifest["apiVersion"]).startswith(("gateway.networking.k8s.io/", "argoproj.io/"))


MANIFESTS = [
    (path, one)
    for path in sorted(KUBERNETES.rglob("*.yaml"))
    if path.name != "kustomization.yaml"
    for one in load(str(path.relative_to(KUBERNETES)))
    if not is_custom(one)
]


@pytest.mark.parametrize(
    "manifest", [one for _, one in MANIFESTS], ids=[f"{path.parent.name}-{one['kind']}" for path, one in MANIFESTS]
)
def test_manifests_keep_to_the_apis_schema(manifest: dict[str, Any]) -> None:
    for version in (FIRST_VERSION, kubernetes_validate.latest_version()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_key_would_be_noticed() -> None:
    job = load("training/job.yaml")[0]
    job["spec"]["completionmode"] = "Indexed"
    with pytest.raises(kubernetes_validate.ValidationError, match="completionmode"):
        kubernetes_validate.validate(job, FIRST_VERSION, strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_kustomizations_name_files_and_images_that_exist(folder: Path) -> None:
    content = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    listed = {
        *content["resources"],
        *(file for one in content.get("configMapGenerator", []) for file in one.get("files", [])),
    }
    assert listed == {path.name for path in folder.iterdir() if path.is_file()} - {"kustomization.yaml"}
    texts = [(folder / name).read_text(encoding="utf-8") for name in content["resources"]]
    for image in content.get("images", []):
        assert any(f"image: {image['name']} " in text for text in texts)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_kustomize_renders_what_the_api_takes(folder: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for manifest in yaml.safe_load_all(done.stdout):
        if not is_custom(manifest):
            kubernetes_validate.validate(manifest, FIRST_VERSION, strict=True)


def test_pods_read_settings_and_volumes_that_somebody_makes() -> None:
    """Everything that is named is generated here, or a Secret that the README tells to create."""
    generated = {
        one["name"]
        for folder in ("project", "training")
        for one in load(f"{folder}/kustomization.yaml")[0]["configMapGenerator"]
    }
    for name in JOBS:
        pod = pod_of(name)
        container = pod["containers"][0]
        sources = container["envFrom"]
        assert {one["configMapRef"]["name"] for one in sources if "configMapRef" in one} <= generated
        assert {one["secretRef"]["name"] for one in sources if "secretRef" in one} <= {"tca-secrets", "tca-study"}
        made = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(made)
        assert (
            made["project"]["persistentVolumeClaim"]["claimName"] == load("project/volume.yaml")[0]["metadata"]["name"]
        )
        assert made.get("scripts", {}).get("configMap", {}).get("name", "training-script") in generated


@pytest.mark.parametrize("name", JOBS)
def test_pods_of_jobs_are_confined_and_end_when_told_to(name: str) -> None:
    pod = pod_of(name)
    container = pod["containers"][0]
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {"requests", "limits"} <= set(container["resources"])
    # what a record names as its commit must be what ran: the image holds the code of another day
    assert {"name": "PYTHONPATH", "value": "/srv/project/checkout"} in container["env"]
    if name != "project/checkout.yaml":
        assert pod["terminationGracePeriodSeconds"] >= 60
        shared = next(volume for volume in pod["volumes"] if volume["name"] == "shared-memory")
        assert shared["emptyDir"]["medium"] == "Memory"


def test_the_training_has_a_pod_for_each_node_and_ends_with_the_first() -> None:
    spec, settings = load("training/job.yaml")[0]["spec"], settings_of("training")
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(settings["NODES"])
    assert spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    replacement = load("training/kustomization.yaml")[0]["replacements"][0]
    assert replacement["source"]["fieldPath"] == "data.NODES"
    assert replacement["targets"][0]["fieldPaths"] == ["spec.completions", "spec.parallelism"]


@pytest.mark.parametrize("name", ["training/job.yaml", "tuning/job.yaml"])
def test_a_preempted_pod_is_replaced_and_a_refused_one_is_not(name: str) -> None:
    spec = load(name)[0]["spec"]
    ignored, failed = spec["podFailurePolicy"]["rules"]
    assert (ignored["action"], ignored["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    codes = failed["onExitCodes"]
    assert failed["action"] == "FailJob"
    assert codes["values"] == [GateRefused.exit_code, InputError.exit_code]
    assert Preempted.exit_code not in codes["values"]
    assert codes["containerName"] == spec["template"]["spec"]["containers"][0]["name"]


def test_pods_find_the_first_by_the_name_of_the_service() -> None:
    service, policy = load("training/network.yaml")
    job = load("training/job.yaml")[0]
    pod, selector = pod_of("training/job.yaml"), {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == selector
    assert policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == selector
    assert pod["subdomain"] == service["metadata"]["name"]
    env = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert (env["JOB_NAME"], env["SERVICE"]) == (job["metadata"]["name"], service["metadata"]["name"])


def run_script(tmp_path: Path, index: int, **settings: str) -> list[str]:
    """The arguments with which training/train.sh calls tca in the pod of an index."""
    fake = tmp_path / "tca"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    pod = {one["name"]: one["value"] for one in pod_of("training/job.yaml")["containers"][0]["env"]}
    env = {**pod, **settings_of("training"), **settings, "JOB_COMPLETION_INDEX": str(index)}
    env["PATH"] = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    argv = ["sh", str(KUBERNETES / "training" / "train.sh")]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_first_pod_trains_with_the_overrides(tmp_path: Path) -> None:
    given = run_script(tmp_path, 0, NODES="3", OVERRIDES="train.epochs=7 train.batch=64")
    assert given[0] == "train"
    assert given[1::2] == ["-S"] * (len(given) // 2)
    told = dict(one.split("=", 1) for one in given[2::2])
    assert (told.pop("train.epochs"), told.pop("train.batch")) == ("7", "64")
    keys = {name.removeprefix("train.distributed."): value for name, value in told.items()}
    params = DistributedParams.model_validate(
        {"backend": "auto", "sync_batchnorm": True, "restarts": 3, "timeout_s": 300.0}
        | {**keys, "nodes": int(keys["nodes"]), "processes_per_node": int(keys["processes_per_node"])}
    )
    assert (params.nodes, params.rendezvous) == (3, "training-0.training:29400")


def test_the_other_pods_join_it_with_options_that_the_command_has(tmp_path: Path) -> None:
    given = run_script(tmp_path, 2, NODES="3")
    assert given == ["join", "training-0.training:29400", "--nodes", "3", "--processes", "0"]
    app = typer.Typer()
    join.add_to(app)
    parser = typer.main.get_command(app).make_context("join", given[1:], resilient_parsing=False)
    assert parser.params == {"rendezvous": given[1], "nodes": 3, "processes": 0, "forever": False}
