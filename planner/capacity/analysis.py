"""What a replica takes of a workload, by the analysis that applies: the one place that chooses it.

Exact for one instance that waits for nobody, with Poisson arrivals; otherwise simulated; or ``saturated``,
where the workload asks for queues to be ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from planner.capacity.arrivals import stream_of
from planner.capacity.saturated import most_rps, saturated_latency_ns, saturated_rps
from planner.capacity.search import capacity_of
from planner.capacity.service import ServiceLaws
from planner.capacity.simulated import (
    REQUESTS,
    judged_at,
    rough_capacity_rps,
    simulated_capacity,
    simulated_percentile_ns,
    unloaded_percentile_ns,
)
from planner.capacity.simulation import Replica
from planner.capacity.sojourn import grid, percentile_ns, sojourn
from planner.domain.workload import SATURATED, Workload

WORTH_A_LOOK = 0.93
"""A queue delay whose rough capacity is below this share of the best one's is not looked at closely."""
PACKED_REQUESTS = REQUESTS // 4
"""Where replicas are packed, service times are a guess: fewer requests, and a lower end further down, do."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """``low_rps`` is what to plan with, ``rate_rps`` the estimate; these are the same where it is exact.

    What follows is at ``rate_rps``, of a simulation at ``low_rps``; of a request alone where that is 0.
    """

    rate_rps: float
    low_rps: float
    high_rps: float
    sojourn_ns: float
    utilisation: float
    mean_batch_size: float
    truncated_mass: float = 0.0
    lattice_step_ns: float = 0.0


def is_exact(replica: Replica, workload: Workload) -> bool:
    """Whether the queue is that of one greedy engine with Poisson arrivals."""
    waits = replica.queue_delay_ns > 0 and replica.laws.max_batch_size > 1
    return replica.instances == 1 and not waits and workload.arrivals.poisson


def analyse(replica: Replica, workload: Workload, requests: int = REQUESTS) -> Analysis:
    """What ``replica`` takes of ``workload`` within its SLO. Simulations judge ``requests`` or more."""
    slo = workload.slo
    if workload.capacity == SATURATED:
        rate = saturated_rps(replica.laws, replica.instances, slo.percentile, slo.budget_ns)
        latency_ns, size = saturated_latency_ns(replica.laws, slo.percentile, slo.budget_ns)
        return Analysis(rate, rate, rate, latency_ns, float(rate > 0), float(size))
    if is_exact(replica, workload):
        exact = capacity_of(replica.laws, slo.percentile, slo.budget_ns)
        rate = exact.rate_rps
        return Analysis(
            rate,
            rate,
            rate,
            exact.sojourn_percentile_ns,
            exact.utilisation,
            exact.mean_batch_size,
            exact.truncated_mass,
            exact.lattice_step_ns,
        )
    found = simulated_capacity(replica, stream_of(workload), slo.percentile, slo.budget_ns, requests)
    return Analysis(
        found.rate_rps,
        found.low_rps,
        found.high_rps,
        found.sojourn_percentile_ns,
        found.utilisation,
        found.mean_batch_size,
    )


def analysed_at(replica: Replica, workload: Workload, rate_rps: float) -> Analysis:
    """What is seen at a rate that is above 0 and no more than the replica takes."""
    slo = workload.slo
    if is_exact(replica, workload):
        exact = sojourn(grid(replica.laws, slo.budget_ns), rate_rps)
        return Analysis(
            rate_rps,
            rate_rps,
            rate_rps,
            exact.percentile_ns(slo.percentile),
            exact.utilisation,
            exact.mean_batch_size,
            exact.truncated_mass,
            exact.step_ns,
        )
    stream = stream_of(workload)
    seen = judged_at(replica, stream, stream.share(rate_rps), rate_rps, slo.percentile, slo.budget_ns)
    return Analysis(
        rate_rps, rate_rps, rate_rps, seen.sojourn_percentile_ns, seen.utilisation, seen.mean_batch_size
    )


def best_delay(laws: ServiceLaws, instances: int, workload: Workload) -> tuple[Replica, Analysis]:
    """The replica with that of the workload's queue delays with which it takes most, and what it takes.

    A delay needs nothing that another one does not, so no plan is better with a worse one. Of equals the
    shortest.
    """
    replicas = considered(laws, instances, workload)
    if len(replicas) > 1:
        replicas = _worth_a_look(replicas, workload)
    analysed = [(replica, analyse(replica, workload)) for replica in replicas]
    return max(analysed, key=lambda found: (found[1].low_rps, -found[0].queue_delay_ns))


def considered(laws: ServiceLaws, instances: int, workload: Workload) -> list[Replica]:
    """One for each of the workload's queue delays, ascending, where a delay makes any difference."""
    waiting = laws.max_batch_size > 1 and workload.capacity != SATURATED
    delays = sorted(set(workload.batching.queue_delays_ns)) if waiting else [0]
    return [Replica(laws, instances, delay) for delay in delays]


def _worth_a_look(replicas: Iterable[Replica], workload: Workload) -> list[Replica]:
    rough = {replica: _rough_rps(replica, workload) for replica in replicas}
    best = max(rough.values())
    return [replica for replica, rate in rough.items() if rate >= best * WORTH_A_LOOK]


def _rough_rps(replica: Replica, workload: Workload) -> float:
    if is_exact(replica, workload):
        return analyse(replica, workload).rate_rps
    slo = workload.slo
    return rough_capacity_rps(replica, stream_of(workload), slo.percentile, slo.budget_ns)


def at_most_rps(laws: ServiceLaws, instances: int, workload: Workload) -> float:
    """What no capacity is above, whatever the delay, found at once; the capacity itself where it is exact.

    A simulated one is bounded by the throughput alone: that bursts lower it is not proven for every law.
    """
    replicas = considered(laws, instances, workload)
    if len(replicas) == 1 and (workload.capacity == SATURATED or is_exact(replicas[0], workload)):
        return analyse(replicas[0], workload).rate_rps
    if unloaded_percentile_ns(replicas[0], workload.slo.percentile) > workload.slo.budget_ns:
        return 0.0
    return most_rps(laws, instances)


def sojourn_percentile_at(
    replica: Replica, workload: Workload, rate_rps: float, of_rps: float | None = None
) -> float:
    """The SLO's percentile of the sojourn in ns where the replica gets ``rate_rps`` of the workload's
    ``of_rps`` (None: of its highest rate); infinite where the queue is unstable. Saturated: of a batch alone.
    """
    slo = workload.slo
    if workload.capacity == SATURATED:
        return saturated_latency_ns(replica.laws, slo.percentile, slo.budget_ns)[0]
    if is_exact(replica, workload):
        return percentile_ns(replica.laws, rate_rps, slo.percentile)
    stream = stream_of(workload)
    share = min(rate_rps / (of_rps or workload.rate_rps), 1.0)
    return simulated_percentile_ns(replica, stream, share, rate_rps, slo.percentile, slo.budget_ns)
