"""The command: its options, and what is published."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Result, new_parser, publish, read_machine, read_versions
from benchmarks.serving.figures import figures
from benchmarks.serving.frames import draw_frames, read_frames
from benchmarks.serving.ladder import Effort
from benchmarks.serving.lineup import PEERS, Peer, install_peers, missing, peer_version
from benchmarks.serving.models import Model, best_precision, exported_models, given_models
from benchmarks.serving.outcome import Outcome, sentence, targets
from benchmarks.serving.run import SECTIONS, Run
from benchmarks.serving.table import HEADERS, rows
from bentos.detector.errors import LoadError
from bentos.detector.settings import read_settings
from flows.errors import TcaError

_QUICK = Effort(
    rung_s=0.4, closed_s=2.0, step_s=2.0, confirm_s=3.0, resolution=0.1, peer_resolution=0.1, lone_s=4.0, overload_s=4.0
)
_PACKAGES = (
    "bentoml",
    "openvino",
    "torch",
    "ultralytics-opencv-headless",
    "simplejpeg",
    "opencv-python-headless",
    "uvloop",
)


def main() -> int:
    """Exit codes: 2 wrong input, 3 something outside."""
    given = _parse()
    if given.install_peers:
        failures = install_peers()
        print("\n".join(failures) or "installed")
        return 3 if failures else 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped on the way out
    machine = read_machine()
    try:
        settings = read_settings()
        models = _models(given)
        images = read_frames(given.frames) if given.frames else draw_frames()
        peers, absent = _present_peers(given)
        run = Run(
            settings=settings, images=images, num_cameras=given.cameras, peers=peers, sections=given.only,
            effort=_effort(given), rounds=given.rounds, peer_rounds=given.peer_rounds,
            all_defaults=given.all_defaults, profile=given.profile,
        )  # fmt: skip
        found = run.all(models)
    except (LoadError, TcaError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, TcaError) else 2
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    result = _result(given, run, found, machine, absent)
    for target in (target for one in found for target in targets(one)):
        print(target)
    for name, why in absent.items():
        print(f"{name}: {why}")
    publish(result, given.results)
    return 0


def _parse() -> argparse.Namespace:
    parser = new_parser(
        "serving", "How much of what engine, decoder and HTTP allow the service delivers, and its peers."
    )
    parser.set_defaults(rounds=2)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", type=Path, nargs="+", metavar="DIR", help="model directories to measure as they are")
    source.add_argument(
        "--weights", type=Path, help="checkpoint to export (default: the demo's; else untrained YOLO11n)"
    )
    parser.add_argument(
        "--sizes", type=_numbers, default=(320, 640), help="sides of the exported input (default: 320,640)"
    )
    parser.add_argument("--precisions", type=_words, default=None, help="fp32, bf16 (default: the faster on this CPU)")
    parser.add_argument("--scaled-decode", action="store_true", help="exported models may decode at some eighths")
    parser.add_argument("--frames", type=Path, metavar="FOLDER", help="JPEGs to send instead of drawn ones")
    parser.add_argument("--only", type=_sections, default=SECTIONS, help=f"of {','.join(SECTIONS)} (default: all)")
    parser.add_argument("--peers", type=_names, default=None, help="only those named so: 'FastAPI;LitServe, default'")
    parser.add_argument("--peer-rounds", type=int, default=1, help="rounds of peers (default: %(default)s)")
    parser.add_argument("--all-defaults", action="store_true", help="peers' defaults also at smaller sizes")
    parser.add_argument("--cameras", type=int, default=16, help="connections of the open loop (default: %(default)s)")
    parser.add_argument("--budget-ms", type=float, default=100.0, help="p99 below this passes (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a first look: short steps, coarse rates, one round")
    parser.add_argument("--profile", action="store_true", help="print where the service's time goes")
    parser.add_argument("--install-peers", action="store_true", help="make .venv-peers, and end")
    given = parser.parse_args()
    if given.quick:
        given.rounds = given.peer_rounds = 1
    return given


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())


def _sections(text: str) -> tuple[str, ...]:
    if unknown := set(_words(text)) - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose from {', '.join(SECTIONS)}")
    return _words(text)


def _models(given: argparse.Namespace) -> list[Model]:
    if given.model:
        return given_models(given.model)
    precisions = given.precisions or (best_precision(),)
    return exported_models(given.weights, given.sizes, precisions, scaled_decode=given.scaled_decode)


def _effort(given: argparse.Namespace) -> Effort:
    chosen = _QUICK if given.quick else Effort()
    return Effort(**{**vars(chosen), "budget_ms": given.budget_ms})


def _present_peers(given: argparse.Namespace) -> tuple[list[Peer], dict[str, str]]:
    """Those that can run here, and why the others cannot."""
    if "peers" not in given.only:
        return [], {}
    words = given.peers or ("",)
    wanted = [peer for peer in PEERS if any(word.lower() in peer.name.lower() for word in words)]
    reasons = {peer: missing(peer) for peer in wanted}
    # Those on the same engine file follow each other, and ours is measured before and after all.
    able = sorted((peer for peer in wanted if reasons[peer] is None), key=lambda peer: peer.way != "engine")
    return able, {peer.name: why for peer, why in reasons.items() if why is not None}


def _result(
    given: argparse.Namespace, run: Run, found: Sequence[Outcome], machine: dict[str, Any], absent: dict[str, str]
) -> Result:
    return Result(
        name="serving",
        sentence=sentence(found, given.budget_ms),
        headers=HEADERS,
        rows=[row for one in found for row in rows(one)],
        settings={
            **{name: getattr(given, name) for name in ("rounds", "peer_rounds", "cameras", "quick")},
            "effort": vars(run.effort),
            "sections": given.only,
            "service": run.settings.model_dump(
                mode="json", include={"hint", "num_threads", "num_decoders", "max_batch", "max_batch_ms"}
            ),
            "frames": {
                "source": "folder" if given.frames else "drawn",
                "count": len(run.images),
                "mean_kb": sum(map(len, run.images)) / len(run.images) / 1000,
            },
            "weights": "given" if given.weights or given.model else "default",
            "models": {
                one.model.label: {
                    "name": one.model.spec.name,
                    "digest": one.model.spec.digest,
                    "scaled_decode": one.model.spec.input.scaled_decode,
                    **one.model.spec.engine.model_dump(),
                }
                for one in found
            },
            "absent_peers": absent,
        },
        figures={one.model.label: figures(one) for one in found},
        machine=machine,
        versions={**read_versions(*_PACKAGES), **{peer.package: peer_version(peer) for peer in run.peers}},
    )
