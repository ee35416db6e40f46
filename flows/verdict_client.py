"""Asking for a verdict, here or from a verdict server, until there is one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import httpx

from flows.errors import InputError, ProjectError, ServiceError
from flows.settings import find_project
from flows.verdicts import LATEST, VerdictAnswer, Verdicts

_POLL_S = 2.0


def wait_for_verdict(promotion: str, version: str | None, past: str, wait_s: float, url: str = "") -> VerdictAnswer:
    """The verdict "advance" or "rollback", or whichever stands after `wait_s`.

    A promotion that is not there yet, and a server that does not answer, are waited for as well.

    Args:
        promotion: Its number, or "latest".
        url: Of a verdict server; "": the records of the project at hand.

    Raises:
        InputError: Promotion or state are not what they must be.
        ProjectError: There was no such promotion until the end.
        ServiceError: The server did not answer at the end.
    """
    if promotion != LATEST and not (promotion.isascii() and promotion.isdecimal()):
        raise InputError(f"{promotion} is no promotion", f"Expected a number or {LATEST}")
    ask = _asker(promotion, version, past, url)
    deadline = time.monotonic() + wait_s
    while True:
        over = time.monotonic() >= deadline
        try:
            answer = ask()
            if over or answer.verdict in ("advance", "rollback"):
                return answer
        except (ProjectError, ServiceError):
            if over:
                raise
        time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))


def _asker(promotion: str, version: str | None, past: str, url: str) -> Callable[[], VerdictAnswer]:
    if not url:
        verdicts = Verdicts(find_project().records)
        number = None if promotion == LATEST else int(promotion)
        return lambda: verdicts.answer(number, version, past)
    token = os.environ.get("TCA_VERDICT_TOKEN", "").strip()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    query = {"past": past} | ({"version": version} if version else {})
    address = f"{url.rstrip('/')}/promotions/{promotion}/verdict"
    return lambda: _ask_server(address, query, headers)


def _ask_server(address: str, query: dict[str, str], headers: dict[str, str]) -> VerdictAnswer:
    try:
        reply = httpx.get(address, params=query, headers=headers, timeout=10.0)
        if reply.status_code == httpx.codes.OK:
            return VerdictAnswer.model_validate_json(reply.content)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # pydantic's is a ValueError
        raise ServiceError(f"no verdict from {address}: {type(error).__name__}") from error
    message = _said(reply)
    if reply.status_code == httpx.codes.NOT_FOUND:
        raise ProjectError(message)
    if reply.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED):
        raise InputError(message, "Put the server's token into TCA_VERDICT_TOKEN" if "Bearer" in message else None)
    raise ServiceError(f"{address} answers {reply.status_code}: {message}")


def _said(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:200]
