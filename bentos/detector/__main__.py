"""`python -m bentos.detector --model-dir DIR --port N` serves a model directory, `--bento TAG` a bento."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import textwrap
from pathlib import Path

from bentos.detector.contract import ModelSpec
from bentos.detector.detector import check_model
from bentos.detector.errors import EngineUnavailable, LoadError
from bentos.detector.runtime import check_settings
from bentos.detector.settings import PREFIX, Settings, read_settings

SERVICE = "bentos.detector.service:Detector"
SOURCE_ROOT = Path(__file__).resolve().parents[2]
_GRACE_S = 30


def main(arguments: list[str] | None = None) -> int:
    """Check model and port, then become the supervisor. Exit codes: 2 wrong input, 3 something outside."""
    options = _parser().parse_args(arguments)
    try:
        if options.model_dir is not None:
            os.environ[PREFIX + "MODEL_DIR"] = str(options.model_dir.resolve())
        settings = read_settings()
        check_settings(settings)
        model_dir = settings.model_dir
        if options.bento and not os.environ.get(PREFIX + "MODEL_DIR"):
            model_dir = bundled_model(options.bento)
        spec = check_model(model_dir)
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
    _serve(spec, options, settings)
    return 0


def require_free_port(host: str, port: int) -> None:
    """Raises OSError when nobody may listen there."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen()


def bundled_model(bento: str) -> Path:
    """The model directory inside a bento, given by its tag or folder. Raises LoadError."""
    if Path(bento).is_dir():
        return Path(bento, "src", "model")
    import bentoml

    try:
        return Path(bentoml.bentos.get(bento).path_of("src"), "model")
    except bentoml.exceptions.BentoMLException as error:
        raise LoadError(f"bento {bento!r}: {error}. See what there is: bentoml list") from None


def worker_command(bento: str | None) -> list[str]:
    """What `bentoml serve` runs as its worker, less the socket: of `bento`, or of this source."""
    command = [sys.executable, "-m", "_bentoml_impl.worker.service", bento or SERVICE]
    return [*command, "--service-name", "detector", "--worker-id", "1", "--timeout-graceful-shutdown", str(_GRACE_S)]


def _serve(spec: ModelSpec, options: argparse.Namespace, settings: Settings) -> None:
    address = f"http://{options.host}:{options.port}"
    print(
        f"{spec.name} ({spec.digest[:12]}) on {address}/v1/detect, ready when {address}/readyz answers 200", flush=True
    )
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    if options.bento is None:
        os.chdir(SOURCE_ROOT)
    # In this process's place, so that what was imported for the checks is gone: it is of the standard library alone.
    command = [sys.executable, "-m", "bentos.detector.supervisor", "--host", options.host, "--port", str(options.port)]
    command += ["--hang-s", str(settings.hang_s), "--", *worker_command(options.bento)]
    os.execv(command[0], command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bentos.detector",
        description="Serve a model over HTTP, and replace the worker that does it when it dies or hangs.",
        epilog=_variables(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model-dir", type=Path, help=f"model directory (default: {PREFIX}MODEL_DIR)")
    parser.add_argument("--bento", metavar="TAG", help="serve this bento, code and model, instead of this source")
    parser.add_argument("--port", type=int, default=3000, help="TCP port (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    return parser


def _variables() -> str:
    """The settings as a list of environment variables: name, default, meaning."""
    lines = ["environment:"]
    for name, field in Settings.model_fields.items():
        default = "unset" if field.default in (None, "", ()) else _short(field.default)
        lines.append(f"  {PREFIX}{name.upper()} ({default})")
        lines += textwrap.wrap(field.description or "", 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _short(default: object) -> str:
    return f"{default.name}/ beside the source" if isinstance(default, Path) else str(default)


def _complain(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
