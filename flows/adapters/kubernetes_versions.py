"""Model versions in a cluster: a Deployment and a Service each, made from a template by server-side apply.

The template (infra/kubernetes/promotion/version.yaml) is the operator's: probes, resources, replicas, volumes. Set here
are name, labels, selector, image, version and drill. The Service belongs to the Deployment and goes with it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bentos.router.routing import Backend
from flows.adapters.kubernetes_api import DEPLOYMENTS, PODS, SERVICES, Cluster, Object
from flows.adapters.local_traffic import service_name
from flows.errors import InputError, ServiceError

PREFIX = "its-camera-ai"
MANAGED_BY = {"app.kubernetes.io/managed-by": "tca"}
_INSTANCE = "app.kubernetes.io/instance"
_NAME = re.compile(r"detector-[a-z0-9]([a-z0-9-]{0,45}[a-z0-9])?-[0-9a-f]{6}")
"""What `service_name` makes, in the 63 characters of a DNS label."""
_DYING_LIMIT_S = 15.0
"""Below a lease: whoever waits longer for a namesake to go must not lose it."""
_FAILED_TO_START = frozenset(
    {
        *("CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"),
    }
)


@dataclass(frozen=True)
class VersionTemplate:
    """The Deployment and the Service that every version gets, and what its image is called.

    Args:
        image: With {version} and {digest}, e.g. "registry.example/detector:{version}".
    """

    deployment: Object
    service: Object
    image: str

    def objects(self, version: str, digest: str, drill: str) -> tuple[Object, Object]:
        """Deployment and Service of a version. Raises InputError when no name can be made of it."""
        name = service_name(version, digest)
        if not is_version_name(name):
            raise InputError(
                f"version {version} makes the name {name}",
                "Expected a version of at most 47 lower-case letters, digits and dashes, and a hexadecimal digest",
            )
        deployment, service = copy.deepcopy(self.deployment), copy.deepcopy(self.service)
        labels = {**MANAGED_BY, _INSTANCE: name}
        annotations = {f"{PREFIX}/version": version, f"{PREFIX}/digest": digest}
        for one in (deployment, service):
            metadata = one["metadata"]
            metadata["name"] = name
            metadata["labels"] = metadata.get("labels", {}) | labels
            metadata["annotations"] = metadata.get("annotations", {}) | annotations
        selector = {_INSTANCE: name}
        deployment["spec"]["selector"] = {"matchLabels": selector}
        pod = deployment["spec"]["template"]
        pod.setdefault("metadata", {})["labels"] = pod.get("metadata", {}).get("labels", {}) | labels
        service["spec"]["selector"] = selector
        container = _container(pod["spec"])
        container["image"] = self.image.format(version=version, digest=digest)
        _set_env(container, {"DETECTOR_MODEL_VERSION": version, "DETECTOR_DRILL": drill})
        return deployment, service


def read_template(path: Path, image: str) -> VersionTemplate:
    """Read a template. Raises InputError when it is not one Deployment with a container `detector` and one Service."""
    try:
        found = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
        deployment, service = (one for kind in ("Deployment", "Service") for one in found if one["kind"] == kind)
        _container(deployment["spec"]["template"]["spec"])
        service["spec"]["ports"][0]["port"]
        image.format(version="1", digest="0")
    except OSError as error:
        raise InputError(f"no template of a version at {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
        raise InputError(
            f"{path} is no template of a version: {type(error).__name__}: {error}",
            "Expected one Deployment with a container named detector and one Service with a port, and an image name "
            "in which only {version} and {digest} stand in braces",
        ) from error
    return VersionTemplate(deployment, service, image)


@dataclass(frozen=True)
class Versions:
    """The versions of one namespace. Nothing is remembered: what runs is asked of the API server.

    Every method raises ServiceError when the API server does not answer or refuses.
    """

    cluster: Cluster
    template: VersionTemplate
    drills: Mapping[str, str] = field(default_factory=dict)

    def start(self, version: str, digest: str) -> Backend:
        """Have Deployment and Service there. Raises Conflict when somebody else owns a field of them."""
        if (running := self.find(version, digest)) is not None:
            return running
        name = service_name(version, digest)
        # A namesake that is being deleted would take ours along.
        if not self.cluster.wait_for(DEPLOYMENTS, name, lambda one: one is None or not _dying(one), _DYING_LIMIT_S):
            raise ServiceError(f"deployment {name} is still being stopped", "Run the same command again")
        self._require_ours(self.cluster.get(DEPLOYMENTS, name), version, digest)
        deployment, service = self.template.objects(version, digest, self.drills.get(version, ""))
        made = self.cluster.apply(DEPLOYMENTS, deployment)
        service["metadata"]["ownerReferences"] = [_owner(made)]
        return self._backend(version, digest, self.cluster.apply(SERVICES, service))

    def find(self, version: str, digest: str) -> Backend | None:
        """Where the version is, when Deployment and Service are there and neither scaled to zero nor being deleted."""
        name = service_name(version, digest)
        deployment = self.cluster.get(DEPLOYMENTS, name)
        if deployment is None or _dying(deployment) or deployment["spec"].get("replicas", 1) == 0:
            return None
        self._require_ours(deployment, version, digest)
        service = self.cluster.get(SERVICES, name)
        return None if service is None or _dying(service) else self._backend(version, digest, service)

    def is_alive(self, backend: Backend) -> bool:
        """Whether it is there, and a pod of it runs or may still come to run.

        A pod whose container has ended does not live until it runs again; as long as one pod lives, so does the
        version, and frames that fail meanwhile are evidence.
        """
        if self.find(backend.version, backend.digest) != backend:
            return False
        name = service_name(backend.version, backend.digest)
        pods = self.cluster.list(PODS, f"{_INSTANCE}={name}")
        if any(map(_pod_lives, pods)):
            return True
        deployment = self.cluster.get(DEPLOYMENTS, name)
        return deployment is not None and not pods and not _gave_up(deployment)

    def is_ready(self, backend: Backend) -> bool:
        """Whether it takes frames: at its start when all replicas are available, then as long as one is."""
        deployment = self.cluster.get(DEPLOYMENTS, service_name(backend.version, backend.digest))
        if deployment is None or _dying(deployment):
            return False
        status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
        seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        was_complete = _condition(deployment, "Progressing").get("reason") == "NewReplicaSetAvailable"
        return bool(seen and status.get("availableReplicas", 0) >= (1 if was_complete else wanted))

    def stop(self, backend: Backend, limit_s: float) -> None:
        """Delete it, pods first; return when it is gone, or after `limit_s`: the kubelet then goes on draining.

        Its pods get SIGTERM after their preStop hook, and SIGKILL after terminationGracePeriodSeconds.
        """
        name = service_name(backend.version, backend.digest)
        deployment = self.cluster.get(DEPLOYMENTS, name)
        self._require_ours(deployment, backend.version, backend.digest)
        if deployment is None or self.find(backend.version, backend.digest) not in (None, backend):
            return
        uid = deployment["metadata"]["uid"]
        self.cluster.delete(DEPLOYMENTS, name, uid)
        self.cluster.wait_for(DEPLOYMENTS, name, lambda one: one is None or one["metadata"]["uid"] != uid, limit_s)

    def _backend(self, version: str, digest: str, service: Object) -> Backend:
        # The cluster's IP, not the DNS name: the router connects often, and an IP needs no DNS server to be up.
        address, port = service["spec"].get("clusterIP"), service["spec"]["ports"][0]["port"]
        if not address or address == "None":
            raise ServiceError(f"service {service['metadata']['name']} has no cluster IP", "Let its type be ClusterIP")
        host = f"[{address}]" if ":" in address else address
        return Backend(version=version, digest=digest, url=f"http://{host}:{port}")

    @staticmethod
    def _require_ours(deployment: Object | None, version: str, digest: str) -> None:
        if deployment is None:
            return
        annotations = deployment["metadata"].get("annotations", {})
        found = (annotations.get(f"{PREFIX}/version"), annotations.get(f"{PREFIX}/digest"))
        if found != (version, digest):
            raise ServiceError(
                f"deployment {deployment['metadata']['name']} holds version {found[0]} of digest {str(found[1])[:12]}, "
                f"expected version {version} of digest {digest[:12]}",
                "Nothing was changed; rename or delete it",
            )


def is_version_name(name: str) -> bool:
    """Whether a Service of this name is that of a version."""
    return bool(_NAME.fullmatch(name))


def _owner(deployment: Object) -> Object:
    # Blocking: the Deployment's name is free again only when its Service is gone too.
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "blockOwnerDeletion": True}
    return owner | {key: deployment["metadata"][key] for key in ("name", "uid")}


def _dying(one: Object) -> bool:
    return "deletionTimestamp" in one["metadata"]


def _pod_lives(pod: Object) -> bool:
    status = pod.get("status", {})
    if _dying(pod) or status.get("phase") in ("Failed", "Succeeded"):
        return False
    states = [
        one.get("state", {}) for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    ]
    failed = any(one.get("waiting", {}).get("reason") in _FAILED_TO_START for one in states)
    return not failed and not any(one.get("terminated", {}).get("exitCode", 0) != 0 for one in states)


def _gave_up(deployment: Object) -> bool:
    """Whether Kubernetes says that no pod will come: past progressDeadlineSeconds, or none may be made."""
    late = _condition(deployment, "Progressing").get("reason") == "ProgressDeadlineExceeded"
    return late or _condition(deployment, "ReplicaFailure").get("status") == "True"


def _condition(deployment: Object, kind: str) -> dict[str, Any]:
    found = deployment.get("status", {}).get("conditions", ())
    return next((dict(one) for one in found if one["type"] == kind), {})


def _container(pod: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = [one for one in pod["containers"] if one["name"] == "detector"]
    if not found:
        raise ValueError("no container is named detector")
    return found[0]


def _set_env(container: dict[str, Any], values: Mapping[str, str]) -> None:
    kept = [one for one in container.get("env", []) if one["name"] not in values]
    container["env"] = kept + [{"name": name, "value": value} for name, value in values.items() if value]
