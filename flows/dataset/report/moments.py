"""Times of frames as the listing writes them."""

from __future__ import annotations

from datetime import datetime


def moment_of(text: str) -> datetime | None:
    """The moment that an ISO-8601 text names; None where it names none, which a check tells."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
