"""The launcher of several processes, PyTorch's own elastic agent (torchrun) inside.

    python -m flows.training.launching.agent

One runs on each machine. It starts the workers of its machine, and all anew when one dies, as often as it may.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from flows.errors import ServiceError, TcaError
from flows.training.distributed.company import GPUS, IS_FIRST_MACHINE
from flows.training.launching.agent_order import ORDER, Order
from flows.training.launching.meeting import Terms, ask_to_join, interface_of, own_address, receive_machines
from flows.training.launching.messages import Failed
from flows.training.launching.wire import call_parent, die_with_parent

_SHUTDOWN_S = 45  # for the workers to save, when the machine must stop


def main() -> None:
    """Meet the other machines, then run the workers of this one."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # until the elastic agent takes it over
    order = Order.model_validate_json(os.environ[ORDER])
    line = call_parent()
    try:
        _launch(order)
    except TcaError as error:
        with contextlib.suppress(OSError):
            line.tell(Failed.of(error))
        sys.exit(error.exit_code)


def _launch(order: Order) -> None:
    if order.num_nodes == 1:
        _run(order, Terms(run_id=f"alone-{os.getpid()}", restarts=order.restarts), "127.0.0.1:0")
        return
    assert order.machine
    if order.is_first:
        with receive_machines(order) as terms:
            _run(order, terms, order.rendezvous)
    else:
        _run(order, ask_to_join(order), order.rendezvous)


def _run(order: Order, terms: Terms, rendezvous: str) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import api as meeting
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    address = own_address(rendezvous)
    _set_environment(order, address)
    wait_s = max(1, round(order.timeout_s))
    config = LaunchConfig(
        min_nodes=order.num_nodes,
        max_nodes=order.num_nodes,
        nproc_per_node=order.num_processes,
        logs_specs=DefaultLogsSpecs(log_dir=str(order.log_dir)),
        run_id=terms.run_id,
        rdzv_endpoint=rendezvous,
        rdzv_backend="c10d",
        rdzv_configs={"timeout": wait_s, "join_timeout": wait_s, "is_host": order.is_first, "last_call_timeout": 1},
        max_restarts=terms.restarts,
        monitor_interval=0.1,
        local_addr=address,
        shutdown_timeout=_SHUTDOWN_S,
    )
    try:
        launch_agent(config, sys.executable, ["-P", "-m", "flows.training.launching.worker"])
    except (ChildFailedError, SignalException):
        sys.exit(1)  # the flow knows what to say
    except meeting.RendezvousTimeoutError:
        raise ServiceError(
            f"the {order.num_nodes} machines did not come together at {rendezvous} within {wait_s} s",
            "Start on the machine that is missing: tca join",
        ) from None
    except meeting.RendezvousError as error:
        raise ServiceError(
            f"the first machine does not answer at {rendezvous} any more", "Look there for how the training ended"
        ) from error


def _set_environment(order: Order, address: str) -> None:
    """For torch, and for the workers, which inherit it."""
    interface = interface_of(address)
    if interface:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        if order.num_nodes > 1:
            os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)
    # Each start of the workers gets a store of its own: what the last left in a common one leads astray.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ[IS_FIRST_MACHINE] = str(int(order.is_first))
    os.environ[GPUS] = ",".join(order.gpus)
    # Set by us, or torchrun would print that it has set it to 1.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // order.num_processes)))


if __name__ == "__main__":
    main()
