"""Traffic on Kubernetes as the environment describes it.

    TCA_TRAFFIC                    local (default) or kubernetes
    TCA_KUBERNETES_IMAGE           image of a version, with {version} or {digest}: registry.example/detector:{version}
    TCA_KUBERNETES_TEMPLATE        Deployment and Service of a version; infra/kubernetes/promotion/version.yaml
    TCA_KUBERNETES_PAIRED_PERCENT  share of frames that the router pairs, 0 to 100; 100
    TCA_KUBERNETES_ROUTER          Service of the router, with ports http and admin; router
    TCA_KUBERNETES_ROUTE           HTTPRoute whose weights are ours, below 100 percent; detector
    TCA_ROUTER_ADMIN_URL           the router's admin side, where the Service cannot be reached
    TCA_ROUTER_TOKEN_FILE          its token; /var/run/secrets/tca/router/token

Where the cluster is, and who asks it: KUBECONFIG and TCA_KUBERNETES_CONTEXT, or a pod's service account;
TCA_KUBERNETES_NAMESPACE.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from flows.adapters.kubernetes_api import SERVICES, Cluster, Object
from flows.adapters.kubernetes_credentials import find_access
from flows.adapters.kubernetes_gateway import GatewayWeights
from flows.adapters.kubernetes_traffic import KubernetesTraffic
from flows.adapters.kubernetes_versions import Versions, read_template
from flows.adapters.router_admin import RouterAdmin
from flows.errors import InputError, ServiceError

TEMPLATE = Path("infra/kubernetes/promotion/version.yaml")
TOKEN_FILE = Path("/var/run/secrets/tca/router/token")
TrafficKind = Literal["local", "kubernetes"]


def traffic_kind(environment: Mapping[str, str]) -> TrafficKind:
    """TCA_TRAFFIC. Raises InputError when it is neither local nor kubernetes."""
    text = environment.get("TCA_TRAFFIC", "").strip() or "local"
    if text == "local":
        return "local"
    if text == "kubernetes":
        return "kubernetes"
    raise InputError(f"TCA_TRAFFIC={text} in the environment is no traffic", "Expected local or kubernetes")


def kubernetes_traffic(root: Path, environment: Mapping[str, str], drills: Mapping[str, str]) -> KubernetesTraffic:
    """The traffic of the cluster that the environment describes.

    Args:
        root: Folder of the project, which the template's path is relative to.
        drills: Fault to rehearse with, by version.

    Raises:
        InputError: A variable is missing or wrong.
        ServiceError: The API server does not answer.
    """
    template = read_template(root / (environment.get("TCA_KUBERNETES_TEMPLATE") or TEMPLATE), _image(environment))
    paired_percent = _percent(environment)
    cluster = Cluster(find_access(environment))
    versions = Versions(cluster, template, drills)
    name = environment.get("TCA_KUBERNETES_ROUTER") or "router"
    router = _router(cluster, environment, name) if paired_percent else None
    gateway = None
    if paired_percent < 100:
        route = environment.get("TCA_KUBERNETES_ROUTE") or "detector"
        port = _port(_service(cluster, name), "http") if router else template.service["spec"]["ports"][0]["port"]
        gateway = GatewayWeights(cluster, route, (name, port), paired_percent)
    return KubernetesTraffic(cluster, versions, router, gateway)


def _router(cluster: Cluster, environment: Mapping[str, str], name: str) -> RouterAdmin:
    file = Path(environment.get("TCA_ROUTER_TOKEN_FILE") or TOKEN_FILE)
    given = environment.get("TCA_ROUTER_ADMIN_URL", "").rstrip("/")

    def find_url() -> str:
        if given:
            return given
        service = _service(cluster, name)
        address = service["spec"]["clusterIP"]
        host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{_port(service, 'admin')}"

    forward = f"kubectl port-forward service/{name} 3001:admin, and TCA_ROUTER_ADMIN_URL=http://127.0.0.1:3001"
    remedy = (
        f"See: kubectl get pods -l app.kubernetes.io/name={name}" if cluster.in_cluster else f"From here: {forward}"
    )
    return RouterAdmin(find_url, lambda: _read_token(file), remedy)


def _read_token(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise InputError(
            f"the router's token cannot be read at {file}: {error}", "Name its file: TCA_ROUTER_TOKEN_FILE=FILE"
        ) from error


def _service(cluster: Cluster, name: str) -> Object:
    found = cluster.get(SERVICES, name)
    if found is None:
        raise ServiceError(
            f"there is no service {name} in namespace {cluster.namespace}",
            "Make it: kubectl apply -k infra/kubernetes/promotion; or name yours: TCA_KUBERNETES_ROUTER",
        )
    return found


def _port(service: Object, name: str) -> int:
    for port in service["spec"]["ports"]:
        if port.get("name") == name:
            return int(port["port"])
    raise ServiceError(
        f"service {service['metadata']['name']} has no port named {name}", "See infra/kubernetes/promotion"
    )


def _image(environment: Mapping[str, str]) -> str:
    image = environment.get("TCA_KUBERNETES_IMAGE", "").strip()
    if "{version}" in image or "{digest}" in image:
        return image
    raise InputError(
        f"TCA_KUBERNETES_IMAGE={image} in the environment names no version of an image",
        "Expected e.g. registry.example/its-camera-detector:{version}",
    )


def _percent(environment: Mapping[str, str]) -> int:
    text = environment.get("TCA_KUBERNETES_PAIRED_PERCENT", "").strip() or "100"
    if text.isascii() and text.isdecimal() and int(text) <= 100:
        return int(text)
    raise InputError(f"TCA_KUBERNETES_PAIRED_PERCENT={text} in the environment is no share", "Expected 0 to 100")
