"""Shards of a stage mapped over a Prefect task runner: threads, processes, or the machines of a Dask cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task

from flows.errors import EngineUnavailable, ServiceError
from flows.machine import count_cores
from flows.settings import TaskRunnerChoice

T = TypeVar("T")
R = TypeVar("R")

_CONNECT_S = 10
_AHEAD = 2  # shards that wait for each worker: enough to keep it busy


def map_over(choice: TaskRunnerChoice, function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
    """`function` of each item, in their order; no more items are taken than the workers need.

    Args:
        choice: Who works, not "local".
        function: Importable by its name wherever the workers are.
        items: What can be pickled.

    Raises:
        EngineUnavailable: prefect-dask is not installed.
        ServiceError: The Dask scheduler does not answer, or a worker died.
    """
    with _started(choice) as (runner, num_workers):
        waiting: deque[PrefectFuture[R]] = deque()
        for item in items:
            waiting.append(runner.submit(_bound(function, item), {}))
            if len(waiting) >= _AHEAD * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _bound(function: Callable[[T], R], item: T) -> Task[[], R]:
    """A task without parameters: Prefect would look for futures in every field of them."""

    def work() -> R:
        return function(item)

    return task(name=function.__name__, cache_policy=NO_CACHE, persist_result=False)(work)


@contextmanager
def _started(choice: TaskRunnerChoice) -> Iterator[tuple[TaskRunner[Any], int]]:
    cores = count_cores()
    if choice.kind == "dask":
        with _dask(choice.address) as runner:
            yield runner, max(1, sum(runner.client.nthreads().values()))
        return
    runner = ThreadPoolTaskRunner(cores) if choice.kind == "threads" else ProcessPoolTaskRunner(cores)
    with runner:
        yield runner, cores


@contextmanager
def _dask(address: str) -> Iterator[Any]:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise EngineUnavailable("TCA_TASK_RUNNER=dask: prefect-dask is not installed", _INSTALL) from None
    if address:
        runner = DaskTaskRunner(address=address, client_kwargs={"timeout": _CONNECT_S})
    else:
        own = {"n_workers": count_cores(), "threads_per_worker": 1, "dashboard_address": None}
        runner = DaskTaskRunner(cluster_kwargs=own)
    with runner:
        try:
            runner.client.wait_for_workers(1, timeout=_CONNECT_S)
        except (OSError, TimeoutError, ValueError) as error:
            where = address or "the cluster of our own"
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ServiceError(f"no Dask scheduler with workers at {where}: {reason}", _START) from None
        yield runner


_INSTALL = 'Install it: pip install "its-camera-ai[dask]", or choose another TCA_TASK_RUNNER'
_START = "Start it (dask scheduler; dask worker ADDRESS), or choose another TCA_TASK_RUNNER"
