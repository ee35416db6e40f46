"""The page at /ui: one file without foreign assets, and a policy under which nothing else can run in it."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

_FILE = Path(__file__).with_name("page.html")


def content_policy(html: bytes) -> str:
    """A Content-Security-Policy that allows the inline scripts and styles of `html`, by their hashes, and no others.

    The page may speak to its own origin and show pictures that it was given. Inline event handlers and style attributes
    are not covered by these hashes: the page must have none.
    """
    rules = {
        "default-src": "'none'",
        "script-src": _hashes(html, b"script"),
        "style-src": _hashes(html, b"style"),
        "img-src": "blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hashes(html: bytes, tag: bytes) -> str:
    blocks = re.findall(rb"<%b\b[^>]*>(.*?)</%b>" % (tag, tag), html, flags=re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(block).digest()).decode() for block in blocks)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"


HTML = _FILE.read_bytes()
"""The page, UTF-8."""

HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": content_policy(HTML),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
"""What it is to be sent with."""
