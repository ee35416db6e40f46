from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.adapters.registry import CHALLENGER, PREVIOUS, Registry, read_pointer, write_pointer
from flows.errors import OutsideError, ProjectError


@pytest.fixture
def registry(tmp_path: Path, mlflow_uri: str) -> Registry:
    return Registry(mlflow_uri, "detector", tmp_path, tmp_path / "champion.json")


def register(registry: Registry, folder: Path, digest: str):
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_text(digest)
    with registry.run("package", {"tca.seed": "0"}) as log:
        log.metrics({"mAP50-95(B)": 0.5}, step=3)
        log.params({"epochs": 3})
        log.data("data", "md5", 10)
        return registry.register(log.run_id, folder, digest, {"tca.seed": "0"})


def test_an_empty_registry_has_no_champion(registry: Registry, tmp_path: Path) -> None:
    assert registry.champion() is None
    assert registry.versions() == []
    assert read_pointer(tmp_path / "champion.json") is None


def test_a_digest_is_registered_once(registry: Registry, tmp_path: Path) -> None:
    first = register(registry, tmp_path / "package", "a" * 64)
    again = register(registry, tmp_path / "package", "a" * 64)
    assert (first.version, again.version, len(registry.versions())) == ("1", "1", 1)
    challenger = registry.by_alias(CHALLENGER)
    assert challenger is not None
    assert challenger.digest == "a" * 64
    assert (registry.download(challenger) / "model.json").read_text() == "a" * 64


def test_the_throne_moves_and_remembers_who_was_before(registry: Registry, tmp_path: Path) -> None:
    versions = [register(registry, tmp_path / "package", letter * 64) for letter in "ab"]
    for one in (*versions, versions[1]):  # the last, repeated, must change nothing
        registry.set_champion(one.version, one.digest)
    champion, previous = registry.champion(), registry.by_alias(PREVIOUS)
    assert champion is not None
    assert previous is not None
    assert (champion.version, previous.version) == ("2", "1")
    assert read_pointer(tmp_path / "champion.json") == ("2", "b" * 64)


def test_alias_and_pointer_must_agree_on_who_reigns(registry: Registry, tmp_path: Path) -> None:
    assert registry.reigning() is None
    version = register(registry, tmp_path / "package", "a" * 64)
    write_pointer(tmp_path / "champion.json", "1", version.digest)
    with pytest.raises(ProjectError, match="names version 1, but the registry has none"):
        registry.reigning()
    registry.set_champion(version.version, version.digest)
    assert registry.reigning() == registry.champion()
    write_pointer(tmp_path / "champion.json", None, None)
    with pytest.raises(ProjectError, match="names no champion, but the registry has version 1"):
        registry.reigning()


def test_each_step_back_goes_further_back(registry: Registry, tmp_path: Path) -> None:
    one, two, three = (register(registry, tmp_path / "package", letter * 64) for letter in "abc")
    for version in (one, two, three, two):
        registry.set_champion(version.version, version.digest)
    previous = registry.by_alias(PREVIOUS)
    assert previous is not None
    assert previous.version == "1"
    for _ in range(2):
        registry.set_champion(one.version, one.digest)
    champion = registry.champion()
    assert champion is not None
    assert champion.version == "1"
    assert registry.by_alias(PREVIOUS) is None


def test_killed_on_the_way_back_it_is_still_the_way_back(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (register(registry, tmp_path / "package", letter * 64) for letter in "abc")
    for version in (one, two, three):
        registry.set_champion(version.version, version.digest)
    calls = itertools.count(1)
    for name in ("set_registered_model_alias", "delete_registered_model_alias"):
        done = getattr(registry._client, name)

        def killed(*given: str, done: Callable[..., object] = done) -> None:
            done(*given)
            if next(calls) == 1:
                raise OSError("killed")

        monkeypatch.setattr(registry._client, name, killed)
    with pytest.raises(OutsideError, match="killed"):
        registry.set_champion(two.version, two.digest)
    registry.set_champion(two.version, two.digest)
    champion, previous = registry.reigning(), registry.by_alias(PREVIOUS)
    assert champion is not None
    assert previous is not None
    assert (champion.version, previous.version) == ("2", "1")


def test_nobody_reigns_again(registry: Registry, tmp_path: Path) -> None:
    version = register(registry, tmp_path / "package", "a" * 64)
    registry.set_champion(version.version, version.digest)
    for _ in range(2):
        registry.clear_champion()
        assert registry.reigning() is None


def test_a_failed_run_leaves_no_version(registry: Registry) -> None:
    with pytest.raises(RuntimeError), registry.run("train", {}):
        raise RuntimeError
    assert registry.versions() == []


def test_an_interrupted_run_is_killed_and_goes_on(registry: Registry, mlflow_uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_uri)
    with pytest.raises(KeyboardInterrupt), registry.run("tune", {}) as log:
        raise KeyboardInterrupt
    assert client.get_run(log.run_id).info.status == "KILLED"
    with registry.run("tune", {}, resume=log.run_id) as again:
        assert client.get_run(log.run_id).info.status == "RUNNING"
    assert again.run_id == log.run_id
    assert client.get_run(log.run_id).info.status == "FINISHED"


def test_without_mlflow_the_champion_is_known_from_its_pointer_and_kept_package(
    registry: Registry, tmp_path: Path
) -> None:
    silent = Registry("http://127.0.0.1:9", "detector", tmp_path, tmp_path / "champion.json")
    assert silent.known_champion() is None
    version = register(registry, tmp_path / "package", "a" * 64)
    registry.set_champion(version.version, version.digest)
    with pytest.raises(OutsideError, match="refused"):
        silent.known_champion()
    folder = registry.download(version)
    champion = silent.known_champion()
    assert champion is not None
    assert (champion.version, silent.download(champion)) == ("1", folder)
    assert registry.known_champion() == registry.reigning()


def test_an_unknown_version_is_refused(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path / "package", "a" * 64)
    with pytest.raises(ProjectError, match="no version 9"):
        registry.get("9")


def test_a_store_that_does_not_answer_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry("http://127.0.0.1:9", "detector", tmp_path, tmp_path / "champion.json")
    with pytest.raises(OutsideError, match="MLFLOW_TRACKING_URI"):
        registry.champion()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": "1"}'])
def test_a_broken_pointer_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "champion.json"
    path.write_text(content)
    with pytest.raises(ProjectError, match="git checkout"):
        read_pointer(path)


def test_a_pointer_without_champion_is_none(tmp_path: Path) -> None:
    path = tmp_path / "champion.json"
    write_pointer(path, None, None)
    assert read_pointer(path) is None
