"""A controller as a process of its own, which kills or stops itself where its orders say so.

    python -m tests.promotion.controller ORDERS.json

Prints a line of JSON for each event, and at the end the report. Orders: see `stack.Stack.control`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.adapters import processes
from flows.adapters.local_traffic import LocalTraffic
from flows.errors import TcaError
from flows.params import PromoteParams
from flows.rollout import controller, effects
from flows.rollout.journal import open_journal
from flows.rollout.traffic import Contender
from tests.promotion.registry import FileRegistry

DETECTOR = Path(__file__).with_name("detector.py")
_STEPS = {
    "journal": ("open_promotion", "move", "intend", "complete", "save_verdict"),
    "traffic": ("start", "route", "stop"),
    "registry": ("set_champion",),
    "processes": ("_enter",),
}


def say(kind: str, **content: Any) -> None:
    print(json.dumps({"kind": kind, **content}), flush=True)


class Fuse:
    """Sends this process a signal before or after a call whose name and arguments it knows, or at its n-th moment."""

    def __init__(self, orders: Mapping[str, Any]) -> None:
        self._when, self._call = orders.get("when", "after"), orders.get("call")
        self._match, self._signal = orders.get("match", ""), getattr(signal, orders.get("signal", "SIGKILL"))
        self._burns_at, self._moment, self._burnt = orders.get("moment"), 0, False

    def wrap(self, target: Any, names: tuple[str, ...]) -> Any:
        return Fused(target, names, self)

    def at(self, when: str, call: str, arguments: str) -> None:
        self._moment += 1
        hit = self._moment == self._burns_at or (
            self._burns_at is None and (when, call) == (self._when, self._call) and self._match in arguments
        )
        if hit and not self._burnt:
            self._burnt = True
            say("fuse", call=call, when=when, arguments=arguments)
            os.kill(os.getpid(), self._signal)


class Fused:
    """`target` with a fuse around some of its calls."""

    def __init__(self, target: Any, names: tuple[str, ...], fuse: Fuse) -> None:
        self._target, self._names, self._fuse = target, names, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name not in self._names:
            return found

        def call(*args: Any, **options: Any) -> Any:
            self._fuse.at("before", name, f"{args} {options}")
            result = found(*args, **options)
            self._fuse.at("after", name, f"{args} {options}")
            return result

        return call


class Garbled:
    """Traffic whose telemetry suffers: observations are lost, lack a field, hold NaN or another name."""

    def __init__(self, traffic: Any, kind: str) -> None:
        self._traffic, self._kind = traffic, kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._traffic, name)

    def observations(self, after: int) -> Any:
        page = self._traffic.observations(after)
        if self._kind == "misnamed page":
            return {"next": page["next"], "missed": 0, "frames": page["observations"]}
        if self._kind == "lost":
            return {**page, "observations": []}
        for entry in page["observations"]:
            arm = entry["candidate"]
            if arm is not None:
                self._garble(arm)
        return page

    def _garble(self, arm: dict[str, Any]) -> None:
        if self._kind == "nan":
            arm["latency_ms"] = float("nan")
        elif self._kind == "missing":
            del arm["latency_ms"]
        elif self._kind == "misnamed":
            arm["version"] = "somebody"


def detector_command(home: Path) -> Callable[[str, int], tuple[list[str], dict[str, str]]]:
    def command(version: str, port: int) -> tuple[list[str], dict[str, str]]:
        digest = (home / f"digest-{version}").read_text()
        faults, outage = home / f"faults-{version}.json", home / "outage"
        argv = [sys.executable, "-I", "-S", str(DETECTOR), str(port), version, digest, str(faults), str(outage)]
        return argv, dict(os.environ)

    return command


def main(orders: dict[str, Any]) -> int:
    home = Path(orders["home"])
    fuse = Fuse(orders.get("kill", {}))
    if lease_s := orders.get("lease_s"):
        controller.LEASE_S = effects.LEASE_S = lease_s
    if limit_s := orders.get("ready_limit_s"):
        for module in list(sys.modules.values()):
            if module.__name__.startswith("flows.rollout.") and hasattr(module, "READY_LIMIT_S"):
                module.READY_LIMIT_S = limit_s  # type: ignore[attr-defined]
    traffic: Any = LocalTraffic(home, orders["admin_url"], home / "router", detector_command(home))
    if garble := orders.get("garble"):
        traffic = Garbled(traffic, garble)
    traffic = fuse.wrap(traffic, _STEPS["traffic"])
    processes._enter = fuse.wrap(processes, _STEPS["processes"])._enter  # between a process and its entry
    registry = fuse.wrap(FileRegistry(home / "registry"), _STEPS["registry"])
    records = home / "promotions"

    def on_event(event: Any) -> None:
        say("event", state=event.state, text=event.text, num=event.num)

    try:
        with open_journal(Path(orders["journal"])) as opened:
            journal = fuse.wrap(opened, _STEPS["journal"])
            if orders["verb"] == "promote":
                challenger, champion = Contender(*orders["challenger"]), registry.champion()
                if (entry := opened.open_entry()) is not None:
                    champion = Contender(*entry.champion) if entry.champion else None
                params = PromoteParams.model_validate(orders["params"])
                report = controller.run_promotion(
                    journal, traffic, registry, challenger, champion, params, records, on_event
                )
            elif orders["verb"] == "resume":
                report = controller.resume_promotion(journal, traffic, registry, records, on_event)
            else:
                given_up = controller.abort_promotion(journal, traffic, registry, records, orders["reason"], on_event)
                if given_up is None:
                    say("asked")
                    return 0
                report = given_up
    except TcaError as error:
        say("error", type=type(error).__name__, message=str(error))
        return error.exit_code
    say("report", **json.loads(report.model_dump_json()))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
