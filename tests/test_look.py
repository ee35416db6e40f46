from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.adapters.processes import ServiceRecord, register
from flows.adapters.registry import ACCURACY, Registry, write_pointer
from flows.errors import Conflict, ProjectError
from flows.look import ListedVersion, index_page, read_promotions, read_versions, write_index
from flows.pages_server import PagesServer
from flows.params_file import read_params
from flows.rollout.record import Record
from flows.settings import Project, read_settings

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("TCA_HOME", "TCA_PORT", "TCA_ADMIN_PORT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "city"
    (root / "reports").mkdir(parents=True)
    shutil.copy(REPOSITORY / "params.yaml", root)
    return Project(root)


@pytest.fixture
def server(project: Project) -> Iterator[PagesServer]:
    with PagesServer(project.reports, 0, lambda: write_index(project)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: PagesServer, target: str, host: str = "127.0.0.1") -> tuple[int, str]:
    # http.client sends the target as it is, which urllib would tidy up first.
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.putrequest("GET", target, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_an_empty_project_says_what_to_do(project: Project) -> None:
    text = write_index(project).read_text(encoding="utf-8")
    assert "No champion reigns yet" in text
    assert "No version is registered yet" in text
    assert "tca release" in text


def test_the_page_leads_to_what_is_there(project: Project) -> None:
    write_pointer(project.champion_file, "2", "f" * 64)
    (project.reports / "validate.html").write_text("x", encoding="utf-8")
    content = {"passed": False, "sentence": "3 checks failed <b>", "finished_at": "2026-01-02T03:04:05+00:00"}
    (project.reports / "validate.json").write_text(json.dumps(content), encoding="utf-8")
    (project.reports / "train.json").write_text('{"passed": true, "sentence": "trained"}', encoding="utf-8")
    (project.reports / "data_docs").mkdir()
    (project.reports / "data_docs" / "index.html").write_text("x", encoding="utf-8")
    register(project.home, ServiceRecord("router", 2**22 + 1, 0.0, "http://127.0.0.1:3000", "router.log"))
    versions = [ListedVersion("2", ("champion",), "f" * 64, "0.5634", "abc", "def")]
    text = index_page(project, versions)
    assert "Version 2 reigns, digest ffffffffffff." in text
    for href in ("validate.html", "train.json", "data_docs/index.html", "http://127.0.0.1:3000"):
        assert f'href="{href}"' in text
    assert "3 checks failed &lt;b&gt;" in text
    assert "0.563" in text
    assert "ended" in text
    assert "tca card 2" in text


def test_cards_are_led_to_where_they_are_or_can_be_made(project: Project) -> None:
    versions = [ListedVersion(number, (), "f" * 64, "0.5", "abc", "def") for number in ("2", "1")]
    (project.reports / "cards").mkdir()
    (project.reports / "cards" / "1.html").write_text("x", encoding="utf-8")
    text = index_page(project, versions)
    assert 'href="cards/1.html"' in text
    assert 'href="cards/2.html"' not in text
    assert 'href="cards/2.html"' in index_page(project, versions, makes_cards=True)


def test_a_card_is_made_when_it_is_first_asked_for(project: Project) -> None:
    made: list[str] = []

    def make(version: str) -> None:
        if version == "9":
            raise ProjectError("there is no version 9", "See: tca status")
        made.append(version)
        (project.reports / "cards").mkdir(exist_ok=True)
        (project.reports / "cards" / f"{version}.html").write_text(f"card {version}", encoding="utf-8")

    with PagesServer(project.reports, 0, lambda: None, make) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        assert get(running, "/cards/3.html") == (200, "card 3")
        assert get(running, "/cards/3.html?again") == (200, "card 3")
        status, body = get(running, "/cards/9.html")
        assert (status, "there is no version 9" in body) == (404, True)
        assert get(running, "/cards/../3.html")[0] == 404
        assert get(running, "/cards/champion.html")[0] == 404
        assert get(running, "/cards/4.html", host="evil.example")[0] == 403
        running.shutdown()
    assert made == ["3"]


def test_a_registry_that_fails_is_a_sentence(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCA_PORT", "none")
    found = read_versions(project)
    assert isinstance(found, str)
    assert "TCA_PORT=none" in found


def test_versions_come_from_the_registry_newest_first_with_their_roles(project: Project) -> None:
    package = project.root / "package"
    package.mkdir()
    name, settings = read_params(project.params_file).package.name, read_settings(project)
    registry = Registry(settings.tracking_uri, name, project.home, project.champion_file)
    for digest in ("a" * 64, "b" * 64):
        with registry.run("package", {}) as log:
            made = registry.register(log.run_id, package, digest, {ACCURACY: "0.5"})
    registry.set_champion("1", "a" * 64)
    found = read_versions(project)
    assert isinstance(found, list)
    assert made.version == "2"
    assert [(one.version, one.aliases, one.digest[0]) for one in found] == [
        ("2", ("challenger",), "b"),
        ("1", ("champion",), "a"),
    ]


def test_promotions_are_listed_last_first_and_half_lines_do_not_matter(tmp_path: Path) -> None:
    assert read_promotions(tmp_path / "absent") == []
    (tmp_path / "2.jsonl").write_text(
        '{"state": "SHADOW"}\n{"state": "DONE", "sentence": "promoted"}\n', encoding="utf-8"
    )
    (tmp_path / "10.jsonl").write_text('{"state": "CANARY", "sentence": "10 %"}\n[1]\n{"sta', encoding="utf-8")
    (tmp_path / "2.html").write_text("x", encoding="utf-8")
    (tmp_path / "1.jsonl").write_text("", encoding="utf-8")
    found = read_promotions(tmp_path)
    assert [(one.name, one.state, one.sentence) for one in found] == [
        ("10", "CANARY", "10 %"),
        ("2", "DONE", "promoted"),
        ("1", "", ""),
    ]
    assert [one.href for one in found] == ["promotions/10.jsonl", "promotions/2.html", "promotions/1.jsonl"]


def test_the_page_of_a_promotion_is_made_where_it_is_missing_or_old(project: Project) -> None:
    folder, params = project.records, read_params(project.params_file).promote.model_dump(mode="json")
    record = Record(folder / "3.jsonl")
    record.append("opened", "IDLE", "version 3 challenges", 100.0, challenger=["3", "c"], champion=None, params=params)
    assert [one.href for one in read_promotions(folder)] == ["promotions/3.html"]
    made = (folder / "3.html").read_text()
    assert "version 3 challenges" in made
    os.utime(folder / "3.html", ns=(0, 0))
    record.append("state", "OFFLINE_GATE", "on it goes", 101.0, event="advance", step=0, left="IDLE")
    read_promotions(folder)
    assert "on it goes" in (folder / "3.html").read_text()


def test_the_index_is_made_anew_for_every_request(project: Project, server: PagesServer) -> None:
    assert "No champion reigns yet" in get(server, "/")[1]
    write_pointer(project.champion_file, "7", "a" * 64)
    assert "Version 7 reigns" in get(server, "/?again")[1]
    assert "Version 7 reigns" in get(server, "/index.html")[1]


def test_files_of_the_folder_are_served(project: Project, server: PagesServer) -> None:
    (project.reports / "validate.html").write_text("the page", encoding="utf-8")
    assert get(server, "/validate.html") == (200, "the page")
    assert get(server, "/absent.html")[0] == 404


@pytest.mark.parametrize(
    "target",
    [
        "/../params.yaml",
        "/..%2fparams.yaml",
        "/%2e%2e/params.yaml",
        "/promotions/../../params.yaml",
        "//../params.yaml",
        "/..\\params.yaml",
        "/link.yaml",
        "/promotions/",
    ],
)
def test_nothing_outside_and_no_listing_is_served(project: Project, server: PagesServer, target: str) -> None:
    (project.reports / "promotions").mkdir()
    (project.reports / "link.yaml").symlink_to(project.params_file)
    status, body = get(server, target)
    assert status == 404
    assert "seed" not in body


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example", 403), ("", 403), ("localhost:1", 200), ("127.0.0.1", 200)]
)
def test_only_this_machines_names_are_answered(server: PagesServer, host: str, status: int) -> None:
    assert get(server, "/", host)[0] == status


def test_a_port_in_use_is_said(project: Project, server: PagesServer) -> None:
    port = server.server_address[1]
    with pytest.raises(Conflict, match=f"port {port} is in use.*--port"):
        PagesServer(project.reports, port, lambda: None)
