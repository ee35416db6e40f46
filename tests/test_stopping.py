"""What ends work from outside, and keeps it from running twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.errors import Conflict, Preempted
from flows.stopping import alone, stopped_by_sigterm

HOLD = """
import sys
from pathlib import Path
from flows.stopping import alone
with alone(Path(sys.argv[1]), "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_sigterm_ends_a_training_as_ctrl_c_does() -> None:
    with pytest.raises(Preempted, match="SIGTERM"), stopped_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_lock_of_a_living_process_holds_and_goes_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "home" / "one.lock"
    argv = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match=r"taken\. Wait for it, or end it"), alone(lock, "taken"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with alone(lock, "taken"):
        pass
