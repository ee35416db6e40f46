"""Two machines train together: two network namespaces with a virtual link between them, made and removed here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.projects import ROOT, copy_project, run

pytestmark = pytest.mark.deep

PORT = 29477


@dataclass(frozen=True)
class Node:
    """A network namespace and its address on the link."""

    name: str
    address: str

    def start(self, cwd: Path, *argv: str, log: Path) -> subprocess.Popen[bytes]:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with log.open("wb") as stream:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, sys.executable, "-P", *argv],
                cwd=cwd,
                env=env,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[Node, Node]]:
    """Two machines that reach each other and nothing else."""
    made = uuid.uuid4().hex[:6]
    names, links = [f"tca{made}{side}" for side in "ab"], [f"v{made}{side}" for side in "ab"]
    pair = tuple(Node(name, f"10.77.0.{number}") for number, name in enumerate(names, 1))
    with contextlib.ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name, check=False)
            ip("link", "add", links[0], "type", "veth", "peer", "name", links[1])
            stack.callback(ip, "link", "delete", links[0], check=False)
            for node, link in zip(pair, links, strict=True):
                ip("link", "set", link, "netns", node.name)
                ip("-n", node.name, "addr", "add", f"{node.address}/24", "dev", link)
                for device in (link, "lo"):
                    ip("-n", node.name, "link", "set", device, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", b"") or b""
            pytest.skip(f"network namespaces cannot be made here: {error} {told.decode().strip()}")
        yield pair[0], pair[1]


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first machine's checkout, with a few drawn frames."""
    target = copy_project(tmp_path_factory.mktemp("first") / "project")
    written = yaml.safe_load((target / "params.yaml").read_text())
    written["train"] |= {"epochs": 3, "image_size": 128, "batch": 3, "optimizer": "SGD", "learning_rate": 0.0001}
    written["train"] |= {"warmup_epochs": 0.0, "cache": "ram", "precision": "fp32", "start_from": "model"}
    written["train"]["distributed"] |= {"nodes": 2, "rendezvous": f"10.77.0.1:{PORT}", "timeout_s": 60.0}
    written["render"] |= {"cameras": 2, "clips_per_camera": 4, "frames_per_clip": 2, "size_wh": [160, 96]}
    (target / "params.yaml").write_text(yaml.safe_dump(written))
    run(target, sys.executable, "-P", "-m", "flows.cli", "data", "render", env={**os.environ, "PYTHONPATH": str(ROOT)})
    return target


FIRST = """
import json, sys
from pathlib import Path
from flows.dataset.layout import read_dataset
from flows.params_file import read_params
from flows.training.launching.launch import train_apart

out, nodes = Path(sys.argv[1]), int(sys.argv[2])
params = read_params(Path("params.yaml")).train
distributed = params.distributed.model_copy(update={"nodes": nodes})

def on_epoch(metrics):
    Path(f"{out}.epoch{metrics.epoch}").write_text(metrics.model_dump_json())
    gate = Path(f"{out}.wait{metrics.epoch}")
    import time
    while gate.exists():
        time.sleep(0.05)

params = params.model_copy(update={"distributed": distributed})
report = train_apart(read_dataset(Path("data")), params, 3, out, on_epoch)
Path(f"{out}.json").write_text(report.model_dump_json())
"""


@pytest.fixture(scope="module")
def alone(project: Path) -> Path:
    out = project.parent / "alone"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run(project, sys.executable, "-P", "-c", FIRST, str(out), "1", env=env)
    return out


@pytest.fixture(scope="module")
def second(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other machine's checkout."""
    target = tmp_path_factory.mktemp("second") / "project"
    target.mkdir()
    run(project, "cp", "-r", ".", str(target))
    return target


Together = Callable[..., tuple[subprocess.Popen[bytes], subprocess.Popen[bytes], Path]]


@pytest.fixture
def together(nodes: tuple[Node, Node], project: Path, second: Path, tmp_path: Path) -> Iterator[Together]:
    """Start both machines; what still runs at the end is ended."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*join: str) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes], Path]:
        out = tmp_path / "out"
        joins = ["-m", "flows.cli", "join", *join]
        running.append(nodes[1].start(second, *joins, log=tmp_path / "second.log"))
        running.append(nodes[0].start(project, "-c", FIRST, str(out), "2", log=tmp_path / "first.log"))
        return running[1], running[0], out

    yield start
    for process in running:
        for one in [*children(process), process]:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                one.kill()
        process.wait()


def children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def logs(tmp_path: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))


def test_two_machines_give_what_one_gives(together: Together, alone: Path, tmp_path: Path) -> None:
    # That the parameters are the same in all processes, bit for bit, the training checks after every epoch.
    first, other, out = together()
    assert (first.wait(200), other.wait(60)) == (0, 0), logs(tmp_path)
    report = json.loads(Path(f"{out}.json").read_text())
    assert (report["num_processes"], report["num_nodes"], report["notes"]) == (2, 2, [])
    assert (out / "best.pt").is_file()
    for epoch in (1, 2, 3):
        one, two = (json.loads(Path(f"{path}.epoch{epoch}").read_text())["losses"] for path in (alone, out))
        assert two["train_cls_loss"] == pytest.approx(one["train_cls_loss"], rel=2e-3)
    assert largest_difference(alone / "last.pt", out / "last.pt") < 5e-4


def largest_difference(first: Path, second: Path) -> float:
    from flows.weights import read_weights

    models = [read_weights(path).model for path in (first, second)]
    pairs = zip(models[0].parameters(), models[1].parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def test_a_killed_process_of_the_other_machine_is_made_good(together: Together, tmp_path: Path) -> None:
    gate = tmp_path / "out.wait1"
    gate.touch()
    first, other, out = together()
    wait_for(lambda: Path(f"{out}.epoch1").exists() or first.poll() is not None)
    worker = next(one for one in children(other) if "flows.training.launching.worker" in one.cmdline())
    os.kill(worker.pid, signal.SIGKILL)
    gate.unlink()
    assert (first.wait(200), other.wait(60)) == (0, 0), logs(tmp_path)
    report = json.loads(Path(f"{out}.json").read_text())
    assert report["notes"] == ["a process of another machine died; all started again after epoch 1"]
    assert report["epochs"] == 3


def test_other_code_or_data_is_refused_on_both(together: Together, second: Path, tmp_path: Path) -> None:
    version = second / "data.dvc"
    before = version.read_text() if version.exists() else None
    version.write_text("outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n")
    try:
        first, other, _ = together()
        assert other.wait(100) == 2, logs(tmp_path)
        assert first.wait(100) != 0
    finally:
        if before is None:
            version.unlink()
        else:
            version.write_text(before)
    assert logs(tmp_path).count("the data version (data.dvc) on") == 2, logs(tmp_path)


def test_a_machine_that_nobody_joins_says_who_is_missing(
    nodes: tuple[Node, Node], project: Path, tmp_path: Path
) -> None:
    code = FIRST.replace('{"nodes": nodes}', '{"nodes": nodes, "timeout_s": 3.0}')
    first = nodes[0].start(project, "-c", code, str(tmp_path / "out"), "2", log=tmp_path / "first.log")
    assert first.wait(100) != 0
    assert f"1 of 2 machines came to 10.77.0.1:{PORT} within 3 s" in logs(tmp_path)


def wait_for(condition: Callable[[], Any], limit_s: float = 200.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
