"""What controllers, a kubelet and a gateway do in a cluster: pods as processes, deletions carried out, routes accepted.

A version's pod is one stand-in detector, listening where the cluster IP of its Service says (127/8 is all loopback).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.adapters.kubernetes_server import ApiServer, Object, Refusal

STAND_IN = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

host, port, version, digest, fault = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
BOX = {"class_id": 0, "class_name": "car", "confidence": 0.9, "box": {"x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 40.0}}

class Detector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(503 if fault == "unready" else 200, {"status": "ready"})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if fault == "slow":
            time.sleep(0.2)
        boxes = [] if fault == "empty" else [BOX]
        model = {"name": "stand-in", "version": version, "digest": digest}
        self.answer(200, {"request_id": self.headers.get("x-request-id"), "model": model, "detections": boxes})

    def answer(self, status, tree):
        body = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer.daemon_threads = True
server = ThreadingHTTPServer((host, port), Detector)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.serve_forever()
"""


class Node:
    """Carries out what stands in the API server, every few milliseconds, until closed.

    `faults` by version: unready, slow, empty; crash (its container ends at once), no-image (it cannot be pulled).
    `accepts` is what the gateway says of routes; None: it says nothing.
    """

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.api = api
        self.faults: dict[str, str] = {}
        self.accepts: str | None = "True"
        self.lag_s = 0.02
        """How long it takes until a change is seen."""
        self.draining_s = 0.0
        """How long a pod takes to end."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._script = folder / "stand_in.py"
        self._script.write_text(STAND_IN, encoding="utf-8")
        self._client = httpx.Client(timeout=1.0, trust_env=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for process in self.processes.values():
            process.kill()
            process.wait()

    def kill(self, name: str) -> None:
        """The pod's process ends without notice."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def _run(self) -> None:
        while not self._ended.wait(self.lag_s):
            with self.api.store.changed:
                found = [(key, dict(one)) for key, one in self.api.store.objects.items()]
            for (plural, name), one in found:
                with suppress(Refusal, KeyError):  # it went meanwhile
                    if plural == "deployments":
                        self._deploy(name, one)
                    if plural == "httproutes":
                        self._accept(name, one)

    def _deploy(self, name: str, deployment: Object) -> None:
        if "deletionTimestamp" in deployment["metadata"]:
            return self._undeploy(name)
        service = self.api.read("services", name)
        if service is None:
            return
        annotations = deployment["metadata"]["annotations"]
        version, digest = annotations["its-camera-ai/version"], annotations["its-camera-ai/digest"]
        fault = self.faults.get(version, "none")
        if name not in self.processes and fault not in ("crash", "no-image"):
            host, port = service["spec"]["clusterIP"], str(service["spec"]["ports"][0]["port"])
            argv = [sys.executable, str(self._script), host, port, version, digest, fault]
            self.processes[name] = subprocess.Popen(argv, env=dict(os.environ))
        self._tell(name, deployment, service, fault)

    def _tell(self, name: str, deployment: Object, service: Object, fault: str) -> None:
        process = self.processes.get(name)
        dead = process is not None and process.poll() is not None
        ready = not dead and process is not None and self._is_ready(service)
        states: dict[str, Any] = {
            "crash": {"waiting": {"reason": "CrashLoopBackOff"}},
            "no-image": {"waiting": {"reason": "ImagePullBackOff"}},
        }
        state = states.get(fault, {"running": {}})
        if dead:
            state = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        pod = {"metadata": {"name": f"{name}-0", "labels": labels}, "spec": {}}
        if self.api.read("pods", f"{name}-0") is None:
            self.api.make("pods", pod)
        pod_status = {"phase": "Pending" if fault in states else "Running", "containerStatuses": [{"state": state}]}
        self.api.edit_status("pods", f"{name}-0", pod_status)
        status: dict[str, Any] = {"observedGeneration": deployment["metadata"]["generation"]}
        self.api.edit_status("deployments", name, status | {"availableReplicas": int(ready)})

    def _undeploy(self, name: str) -> None:
        process = self.processes.pop(name, None)
        self._ended.wait(self.draining_s)
        if process is not None:
            process.terminate()
            process.wait()
        with self.api.store.changed:
            self.api.store.remove(("pods", f"{name}-0"))
            self.api.store.remove(("services", name))
            self.api.store.remove(("deployments", name))

    def _accept(self, name: str, route: Object) -> None:
        if self.accepts is None:
            return
        generation = route["metadata"]["generation"]
        said = {"observedGeneration": generation, "status": self.accepts, "reason": "As", "message": "planned"}
        conditions = [{"type": kind, **said} for kind in ("Accepted", "ResolvedRefs")]
        self.api.edit_status(
            "httproutes", name, {"parents": [{"parentRef": {"name": "cameras"}, "conditions": conditions}]}
        )

    def _is_ready(self, service: Object) -> bool:
        spec = service["spec"]
        try:
            return self._client.get(f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}/readyz").status_code == 200
        except httpx.HTTPError:
            return False


def wait_for(condition: Any, limit_s: float = 30.0) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
