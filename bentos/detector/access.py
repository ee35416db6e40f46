"""Who may ask what, and how often. Decided from the headers alone, before a body is read."""

from __future__ import annotations

import hmac
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bentos.detector.errors import Forbidden, KeysRefused, RateLimited, Unauthorized
from bentos.detector.keys import PREFIX, ApiKey, KeyFile, Role, read_keys, token_sha256
from bentos.detector.rate_limit import AddressBuckets, Limit, TokenBucket

logger = logging.getLogger("bentos.detector")

_LOOK_EVERY_NS = 1_000_000_000
_NOBODY = bytes(32)


@dataclass(frozen=True)
class _Holder:
    key: ApiKey
    sha256: bytes
    bucket: TokenBucket | None


class KeyRing:
    """The keys of a file, which is looked at once a second: what changes there counts without a restart.

    A file that is broken or gone when it is read again changes nothing but the log: the keys read last stay.

    Raises:
        KeysRefused: The file cannot be used at the start.
    """

    def __init__(self, path: Path, default: Limit | None = None) -> None:
        self._path = path
        self._default = default
        self._looked_ns: int | None = None
        self._signature = _signature(path)
        self._holders: dict[str, _Holder] = {}
        self._adopt(read_keys(path))

    def __len__(self) -> int:
        return len(self._holders)

    def find(self, token: str, now_ns: int) -> tuple[ApiKey, TokenBucket | None] | None:
        """The key that `token` belongs to, and its bucket. The comparison takes the same time for every token."""
        if self._looked_ns is None or now_ns - self._looked_ns >= _LOOK_EVERY_NS:
            self._looked_ns = now_ns
            self._look()
        holder = self._holders.get(token[len(PREFIX) :].partition("_")[0]) if token.startswith(PREFIX) else None
        matches = hmac.compare_digest(token_sha256(token), _NOBODY if holder is None else holder.sha256)
        return (holder.key, holder.bucket) if matches and holder is not None else None

    def _look(self) -> None:
        signature = _signature(self._path)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            content = read_keys(self._path)
        except KeysRefused as error:
            logger.error("%s. The %d keys read before stay in force", error.message.rstrip("."), len(self))
            return
        self._adopt(content)
        logger.info("%s was read again: %d keys", self._path, len(self))

    def _adopt(self, content: KeyFile) -> None:
        """A bucket outlives the reading, unless its limit changed."""
        former, self._holders = self._holders, {}
        for key in content.keys:
            limit = key.limit or self._default
            known = former.get(key.id)
            bucket = known.bucket if known is not None else None
            if limit is not None and (bucket is None or bucket.limit != limit):
                bucket = TokenBucket(limit)
            self._holders[key.id] = _Holder(key, bytes.fromhex(key.sha256), bucket if limit is not None else None)


class Access:
    """The rule for every request. Without keys the service is open, and a limit is one of client addresses.

    Behind a proxy, the router included, all requests come from one address: there, limit by key.
    """

    def __init__(
        self,
        keys: KeyRing | None = None,
        limit: Limit | None = None,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._keys = keys
        self._addresses = AddressBuckets(limit) if limit is not None and keys is None else None
        self._clock_ns = clock_ns
        self._now = now
        self.needs_keys = keys is not None
        self.is_open = keys is None and limit is None
        """Whether `admit` has nothing to do."""

    def admit(self, roles: tuple[Role, ...], headers: Mapping[str, str], address: str) -> str:
        """The name of the key that asks, empty in an open service. `roles`: those of which the key needs one.

        Raises:
            Unauthorized: There is no key, or it is unknown or expired.
            Forbidden: The key has none of the roles.
            RateLimited: The client sends too often.
        """
        now_ns = self._clock_ns()
        if self._keys is None:
            if self._addresses is not None:
                _require_token(self._addresses.take(address, now_ns), "this address")
            return ""
        key, bucket = self._authenticate(self._keys, headers, now_ns)
        if not any(role in key.roles for role in roles):
            wanted, has = " or ".join(roles), ", ".join(key.roles)
            raise Forbidden(f"this takes a key with role {wanted}; yours has {has}", roles=list(roles))
        if bucket is not None:
            _require_token(bucket.take(now_ns), "this key")
        return key.name

    def _authenticate(
        self, keys: KeyRing, headers: Mapping[str, str], now_ns: int
    ) -> tuple[ApiKey, TokenBucket | None]:
        token = token_of(headers)
        if token is None:
            raise Unauthorized("this takes a key; send it as 'Authorization: Bearer TOKEN' or 'X-API-Key: TOKEN'")
        found = keys.find(token, now_ns)
        if found is None:
            raise Unauthorized("this key is not known here; it may have been revoked. Ask the operator for another")
        expires = found[0].expires
        if expires is not None and expires <= self._now():
            raise Unauthorized(f"this key expired at {expires.isoformat()}. Ask the operator for another")
        return found


def token_of(headers: Mapping[str, str]) -> str | None:
    """The token that a request carries. Other schemes of Authorization are passed over: they may be a proxy's."""
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key", "").strip() or None


def _require_token(wait_ns: int, whose: str) -> None:
    if wait_ns:
        retry_after_s = max(1, math.ceil(wait_ns / 1e9))
        message = f"{whose} sends more often than it may; come back in {retry_after_s} s, or send less often"
        raise RateLimited(message, retry_after_s, wait_ms=math.ceil(wait_ns / 1e6))


def _signature(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
