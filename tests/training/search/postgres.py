"""A PostgreSQL server for tests of this room, from the package `pgserver`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Its address; skips where it does not start."""
    pgserver = pytest.importorskip("pgserver")
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        try:
            server = pgserver.get_server(folder)
        except Exception as error:  # no free memory segments, no right to drop privileges, ...
            pytest.skip(f"PostgreSQL does not start here: {error!r:.200}")
        yield server.get_uri()
        server.cleanup()
