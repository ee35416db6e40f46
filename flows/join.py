"""Help a training on another machine: meet it at the rendezvous, check that all is the same here, and take part."""

from __future__ import annotations

from collections.abc import Callable

from flows.errors import MemoryShort, OutsideError, ParamsError, Preempted
from flows.params_file import read_params
from flows.params_train import DistributedParams
from flows.settings import Project
from flows.training.launching.launch import help_training


def join_training(
    project: Project,
    rendezvous: str = "",
    nodes: int | None = None,
    processes: int | None = None,
    *,
    forever: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Take part in one training, or in one after the other for ever.

    Args:
        rendezvous: HOST:PORT of the first machine; empty: as params.yaml says, and so for `nodes` and `processes`.
        say: Gets a sentence whenever something has changed.

    Raises:
        ParamsError: There is no rendezvous, only one machine, or there are more processes than devices.
        InputError: Data, code or libraries differ from those of the first machine.
        ServiceError: No training answers there in time, or it ended without a word.
        OutsideError: What ended the training on all machines. With `forever` only Preempted.
    """
    distributed = _choose(read_params(project.params_file).train.distributed, rendezvous, nodes, processes)
    while True:
        say(f"waiting for a training at {distributed.rendezvous}")
        try:
            help_training(project.data, distributed, say)
            say("the training has finished")
        except MemoryShort as short:
            say(f"{short.message}: the first machine starts again with less at once")
            continue
        except OutsideError as error:
            if not forever or isinstance(error, Preempted):
                raise
            say(str(error))
        if not forever:
            return


def _choose(written: DistributedParams, rendezvous: str, nodes: int | None, processes: int | None) -> DistributedParams:
    """What params.yaml says, less what was given. Raises ParamsError."""
    given = {"rendezvous": rendezvous or None, "nodes": nodes, "processes_per_node": processes}
    try:
        chosen = DistributedParams.model_validate(
            {**written.model_dump(), **{key: value for key, value in given.items() if value is not None}}
        )
    except ValueError:
        raise ParamsError(f"{rendezvous} is no rendezvous", "Expected HOST:PORT of the first machine") from None
    if not chosen.rendezvous or chosen.nodes < 2:
        raise ParamsError(
            "there is nothing to join: train.distributed names no rendezvous, or one machine only",
            "Give them: tca join HOST:PORT --nodes 2",
        )
    return chosen
