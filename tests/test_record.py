from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bentos.detector.contract import EngineSpec, InputSpec, ModelSpec, Thresholds, write_spec
from flows.adapters.registry import ModelVersion
from flows.errors import InputError, ProjectError
from flows.reproducing.collect import MAX_PATCH_BYTES, collect_source, read_epochs
from flows.reproducing.derive import derive_record
from flows.reproducing.record import (
    RECORD_FILE,
    Champion,
    Environment,
    Record,
    Results,
    Source,
    Start,
    hash_files,
    read_record,
    write_record,
)
from tests.projects import run


def make_package(folder: Path) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "reports").mkdir()
    (folder / "reports" / "train.json").write_text('{"passed": true}')
    (folder / "detector.bento").write_bytes(b"bento")
    write_spec(
        folder / "model",
        ModelSpec(
            name="cars",
            classes=("car",),
            input=InputSpec(size_wh=(64, 64)),
            thresholds=Thresholds(conf=0.25, iou=0.6, max_det=10),
            top_k=10,
            engine=EngineSpec(kind="fake", file="model.onnx"),
        ),
    )
    return folder


def make_record(folder: Path, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "model_name": "cars",
        "model_digest": json.loads((folder / "model" / "model.json").read_text())["digest"],
        "source": Source(commit="a" * 40, patch="", changed=()),
        "params_yaml": "seed: 0\n",
        "data_md5": "b" * 32 + ".dir",
        "start": Start(kind="architecture", name="yolo11n.yaml", sha256=None),
        "champion": Champion(version="1", digest="c" * 64),
        "environment": Environment(python="3.11.7", packages={"torch": "1"}, constraints_sha256=None, hardware="x"),
        "seed": 0,
        "results": Results(weights_sha256="d" * 64, best_epoch=1, map50_95=0.5, epochs=({"epoch": 1.0, "box": 0.1},)),
        "files": hash_files(folder),
        "mlflow_run_ids": {},
        "lacks": (),
    }
    return Record(**{**values, **changes})


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    written = write_record(package, make_record(package))
    assert read_record(package) == read_record(package, written.digest) == written
    assert set(written.files) == {"reports/train.json", "detector.bento"}


def test_a_loss_that_overflowed_is_recorded_all_the_same(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    results = Results(weights_sha256="d" * 64, best_epoch=1, map50_95=0.5, epochs=({"box": float("inf")},))
    write_record(package, make_record(package, results=results))
    read = read_record(package)
    assert read is not None
    assert read.results.epochs[0]["box"] == float("inf")


def tamper_record(package: Path) -> None:
    text = (package / RECORD_FILE).read_text()
    (package / RECORD_FILE).write_text(text.replace("yolo11n", "yolo11x"))


def tamper_and_seal(package: Path) -> None:
    read = read_record(package)
    assert read is not None
    write_record(package, read.model_copy(update={"seed": 1}))


def tamper_report(package: Path) -> None:
    (package / "reports" / "train.json").write_text('{"passed": false}')


def tamper_model(package: Path) -> None:
    path = package / "model" / "model.json"
    spec = ModelSpec.model_validate_json(path.read_text())
    write_spec(package / "model", spec.model_copy(update={"name": "other"}))


def drop_bento(package: Path) -> None:
    (package / "detector.bento").unlink()


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (tamper_record, "record.json"),
        (tamper_and_seal, "record.json"),
        (tamper_report, "reports/train.json"),
        (drop_bento, "detector.bento"),
        (tamper_model, "model/model.json"),
    ],
)
def test_what_was_changed_after_packaging_is_refused(tmp_path: Path, tamper: Any, named: str) -> None:
    package = make_package(tmp_path / "package")
    sealed = write_record(package, make_record(package))
    tamper(package)
    with pytest.raises(InputError, match=f"{named} is not what was registered"):
        read_record(package, sealed.digest)


def test_a_missing_a_damaged_and_a_newer_record_are_told_apart(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    assert read_record(package) is None
    with pytest.raises(ProjectError, match="the registry has the digest of one"):
        read_record(package, "d" * 64)
    (package / RECORD_FILE).write_text("{")
    with pytest.raises(InputError, match=r"record\.json of the package"):
        read_record(package)
    write_record(package, make_record(package))
    content = json.loads((package / RECORD_FILE).read_text())
    (package / RECORD_FILE).write_text(json.dumps({**content, "schema_version": 2}))
    with pytest.raises(InputError, match="schema_version"):
        read_record(package)


def test_uncommitted_changes_are_recorded_unless_secret_or_huge(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    module = tmp_path / "flows" / "a.py"
    module.write_text("a = 1\n")
    assert collect_source(tmp_path)[1] == ("there is no git commit",)
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "git", "add", "-A")
    run(tmp_path, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "first")
    module.write_text("a = 2\n")
    (tmp_path / "flows" / "b.py").write_text("b = 1\n")
    source, lacks = collect_source(tmp_path)
    assert (lacks, source.changed) == ((), ("flows/a.py", "flows/b.py"))
    assert "+a = 2" in source.patch
    secret = "AKIA" + "A" * 16
    for text, lack in (
        (f"key = '{secret}'\n", "seem to hold a secret"),
        ("uri = 'postgresql://me:pass@host/db'\n", "seem to hold a secret"),
        ("x" * (MAX_PATCH_BYTES + 1), "1,000,000 a record takes"),
        ("a = '\udcff'\n", "no UTF-8 text"),
    ):
        module.write_text(text, errors="surrogateescape")
        source, (said,) = collect_source(tmp_path)
        assert lack in said
        assert source.patch == ""
        assert secret not in source.model_dump_json()


def test_epochs_without_their_times(tmp_path: Path) -> None:
    assert read_epochs(tmp_path / "epochs.csv") == ()
    (tmp_path / "epochs.csv").write_text("epoch,train_box_loss,seconds,gpu_use\n1,0.25,3.5,\n")
    assert read_epochs(tmp_path / "epochs.csv") == ({"epoch": 1.0, "train_box_loss": 0.25},)


TRAIN = {
    "weights_sha256": "d" * 64,
    "best_epoch": 2,
    "map50_95": 0.5,
    "seed": 3,
    "started_from": "weights.pt 0123456789ab",
    "provenance": {
        "git_commit": "a" * 40,
        "git_dirty": False,
        "data_md5": "b" * 32 + ".dir",
        "seed": 3,
        "versions": {"python": "3.11.7", "torch": "1"},
        "hardware": "x",
    },
}


def derive(folder: Path, train: dict[str, Any], **tags: str) -> Record:
    package = make_package(folder)
    (package / "reports" / "train.json").write_text(json.dumps(train))
    (package / "reports" / "evaluate.json").write_text(
        json.dumps(
            {
                "champion_version": "4",
                "ground_truth_sha256": "e",
                "challenger": {
                    "predictions_sha256": "f",
                    "figures": {"map50_95": {"value": 0.5, "lower": 0.4, "upper": 0.6, "standard_error": 0.1}},
                },
            }
        )
    )
    return derive_record(ModelVersion("5", "d" * 64, "run", tags), package)


def test_an_older_version_is_made_from_its_tags_and_reports(tmp_path: Path) -> None:
    record = derive(tmp_path / "package", TRAIN, **{"tca.git_commit": "9" * 40, "tca.git_dirty": "False"})
    assert record.lacks == ()
    assert record.source.commit == "9" * 40
    assert record.start == Start(kind="champion", name="weights.pt", sha256="0123456789ab")
    assert record.champion == Champion(version="4", digest=None)
    assert record.environment.packages == {"torch": "1"}
    assert record.results.frozen_map50_95 is not None
    assert record.results.frozen_map50_95.upper == 0.6


def test_an_older_version_says_what_it_lacks(tmp_path: Path) -> None:
    record = derive(tmp_path / "package", {**TRAIN, "provenance": {}})
    assert record.lacks == (
        "nothing names its git commit",
        "nothing names the version of its data",
        "nothing names the versions of its packages",
    )
    dirty = derive(tmp_path / "second", TRAIN, **{"tca.git_dirty": "True"})
    assert dirty.lacks == ("the working tree had uncommitted changes, and nothing holds them",)


def test_without_a_training_report_nothing_can_be_derived(tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    (package / "reports" / "train.json").unlink()
    with pytest.raises(ProjectError, match="nothing says how it was made"):
        derive_record(ModelVersion("5", "d" * 64, "run", {}), package)
