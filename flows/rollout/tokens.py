"""Signed approvals: a token with which a machine, such as a protected job of CI, agrees to one challenger.

It is a JSON Web Token (RFC 7519) signed with Ed25519 (RFC 8037), bound to the digest of the challenger, and checked
without a network. Whoever checks it needs the public half of the key only. No other algorithm is accepted, whatever the
header says. The journal lets each token count once.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

AUDIENCE = "tca promotion"
_HEADER = {"alg": "EdDSA", "typ": "JWT"}
_SKEW_S = 60.0
_KEY_REMEDY = "Make a pair: tca promotion key FILE, and name it in TCA_APPROVAL_KEY"


class Claims(BaseModel):
    """What a token says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    aud: str = Field(pattern=f"^{AUDIENCE}$", description="what it is for")
    sub: str = Field(min_length=1, max_length=200, description="who agrees")
    jti: str = Field(min_length=8, max_length=100, description="number of the token")
    iat: int = Field(description="made at, seconds since the epoch")
    exp: int = Field(description="worthless from then on, seconds since the epoch")
    digest: str = Field(min_length=1, description="digest of the challenger that it agrees to")
    promotion: int | None = Field(default=None, description="the promotion that it agrees to; null: any of that digest")


def make_key(path: Path) -> Path:
    """Write a new private key to `path` (readable by its owner alone), and the public half to `path`.pub.

    Returns:
        The path of the public half.

    Raises:
        InputError: One of the two exists already.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_name(f"{path.name}.pub")
    for one in (path, public_path):
        if one.exists():
            raise InputError(f"{one} exists already", "Name another file; a key is never overwritten")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(private)
    public_path.write_bytes(public)
    return public_path


def sign_token(key_path: Path, claims: Claims) -> str:
    """The token that says `claims`. Raises InputError when `key_path` holds no private Ed25519 key."""
    body = f"{_encode(_json(_HEADER))}.{_encode(_json(claims.model_dump()))}"
    return f"{body}.{_encode(_read_private(key_path).sign(body.encode('ascii')))}"


def new_claims(who: str, digest: str, promotion: int | None, now: float, valid_s: float) -> Claims:
    """Claims of a new token. Raises InputError when there is nobody or nothing to agree to."""
    try:
        return Claims(
            aud=AUDIENCE,
            sub=who,
            jti=uuid.uuid4().hex,
            iat=int(now),
            exp=int(now + valid_s),
            digest=digest,
            promotion=promotion,
        )
    except ValidationError as error:
        raise InputError(f"no token can be made: {_first(error)}", "Say who agrees, and to which digest") from None


def check_token(token: str, key_path: Path, digest: str, promotion: int, now: float) -> Claims:
    """What `token` says, when it is genuine, in time, and about this promotion of this challenger.

    Raises:
        InputError: It is not; the message says in which way.
    """
    claims = _read_signed(token, _read_public(key_path))
    if claims.digest != digest:
        raise InputError(f"the token agrees to digest {claims.digest[:12]}, the challenger is {digest[:12]}", _ANOTHER)
    if claims.promotion not in (None, promotion):
        raise InputError(f"the token agrees to promotion {claims.promotion}, not to {promotion}", _ANOTHER)
    if now >= claims.exp:
        raise InputError(f"the token has been worthless for {now - claims.exp:.0f} s", _ANOTHER)
    if now < claims.iat - _SKEW_S:
        raise InputError(f"the token was made {claims.iat - now:.0f} s in the future", "Set the clocks right")
    return claims


_ANOTHER = "Make another: tca promotion token"


def _read_signed(token: str, key: Ed25519PublicKey) -> Claims:
    from cryptography.exceptions import InvalidSignature

    parts = token.split(".")
    try:
        header, body, signature = map(_decode, parts)
        key.verify(signature, f"{parts[0]}.{parts[1]}".encode("ascii"))
        if json.loads(header) != _HEADER:
            raise ValueError(f"a header of {_HEADER} was expected")
        return Claims.model_validate_json(body)
    except InvalidSignature:
        raise InputError("the token is not signed with this key", _ANOTHER) from None
    except ValidationError as error:
        raise InputError(f"this is no token of approval: {_first(error)}", _ANOTHER) from None
    except ValueError as error:
        raise InputError(f"this is no token of approval: {error}", _ANOTHER) from None


def _read_private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read_pem(path), password=None)
    except (ValueError, TypeError):
        raise InputError(f"{path} holds no private key", _KEY_REMEDY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} holds a key of another kind; Ed25519 is expected", _KEY_REMEDY)
    return key


def _read_public(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = _read_pem(path)
    if b"PRIVATE KEY" in pem:
        return _read_private(path).public_key()
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        raise InputError(f"{path} holds no public key", _KEY_REMEDY) from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} holds a key of another kind; Ed25519 is expected", _KEY_REMEDY)
    return key


def _read_pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the key {path} cannot be read: {error.strerror}", _KEY_REMEDY) from None


def _json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode()


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    """Base64url without padding, in its one canonical spelling, so that no token has two spellings."""
    content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode(content) != text:
        raise ValueError("it is not base64url")
    return content


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'token'}: {first['msg']}"
