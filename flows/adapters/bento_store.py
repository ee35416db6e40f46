"""BentoML's store: building a bento from a model directory, keeping it, and the command that serves it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from flows.errors import ServiceError

SERVICE = "bentos.detector.service:Detector"
SOURCE = Path(__file__).resolve().parents[2] / "bentos"


def build_bento(model_dir: Path, name: str, version: str, archive: Path) -> str:
    """Build a bento that holds the detector's code and `model_dir`, keep it in the store and as `archive`.

    Returns its tag. A tag that is in the store already is built anew: its content follows from the digest in it.

    Raises:
        ServiceError: BentoML refused to build or export.
    """
    tag = f"{name}:{version}"
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        _assemble(context, model_dir)
        _bentoml("delete", tag, "--yes", check=False)
        _bentoml("build", "-f", str(context / "bentofile.yaml"), "--name", name, "--version", version, str(context))
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    _bentoml("export", tag, str(archive))
    return tag


def ensure_bento(tag: str, archive: Path) -> None:
    """Have `tag` in this machine's store, from `archive` if it is not there. Raises ServiceError."""
    if _bentoml("get", tag, "-o", "tag", check=False).returncode != 0:
        _bentoml("import", str(archive))


def serve_command(tag: str, port: int) -> list[str]:
    """The command that serves `tag` on a local port."""
    return [sys.executable, "-m", "bentoml", "serve", tag, "--host", "127.0.0.1", "--port", str(port)]


def _assemble(context: Path, model_dir: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(SOURCE / "detector", context / "bentos" / "detector", ignore=ignore)
    shutil.copy(SOURCE / "__init__.py", context / "bentos" / "__init__.py")
    shutil.copy(SOURCE / "detector" / "bentofile.yaml", context / "bentofile.yaml")
    # The checkpoint stays out: opening it needs Ultralytics, which the bento must not.
    shutil.copytree(model_dir, context / "model", ignore=shutil.ignore_patterns("weights.pt"))


def _bentoml(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    home = Path(os.environ["BENTOML_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-m", "bentoml", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ServiceError(f"bentoml {arguments[0]} failed: {lines[-1] if lines else 'no reason given'}")
    return done
