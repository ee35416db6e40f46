"""`python -m bentos.detector --model-dir DIR --port N` serves a model directory."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from bentos.detector.contract import ModelSpec
from bentos.detector.detector import check_model
from bentos.detector.drill import parse_drill
from bentos.detector.errors import EngineUnavailable, LoadError
from bentos.detector.settings import PREFIX, read_settings

SERVICE = "bentos.detector.service:Detector"
SOURCE_ROOT = Path(__file__).resolve().parents[2]
_GRACE_S = 30


def main(arguments: list[str] | None = None) -> int:
    """Check model and port, then become the BentoML server. Exit codes: 2 wrong input, 3 something outside."""
    options = _parser().parse_args(arguments)
    try:
        if options.model_dir is not None:
            os.environ[PREFIX + "MODEL_DIR"] = str(options.model_dir.resolve())
        settings = read_settings()
        parse_drill(settings.drill)
        spec = check_model(settings.model_dir)
        require_free_port(options.host, options.port)
    except EngineUnavailable as error:
        return _complain(str(error), 3)
    except LoadError as error:
        return _complain(str(error), 2)
    except OSError as error:
        where = f"port {options.port} on {options.host}"
        return _complain(
            f"{where} cannot be used: {error.strerror}. Stop what listens there, or choose another: --port", 3
        )
    _serve(spec, options.host, options.port)
    return 0


def require_free_port(host: str, port: int) -> None:
    """Raises OSError when nobody may listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen()


def _serve(spec: ModelSpec, host: str, port: int) -> None:
    address = f"http://{host}:{port}"
    print(
        f"{spec.name} ({spec.digest[:12]}) on {address}/v1/detect, ready when {address}/readyz answers 200", flush=True
    )
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--working-dir", str(SOURCE_ROOT)]
    command += ["--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(_GRACE_S)]
    os.execv(command[0], command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bentos.detector", description="Serve a model directory over HTTP.")
    parser.add_argument("--model-dir", type=Path, help=f"model directory (default: {PREFIX}MODEL_DIR)")
    parser.add_argument("--port", type=int, default=3000, help="TCP port (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    return parser


def _complain(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
