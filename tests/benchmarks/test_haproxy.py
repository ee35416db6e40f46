from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import haproxy
from benchmarks.haproxy import haproxy_running, read_haproxy_version
from benchmarks.loopback import closed_loop, detect_request
from benchmarks.processes import await_line, started

needs_haproxy = pytest.mark.skipif(read_haproxy_version() is None, reason="HAProxy is not installed")


@contextlib.contextmanager
def backend(log: Path) -> Iterator[int]:
    with started("benchmarks.fake_backend", log=log) as process:
        yield int(await_line(process, log, r"(\d+)\n")[1])


@needs_haproxy
def test_the_peer_splits_by_weight_and_camera(tmp_path: Path) -> None:
    requests = [detect_request(b"frame", f"cam{number}") for number in range(64)]
    with (
        backend(tmp_path / "champion.log") as champion,
        backend(tmp_path / "candidate.log") as candidate,
        haproxy_running(tmp_path, (champion, candidate), (7, 1)) as peer,
    ):
        assert peer is not None
        assert closed_loop(peer.port, requests[:1], 1, 0.1).all_good
        assert peer.candidate_share() in (0.0, 1.0)  # one camera, one arm
        assert closed_loop(peer.port, requests, 4, 0.3).all_good
        assert 0.02 < peer.candidate_share() < 0.4


@needs_haproxy
def test_a_peer_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy, "_CONFIGURATION", "nonsense {port}")
    with pytest.raises(RuntimeError, match="nonsense"), haproxy_running(tmp_path, (1, 2), (1, 1)):
        pass


def test_without_haproxy_there_is_no_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert read_haproxy_version() is None
    with haproxy_running(tmp_path, (1, 2), (1, 1)) as peer:
        assert peer is None
    assert "apt install haproxy" in capsys.readouterr().out
