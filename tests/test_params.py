from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import ParamsError
from flows.params import Params
from flows.params_file import apply_overrides, describe_params, parse_override, read_params

COMMITTED = Path(__file__).resolve().parents[1] / "params.yaml"


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes(COMMITTED.read_bytes())
    return path


def test_committed_params_are_valid_and_their_digest_follows_their_values() -> None:
    params = read_params(COMMITTED)
    assert params.digest() == read_params(COMMITTED).digest()
    assert params.digest() != read_params(COMMITTED, ["train.epochs=99"]).digest()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.image_size=321"], "train.image_size = 321 is not a multiple of 32 (nearest: 320, 352)"),
        (["train.epoch=3"], "there is no key train.epoch (did you mean epochs?)"),
        (["trian.epochs=3"], "there is no key trian (did you mean train?)"),
        (["train.epochs=0"], "train.epochs = 0: input should be greater than or equal to 1"),
        (["train.epochs=abc"], "train.epochs = 'abc': input should be a valid integer"),
        (["train.epochs=2.5"], "train.epochs = 2.5"),
        (["train.optimizer=Lion"], "train.optimizer = 'Lion'"),
        (["evaluate.margin=2"], "evaluate.margin = 2: input should be less than or equal to 1"),
        (["promote.canary_steps=[50, 10]"], "must rise from step to step, not [50, 10]"),
        (["tune.space.learning_rate={low: 3, high: 1}"], "the range is empty: low 3"),
        (
            ["validate.severity.image_readable=warn"],
            "'image_readable', which does not exist (did you mean images_readable?)",
        ),
        (["tune.space.lr={low: 0.1, high: 1}"], "names no key of train: lr"),
        (["tune.space.mosaic={low: 0.0, high: 1.0, log: true}"], "a logarithmic range needs low > 0"),
        (["package.name=UPPER"], "package.name = 'UPPER'"),
        (["render.size_wh=[640, 10]"], "each side must be 64 to 4096 px"),
        (["epochs"], "is not of the form section.key=value"),
        (["=3"], "is not of the form section.key=value"),
        (["train.epochs=[1"], "the value is not YAML"),
    ],
)
def test_a_bad_value_is_refused_with_file_key_value_and_range(overrides: list[str], said: str) -> None:
    with pytest.raises(ParamsError) as caught:
        read_params(COMMITTED, overrides)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "must hold sections, not NoneType"),
        ("- 1\n", "must hold sections, not list"),
        ("train: [\n", "is not YAML"),
        ("seed: 1\n", "params.yaml: train is missing"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ParamsError, match="params.yaml") as caught:
        read_params(path)
    assert said in str(caught.value)


def test_a_missing_file_says_where_it_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="Expected it at"):
        read_params(tmp_path / "params.yaml")


def test_an_unknown_key_names_the_nearest_known_one(params_file: Path) -> None:
    tree = yaml.safe_load(params_file.read_text())
    tree["train"]["epochz"] = 3
    params_file.write_text(yaml.safe_dump(tree))
    with pytest.raises(ParamsError, match=r"train\.epochz is not a known key \(did you mean epochs\?\)"):
        read_params(params_file)


def test_an_override_is_written_and_comments_stay(params_file: Path) -> None:
    params, changes = apply_overrides(params_file, ["train.epochs=3", "promote.canary_steps=[5, 25]"])
    assert params.train.epochs == 3
    assert len(changes) == 2
    text = params_file.read_text()
    assert "of rendering, training, tuning and resampling" in text
    assert read_params(params_file) == params
    unchanged = sum(old == new for old, new in zip(COMMITTED.read_text().splitlines(), text.splitlines(), strict=True))
    assert unchanged >= len(text.splitlines()) - 2


def test_nothing_is_written_when_one_of_several_overrides_is_wrong(params_file: Path) -> None:
    before = params_file.read_bytes()
    with pytest.raises(ParamsError):
        apply_overrides(params_file, ["train.epochs=3", "train.batch=0"])
    assert params_file.read_bytes() == before


def test_an_override_that_changes_nothing_leaves_the_file_alone(params_file: Path) -> None:
    before = params_file.read_bytes()
    value = read_params(params_file).train.epochs
    assert apply_overrides(params_file, [f"train.epochs={value}"])[1] == []
    assert params_file.read_bytes() == before


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_as_override_is_parsed_or_refused(text: str) -> None:
    try:
        keys, _ = parse_override(text)
    except ParamsError:
        return
    assert all(isinstance(key, str) for key in keys)


def test_every_key_is_described() -> None:
    text = describe_params(read_params(COMMITTED))
    for section in Params.model_fields.values():
        assert section.alias is None or f"{section.alias}:" in text
    assert "epochs" in text
