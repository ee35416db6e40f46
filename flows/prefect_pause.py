"""A Prefect run that is paused until somebody answers, while the work in it goes on watching.

Prefect's own `pause_flow_run` blocks, and nobody would watch the traffic meanwhile. So its parts are used one by one:
the run is set to Paused with a form, and asked now and then whether somebody has filled it in and resumed it.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

T = TypeVar("T")

if TYPE_CHECKING:
    from prefect.input.run_input import Keyset

LOOK_EVERY_S = 3.0
PATIENCE_S = 10.0
"""A server that hangs must not keep the promotion from watching, or from rolling back."""
_AFTER_SILENCE_S = 60.0
_FOREVER_S = 30 * 86400
"""The promotion has a deadline of its own."""


class Answer(BaseModel):
    """What somebody put into the form."""

    agree: bool
    by: str


@dataclass
class PausedRun:
    """The run of the present flow, paused with a question. No method raises: a promotion does not end with Prefect."""

    flow_run_id: UUID
    keyset: Keyset
    say: Callable[[str], None]
    _looked_s: float = field(default_factory=time.monotonic)

    @classmethod
    def ask(cls, key: str, question: str, say: Callable[[str], None]) -> PausedRun | None:
        """Pause the present run with `question`; None outside a run, or where Prefect does not want it."""
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return None
        try:
            keyset = _within(PATIENCE_S, _pause, context.flow_run.id, key, question)
        except Exception as error:  # whatever Prefect makes of it, the shell is left
            say(f"Prefect cannot be asked: {type(error).__name__}: {error}")
            return None
        return cls(context.flow_run.id, keyset, say)

    def answer(self) -> Answer | None:
        """What somebody answered by now; asks Prefect every few seconds."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return None
        self._looked_s = now_s
        try:
            return _within(PATIENCE_S, _read_answer, self.flow_run_id, self.keyset)
        except TimeoutError:
            self._looked_s = now_s + _AFTER_SILENCE_S
        except Exception:  # it may answer the next time
            pass
        return None

    def end(self) -> None:
        """Have the run go on: somebody has answered elsewhere, or it is too late."""
        try:
            _within(PATIENCE_S, _go_on, self.flow_run_id)
        except Exception as error:
            self.say(f"the run stays paused in Prefect: {type(error).__name__}: {error}")


def _pause(flow_run_id: UUID, key: str, question: str) -> Keyset:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.input.run_input import keyset_from_paused_state
    from prefect.states import Paused
    from prefect.utilities.engine import propose_state_sync

    state: State[Any] = Paused(timeout_seconds=_FOREVER_S, reschedule=False, pause_key=key)
    keyset = keyset_from_paused_state(state)
    state.state_details.run_input_keyset = {str(name): key for name, key in keyset.items()}
    with get_client(sync_client=True) as client:
        accepted = propose_state_sync(client, state=state, flow_run_id=flow_run_id)
    if not accepted.is_paused():
        raise RuntimeError(f"the run became {accepted.name}")
    _form().with_initial_data(description=question).save(keyset, flow_run_id=flow_run_id)
    return keyset


def _go_on(flow_run_id: UUID) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, Running(), force=True)


def _within(limit_s: float, work: Callable[..., T], *given: Any) -> T:
    """What `work` returns or raises; TimeoutError when it does neither in time."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work(*given))
        except BaseException as error:
            done.set_exception(error)

    # A thread that nobody waits for at the end, as the interpreter would for one of an executor.
    Thread(target=contextvars.copy_context().run, args=(run,), daemon=True, name="prefect").start()
    return done.result(limit_s)


def _read_answer(flow_run_id: UUID, keyset: Keyset) -> Answer | None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run_id)
    if run.state is None or not run.state.is_running():
        return None
    filled = _form().load(keyset, flow_run_id=flow_run_id)
    return Answer(agree=filled.agree, by=filled.by)


def _form() -> Any:
    from prefect.input import RunInput

    class Agreement(RunInput):
        agree: bool
        by: str

    return Agreement
