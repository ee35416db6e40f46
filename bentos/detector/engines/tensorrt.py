"""TensorRT on an NVIDIA GPU: two lanes, and for each batch bucket a CUDA graph that copies in, computes, copies out.

    frames -> pinned rows, padded to the bucket -> one graph launch -> pinned rows -> candidates

Not yet run on a GPU: TensorRT's libraries come from NVIDIA's index, which the machines of this project do not reach.
Its calls are covered by tests against stand-ins of the two libraries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bentos.detector.contract import ModelSpec
from bentos.detector.engines import Engine, usable_cores
from bentos.detector.engines.cuda import device_name, load_cuda, logger, release, require_device
from bentos.detector.engines.lanes import NUM_LANES, Lane, Lanes, Shape, choose_buckets
from bentos.detector.errors import EngineFailed, EngineUnavailable, ModelRefused

INPUT = "frames"
OUTPUT = "detections"


class TensorRtEngine:
    """A serialised engine, bound to the GPU model and the TensorRT version that it was built with."""

    num_parallel = NUM_LANES
    solo: Engine | None = None

    def __init__(self, model_dir: Path, spec: ModelSpec) -> None:
        try:
            import tensorrt
        except ImportError as error:
            raise EngineUnavailable(
                f"this model needs TensorRT, but {error.name} is not installed. "
                "Remedy: pip install tensorrt, or re-export: tca export --engine onnxruntime"
            ) from None
        self._cuda = load_cuda("TensorRT")
        require_device(spec, device_name(self._cuda))
        _require_version(spec, str(tensorrt.__version__))
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))  # must outlive its engine
        self._engine = self._runtime.deserialize_cuda_engine((model_dir / spec.engine.file).read_bytes())
        if self._engine is None:
            raise ModelRefused(
                f"TensorRT {tensorrt.__version__} refuses {spec.engine.file}. "
                f"Re-export here: tca export --engine tensorrt --precision {spec.engine.precision}"
            )
        self._profiles = _read_profiles(self._engine)
        self.max_batch, self.num_decoders = max(self._profiles), usable_cores()
        width, height = spec.input.size_wh
        strategy = tensorrt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        self._lanes = Lanes(
            lambda: self._open((height, width, 3), (spec.top_k, 6), strategy), (spec.top_k, 6), self.max_batch
        )

    def infer(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See `Engine.infer`. Waits while all lanes are taken. Raises EngineFailed."""
        return self._lanes.infer(frames)

    def close(self) -> None:
        """See `Engine.close`. Waits for the batches that run."""
        self._lanes.close()

    def _open(self, in_shape: Shape, out_shape: Shape, strategy: Any) -> _Runner:
        runner = _Runner(self._cuda, Lane(self._cuda, (self.max_batch, *in_shape), (self.max_batch, *out_shape)))
        try:
            for bucket, profile in self._profiles.items():
                context = self._engine.create_execution_context(strategy)
                runner.prepare(context, bucket, profile, (bucket, *in_shape))
        except BaseException:
            runner.close()
            raise
        return runner


class _Runner:
    """A lane, and for each bucket an execution context with its graph; a context serves one shape for ever.

    A graph holds on to the state that its context had when it was captured, so contexts are not shared.
    """

    def __init__(self, cuda: Any, lane: Lane) -> None:
        self._cuda, self._lane = cuda, lane
        self._contexts: dict[int, Any] = {}
        self._graphs: dict[int, Any] = {}

    def prepare(self, context: Any, bucket: int, profile: int, shape: tuple[int, ...]) -> None:
        """Bind `context` to `shape`, run it once so that all lazy work is done, capture its graph."""
        lane = self._lane
        _require(context is not None, f"no execution context for batches of {bucket}")
        chosen = context.set_optimization_profile_async(profile, int(lane.stream))
        _require(chosen, f"profile {profile} is refused")
        _require(context.set_input_shape(INPUT, shape), f"shape {shape} is refused")
        for name, address in ((INPUT, lane.device_in), (OUTPUT, lane.device_out)):
            _require(context.set_tensor_address(name, address), f"the engine has no tensor {name}")
        self._contexts[bucket] = context
        self._enqueue(bucket)
        lane.synchronize()
        try:
            self._graphs[bucket] = lane.capture(lambda: self._enqueue(bucket))
        except EngineFailed as error:
            lane.settle()
            logger.warning("no CUDA graph for batches of %d, its kernels are launched one by one: %s", bucket, error)

    def run(self, frames: npt.NDArray[np.uint8], found: npt.NDArray[np.float32]) -> None:
        """See `Runner.run`."""
        lane, num = self._lane, len(frames)
        bucket = next(size for size in self._contexts if size >= num)
        lane.host_in[:num] = frames  # the rows after are padding, whatever they hold
        try:
            if (graph := self._graphs.get(bucket)) is not None:
                lane.launch(graph)
            else:
                self._enqueue(bucket)
            lane.synchronize()
        except BaseException:
            lane.settle()
            raise
        found[:] = lane.host_out[:num]

    def close(self) -> None:
        """Give all back: graphs before their contexts, contexts before the memory that they use."""
        self._lane.settle()
        for graph in self._graphs.values():
            release(self._cuda, "cudaGraphExecDestroy", graph)
        self._graphs.clear()
        self._contexts.clear()
        self._lane.close()

    def _enqueue(self, bucket: int) -> None:
        self._lane.send(bucket)
        if not self._contexts[bucket].execute_async_v3(int(self._lane.stream)):
            raise EngineFailed("TensorRT refused the batch; its log has the reason")
        self._lane.receive(bucket)


def _require_version(spec: ModelSpec, present: str) -> None:
    """To the last number: TensorRT reads engines of its own build alone."""
    built = spec.engine.versions.get("tensorrt", present)
    if built != present:
        raise EngineUnavailable(
            f"engine built with TensorRT {built}; this machine has {present}. "
            f"Re-export here: tca export --engine tensorrt --precision {spec.engine.precision}"
        )


def _read_profiles(engine: Any) -> dict[int, int]:
    """Bucket to the optimisation profile with the least batches that still takes it, ascending by bucket."""
    ranges = []
    for index in range(int(engine.num_optimization_profiles)):
        least, _, most = engine.get_tensor_profile_shape(INPUT, index)
        ranges.append((int(least[0]), int(most[0]), index))
    profiles = {}
    for bucket in choose_buckets(max(most for _, most, _ in ranges)):
        fitting = [(most - least, index) for least, most, index in ranges if least <= bucket <= most]
        if fitting:
            profiles[bucket] = min(fitting)[1]
    return profiles


def _require(answer: Any, problem: str) -> None:
    if not answer:
        raise EngineFailed(f"{problem}; TensorRT's log has the reason")
