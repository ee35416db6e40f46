"""Log lines, for people or as JSON, each with the id of its request. Never an image, a token or a query.

A request gets a line when it failed, when it was slow, or, if asked for, always. Failures and slow ones are bounded in
number: an overloaded service must not drown in its own log. The next line then says how many were left out.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from bentos.detector.rate_limit import Limit, TokenBucket

logger = logging.getLogger("bentos.detector")

LogStyle = Literal["text", "json"]
request_id_now: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task answers."""
_ROUTINE = Limit(20.0, 20)
_MAX_PATH = 200


@dataclass(slots=True)
class Visit:
    """What the log says about one request. Times are of perf_counter()."""

    request_id: str
    method: str
    path: str
    began_s: float = field(default_factory=time.perf_counter)
    received_s: float = 0.0
    num_bytes: int = 0
    key_name: str = ""


class RequestLog:
    """Writes the line of a request where there is to be one.

    Args:
        access: Whether every request gets a line.
        slow_ms: Time from the last byte of the body to the answer, from which a request is slow.
    """

    def __init__(self, *, access: bool = False, slow_ms: float = 100.0) -> None:
        self.access = access
        self.model_version = ""
        self._slow_s = slow_ms / 1000
        self._budgets = {kind: TokenBucket(_ROUTINE) for kind in ("refused", "failed", "slow")}
        self._left_out = dict.fromkeys(self._budgets, 0)

    def answered(self, visit: Visit, status: int, code: str, message: str = "") -> None:
        """An answer went out; `code` is ok, or that of the error."""
        now_s = time.perf_counter()
        slow = now_s - (visit.received_s or visit.began_s) > self._slow_s
        if not slow and status < 400 and not self.access:
            return
        kind = "failed" if status >= 500 else "refused" if status >= 400 else "slow"
        if not self.access and self._budgets[kind].take(time.monotonic_ns()):
            self._left_out[kind] += 1
            return
        self._write(visit, status, code, message or ("slow" if slow else "answered"), now_s, kind)

    def _write(self, visit: Visit, status: int, code: str, message: str, now_s: float, kind: str) -> None:
        fields: dict[str, Any] = {
            "request_id": visit.request_id,
            "method": visit.method[:20],
            "path": visit.path[:_MAX_PATH],
            "status": status,
            "code": code,
            "duration_ms": round((now_s - visit.began_s) * 1000, 2),
        }
        if visit.received_s:
            fields["upload_ms"] = round((visit.received_s - visit.began_s) * 1000, 2)
            fields["bytes"] = visit.num_bytes
        if visit.key_name:
            fields["key"] = visit.key_name
        if self.model_version:
            fields["model_version"] = self.model_version
        if self._left_out[kind]:
            fields["left_out"] = self._left_out[kind]
            self._left_out[kind] = 0
        logger.log(logging.WARNING if status >= 500 else logging.INFO, message, extra={"fields": fields})


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO message key=value`, one line but for tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_plain(value)}" for name, value in fields_of(record).items())
        line = f"{_time_of(record)} {record.levelname} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields, and a traceback as `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(content, default=str).decode()


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message; the id of the request comes from the task that wrote it."""
    fields = getattr(record, "fields", None) or {}
    if "request_id" not in fields and (request_id := request_id_now.get()):
        fields = {"request_id": request_id, **fields}
    return fields


def configure_logs(style: LogStyle) -> None:
    """Give the detector's log its handler. As JSON, what BentoML and uvicorn write is JSON too."""
    formatter: logging.Formatter = JsonFormatter() if style == "json" else TextFormatter()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if style == "json":
        for name in ("", "bentoml", "uvicorn.error", "circus"):
            for foreign in logging.getLogger(name).handlers:
                foreign.setFormatter(formatter)


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    """A value as it stands, or quoted where it has spaces or what could end the line."""
    text = str(value)
    return text if text and text.isascii() and text.isprintable() and " " not in text else json.dumps(text)
