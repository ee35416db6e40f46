"""The file of keys, the command that makes them, and who is let in."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.detector.access import Access, KeyRing, token_of
from bentos.detector.errors import Forbidden, KeysRefused, RateLimited, Unauthorized
from bentos.detector.keys import KeyFile, Role, main, make_key, read_keys, write_keys
from bentos.detector.rate_limit import Limit

JPEG = {"content-type": "image/jpeg"}
S = 1_000_000_000


class Clock:
    """Nanoseconds that pass when told to."""

    def __init__(self) -> None:
        self.now_ns = S

    def __call__(self) -> int:
        return self.now_ns


def keyed(path: Path, *names: str, roles: tuple[Role, ...] = ("detect",), **options: Any) -> dict[str, str]:
    """Write a file with a key a name; the tokens by name."""
    made = {name: make_key(name, roles, **options) for name in names}
    write_keys(path, KeyFile(keys=tuple(key for _, key in made.values())))
    return {name: token for name, (token, _) in made.items()}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_the_command_makes_lists_and_revokes(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "keys.json"
    file = ["--file", str(path)]
    assert main(["add", *file, "--name", "gate", "--role", "detect", "--role", "operate", "--rate", "50"]) == 0
    printed = capsys.readouterr()
    token = printed.out.strip()
    assert token.startswith("tca_")
    assert "once" in printed.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token.rpartition("_")[2] not in path.read_text()
    assert main(["add", *file, "--name", "yard", "--role", "detect", "--days", "30"]) == 0
    capsys.readouterr()
    assert main(["list", *file]) == 0
    gate, yard = capsys.readouterr().out.splitlines()
    assert "gate  detect,operate  50/s, 50 at once  for ever" in gate
    assert "yard  detect  no limit  until" in yard
    assert Access(KeyRing(path)).admit(("operate",), bearer(token), "") == "gate"
    assert main(["revoke", *file, "--name", "gate"]) == 0
    assert [key.name for key in read_keys(path).keys] == ["yard"]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["add", "--name", "here", "--role", "detect"], 2, "a key named 'here' already"),
        (["add", "--name", "not this", "--role", "detect"], 2, "name = 'not this'"),
        (["add", "--name", "a", "--role", "detect", "--rate", "0"], 2, "rate_per_s = 0.0"),
        (["revoke", "--name", "there"], 2, "no key named 'there'"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: Any, arguments, code, reason) -> None:
    path = tmp_path / "keys.json"
    keyed(path, "here")
    before = path.read_bytes()
    assert main([arguments[0], "--file", str(path), *arguments[1:]]) == code
    assert reason in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_outside_trouble(tmp_path: Path, capsys: Any) -> None:
    assert main(["add", "--file", str(tmp_path / "no" / "keys.json"), "--name", "a", "--role", "detect"]) == 3
    assert "No such file" in capsys.readouterr().err


def entry(**changes: Any) -> dict[str, Any]:
    content = {
        "id": "0123456789ab",
        "name": "a",
        "sha256": "0" * 64,
        "roles": ["detect"],
        "created": "2026-01-01T00:00:00Z",
    }
    return {**content, **changes}


BROKEN = [
    ("{", "content: Invalid JSON"),
    ("[]", "content: "),
    (json.dumps({"keys": [entry(roles=["root"])]}), "keys.0.roles.0"),
    (json.dumps({"keys": [entry(roles=[])]}), "keys.0.roles"),
    (json.dumps({"keys": [entry(sha256="x")]}), "keys.0.sha256"),
    (json.dumps({"keys": [entry(token="tca_x")]}), "keys.0.token"),
    (json.dumps({"keys": [entry(), entry(name="b")]}), "id '0123456789ab' is there twice"),
    (json.dumps({"keys": [entry(), entry(id="f" * 12)]}), "name 'a' is there twice"),
    (json.dumps({"keys": [entry(expires="2026-01-01T00:00:00")]}), "keys.0.expires"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_file_refuses_to_start(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(KeysRefused) as refusal:
        KeyRing(path)
    assert str(path) in refusal.value.message
    assert reason in refusal.value.message


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeysRefused, match="python -m bentos.detector.keys add --file .*missing.json"):
        KeyRing(tmp_path / "missing.json")


def test_both_headers_are_read_and_others_passed_over() -> None:
    assert token_of({"authorization": "Bearer a"}) == "a"
    assert token_of({"authorization": "bearer  a "}) == "a"
    assert token_of({"x-api-key": " a "}) == "a"
    assert token_of({"authorization": "Basic abc", "x-api-key": "a"}) == "a"
    assert token_of({"authorization": "Bearer", "x-api-key": ""}) is None
    assert token_of({}) is None


def test_roles_and_expiry(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    expires = datetime(2026, 1, 2, tzinfo=UTC)
    token = keyed(path, "gate", expires=expires)["gate"]
    today = [expires - timedelta(seconds=1)]
    access = Access(KeyRing(path), now=lambda: today[0])
    assert access.admit(("detect", "operate"), bearer(token), "") == "gate"
    with pytest.raises(Forbidden, match="role operate; yours has detect"):
        access.admit(("operate",), bearer(token), "")
    today[0] = expires
    with pytest.raises(Unauthorized, match="expired at 2026-01-02"):
        access.admit(("detect",), bearer(token), "")


@given(st.text(max_size=80))
def test_no_other_token_opens(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "given-keys.json"
    token = keyed(path, "gate")["gate"]
    access = Access(KeyRing(path))
    for wrong in (text, token + text if text else token[:-1], token[: len(token) // 2] + text, token.upper()):
        headers = {"x-api-key": wrong}
        if token_of(headers) != token:
            with pytest.raises(Unauthorized):
                access.admit(("detect",), headers, "")


def replaced(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


def test_a_changed_file_counts_within_a_second(tmp_path: Path, caplog: Any) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    old = keyed(path, "old")["old"]
    access = Access(KeyRing(path), clock_ns=clock)
    access.admit(("detect",), bearer(old), "")
    new = keyed(path, "new")["new"]
    access.admit(("detect",), bearer(old), "")
    clock.now_ns += S
    assert access.admit(("detect",), bearer(new), "") == "new"
    with pytest.raises(Unauthorized):
        access.admit(("detect",), bearer(old), "")


@pytest.mark.parametrize("text", ["{", None])
def test_a_file_that_breaks_later_changes_nothing_but_the_log(tmp_path: Path, caplog: Any, text: str | None) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    token = keyed(path, "gate")["gate"]
    access = Access(KeyRing(path), clock_ns=clock)
    path.unlink() if text is None else replaced(path, text)
    for _ in range(3):
        clock.now_ns += S
        assert access.admit(("detect",), bearer(token), "") == "gate"
    complaints = [record.getMessage() for record in caplog.records]
    assert len(complaints) == 1
    assert complaints[0].endswith("The 1 keys read before stay in force")
    again = keyed(path, "mended")["mended"]
    clock.now_ns += S
    assert access.admit(("detect",), bearer(again), "") == "mended"


def test_each_key_has_its_own_limit_which_outlives_a_reload(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    slow, slow_key = make_key("slow", ("detect",), rate_per_s=1.0, burst=2)
    free, free_key = make_key("free", ("detect",))
    write_keys(path, KeyFile(keys=(slow_key, free_key)))
    access = Access(KeyRing(path, Limit(5.0, 3)), clock_ns=clock)
    for token, granted in ((slow, 2), (free, 3)):
        for _ in range(granted):
            access.admit(("detect",), bearer(token), "")
        with pytest.raises(RateLimited) as refusal:
            access.admit(("detect",), bearer(token), "")
        assert refusal.value.headers == {"retry-after": "1"}
    other, other_key = make_key("other", ("detect",))
    write_keys(path, KeyFile(keys=(slow_key, free_key, other_key)))
    clock.now_ns += S // 2
    with pytest.raises(RateLimited) as refusal:
        access.admit(("detect",), bearer(slow), "")
    assert refusal.value.details["wait_ms"] == 500
    clock.now_ns += S // 2
    access.admit(("detect",), bearer(slow), "")
    access.admit(("detect",), bearer(other), "")


def test_an_open_service_may_limit_addresses() -> None:
    clock = Clock()
    access = Access(None, Limit(1.0, 1), clock_ns=clock)
    assert not access.needs_keys
    assert access.admit(("detect",), {}, "10.0.0.1") == ""
    assert access.admit(("detect",), {}, "10.0.0.2") == ""
    with pytest.raises(RateLimited, match="this address"):
        access.admit(("detect",), {}, "10.0.0.1")
    assert Access().is_open


async def unread() -> dict[str, Any]:
    raise AssertionError("the body was asked for")


async def test_over_http_a_key_is_asked_for_before_the_body(open_app: Any, picture: bytes, tmp_path: Path) -> None:
    client, app = open_app()
    path = tmp_path / "keys.json"
    camera, camera_key = make_key("camera", ("detect",), rate_per_s=1.0, burst=3)
    operator, operator_key = make_key("operator", ("operate",))
    write_keys(path, KeyFile(keys=(camera_key, operator_key)))
    app.access = Access(KeyRing(path), clock_ns=Clock())
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"image/jpeg"), (b"content-length", b"5")]
    scope = {"type": "http", "path": "/v1/detect", "method": "POST", "query_string": b"", "headers": headers}
    await app(scope, unread, send)
    assert sent[0]["status"] == 401
    assert dict(sent[0]["headers"])[b"www-authenticate"] == b'Bearer realm="detector"'

    async def status(method: str, url: str, token: str | None) -> int:
        extra = {} if token is None else {"x-api-key": token}
        content = picture if method == "POST" else None
        return (await client.request(method, url, content=content, headers={**JPEG, **extra})).status_code

    assert await status("POST", "/v1/detect", camera) == 200
    assert await status("POST", "/v1/detect", operator) == 403
    assert await status("GET", "/v1/model", camera) == await status("GET", "/v1/model", operator) == 200
    assert await status("GET", "/v1/model", None) == 401
    assert await status("GET", "/ui", None) == await status("GET", "/openapi.json", None) == 200
    assert await status("POST", "/v1/detect", camera) == 200
    limited = await client.post("/v1/detect", content=picture, headers={**JPEG, **bearer(camera)})
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limited")
    assert limited.headers["retry-after"] == "1"
    assert 'code="rate_limited",model_version="7",status="429"' in app.runtime.metrics()
    assert "camera" not in app.runtime.metrics()
