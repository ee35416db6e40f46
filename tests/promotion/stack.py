"""A promotion between real processes: router, detectors, controllers, and a street of cameras."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from bentos.router.routing import Snapshot
from flows.adapters.local_traffic import LocalTraffic, service_name
from flows.adapters.processes import ServiceRecord, find_free_port, is_alive, read_services, spawn, stop
from flows.rollout.journal import Entry, Journal, open_journal
from flows.rollout.record import verify_record
from tests.promotion.controller import detector_command
from tests.promotion.registry import FileRegistry
from tests.promotion.street import Street, wait_until

DIGESTS = {"1": "a" * 64, "2": "b" * 64, "3": "c" * 64}
ROOT = Path(__file__).parents[2]
SHORT = {
    "latency_budget_ms": 1000.0,
    "max_slow_share": 0.2,
    "max_error_share": 0.15,
    "min_agreement": 0.5,
    "alpha": 0.05,
    "shadow_frames": 20,
    "canary_steps": [25, 50],
    "canary_frames": 10,
    "bake_frames": 12,
    "thin_s": 0.0,
    "state_deadline_s": 20.0,
    "drain_deadline_s": 5.0,
}
"""A whole promotion in about eight seconds."""


class Controller:
    """A controller that runs, and what it said."""

    def __init__(self, orders: Path) -> None:
        self.said: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.promotion.controller", str(orders)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def wait(self, limit_s: float = 90.0) -> int:
        """The exit code; minus the signal when it was killed."""
        code = self.process.wait(limit_s)
        self._reader.join(limit_s)
        return code

    def wait_for(self, state: str) -> None:
        """Return when it has come to `state`."""
        self._wait(lambda: any(one.get("state", "").startswith(state) for one in list(self.said)), state)

    def wait_until_stopped(self) -> None:
        """Return when it has stopped itself by SIGSTOP."""
        self._wait(lambda: Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "T")

    def _wait(self, condition: Any, what: str) -> None:
        def happened() -> bool:
            if condition():
                return True
            assert self.process.poll() is None, f"it ended before {what}: {self.said[-1:]} {self.errors}"
            return False

        wait_until(happened, what=f"for {what}; last {self.said[-1:]}")

    @property
    def errors(self) -> str:
        """What it wrote to standard error; once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read() if self.process.poll() is not None else ""

    @property
    def states(self) -> list[str]:
        """The states that it saw, in order, each once in a row."""
        return [name for name, _ in itertools.groupby(one["state"] for one in self.said if one["kind"] == "event")]

    def last(self, kind: str) -> dict[str, Any]:
        """The last line of a kind."""
        found = [one for one in self.said if one["kind"] == kind]
        assert found, f"it never said {kind}: {self.said[-2:]} {self.errors}"
        return found[-1]

    def send(self, number: signal.Signals) -> None:
        """A signal to it."""
        os.kill(self.process.pid, number)


class Stack:
    """Everything around promotions over version 1, in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self.journal_path, self.records = home, home / "rollout.db", home / "promotions"
        home.mkdir(parents=True, exist_ok=True)
        for version, digest in DIGESTS.items():
            (home / f"digest-{version}").write_text(digest)
        self.controllers: list[Controller] = []
        self._start_router_somewhere()
        self.traffic = LocalTraffic(home, self.admin_url, home / "router", detector_command(home))
        self.registry = FileRegistry(home / "registry")

    def _start_router_somewhere(self) -> None:
        """Take other ports where somebody else took these between looking and listening."""
        for attempts_left in reversed(range(5)):
            self._port, self._admin_port = find_free_port(), find_free_port()
            self.url, self.admin_url = f"http://127.0.0.1:{self._port}", f"http://127.0.0.1:{self._admin_port}"
            with contextlib.suppress(AssertionError) if attempts_left else contextlib.nullcontext():
                self.start_router()
                return

    def start_router(self) -> ServiceRecord:
        """Start the router, on the same ports and state as ever."""
        argv = [sys.executable, "-m", "bentos.router", "--port", str(self._port), "--admin-port", str(self._admin_port)]
        argv += ["--state-dir", str(self.home / "router")]
        self.router = spawn("router", argv, env=dict(os.environ), log=self.home / "router.log", home=self.home)
        wait_until(self._router_answers, what=(self.home / "router.log").read_text())
        return self.router

    def enthrone(self, version: str) -> None:
        """A champion that runs, is routed and reigns."""
        self.traffic.ensure_champion(version, DIGESTS[version])
        self.registry.set_champion(version, DIGESTS[version])

    def fault(self, version: str, kind: str, from_answer: int = 0, value: float = 0.0) -> None:
        """Let a version behave so, from now or from its `from_answer`-th frame on."""
        path = self.home / f"faults-{version}.json"
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps({"kind": kind, "from_answer": from_answer, "value": value}))
        draft.replace(path)

    def mend(self, version: str) -> None:
        """Let a version behave well again."""
        (self.home / f"faults-{version}.json").unlink()

    def control(
        self,
        verb: str = "promote",
        challenger: str = "2",
        kill: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        journal: Path | None = None,
        **more: Any,
    ) -> Controller:
        """Start a controller.

        `kill` is {"call", "when", "match", "signal"}: which call of journal, traffic or registry, before or after it,
        with what in its arguments; or {"moment": n}: at the n-th moment before or after any of them.
        `more`: `lease_s`, `garble` (nan, missing, misnamed, lost, misnamed page), `reason` of an abort.
        """
        orders = {
            "home": str(self.home),
            "admin_url": self.admin_url,
            "journal": str(journal or self.journal_path),
            "verb": verb,
            "challenger": (challenger, DIGESTS[challenger]),
            "params": SHORT | (params or {}),
            "kill": kill or {},
            **more,
        }
        path = self.home / f"orders-{len(self.controllers)}.json"
        path.write_text(json.dumps(orders))
        self.controllers.append(Controller(path))
        return self.controllers[-1]

    def promote(self, **options: Any) -> dict[str, Any]:
        """Run a controller to its end, and return its report."""
        controller = self.control(**options)
        assert controller.wait() == 0, f"{controller.said[-2:]} {controller.errors}"
        return controller.last("report")

    def street(self, **options: Any) -> Street:
        """Cameras before the router."""
        return Street(self.url, **options)

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        """The journal, beside whoever writes it."""
        with open_journal(self.journal_path) as journal:
            yield journal

    def entry(self, promotion: int = 1) -> Entry:
        """What the journal says of a promotion."""
        with self.journal() as journal:
            return journal.read(promotion)

    def effects(self, promotion: int = 1) -> dict[str, str]:
        """Status of every effect."""
        with self.journal() as journal:
            return journal.effects(promotion)

    def transitions(self, promotion: int = 1) -> list[str]:
        """The states that the journal knows, in order."""
        with self.journal() as journal:
            return [str(position) for position, *_ in journal.transitions(promotion)]

    def detector(self, version: str) -> ServiceRecord | None:
        """The process of a version, if it runs."""
        record = read_services(self.home).get(service_name(version, DIGESTS[version]))
        return record if record is not None and is_alive(record) else None

    def running(self) -> set[str]:
        """The versions whose processes run."""
        return {version for version in DIGESTS if self.detector(version) is not None}

    def detector_pids(self) -> set[int]:
        """Every living detector process of this stack, registered or not."""
        import psutil

        mark = str(self.home / "faults-")
        return {
            one.pid
            for one in psutil.process_iter(["cmdline"])
            if any(mark in word for word in one.info["cmdline"] or ()) and one.status() != psutil.STATUS_ZOMBIE
        }

    def kill(self, version: str) -> None:
        """SIGKILL to the process of a version."""
        record = self.detector(version)
        assert record is not None
        os.kill(record.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(record))

    def routing(self) -> Snapshot:
        """What the router follows."""
        return self.traffic.routing()

    def routed(self) -> tuple[str | None, str | None, str]:
        """Champion, candidate and mode of the router."""
        now = self.routing()
        names = [arm.version if arm else None for arm in (now.champion, now.candidate)]
        return names[0], names[1], now.mode

    def assert_settled_on(self, version: str, promotion: int = 1, verified: bool = True) -> None:
        """One version reigns, alone runs, and alone is routed; the record holds and nothing is left open."""
        assert self.routed() == (version, None, "champion")
        assert self.routing().promotion is None
        reigning, pointer = self.registry.champion(), self.registry.pointer()
        assert reigning == pointer
        assert reigning is not None
        assert reigning.version == version
        wait_until(lambda: self.running() == {version}, 10, f"for version {version} alone, not {self.running()}")
        record = self.detector(version)
        assert record is not None
        assert self.detector_pids() == {record.pid}
        assert self.entry(promotion).closed_at is not None
        checked = verify_record(self.records / f"{promotion}.jsonl")
        assert checked.passed or not verified, checked.problem

    def close(self) -> None:
        """Stop everything that was started."""
        for controller in self.controllers:
            with contextlib.suppress(ProcessLookupError):
                controller.process.kill()
            controller.wait()
            for stream in (controller.process.stdout, controller.process.stderr):
                assert stream is not None
                stream.close()
        for record in read_services(self.home).values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGCONT)
            stop(record, grace_s=2.0)
        for pid in self.detector_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _router_answers(self) -> bool:
        assert is_alive(self.router), Path(self.router.log).read_text()
        try:
            return httpx.get(f"{self.url}/livez", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False
