"""`tca`: the verbs of the train from a shell, in the order of the work.

Nothing heavy is imported here: `tca --help` answers at once, and each command imports what it needs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli import (
    card,
    ci,
    compare,
    data,
    data_review,
    data_split,
    diff,
    join,
    look,
    promotion,
    reproduce,
    runs,
    services,
    tune,
    verbs,
    verdict,
)
from flows.errors import TcaError

INTERRUPTED = 130  # what a shell expects of Ctrl-C, and what typer makes of it


class InOrder(TyperGroup):
    """Lists the verbs in the order of the work; Typer lists groups after all commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = [name for name in super().list_commands(ctx) if name != "tune"]
        names.insert(names.index("train") + 1, "tune")
        return names


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From labelled frames to a vehicle detector that answers HTTP, with evidence at every step.\n\n"
    "Exit codes: 0 done, 1 a gate said no, 2 the input is wrong, 3 something outside failed.",
)
data_split.add_to(data.app)
data_review.add_to(data.app)
app.add_typer(data.app, name="data")
app.add_typer(tune.app, name="tune")
app.add_typer(runs.app, name="runs")
app.add_typer(promotion.app, name="promotion")
app.add_typer(verdict.app, name="verdict")
app.add_typer(ci.app, name="ci")
verbs.add_to(app)
join.add_to(app)
reproduce.add_to(app)
card.add_to(app)
compare.add_to(app)
services.add_to(app)
look.add_to(app)
diff.add_to(app)


@app.callback()
def options(
    project: Annotated[Path, typer.Option("-C", metavar="FOLDER", help="Work in this project.")] = Path(),
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks and library logs.")] = False,
) -> None:
    """Options before the command."""
    if project != Path():
        try:
            os.chdir(project)
        except OSError as error:
            raise TcaErrorInOptions(f"-C {project}: {error.strerror}") from None
    if verbose:
        os.environ["PREFECT_LOGGING_LEVEL"] = "INFO"
        os.environ["TCA_VERBOSE"] = "1"


class TcaErrorInOptions(TcaError):
    """The options before the command are wrong."""

    exit_code = 2


def main() -> None:
    """Run a command; errors become one readable line and an exit code."""
    with _readable_errors():
        app()


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ending:
        if isinstance(ending, SystemExit) and ending.code != INTERRUPTED:
            raise
        print("\nStopped. What was finished is kept; the same command goes on from there.", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # at once: nothing that must be kept waits in a thread any more
    except TcaError as error:
        _leave(f"error: {error}", error.exit_code)
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        _leave(f"error: {error.strerror or error}{where}", 3)
    except Exception as error:  # a defect of ours: say so, keep the trace for those who ask
        _leave(f"internal error: {type(error).__name__}: {error}. Please report it with the output of: tca -v ...", 3)


def _leave(message: str, code: int) -> None:
    if os.environ.get("TCA_VERBOSE"):
        traceback.print_exc()
    print(message, file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)
