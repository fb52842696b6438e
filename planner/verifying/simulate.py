"""All replicas of a workload, simulated side by side: one stream of requests, divided among them at random.

Each request of the stream goes to one replica, by the plan's shares of the traffic, whatever state that is
in; nothing here assumes how what a replica gets is distributed. Many independent runs start empty, the
beginning of each is left out: a quarter of what is judged, or more where queues remember longer, at most
three times as much as is judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.capacity import Replica, Served, arrival_times, simulate
from planner.capacity.service import Array
from planner.domain.workload import Arrivals, Slo
from planner.units import NS_PER_S
from planner.verifying.seen import Runs, Seen, seen_in

RUNS = (16, 64)
"""The fewest and the most; between, enough for ``ROWS`` replicas side by side, which is what is fast."""
ROWS = 256
LEFT_OUT = (0.25, 3.0)
"""Of each run, in requests judged: at least, and at most."""
MEMORY = 4.0
"""A queue with a drift of theta per service and a variance of s^2 is left alone for so many s^2 / theta^2
services: twice the time in which it forgets that it was empty (docs/capacity.md)."""


@dataclass(frozen=True, slots=True)
class Alike:
    """So many replicas that are the same, and get ``rate_rps`` together."""

    replica: Replica
    count: int
    rate_rps: float

    @property
    def stable(self) -> bool:
        return self.rate_rps / NS_PER_S < self.count * self.replica.limit_per_ns


@dataclass(frozen=True, slots=True)
class Simulated:
    """``whole``: all requests; ``alike``, ``replicas``: those of each kind, and of each of its replicas.

    ``settled``: enough was left out for queues to forget that they were empty at first; where it was not,
    fewer requests are late than would be. One that grows without end never does, and fails anyway.
    """

    whole: Seen
    alike: tuple[Seen, ...]
    replicas: tuple[tuple[Seen, ...], ...]
    simulated: int
    """Requests, those included that are left out."""
    settled: bool


def simulated(
    fleet: Sequence[Alike], arrivals: Arrivals, rate_rps: float, slo: Slo, requests: int, seed: int
) -> Simulated:
    """``requests`` are judged, a few less or more. ``rate_rps``: of the whole stream."""
    rng = np.random.default_rng(seed)
    replicas = sum(alike.count for alike in fleet)
    runs = min(max(-(-ROWS // replicas), RUNS[0]), RUNS[1])
    judged = max(-(-requests // runs), 2)
    least, most = (math.ceil(share * judged) for share in LEFT_OUT)
    memory = _memory(fleet, rate_rps)
    left_out = min(max(memory, least), most)
    times = arrival_times(arrivals, 1.0, rate_rps / NS_PER_S, (runs, left_out + judged), rng)
    rates = np.repeat([a.rate_rps / a.count for a in fleet], [a.count for a in fleet])
    to = np.searchsorted(rates.cumsum() / rates.sum(), rng.random(times.shape), side="right")
    to = np.minimum(to, replicas - 1)
    from_ns, until_ns = times[:, left_out - 1], times[:, -1]
    parts, first = [], 0
    for alike in fleet:
        arrived = _divided(times, to, first, alike.count)
        served = simulate(alike.replica, arrived, rng)
        parts.append(_runs(alike, served, runs, from_ns, until_ns, float(slo.budget_ns)))
        first += alike.count
    ask = slo.percentile, float(slo.budget_ns)
    return Simulated(
        whole=seen_in(parts, *ask, all(alike.stable for alike in fleet)),
        alike=tuple(seen_in([part], *ask, a.stable) for a, part in zip(fleet, parts, strict=True)),
        replicas=tuple(
            tuple(seen_in([part.of(number)], *ask, a.stable) for number in range(a.count))
            for a, part in zip(fleet, parts, strict=True)
        ),
        simulated=times.size,
        settled=memory <= left_out,
    )


def _memory(fleet: Sequence[Alike], rate_rps: float) -> int:
    """Requests of all replicas until no stable one remembers its start."""
    longest_ns = 0.0
    for alike in (alike for alike in fleet if alike.stable):
        laws = alike.replica.laws
        load = alike.rate_rps / NS_PER_S / (alike.count * alike.replica.limit_per_ns)
        varies = 1 / laws.max_batch_size + laws.variance
        services = MEMORY * varies / (1 - load) ** 2 + 10
        longest_ns = max(longest_ns, services * float(laws.mean_ns[-1]) / alike.replica.instances)
    return math.ceil(min(longest_ns * rate_rps / NS_PER_S, 1e15))


def _divided(times: Array, to: npt.NDArray[np.int64], first: int, count: int) -> Array:
    """(runs x replicas, requests): when each of ``count`` replicas gets its own; rows end in infinities."""
    runs = len(times)
    mine = (to >= first) & (to < first + count)
    run, place = np.nonzero(mine)
    row = run * count + to[mine] - first
    order = np.argsort(row, kind="stable")
    row = row[order]
    counts = np.bincount(row, minlength=runs * count)
    arrived = np.full((runs * count, max(int(counts.max(initial=0)), 1)), np.inf)
    starts = counts.cumsum() - counts
    arrived[row, np.arange(len(row)) - starts[row]] = times[run, place][order]
    return arrived


def _runs(alike: Alike, served: Served, runs: int, from_ns: Array, until_ns: Array, budget_ns: float) -> Runs:
    """What is judged came after ``from_ns`` of its run."""
    begins, ends = (np.repeat(at, alike.count) for at in (from_ns, until_ns))
    judged = (served.arrived_ns > begins[:, None]) & np.isfinite(served.arrived_ns)
    came = np.isfinite(served.arrived_ns)
    last = np.where(came, served.done_ns, 0.0).max(axis=1)
    raw = Runs(
        sojourn_ns=np.where(judged, served.sojourn_ns, np.nan),
        found=np.where(judged, _found(served), np.nan),
        over_ns=_over(served, judged, budget_ns),
        judged_ns=ends - begins,
        busy_ns=served.busy_ns / alike.replica.instances,
        lasted_ns=np.maximum(last, ends),
        served=came.sum(axis=1).astype(np.float64),
        batches=served.batches.astype(np.float64),
    )
    shape = runs, alike.count
    return Runs(*(getattr(raw, n).reshape(*shape, *getattr(raw, n).shape[1:]) for n in raw.__slots__))


def _found(served: Served) -> Array:
    """How many requests are at the replica as each one comes: those that came before, less those done."""
    rows, width = served.arrived_ns.shape
    done = np.sort(served.done_ns, axis=1)
    found = np.empty((rows, width))
    for row in range(rows):
        found[row] = np.arange(width) - np.searchsorted(done[row], served.arrived_ns[row], side="right")
    return found


def _over(served: Served, judged: npt.NDArray[np.bool_], budget_ns: float) -> Array:
    """Of each row, how long any of the judged requests had been there for longer than the budget."""
    late = judged & (served.done_ns > served.arrived_ns + budget_ns)
    until = np.where(late, served.done_ns, 0.0)
    covered = np.maximum.accumulate(until, axis=1)
    begins = served.arrived_ns + budget_ns
    begins[:, 1:] = np.maximum(begins[:, 1:], covered[:, :-1])
    return np.asarray(np.where(late, np.maximum(until - begins, 0.0), 0.0).sum(axis=1))
