"""What a parser can see of infra/: everything else needs a container engine or a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bentos.detector.supervisor import Patience
from bentos.detector.telemetry import Gauges, Telemetry
from bentos.router.metrics import Metrics
from bentos.router.routing import parse_snapshot
from flows.monitor import DRIFT_EVENT
from flows.stages import REPORT_MODELS

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
YAML_FILES = sorted([*INFRA.rglob("*.yaml"), *INFRA.rglob("*.yml"), *ROOT.glob(".github/workflows/*.yaml")])
METRIC = re.compile(r"\b(?:router|detector)_[a-z_]+\b")


def load(name: str) -> Any:
    return yaml.safe_load((INFRA / name).read_text(encoding="utf-8"))


def manifests() -> dict[str, Any]:
    text = (INFRA / "kubernetes" / "detector.yaml").read_text(encoding="utf-8")
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def instructions(dockerfile: Path) -> list[list[str]]:
    """The instructions as words, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [line.split() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_yaml_file_parses_and_says_something(path: Path) -> None:
    assert all(isinstance(one, dict) for one in yaml.safe_load_all(path.read_text(encoding="utf-8")))


def test_nothing_names_a_machine_or_a_private_host() -> None:
    for path in (path for path in INFRA.rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(root|work|home)/", text), path


# Prefect


def test_every_stage_has_a_deployment_and_every_entrypoint_is_that_flow() -> None:
    deployments = load("prefect.yaml")["deployments"]
    assert {one["name"] for one in deployments} == set(REPORT_MODELS)
    for one in deployments:
        path, function = one["entrypoint"].split(":")
        assert (path, function) == (f"flows/{one['name']}.py", one["name"])
        assert one["work_pool"] == {"name": "tca"}


@pytest.mark.parametrize("name", REPORT_MODELS)
def test_entrypoints_import_as_prefect_does_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    assert load_flow_from_entrypoint(f"flows/{name}.py:{name}").name == name


def test_the_worker_names_its_checkout_and_retraining_listens_to_our_event() -> None:
    content = load("prefect.yaml")
    steps = content["pull"]
    assert steps == [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $TCA_PROJECT }}"}}]
    release = next(one for one in content["deployments"] if one["name"] == "release")
    assert [(one["expect"], one["enabled"]) for one in release["triggers"]] == [([DRIFT_EVENT], False)]


# Metrics


def exported_metrics() -> set[str]:
    """Every name that router and detector export."""
    detector = Telemetry("1").render(Gauges(0, 0, 0, cache_lookups={}, cache_bytes=0))
    names = set(re.findall(r"^# TYPE (\S+)", Metrics().render().decode() + detector, re.M))
    gauges = (ROOT / "bentos" / "router" / "app.py").read_text(encoding="utf-8")
    names |= set(re.findall(r'"(router_[a-z_]+)"', gauges))
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}


def expressions() -> Iterator[str]:
    for group in load("prometheus/alerts.yml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in json.loads((INFRA / "grafana" / "dashboard.json").read_text(encoding="utf-8"))["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def test_alerts_and_dashboard_use_metrics_that_exist() -> None:
    used = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert used
    assert used <= exported_metrics()


@pytest.mark.parametrize("expression", list(expressions()))
def test_expressions_are_balanced_and_shares_divide_sums(expression: str) -> None:
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)
    assert not re.search(r"_total\[[^]]*\]\)\s*/\s*rate", expression), "a share needs sums on both sides"


def test_every_alert_says_what_to_do() -> None:
    rules = [rule for group in load("prometheus/alerts.yml")["groups"] for rule in group["rules"]]
    assert {"FramesTooSlow", "FramesFail", "FallbacksGoOn"} <= {rule["alert"] for rule in rules}
    for rule in rules:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_prometheus_scrapes_services_that_compose_starts() -> None:
    services = load("compose.yaml")["services"]
    for job in load("prometheus/prometheus.yml")["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            assert target.partition(":")[0] in services


def test_panels_have_their_place_and_data_source() -> None:
    dashboard = json.loads((INFRA / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    uid = load("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]["uid"]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {uid}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


# Containers


def test_compose_builds_from_files_that_exist_and_binds_to_this_machine_only() -> None:
    content = load("compose.yaml")
    for name, service in content["services"].items():
        assert "build" in service or ":" in service["image"], name
        if "build" in service:
            context = (INFRA / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).resolve().is_file()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        named = [mount.partition(":")[0] for mount in service.get("volumes", [])]
        assert all(mount.startswith(".") or mount in content["volumes"] for mount in named)
        assert set(service.get("depends_on", [])) <= set(content["services"])


def test_the_first_routing_of_compose_is_a_snapshot() -> None:
    text = load("compose.yaml")["services"]["router"]["environment"]["FIRST_ROUTING"]
    snapshot = parse_snapshot(re.sub(r"\$\{(\w+)[^}]*\}", "1", text).encode())
    assert snapshot.champion is not None
    assert snapshot.champion.url == "http://detector:3000"


@pytest.mark.parametrize("name", ["detector", "router", "trainer"])
def test_images_run_without_root_and_copy_what_exists(name: str) -> None:
    found = instructions(INFRA / "containers" / f"{name}.Dockerfile")
    assert found[0][0] == "FROM"
    assert [words[1] for words in found if words[0] == "USER"] == ["10001"]
    for words in (words for words in found if words[0] == "COPY"):
        sources = [word for word in words[1:-1] if not word.startswith("--")]
        assert all((ROOT / source).exists() for source in sources), words


# Kubernetes


def test_the_pod_is_probed_drained_and_confined() -> None:
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    probes = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause_s + Patience().grace_s
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {"requests", "limits"} <= set(container["resources"])


def test_service_budget_and_autoscaler_select_the_pods() -> None:
    found = manifests()
    assert set(found) == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    scaler = found["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    # A budget of all replicas would block every drain of a node.
    assert found["PodDisruptionBudget"]["spec"]["minAvailable"] < scaler["minReplicas"]
    assert "replicas" not in found["Deployment"]["spec"], "the autoscaler owns the number of replicas"


def test_ports_and_settings_agree_with_the_detector() -> None:
    container = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    names = {port["name"] for port in container["ports"]}
    assert {probe["httpGet"]["port"] for key, probe in container.items() if key.endswith("Probe")} <= names
    assert manifests()["Service"]["spec"]["ports"][0]["targetPort"] in names
    from bentos.detector.settings import PREFIX, Settings

    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert {one["name"] for one in container["env"]} <= known
    kustomization = load("kubernetes/kustomization.yaml")
    assert kustomization["images"][0]["name"] == container["image"]
    assert kustomization["configMapGenerator"][0]["name"] == container["env"][0]["valueFrom"]["configMapKeyRef"]["name"]
