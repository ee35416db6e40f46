"""What serves, put together from the settings: model, batcher, what guards and what watches it."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass, field

from bentos.detector.access import Access, KeyRing
from bentos.detector.batcher import Batcher
from bentos.detector.breaker import Breaker
from bentos.detector.cache import AnswerCache
from bentos.detector.contract import ModelSpec
from bentos.detector.detector import Detector
from bentos.detector.drill import Drill, parse_drill
from bentos.detector.inference import Inference
from bentos.detector.keys import read_keys
from bentos.detector.rate_limit import Limit
from bentos.detector.recorder import Recorder
from bentos.detector.settings import Settings
from bentos.detector.telemetry import Gauges, Telemetry
from bentos.detector.tracing import Tracing, open_tracing

logger = logging.getLogger("bentos.detector")


@dataclass(frozen=True)
class Runtime:
    """Everything that an answer needs, made once the model is loaded and warm."""

    detector: Detector
    batcher: Batcher
    telemetry: Telemetry
    model_version: str
    max_body_bytes: int = 20_000_000
    body_timeout_s: float = 15.0
    recorder: Recorder | None = None
    drill: Drill | None = None
    breaker: Breaker = field(default_factory=Breaker)
    cache: AnswerCache | None = None
    engine_timeout_s: float = 10.0
    tracing: Tracing | None = None
    inference: Inference = field(init=False)

    def __post_init__(self) -> None:
        inference = Inference(self.batcher, self.breaker, self.cache, self.engine_timeout_s)
        object.__setattr__(self, "inference", inference)

    @property
    def spec(self) -> ModelSpec:
        """The served model."""
        return self.detector.spec

    @property
    def model_ref(self) -> dict[str, str]:
        """What every answer says about the model."""
        return {"name": self.spec.name, "version": self.model_version, "digest": self.spec.digest}

    @property
    def is_ready(self) -> bool:
        """Whether a frame sent now may reach the engine."""
        return not self.breaker.refuses

    def metrics(self) -> str:
        """All figures of this moment, as Prometheus's text."""
        cache = self.cache
        lookups = None
        if cache is not None:
            lookups = {"hit": cache.num_hits, "joined": cache.num_joined, "miss": cache.num_misses}
        return self.telemetry.render(
            Gauges(
                queue_frames=self.batcher.num_waiting,
                breaker_state=int(self.breaker.state),
                breaker_opened=self.breaker.num_opened,
                cache_lookups=lookups,
                cache_bytes=None if cache is None else cache.num_bytes,
            )
        )


def check_settings(settings: Settings) -> None:
    """Whatever can be found wrong in the settings themselves; of the model see `check_model`. Raises LoadError."""
    parse_drill(settings.drill)
    if settings.keys_file is not None:
        read_keys(settings.keys_file)
    tracing = open_tracing(settings.tracing)
    if tracing is not None:
        tracing.close()


def open_access(settings: Settings) -> Access:
    """The rule of who may ask, and a plain word on it in the log. Raises KeysRefused."""
    limit = None if settings.rate_limit is None else Limit(settings.rate_limit, settings.rate_burst)
    if settings.keys_file is None:
        logger.warning("DETECTOR_KEYS_FILE is unset: whoever reaches this service may use all of it, without a key")
        return Access(None, limit)
    keys = KeyRing(settings.keys_file, limit)
    logger.info("requests need a key: %d in %s", len(keys), settings.keys_file)
    return Access(keys)


def start_runtime(settings: Settings) -> Runtime:
    """Load and warm the model, and start what serves it.

    Raises:
        LoadError: The model or a setting cannot be served.
    """
    drill, tracing = parse_drill(settings.drill), open_tracing(settings.tracing)
    detector = Detector.load(
        settings.model_dir, num_threads=settings.num_threads, hint=settings.hint, max_pixels=settings.max_pixels
    )
    detector.warm_up(settings.max_batch)
    model_version = settings.model_version or detector.spec.digest[:12]
    figures = Telemetry(model_version)
    batcher = Batcher(
        detector,
        max_batch=settings.max_batch,
        max_batch_ms=settings.max_batch_ms,
        num_decoders=settings.num_decoders,
        max_queue=settings.max_queue,
        max_wait_ms=settings.max_wait_ms,
        on_batch=figures.batched,
    )
    cache_bytes = int(settings.cache_mb * 1e6)
    gc.collect()
    gc.freeze()  # what exists now stays: a collection that looked at all of it would hold every lane up
    logger.info("model %s version %s is loaded and warm", detector.spec.name, model_version)
    return Runtime(
        detector=detector,
        batcher=batcher,
        telemetry=figures,
        model_version=model_version,
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        recorder=Recorder(settings.record_dir) if settings.record_dir is not None else None,
        drill=drill,
        breaker=Breaker(
            max_failures=settings.breaker_failures,
            cooldown_s=settings.breaker_cooldown_s,
            max_cooldown_s=settings.breaker_max_cooldown_s,
        ),
        cache=AnswerCache(cache_bytes, detector.spec.digest) if cache_bytes else None,
        engine_timeout_s=settings.engine_timeout_s,
        tracing=tracing,
    )


def stop_runtime(runtime: Runtime, drain_s: float) -> None:
    """Drain, then stop threads and engine."""
    if not runtime.batcher.close(drain_s):
        logger.warning("frames were still under way after %g s", drain_s)
    if runtime.recorder is not None:
        runtime.recorder.close()
    if runtime.tracing is not None:
        runtime.tracing.close()
    runtime.detector.close()
