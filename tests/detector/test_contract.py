"""model.json: what is written is what is read, and nothing that was changed passes."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from bentos.detector.contract import file_sha256, read_spec, spec_digest, verify_files, write_spec
from bentos.detector.errors import ModelRefused


def test_round_trip(tmp_path, make_spec) -> None:
    written = write_spec(tmp_path, make_spec())
    assert read_spec(tmp_path) == written
    assert written.digest == spec_digest(written)
    assert len(written.digest) == 64


def test_digest_is_over_canonical_json_without_itself(make_spec) -> None:
    import hashlib

    spec = make_spec()
    content = spec.model_dump(mode="json")
    del content["digest"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert spec_digest(spec) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tree: tree.pop("digest"), "its digest is empty"),
        (lambda tree: tree.update(name="other"), "it was changed after the export"),
        (lambda tree: tree.update(colour="red"), "colour: Extra inputs are not permitted"),
        (lambda tree: tree.update(classes=[]), "classes: .*at least 1 item"),
        (lambda tree: tree["thresholds"].update(conf=1.5), "thresholds.conf: .*less than or equal to 1"),
        (lambda tree: tree.update(schema_version=2), "schema_version: "),
        (lambda tree: tree.update(files={"../x": "0"}), "leads out of the model directory"),
        (lambda tree: tree.update(files={"a.bin": "0"}), "engine.file 'fake.json' is not among files"),
    ],
)
def test_a_changed_model_json_is_refused(tmp_path, make_spec, change, reason) -> None:
    write_spec(tmp_path, make_spec())
    tree = json.loads((tmp_path / "model.json").read_text())
    change(tree)
    (tmp_path / "model.json").write_text(json.dumps(tree))
    with pytest.raises(ModelRefused, match=reason):
        read_spec(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "is missing: .* no model directory"), (b"{", "Invalid JSON"), (b"\xff", "cannot be read")],
)
def test_no_model_json(tmp_path, content, reason) -> None:
    if content is not None:
        (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(ModelRefused, match=reason):
        read_spec(tmp_path)


def test_files_are_checked_against_their_digests(fake_dir, make_spec) -> None:
    spec = read_spec(fake_dir)
    verify_files(fake_dir, spec)
    (fake_dir / "fake.json").write_text('{"delay_ms": 1}')
    with pytest.raises(ModelRefused, match="damaged or replaced. Re-export"):
        verify_files(fake_dir, spec)
    (fake_dir / "fake.json").unlink()
    with pytest.raises(ModelRefused, match="is missing, but model.json names it"):
        verify_files(fake_dir, spec)


def test_a_real_engine_needs_a_recorded_digest(tmp_path, make_spec) -> None:
    from bentos.detector.contract import EngineSpec

    spec = make_spec(engine=EngineSpec(kind="openvino", file="model.xml"))
    with pytest.raises(ModelRefused, match="records no sha256 for model.xml"):
        verify_files(tmp_path, spec)


def test_models_are_frozen(make_spec) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_spec().name = "other"


def test_file_sha256(tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
