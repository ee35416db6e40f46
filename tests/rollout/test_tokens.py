from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.errors import InputError
from flows.rollout.tokens import check_token, make_key, new_claims, sign_token

DIGEST, NOW = "d" * 64, 1_800_000_000.0


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "ci.key")
    return tmp_path / "ci.key"


@pytest.fixture
def token(key: Path) -> str:
    return sign_token(key, new_claims("ci", DIGEST, None, NOW, 3600.0))


def test_a_token_is_checked_with_the_public_half(key: Path, token: str) -> None:
    claims = check_token(token, key.with_name("ci.key.pub"), DIGEST, 7, NOW + 10)
    assert (claims.sub, claims.digest, claims.promotion, claims.exp) == ("ci", DIGEST, None, NOW + 3600)
    assert check_token(token, key, DIGEST, 7, NOW) == claims
    assert token != sign_token(key, new_claims("ci", DIGEST, None, NOW, 3600.0))


def test_keys_are_for_their_owner_and_never_overwritten(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="exists already"):
        make_key(key)


@pytest.mark.parametrize(
    ("digest", "promotion", "now", "problem"),
    [
        ("e" * 64, 7, NOW, "agrees to digest dddddddddddd, the challenger is eeeeeeeeeeee"),
        (DIGEST, 8, NOW, "agrees to promotion 7, not to 8"),
        (DIGEST, 7, NOW + 3600, "worthless for 0 s"),
        (DIGEST, 7, NOW - 61, "made 61 s in the future"),
    ],
)
def test_a_token_about_something_else(key: Path, digest: str, promotion: int, now: float, problem: str) -> None:
    token = sign_token(key, new_claims("ci", DIGEST, 7, NOW, 3600.0))
    with pytest.raises(InputError, match=problem):
        check_token(token, key, digest, promotion, now)


def test_another_key(token: str, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    with pytest.raises(InputError, match="not signed with this key"):
        check_token(token, other, DIGEST, 7, NOW)


def spelled(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@pytest.mark.parametrize("header", [{"alg": "none", "typ": "JWT"}, {"alg": "HS256", "typ": "JWT"}, {}])
def test_no_other_algorithm_whatever_the_header_says(key: Path, token: str, header: dict[str, str]) -> None:
    _, body, _ = token.split(".")
    for signature in ("", spelled(b"0" * 64)):
        with pytest.raises(InputError):
            check_token(f"{spelled(json.dumps(header).encode())}.{body}.{signature}", key, DIGEST, 7, NOW)


@pytest.mark.parametrize("text", ["", "a.b.c", "a.b", "....", "ä.ö.ü", "eyJ.eyJ.eyJ"])
def test_no_token_at_all(key: Path, text: str) -> None:
    with pytest.raises(InputError):
        check_token(text, key, DIGEST, 7, NOW)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_changed_letter_is_found(key: Path, token: str, data: st.DataObject) -> None:
    """This includes letters whose last bits mean nothing: a token has one spelling."""
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCabc012-_.=").filter(lambda one: one != token[place]))
    with pytest.raises(InputError):
        check_token(token[:place] + letter + token[place + 1 :], key, DIGEST, 7, NOW)


@pytest.mark.parametrize("content", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_without_a_key(tmp_path: Path, token: str, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(InputError, match="holds no"):
        check_token(token, path, DIGEST, 7, NOW)
    with pytest.raises(InputError, match="holds no private key"):
        sign_token(path, new_claims("ci", DIGEST, None, NOW, 60.0))


def test_a_key_of_another_kind_and_a_missing_one(tmp_path: Path, key: Path, token: str) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    other = generate_private_key(SECP256R1())
    private, public = tmp_path / "ec", tmp_path / "ec.pub"
    private.write_bytes(other.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    public.write_bytes(other.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    for path in (private, public):
        with pytest.raises(InputError, match="of another kind"):
            check_token(token, path, DIGEST, 7, NOW)
    with pytest.raises(InputError, match="cannot be read"):
        check_token(token, tmp_path / "absent", DIGEST, 7, NOW)
    with pytest.raises(InputError, match="holds no private key"):
        sign_token(key.with_name("ci.key.pub"), new_claims("ci", DIGEST, None, NOW, 60.0))


def test_nobody_and_nothing_to_agree_to() -> None:
    with pytest.raises(InputError, match="sub"):
        new_claims("", DIGEST, None, NOW, 60.0)
    with pytest.raises(InputError, match="digest"):
        new_claims("ci", "", None, NOW, 60.0)
