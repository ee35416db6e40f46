"""BentoML's store: building a bento from a model directory, keeping it, and the command that serves it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
    import bentoml

    tag = f"{name}:{version}"
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        _assemble(context, model_dir)
        with _said_by_bentoml("build"):
            if _has(tag):
                bentoml.bentos.delete(tag)
            _build(context, name, version)
            archive.parent.mkdir(parents=True, exist_ok=True)
            archive.unlink(missing_ok=True)
            bentoml.bentos.export_bento(tag, str(archive))
    return tag


def ensure_bento(tag: str, archive: Path) -> None:
    """Have `tag` in this machine's store, from `archive` if it is not there. Raises ServiceError."""
    import bentoml

    with _said_by_bentoml("import"):
        if not _has(tag):
            bentoml.bentos.import_bento(str(archive))


def serve_command(tag: str, port: int) -> list[str]:
    """The command that serves `tag` on a local port."""
    return [sys.executable, "-m", "bentos.detector", "--bento", tag, "--port", str(port)]


def _assemble(context: Path, model_dir: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(SOURCE / "detector", context / "bentos" / "detector", ignore=ignore)
    shutil.copy(SOURCE / "__init__.py", context / "bentos" / "__init__.py")
    shutil.copy(SOURCE / "detector" / "bentofile.yaml", context / "bentofile.yaml")
    # The checkpoint stays out: opening it needs Ultralytics, which the bento must not.
    shutil.copytree(model_dir, context / "model", ignore=shutil.ignore_patterns("weights.pt"))


def _has(tag: str) -> bool:
    import bentoml

    try:
        bentoml.bentos.get(tag)
    except bentoml.exceptions.NotFound:
        return False
    return True


def _build(context: Path, name: str, version: str) -> None:
    # In a process of its own: building imports the service from the context, and `bentos` is imported here already.
    options = ("-f", str(context / "bentofile.yaml"), "--name", name, "--version", version, str(context))
    argv = [sys.executable, "-m", "bentoml", "build", *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ServiceError(f"bentoml build failed: {lines[-1] if lines else 'no reason given'}")


@contextmanager
def _said_by_bentoml(doing: str) -> Iterator[None]:
    Path(os.environ["BENTOML_HOME"]).mkdir(parents=True, exist_ok=True)
    from bentoml.exceptions import BentoMLException

    try:
        yield
    except BentoMLException as error:
        raise ServiceError(f"bentoml {doing} failed: {error}") from error
