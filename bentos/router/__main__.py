"""`python -m bentos.router`: one process, drained by SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import signal
import sys
from pathlib import Path

import uvloop

from bentos.router.app import Router, RouterSettings
from bentos.router.arms import ForwardingLimits
from bentos.router.listener import ListenerLimits
from bentos.router.state import StateError


def main(argv: list[str] | None = None) -> int:
    """Run until told to stop. Exit codes: 0 drained, 1 the drain deadline cut requests off, 2 bad input, 3 outside."""
    settings = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: RouterSettings) -> int:
    log = logging.getLogger("router")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        router = Router(settings)
    except StateError as error:
        log.error("error: %s", error)
        return 2
    except OSError as error:
        log.error("error: the state directory %s cannot be used: %s", settings.state_dir, error)
        return 3
    try:
        await router.start()
    except OSError as error:
        log.error("error: %s. Choose other ports with --port and --admin-port", error)
        return 3
    _allow_all_files()
    gc.freeze()  # what exists now stays: later collections need not look at it
    log.info(
        "listening on http://%s:%d, admin on http://%s:%d",
        settings.host,
        router.port,
        settings.admin_host,
        router.admin_port,
    )
    await stop.wait()
    log.info("draining")
    return 0 if await router.drain() else 1


def _allow_all_files() -> None:
    """Each user in flight takes two sockets or three; the soft limit of many systems, 1024, is there for select()."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _parse(argv: list[str] | None) -> RouterSettings:
    parser = argparse.ArgumentParser(prog="python -m bentos.router", description="Champion, canary and shadow traffic.")
    limits = ForwardingLimits()
    parser.add_argument("--host", default="127.0.0.1", help="address of the public side (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="public port (default: %(default)s)")
    parser.add_argument("--admin-port", type=int, default=3001, help="port of the controller (default: %(default)s)")
    parser.add_argument(
        "--admin-host", default="127.0.0.1",
        help="address of the controller's side: other than the loopback only where the network keeps others out "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--state-dir", type=Path, required=True, help="folder of the token and the routing snapshot")
    parser.add_argument(
        "--candidate-timeout-ms", type=float, default=limits.candidate_timeout_s * 1000,
        help="a frame that waited so long is given to the other arm as well (default: %(default).0f)",
    )  # fmt: skip
    parser.add_argument(
        "--champion-timeout-s",
        type=float,
        default=limits.champion_timeout_s,
        help="a frame that nobody answered by then gets 503 (default: %(default).0f)",
    )
    parser.add_argument(
        "--copies", type=int, default=limits.copies_in_flight, help="shadow copies in flight (default: %(default)s)"
    )
    parser.add_argument("--max-body-mb", type=float, default=32, help="larger bodies get 413 (default: %(default)s)")
    parser.add_argument(
        "--drain-deadline-s", type=float, default=30.0, help="time to finish after SIGTERM (default: %(default).0f)"
    )
    given = parser.parse_args(argv)
    return RouterSettings(
        state_dir=given.state_dir,
        host=given.host,
        port=given.port,
        admin_host=given.admin_host,
        admin_port=given.admin_port,
        drain_deadline_s=given.drain_deadline_s,
        forwarding=ForwardingLimits(
            champion_timeout_s=given.champion_timeout_s,
            candidate_timeout_s=given.candidate_timeout_ms / 1000,
            copies_in_flight=given.copies,
        ),
        listener=ListenerLimits(body_bytes=int(given.max_body_mb * 1024**2)),
    )


if __name__ == "__main__":
    sys.exit(main())
