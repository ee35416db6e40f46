from __future__ import annotations

from pathlib import Path

import pytest

from flows.machine import find_compiler


def test_the_compiler_is_the_one_that_pytorch_would_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("g++", "mine"):
        (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert find_compiler() == str(tmp_path / "g++")
    monkeypatch.setenv("CXX", "mine")
    assert find_compiler() == str(tmp_path / "mine")
    monkeypatch.setenv("CXX", "none")
    assert find_compiler() is None
