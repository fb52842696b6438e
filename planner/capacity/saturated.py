"""What a replica takes where queues are ignored: full batches, one after another, without pause.

Of the batch sizes whose own latency is within the budget at the SLO's percentile, the best throughput. It
leaves out the wait for the batch before, the wait for company, and that requests come as they like, so it is
above what holds the SLO: it is here to compare with tools that plan by it.
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.capacity.service import ServiceLaws, ranked_ns
from planner.units import NS_PER_S


def saturated_rps(laws: ServiceLaws, instances: int, percentile: float, budget_ns: float) -> float:
    """Requests per second of the best batch size; 0 where every one of them is late."""
    return max((rate for rate, _, _ in _able(laws, instances, percentile, budget_ns)), default=0.0)


def saturated_latency_ns(laws: ServiceLaws, percentile: float, budget_ns: float) -> tuple[float, int]:
    """The latency's percentile of that batch size, and the size; those of one alone where all are late."""
    alone = ranked_ns(laws.samples_ns[0], percentile), 1
    able = _able(laws, 1, percentile, budget_ns)
    return max(able, default=(0.0, *alone))[1:]


def most_rps(laws: ServiceLaws, instances: int) -> float:
    """No replica takes more, however requests come: the throughput of the best batch size, late or not."""
    smallest_ns = (float(mean) / size for size, mean in zip(laws.largest, laws.mean_ns, strict=True))
    return instances / min(smallest_ns) * NS_PER_S


def _able(
    laws: ServiceLaws, instances: int, percentile: float, budget_ns: float
) -> Iterator[tuple[float, float, int]]:
    """Rate, latency and batch size of those within the budget."""
    for size, samples, mean_ns in zip(laws.largest, laws.samples_ns, laws.mean_ns, strict=True):
        latency_ns = ranked_ns(samples, percentile)
        if latency_ns <= budget_ns:
            yield instances * size / float(mean_ns) * NS_PER_S, latency_ns, size
