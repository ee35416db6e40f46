from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows.adapters.processes import ServiceRecord, register
from flows.doctor import environment_findings, examine, findings_text, mask_credentials
from flows.machine import Gpu, is_port_free, parse_gpus, read_cpu_flags
from flows.settings import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("TCA_HOME", "TCA_PORT", "TCA_ADMIN_PORT", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return Project(tmp_path)


def found_of(project: Project, name: str) -> dict[str, str]:
    return next(one for one in examine(project)["findings"] if one["name"] == name)


@pytest.fixture
def listener() -> socket.socket:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def test_everything_is_json_and_has_a_known_mark(project: Project) -> None:
    found = json.loads(json.dumps(examine(project)))
    assert {one["mark"] for one in found["findings"]} <= {"ok", "note", "missing"}
    assert set(found["outlook"]) == {"training", "export", "serving"}
    assert found["num_missing"] == sum(one["mark"] == "missing" for one in found["findings"])


def test_the_text_names_every_finding_and_fits_the_terminal(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    found = examine(project)
    text = findings_text(found)
    assert all(one["name"] in text for one in found["findings"])
    assert max(len(line) for line in text.splitlines()) <= 70


def test_heavy_packages_are_not_imported() -> None:
    code = (
        "import sys; from pathlib import Path; from flows.doctor import examine; from flows.settings import Project;"
        "examine(Project(Path.cwd())); print(sorted({'torch', 'mlflow', 'openvino', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("", ""),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("http://host:5000/api", "http://host:5000/api"),
        ("https://ann:s3cret@host:5000/api", "https://***@host:5000/api"),
        ("https://ann:s3@cret@host/api?x=1", "https://***@host/api?x=1"),
    ],
)
def test_credentials_are_masked(address: str, shown: str) -> None:
    assert mask_credentials(address) == shown


def test_environment_shows_addresses_and_no_secret() -> None:
    environment = {
        "MLFLOW_TRACKING_URI": "https://ann:hidden1@host",
        "PREFECT_API_URL": "hostonly",
        "TCA_PORT": "4000",
        "TCA_API_KEY": "hidden2",
        "UNRELATED": "x",
    }
    found = {one.name: one for one in environment_findings(environment)}
    assert set(found) == {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "TCA_PORT", "TCA_API_KEY"}
    assert "hidden" not in str(found)
    assert found["PREFECT_API_URL"].mark == "missing"
    assert found["TCA_PORT"].value == "4000"


def test_a_port_in_use_by_a_stranger_is_missing(
    project: Project, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = listener.getsockname()[1]
    monkeypatch.setenv("TCA_PORT", str(port))
    found = found_of(project, "port")
    assert (found["mark"], found["value"]) == ("missing", str(port))
    assert "TCA_PORT" in found["meaning"]
    assert not is_port_free(port)


def test_a_port_held_by_our_own_service_is_fine(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()"
    code = f"{listen}; print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        import psutil

        started_at = psutil.Process(server.pid).create_time()
        register(
            project.home, ServiceRecord("router", server.pid, started_at, f"http://127.0.0.1:{port}", "router.log")
        )
        monkeypatch.setenv("TCA_PORT", port)
        found = found_of(project, "port")
        server.communicate("\n")
    assert (found["mark"], found["meaning"]) == ("ok", "held by our router")


def test_a_port_that_is_none_is_reported_and_not_raised(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCA_PORT", "99999")
    assert "TCA_PORT=99999" in found_of(project, "ports")["value"]


def test_packages_other_than_pinned_are_named(project: Project) -> None:
    (project.root / "constraints.txt").write_text("# pins\nnumpy==0.0.1\nno-such-package==1.0\n", encoding="utf-8")
    found = found_of(project, "packages")
    assert found["mark"] == "note"
    assert found["value"] == "2 of 2 not as pinned"
    assert "no-such-package absent" in found["meaning"]


@pytest.mark.parametrize(
    ("csv", "expected"),
    [
        ("", []),
        ("No devices were found\n", []),
        ("NVIDIA L4, 23034 MiB, 570.12, 8.9\n", [Gpu("NVIDIA L4", "23034 MiB", "570.12", "8.9")]),
    ],
)
def test_nvidia_smi_is_parsed(csv: str, expected: list[Gpu]) -> None:
    assert parse_gpus(csv) == expected


def test_processor_flags_are_read(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor : 0\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor : 1\nflags : other\n", encoding="utf-8"
    )
    assert read_cpu_flags(cpuinfo) == {"fpu", "avx2", "amx_bf16"}
    assert read_cpu_flags(tmp_path / "none") == frozenset()
