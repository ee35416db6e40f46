"""API keys: the file that holds them, and the command that makes them.

    python -m bentos.detector.keys add --file keys.json --name gate-cameras --role detect --rate 50
    python -m bentos.detector.keys list --file keys.json
    python -m bentos.detector.keys revoke --file keys.json --name gate-cameras

A token is `tca_ID_SECRET`. The file keeps the ID, which is no secret and finds the key, and the sha256 of the token. A
plain sha256 is right here: the secret is 256 bits from the system's generator, so that nobody guesses it from its hash,
and the slow, salted hashes that passwords need would only make every request slow.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from bentos.detector.contract import Frozen
from bentos.detector.errors import KeysRefused
from bentos.detector.rate_limit import Limit

Role = Literal["detect", "operate"]
"""detect: send frames; operate: metrics, schema and whatever else is not for cameras."""
PREFIX = "tca_"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ApiKey(Frozen):
    """One key, without its token."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
    name: Name
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    roles: tuple[Role, ...] = Field(min_length=1)
    rate_per_s: float | None = Field(default=None, gt=0, le=1e6, description="requests a second; null: no limit")
    burst: int | None = Field(default=None, ge=1, le=1_000_000, description="at once; null: one second's worth")
    created: AwareDatetime
    expires: AwareDatetime | None = None

    @property
    def limit(self) -> Limit | None:
        """How often this key may ask."""
        return None if self.rate_per_s is None else Limit(self.rate_per_s, self.burst)


class KeyFile(Frozen):
    """The content of the file, JSON."""

    schema_version: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> KeyFile:
        for field in ("id", "name"):
            values = [getattr(key, field) for key in self.keys]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{field} {twice[0]!r} is there twice")
        return self


def make_key(
    name: str,
    roles: tuple[Role, ...],
    *,
    rate_per_s: float | None = None,
    burst: int | None = None,
    expires: datetime | None = None,
) -> tuple[str, ApiKey]:
    """A new token and its key. The token is nowhere else. Raises ValidationError."""
    key_id = secrets.token_hex(6)
    token = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
    key = ApiKey(
        id=key_id,
        name=name,
        sha256=token_sha256(token).hex(),
        roles=roles,
        rate_per_s=rate_per_s,
        burst=burst,
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
    )
    return token, key


def token_sha256(token: str) -> bytes:
    """The hash of a token, 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def read_keys(path: Path) -> KeyFile:
    """Read the file of keys.

    Raises:
        KeysRefused: It is missing or unreadable, or is no such file.
    """
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        make = f"python -m bentos.detector.keys add --file {path} --name NAME --role detect"
        raise KeysRefused(f"{path}, the file of API keys, is missing. Make it: {make}") from None
    except OSError as error:
        raise KeysRefused(f"{path}, the file of API keys, cannot be read: {error.strerror}") from None
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(str(part) for part in item["loc"])
        raise KeysRefused(f"{path}, the file of API keys: {where or 'content'}: {item['msg']}") from None


def write_keys(path: Path, content: KeyFile) -> None:
    """Replace the file at once, for its owner only. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content.model_dump_json(indent=2) + "\n")
    draft.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Add, list or revoke keys. Exit codes: 2 wrong input, 3 something outside."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ValidationError as error:
        item = error.errors()[0]
        print(f"{'.'.join(map(str, item['loc']))} = {item['input']!r}: {item['msg']}", file=sys.stderr)
        return 2
    except (KeysRefused, OSError) as error:
        print(error, file=sys.stderr)
        return 3


def _add(options: argparse.Namespace) -> int:
    content = read_keys(options.file) if options.file.exists() else KeyFile()
    if any(key.name == options.name for key in content.keys):
        print(f"{options.file} has a key named {options.name!r} already; revoke it, or choose a name", file=sys.stderr)
        return 2
    expires = None if options.days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=options.days)
    roles = tuple(dict.fromkeys(options.role))
    token, key = make_key(options.name, roles, rate_per_s=options.rate, burst=options.burst, expires=expires)
    write_keys(options.file, KeyFile(keys=(*content.keys, key)))
    print(token)
    print("This token is shown once, and kept nowhere.", file=sys.stderr)
    return 0


def _list(options: argparse.Namespace) -> int:
    for key in read_keys(options.file).keys:
        limit = "no limit" if key.limit is None else f"{key.limit.rate_per_s:g}/s, {key.limit.depth} at once"
        until = "for ever" if key.expires is None else f"until {key.expires.isoformat()}"
        if key.expires is not None and key.expires <= datetime.now(UTC):
            until = f"expired {key.expires.isoformat()}"
        print(f"{key.id}  {key.name}  {','.join(key.roles)}  {limit}  {until}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    content = read_keys(options.file)
    kept = tuple(key for key in content.keys if options.name not in (key.name, key.id))
    if len(kept) == len(content.keys):
        print(f"{options.file} has no key named {options.name!r}", file=sys.stderr)
        return 2
    write_keys(options.file, KeyFile(keys=kept))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bentos.detector.keys", description="API keys of the detector.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, purpose in (
        ("add", _add, "make a key and print its token, once"),
        ("list", _list, "say which keys there are"),
        ("revoke", _revoke, "take a key away; a running service notices within a second"),
    ):
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.set_defaults(run=run)
        command.add_argument("--file", type=Path, required=True, help="file of keys, as DETECTOR_KEYS_FILE names it")
        if name != "list":
            command.add_argument("--name", required=True, help="name of the key, shown in logs")
        if name == "add":
            command.add_argument(
                "--role", action="append", choices=get_args(Role), required=True, help="may be repeated"
            )
            command.add_argument("--rate", type=float, help="requests a second; without it no limit")
            command.add_argument("--burst", type=int, help="requests at once; by default one second's worth")
            command.add_argument("--days", type=float, help="days until it expires; without it never")
    return parser


if __name__ == "__main__":
    sys.exit(main())
