"""infra/kubernetes/promotion: its parts against each other, our code, and what Gateway API and Argo Rollouts take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from bentos.router.__main__ import _parse
from flows.adapters.kubernetes_gateway import is_version_name
from flows.adapters.kubernetes_versions import read_template
from flows.adapters.local_traffic import service_name
from flows.cli import verbs
from flows.cli.verdict import app as verdict_app
from flows.cluster import TEMPLATE, TOKEN_FILE, traffic_kind
from flows.errors import GateRefused, InputError
from flows.verdicts import VerdictAnswer, Word

ROOT = Path(__file__).resolve().parents[2]
PROMOTION = ROOT / "infra" / "kubernetes" / "promotion"


def load(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((PROMOTION / name).read_text(encoding="utf-8")))


def one(name: str, kind: str) -> dict[str, Any]:
    return next(found for found in load(name) if found["kind"] == kind)


def settings() -> dict[str, str]:
    literals = next(each for each in load("kustomization.yaml")[0]["configMapGenerator"] if each["name"] == "promotion")
    return dict(line.split("=", 1) for line in literals["literals"])


def arguments(command: typer.Typer, given: list[str]) -> dict[str, Any]:
    """The options as the command would read them. Fails where it has no such option."""
    return dict(typer.main.get_command(command).make_context("command", given, resilient_parsing=False).params)


# The fields that we use of kinds that the schema of Kubernetes' own API does not know.
CUSTOM_FIELDS = {
    "Gateway": (
        "gatewayClassName listeners.name listeners.protocol listeners.port listeners.allowedRoutes.namespaces.from"
    ),
    "HTTPRoute": (
        "parentRefs.name rules.matches.path.type rules.matches.path.value rules.backendRefs.name rules.backendRefs.port"
    ),
    "AnalysisTemplate": (
        "args.name args.value args.valueFrom.secretKeyRef.name args.valueFrom.secretKeyRef.key metrics.name "
        "metrics.interval metrics.count metrics.inconclusiveLimit metrics.consecutiveSuccessLimit metrics.failureLimit "
        "metrics.consecutiveErrorLimit metrics.successCondition metrics.failureCondition metrics.provider.web.url "
        "metrics.provider.web.timeoutSeconds metrics.provider.web.headers.key metrics.provider.web.headers.value "
        "metrics.provider.web.jsonPath metrics.provider.job"
    ),
}


def fields(node: Any, path: str = "") -> set[str]:
    """Where the values are, without the numbers of list items; what is in a Job is the Job's own matter."""
    if path == "metrics.provider.job":
        return {path}
    if isinstance(node, dict):
        return {found for key, value in node.items() for found in fields(value, f"{path}.{key}".lstrip("."))}
    if isinstance(node, list):
        return {found for item in node for found in fields(item, path)}
    return {path}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gateway.yaml", "Gateway"), ("gateway.yaml", "HTTPRoute"), ("argo/analysis.yaml", "AnalysisTemplate")],
)
def test_custom_kinds_have_no_field_that_is_unknown(name: str, kind: str) -> None:
    for manifest in (each for each in load(name) if each["kind"] == kind):
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        assert fields(manifest["spec"]) <= set(CUSTOM_FIELDS[kind].split())


def test_argos_job_keeps_to_the_apis_schema() -> None:
    spec = load("argo/analysis.yaml")[1]["spec"]["metrics"][0]["provider"]["job"]["spec"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "ask"}, "spec": spec}
    kubernetes_validate.validate(job, "1.31", strict=True)


def test_the_job_keeps_to_the_apis_schema() -> None:
    job = one("job/promote.yaml", "Job")
    for version in ("1.31", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(job, version, strict=True)
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert rules[1]["onExitCodes"]["values"] == [GateRefused.exit_code, InputError.exit_code]
    app = typer.Typer()
    verbs.add_to(app)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[0] == "tca"
    assert command[1] in {each.name for each in app.registered_commands}


def test_a_version_is_served_like_the_detector_that_is_served_without_promotions() -> None:
    """One pod specification in two places: they may differ in where the version comes from, and in nothing else."""
    deployments = [one("version.yaml", "Deployment")]
    deployments.append(next(yaml.safe_load_all((PROMOTION.parent / "detector.yaml").read_text(encoding="utf-8"))))
    for deployment in deployments:
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [each for each in container["env"] if each["name"] != "DETECTOR_MODEL_VERSION"]
    ours, other = deployments
    assert ours["spec"]["template"] == other["spec"]["template"]
    assert ours["spec"]["strategy"] == other["spec"]["strategy"]


def test_what_is_made_of_the_template_keeps_to_the_apis_schema() -> None:
    template = read_template(ROOT / TEMPLATE, settings()["TCA_KUBERNETES_IMAGE"])
    for made in template.objects("12", "f" * 64, "slow:150@300"):
        for version in ("1.31", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(made, version, strict=True)


def test_settings_are_read_by_the_code_and_the_job_has_what_they_name() -> None:
    given = settings()
    documented = set(
        re.findall(r"^    (TCA_[A-Z_]+)", (ROOT / "flows" / "cluster.py").read_text(encoding="utf-8"), re.M)
    )
    assert set(given) <= documented
    assert traffic_kind(given) == "kubernetes"
    pod = one("job/promote.yaml", "Job")["spec"]["template"]["spec"]
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in pod["containers"][0]["volumeMounts"]}
    assert Path(given["TCA_KUBERNETES_TEMPLATE"]) == mounts["template"] / "version.yaml"
    assert TOKEN_FILE.parent == mounts["token"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts) == set(volumes)
    secret = one("router.yaml", "StatefulSet")["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"]
    assert volumes["token"]["secret"]["secretName"] == secret
    generated = {each["name"] for each in load("kustomization.yaml")[0]["configMapGenerator"]}
    assert volumes["template"]["configMap"]["name"] in generated
    assert (
        volumes["journal"]["persistentVolumeClaim"]["claimName"]
        == one("verdict.yaml", "PersistentVolumeClaim")["metadata"]["name"]
    )


def test_the_job_runs_as_who_may_promote_and_nobody_else_has_an_account() -> None:
    binding, role = one("access.yaml", "RoleBinding"), one("access.yaml", "Role")
    account = one("access.yaml", "ServiceAccount")["metadata"]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [subject["name"] for subject in binding["subjects"]] == [account]
    job = one("job/promote.yaml", "Job")["spec"]["template"]["spec"]
    assert (job["serviceAccountName"], job["automountServiceAccountToken"]) == (account, True)
    for name, kind in (("router.yaml", "StatefulSet"), ("verdict.yaml", "Deployment"), ("version.yaml", "Deployment")):
        assert one(name, kind)["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_rights_are_to_names_where_names_are_known_and_never_to_secrets() -> None:
    rules = one("access.yaml", "Role")["rules"]
    assert all("*" not in (*rule["resources"], *rule["verbs"], *rule["apiGroups"]) for rule in rules)
    assert "secrets" not in {resource for rule in rules for resource in rule["resources"]}
    routes = next(rule for rule in rules if rule["resources"] == ["httproutes"])
    assert routes["resourceNames"] == [one("gateway.yaml", "HTTPRoute")["metadata"]["name"]]


def test_the_router_is_started_with_options_that_it_has_and_guarded() -> None:
    pod = one("router.yaml", "StatefulSet")["spec"]["template"]["spec"]
    dockerfile = (ROOT / "infra" / "containers" / "router.Dockerfile").read_text(encoding="utf-8")
    entry = yaml.safe_load(dockerfile.split("ENTRYPOINT ")[1].splitlines()[0])
    given = _parse([*entry[3:], *pod["containers"][0]["args"]])
    ports = {port["name"]: port["port"] for port in one("router.yaml", "Service")["spec"]["ports"]}
    assert ports == {"http": given.port, "admin": given.admin_port}
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert Path(mounts["state"]["mountPath"]) == given.state_dir
    assert Path(mounts["token"]["mountPath"]) == given.state_dir / "token"
    http, admin = one("router.yaml", "NetworkPolicy")["spec"]["ingress"]
    assert (http["ports"], admin["ports"]) == ([{"port": "http"}], [{"port": "admin"}])
    labels = one("job/promote.yaml", "Job")["spec"]["template"]["metadata"]["labels"]
    assert admin["from"][0]["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_route_leads_to_the_router_and_no_version_is_taken_for_it() -> None:
    route, gateway = one("gateway.yaml", "HTTPRoute"), one("gateway.yaml", "Gateway")
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    reference = route["spec"]["rules"][0]["backendRefs"][0]
    service = one("router.yaml", "Service")
    assert reference["name"] == service["metadata"]["name"]
    assert reference["port"] in {port["port"] for port in service["spec"]["ports"]}
    assert not is_version_name(reference["name"])
    assert all(is_version_name(service_name(version, "a1b2c3" * 10)) for version in ("1", "120", "v2-rc1"))


def test_the_verdict_server_is_started_with_options_that_it_has() -> None:
    container = one("verdict.yaml", "Deployment")["spec"]["template"]["spec"]["containers"][0]
    tca, group, command, *given = container["command"]
    assert (tca, group) == ("tca", "verdict")
    app = typer.Typer()
    app.command()(next(each.callback for each in verdict_app.registered_commands if each.callback.__name__ == command))  # type: ignore[union-attr, type-var]
    assert arguments(app, given) == {"host": "0.0.0.0", "port": container["ports"][0]["containerPort"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["project"]["readOnly"]


def test_argo_asks_for_what_is_answered() -> None:
    template = load("argo/analysis.yaml")[0]
    metric = template["spec"]["metrics"][0]
    address = metric["provider"]["web"]["url"]
    service = one("verdict.yaml", "Service")
    assert address.startswith(
        f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}/promotions/latest/verdict?"
    )
    names = {argument["name"] for argument in template["spec"]["args"]}
    assert set(re.findall(r"{{args\.(\w+)}}", yaml.safe_dump(template))) == names
    words = set(Word.__args__)  # type: ignore[attr-defined]
    for condition in (metric["successCondition"], metric["failureCondition"]):
        match = re.fullmatch(r'result\.(\w+) == "(\w+)"', condition)
        assert match is not None
        assert match[1] in VerdictAnswer.model_fields
        assert match[2] in words


def test_argos_job_asks_with_options_that_the_command_has() -> None:
    container = load("argo/analysis.yaml")[1]["spec"]["metrics"][0]["provider"]["job"]["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert container["command"][:3] == ["tca", "verdict", "ask"]
    app = typer.Typer()
    app.command()(next(each.callback for each in verdict_app.registered_commands if each.callback.__name__ == "ask"))  # type: ignore[union-attr, type-var]
    found = arguments(app, [*container["command"][3:], *container["args"]])
    assert (found["promotion"], found["wait"]) == ("latest", 3600.0)


@pytest.mark.parametrize("name", ["router.yaml", "verdict.yaml", "version.yaml", "job/promote.yaml"])
def test_pods_are_confined(name: str) -> None:
    pod = next(each for each in load(name) if "template" in each.get("spec", {}))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])
