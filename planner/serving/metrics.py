"""What Prometheus is told of a service, its price at the current rate among it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from planner.units import usd_per_million_requests

WINDOW_S = 60
"""The current rate is that of the last minute, or since the start where that is later."""
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Rate:
    """Requests per second over the last ``WINDOW_S``, counted by the second."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._counts = [0] * (WINDOW_S + 1)
        self._second = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        with self._lock:
            self._advance()
            self._counts[self._second % len(self._counts)] += 1

    def per_second(self) -> float:
        with self._lock:
            self._advance()
            elapsed = self._clock() - self._began
            whole = sum(self._counts) - self._counts[self._second % len(self._counts)]
            if elapsed < WINDOW_S:
                # The second under way counts too, or the first one would never be seen.
                return sum(self._counts) / max(elapsed, 1.0)
            return whole / WINDOW_S

    def _advance(self) -> None:
        now = int(self._clock() - self._began)
        for second in range(max(self._second + 1, now - WINDOW_S), now + 1):
            self._counts[second % len(self._counts)] = 0
        self._second = now


class Metrics:
    """Of one service; each has a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "planner_requests",
            "Inference requests answered, by HTTP status.",
            ["model", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "planner_request_seconds",
            "Queueing and inference of a request, without its way over the network.",
            ["model"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.batch = Histogram(
            "planner_batch_size",
            "Inferences in a batch, before padding.",
            ["model"],
            buckets=[2.0**k for k in range(9)],
            registry=registry,
        )
        self.engine_seconds = Histogram(
            "planner_engine_seconds",
            "One inference of a batch.",
            ["model"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._of_model = {
            name: Gauge(f"planner_{name}", about, ["model"], registry=registry)
            for name, about in (
                ("waiting", "Requests in queues."),
                ("replicas", "Replicas that this service runs."),
                ("replicas_ready", "Replicas of which every engine instance is there."),
                ("engine_restarts", "Engine processes that died and were started again."),
                ("requests_per_second", f"Requests served, over the last {WINDOW_S} s."),
                ("usd_per_hour", "The plan's price of the replicas that run here."),
                (
                    "usd_per_million_requests",
                    "That price at the current rate; not a number without requests.",
                ),
            )
        }

    def watch(self, model: str, name: str, value: Callable[[], float]) -> None:
        """Have the gauge ``name`` of ``model`` read from ``value`` whenever it is looked at."""
        self._of_model[name].labels(model).set_function(value)

    def text(self) -> bytes:
        return generate_latest(self._registry)


def price(usd_per_hour: float, rate_rps: float) -> float:
    """Dollars per million requests; not a number where there are none."""
    return usd_per_million_requests(usd_per_hour, rate_rps) if rate_rps > 0 else float("nan")
