"""Versions of data/ in a real git and DVC repository: three of them, and a remote in a folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows import data_history
from flows.adapters.data_versions import find_version, open_version, read_history
from flows.adapters.data_versions_checkout import interrupted_checkout
from flows.adapters.data_versions_remotes import add_remote, read_remotes
from flows.adapters.data_versions_transfer import list_working, readable_error
from flows.adapters.registry import ModelVersion
from flows.adapters.versioning import add_data, read_staleness_of_data
from flows.data import version_data
from flows.data_checkout import checkout_data, pull_data, push_data
from flows.data_describe import describe_data, description_text, size_text
from flows.data_difference import diff_data, difference_text, difference_to_champion
from flows.data_history import history_text, read_data_history
from flows.data_versions import version_of
from flows.dataset.layout import Frame, write_data_yaml, write_frames
from flows.errors import Conflict, InputError, OutsideError, ProjectError
from flows.provenance import read_data_md5
from flows.settings import Project
from tests.projects import copy_project, run
from tests.test_cli import tca

NAMES = ("cam1 straße 'a'", "cam1_b", "cam2_ü", "cam2_d")
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")


def draw(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(100, 140, (48, 64, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    Image.fromarray(noise.astype(np.uint8)).save(path)


def write_data(root: Path, frames: list[tuple[str, int, str]], classes: tuple[str, ...] = ("car", "bus")) -> None:
    """data/ with these frames: name, seed of the image, label text; the last is for validation."""
    shutil.rmtree(root, ignore_errors=True)
    listed = []
    for number, (name, seed, label) in enumerate(frames):
        split = "val" if number == len(frames) - 1 else "train"
        frame = Frame(f"images/{split}/{name}.png", split, name[:4], "c1", "", "day")
        draw(root / frame.image, seed)
        (root / frame.label).parent.mkdir(parents=True, exist_ok=True)
        (root / frame.label).write_text(label)
        listed.append(frame)
    write_data_yaml(root, classes)
    write_frames(root, listed)


def record(root: Path, subject: str) -> str:
    add_data(root, root / "data")
    run(root, "git", "add", "data.dvc", ".gitignore")
    run(root, "git", *AUTHOR, "commit", "-qm", subject)
    return str(read_data_md5(root))


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    """A project with three committed versions, oldest first; data/ holds the last. Not to be changed by a test."""
    root = copy_project(tmp_path_factory.mktemp("versions") / "my project")
    data = root / "data"
    write_data(data, [(name, seed, "0 0.5 0.5 0.2 0.2\n") for seed, name in enumerate(NAMES)])
    md5s = [record(root, "first frames")]
    write_data(data, [(name, seed, "0 0.5 0.5 0.2 0.2\n") for seed, name in enumerate((*NAMES, "cam3_e"))])
    md5s.append(record(root, "a new camera"))
    labels = ["1 0.5 0.5 0.2 0.2\n", "0 0.5 0.5 0.2 0.2\n0 0.2 0.2 0.1 0.1\n", "", *["0 0.5 0.5 0.2 0.2\n"] * 2]
    write_data(data, [(name, seed, labels[seed]) for seed, name in enumerate((*NAMES, "cam3_e"))])
    md5s.append(record(root, "labels corrected: bus, not car"))
    return Project(root), md5s


@pytest.fixture
def own(versions: tuple[Project, list[str]], tmp_path: Path) -> Project:
    """A copy of the project that a test may change."""
    shutil.copytree(versions[0].root, tmp_path / "own", symlinks=True)
    return Project(tmp_path / "own")


def test_the_history_of_a_file_is_read_newest_first(versions: tuple[Project, list[str]]) -> None:
    project, md5s = versions
    found = read_history(project.root)
    assert [one.md5 for one in found] == md5s[::-1]
    assert found[1].introduction is not None
    assert (found[1].introduction.author, found[1].introduction.subject) == ("Ada", "a new camera")
    assert found[0].num_files == 12


@pytest.mark.parametrize("revision", ["HEAD~1", "{}", "{:.4}", "{:.12}"])
def test_a_version_is_found_by_revision_and_by_its_digits(versions: tuple[Project, list[str]], revision: str) -> None:
    project, md5s = versions
    assert find_version(project.root, revision.format(md5s[1])).md5 == md5s[1]


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("nonsense", "neither a git revision nor a version"),
        ("HEAD~3", "has no data.dvc"),
        ("--all", "neither a git revision"),
        ("", "neither a git revision"),
        ("0000", "neither a git revision"),
    ],
)
def test_an_unknown_revision_is_an_input_error(versions: tuple[Project, list[str]], revision: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        find_version(versions[0].root, revision)


def test_without_git_or_a_champion_the_error_says_so(tmp_path: Path, versions: tuple[Project, list[str]]) -> None:
    with pytest.raises(ProjectError, match="git init"):
        read_history(tmp_path)
    with pytest.raises(ProjectError, match="no champion"):
        version_of(versions[0], "champion")


def test_the_history_counts_frames_and_marks_the_current_one(versions: tuple[Project, list[str]]) -> None:
    found = read_data_history(versions[0])
    assert [(one["frames"], one["frames_more"]) for one in found["versions"]] == [(5, 0), (5, 1), (4, 4)]
    assert [one["is_current"] for one in found["versions"]] == [True, False, False]
    assert json.loads(json.dumps(found)) == found
    text = history_text(found)
    assert f"* {versions[1][2][:8]}" in text
    assert "Ada: a new camera" in text


def test_the_history_names_the_models_trained_on_a_version(
    versions: tuple[Project, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, md5s = versions
    models = [ModelVersion(str(number + 1), "d", "r", {"tca.data_md5": md5}) for number, md5 in enumerate(md5s[:2])]

    class Known:
        def versions(self) -> list[ModelVersion]:
            return models

        def by_alias(self, alias: str) -> ModelVersion:
            assert alias == "champion"
            return models[0]

    class Silent:
        def versions(self) -> list[ModelVersion]:
            raise OutsideError("MLflow at nowhere failed")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nowhere.invalid")
    monkeypatch.setattr(data_history, "project_registry", lambda project: Known())
    found = read_data_history(project)["versions"]
    assert [(one["models"], one["is_champions"]) for one in found] == [([], False), (["v2"], False), (["v1"], True)]
    monkeypatch.setattr(data_history, "project_registry", lambda project: Silent())
    found_without = read_data_history(project)
    assert not found_without["models_known"]
    assert "MLflow at nowhere failed" in history_text(found_without)


def test_a_version_is_described(versions: tuple[Project, list[str]]) -> None:
    project, md5s = versions
    found = describe_data(project)
    assert (found["version"], found["differs_from_data_dvc"], found["commit"]["author"]) == (md5s[2], False, "Ada")
    assert (found["num_frames"], found["num_boxes"], found["num_empty"]) == (5, 5, 1)
    assert found["boxes_by_class"] == {
        "car": {"train": 3, "val": 1, "test": 0},
        "bus": {"train": 1, "val": 0, "test": 0},
    }
    assert found["image_sizes"] == {"64 x 48": 5}
    assert found["size_bytes"] == read_history(project.root)[0].size_bytes
    old = describe_data(project, "HEAD~2")
    assert (old["num_frames"], old["commit"]["subject"]) == (4, "first frames")
    assert "cam1 2, cam2 2" in description_text(old)
    assert "labels corrected" in description_text(found)


@pytest.mark.parametrize(("size", "text"), [(None, "-"), (999, "999 B"), (39_535_586, "39.5 MB"), (2e15, "2000.0 TB")])
def test_sizes_are_readable(size: int | None, text: str) -> None:
    assert size_text(size) == text


def test_versions_are_compared_with_pictures(versions: tuple[Project, list[str]]) -> None:
    project, md5s = versions
    found = diff_data(project, "HEAD~1", "HEAD")
    assert found.sentence == "3 frames relabelled"
    counts = found.counts
    assert (counts.boxes_added, counts.boxes_removed, counts.boxes_relabelled) == (1, 1, 1)
    html = (project.reports / "data_diff.html").read_text()
    assert "car is now bus" in html
    assert html.count("data:image/jpeg") == 6
    assert "cam1 straße &#x27;a&#x27;" in html
    assert f"{md5s[1][:8]} (HEAD~1)" in html
    first = diff_data(project, md5s[0][:8])
    assert first.after == "data/"
    assert first.cameras_added == ("cam3",)
    assert "cameras     added: cam3" in difference_text(first)


def test_the_difference_to_the_champion_is_a_sentence(versions: tuple[Project, list[str]]) -> None:
    project, md5s = versions

    def champion(md5: str) -> ModelVersion:
        return ModelVersion("1", "digest", "run", {"tca.data_md5": md5})

    told = difference_to_champion(project, md5s[2], champion(md5s[1]))
    assert told.sentence == f"3 frames relabelled, since the champion's version {md5s[1][:8]}"
    assert told.frames_relabelled == 3
    added = difference_to_champion(project, md5s[1], champion(md5s[0]))
    assert added.sentence.startswith("1 frame added (cam3)")
    assert "the same data" in difference_to_champion(project, md5s[2], champion(md5s[2])).sentence
    assert "no champion" in difference_to_champion(project, md5s[2], None).sentence
    lost = difference_to_champion(project, md5s[2], champion("0" * 32 + ".dir"))
    assert "cannot be said: data version 00000000 is not in the cache" in lost.sentence
    assert lost.frames_added is None
    assert "no data version" in difference_to_champion(project, None, champion(md5s[2])).sentence


def test_going_back_and_forth(own: Project, versions: tuple[Project, list[str]]) -> None:
    md5s = versions[1]
    checkout_data(own, "HEAD~2")
    assert read_data_md5(own.root) == md5s[0]
    assert read_staleness_of_data(own.root) == []
    assert sorted(path.stem for path in own.data.rglob("*.png")) == sorted(NAMES)
    assert [one["is_current"] for one in read_data_history(own)["versions"]] == [True, False, False, False]
    (own.data / "images/train/cam1_b.png").unlink()
    with pytest.raises(Conflict, match="no version holds"):
        checkout_data(own, "HEAD")
    assert read_data_md5(own.root) == md5s[0]
    draw(own.data / "images/train/cam1_b.png", 1)
    checkout_data(own, md5s[2][:8])
    assert read_data_md5(own.root) == md5s[2]


def test_a_stopped_checkout_is_ended_by_the_same_command(
    own: Project, versions: tuple[Project, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    md5s = versions[1]

    def stop(root: Path) -> None:
        shutil.copyfile(open_version(root, md5s[0]).path_of("frames.csv"), own.data / "frames.csv")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("flows.adapters.data_versions_checkout.restore", stop)
        with pytest.raises(OutsideError, match=f"To go on: tca data checkout {md5s[0][:8]}"):
            checkout_data(own, md5s[0][:8])
    assert interrupted_checkout(own.root) == (md5s[2], md5s[0])
    with pytest.raises(Conflict, match="a checkout was stopped"):
        version_data(own)
    (own.data / "images/train/new.png").write_bytes(b"mine")
    with pytest.raises(Conflict, match="no version holds"):
        checkout_data(own, md5s[0][:8])
    (own.data / "images/train/new.png").unlink()
    checkout_data(own, md5s[0][:8])
    assert list_working(own.root).md5 == md5s[0]
    assert interrupted_checkout(own.root) is None


def test_a_version_travels_over_a_folder(own: Project, versions: tuple[Project, list[str]], tmp_path: Path) -> None:
    md5s = versions[1]
    with pytest.raises(InputError, match="no default remote"):
        push_data(own)
    assert add_remote(own.root, "store", str(tmp_path / "a store"))
    push_data(own, everything=True)
    shutil.rmtree(own.root / ".dvc" / "cache")
    shutil.rmtree(own.data)
    pull_data(own)
    assert list_working(own.root).md5 == md5s[2]
    assert diff_data(own, "HEAD~1").sentence == "3 frames relabelled"  # labels and pictures are fetched as needed
    assert not open_version(own.root, md5s[1]).path_of("frames.csv").is_dir()
    shutil.rmtree(tmp_path / "a store")
    with pytest.raises(OutsideError, match="not in the cache of this machine"):
        diff_data(own, "HEAD~2")
    with pytest.raises(InputError, match="there is no remote other"):
        push_data(own, "other")


@pytest.mark.parametrize(
    ("name", "url", "said"),
    [
        ("x", "s3://key:secret@bucket/folder", "holds credentials"),
        ("a b", "/tmp/x", "no name"),
        ("-d", "/tmp/x", "no name"),
        ("x", " ", "URL is empty"),
    ],
)
def test_a_wrong_remote_is_refused(versions: tuple[Project, list[str]], name: str, url: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        add_remote(versions[0].root, name, url)
    assert read_remotes(versions[0].root) == ({}, None)


def test_a_full_disk_is_told() -> None:
    assert "disk is full" in readable_error(OSError(28, "No space left on device"), "r").message


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The address of an S3 server of this test, with dummy credentials in the environment."""
    from moto.server import ThreadedMotoServer

    for key in [key for key in os.environ if key.startswith("AWS_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/no/such/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/no/such/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    yield
    server.stop()


def test_a_version_travels_over_s3(
    own: Project, versions: tuple[Project, list[str]], s3: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket="frames")
    add_remote(own.root, "cloud", "s3://frames/a folder")
    push_data(own)
    shutil.rmtree(own.root / ".dvc" / "cache")
    shutil.rmtree(own.data)
    pull_data(own)
    assert list_working(own.root).md5 == versions[1][2]
    add_remote(own.root, "wrong", "s3://no-such-bucket-here/x")
    with pytest.raises(InputError, match="no such bucket"):
        push_data(own, "wrong")
    assert [one["Name"] for one in boto3.client("s3").list_buckets()["Buckets"]] == ["frames"]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    add_remote(own.root, "other", "s3://frames/other")
    with pytest.raises(OutsideError, match="AWS_ACCESS_KEY_ID"):
        push_data(own, "other")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("data", "diff", "nonsense"), 2, "neither a git revision"),
        (("data", "describe", "champion"), 2, "no champion"),
        (("data", "checkout"), 2, "Missing argument"),
        (("data", "push"), 2, "no default remote"),
        (("data", "remote", "add", "x", "s3://a:b@c"), 2, "holds credentials"),
    ],
)
def test_wrong_arguments_leave_one_readable_line(
    versions: tuple[Project, list[str]], arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = tca(versions[0].root, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert said in done.stderr


def test_the_commands_print_json(versions: tuple[Project, list[str]]) -> None:
    project, md5s = versions
    done = tca(project.root, "data", "history", "--json")
    assert [one["version"] for one in json.loads(done.stdout)["versions"]] == md5s[::-1], done.stderr
    done = tca(project.root, "data", "diff", "HEAD~1", "--json")
    assert json.loads(done.stdout)["counts"]["frames_relabelled"] == 3, done.stderr


def test_a_project_without_versions_says_so(project_dir: Path) -> None:
    project = Project(project_dir)
    assert "no version" in history_text(read_data_history(project))
    with pytest.raises(ProjectError, match="tca data version"):
        push_data(project)
    with pytest.raises(InputError, match="there is no data/"):
        describe_data(project)
