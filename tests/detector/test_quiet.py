from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
from bentos.detector.engines.quiet import import_onnxruntime, import_openvino
import_openvino().Core()
import_onnxruntime().get_available_providers()
"""


def test_importing_the_engines_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY")}
    env = {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    subprocess.run([sys.executable, "-c", CODE], env=env, check=True, cwd=Path(__file__).resolve().parents[2])
    assert [path.name for path in home.rglob("*")] == []
