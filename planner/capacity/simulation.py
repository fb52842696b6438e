"""One replica, simulated: a queue, a batcher that may wait, engine instances; many runs side by side.

An idle instance takes a full batch at once, or what there is when the oldest request has waited the queue
delay; with no delay, whatever there is. Requests go first come, first served. So with the oldest waiting
request at a, the B-th at f (infinite if it never comes) and the earliest idle instance at i, the next batch
starts at

    s = max(i, min(a + delay, f))

with all that have come by s, at most B; the next ones start no earlier. One step of the loop is one batch of
every row: numpy does the rows side by side, and a request costs what its share of a batch costs.

The semantics are those of the dynamic batcher in NVIDIA's Triton Inference Server (user guide, "Batchers").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.capacity.service import Array, ServiceLaws

Whole = npt.NDArray[np.int64]

BLOCK = 256
"""Batches of each row between two looks at which rows are done."""


@dataclass(frozen=True, slots=True)
class Replica:
    """What serves: an engine's service laws, so many instances of it, and how long a batch may be waited for.

    The laws are those of one instance while the others are at work too.
    """

    laws: ServiceLaws
    instances: int = 1
    queue_delay_ns: int = 0

    @property
    def limit_per_ns(self) -> float:
        """The rate of full batches: at and above it the queue grows for ever."""
        return self.instances * self.laws.limit_per_ns


@dataclass(frozen=True, slots=True)
class Served:
    """What became of each request, (rows, requests), in ns; infinite where a row has no more of them."""

    arrived_ns: Array
    done_ns: Array
    batches: Whole
    """(rows,): batches that were served."""
    busy_ns: Array
    """(rows,): time in service, over all instances."""

    @property
    def sojourn_ns(self) -> Array:
        """Waiting and service of each request; NaN where there is none."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.done_ns - self.arrived_ns)


def simulate(replica: Replica, arrived_ns: Array, rng: np.random.Generator) -> Served:
    """Serve each row of ``arrived_ns`` (rows, requests) by a replica of its own, empty at time 0.

    Rows ascend; shorter ones end in infinities. Service times are drawn from the laws' samples.
    """
    rows, width = arrived_ns.shape
    size = replica.laws.max_batch_size
    padded = np.full((rows, width + size), np.inf)
    padded[:, :width] = arrived_ns
    done = np.full(padded.size, np.inf)
    batches, busy = np.zeros(rows, np.int64), np.zeros(rows)
    for block in _blocks(replica, padded, rng):
        where = np.repeat(block.first - np.concatenate(([0], block.count.cumsum()[:-1])), block.count)
        done[where + np.arange(len(where))] = np.repeat(block.done_ns.T.ravel(), block.taken.T.ravel())
        batches[block.rows] += np.count_nonzero(block.taken, axis=0)
        busy[block.rows] += np.where(block.taken > 0, block.service_ns, 0.0).sum(axis=0)
    return Served(arrived_ns, done.reshape(padded.shape)[:, :width], batches, busy)


@dataclass(frozen=True, slots=True)
class _Block:
    """Consecutive batches of some rows; ``first``: where the first request is, ``count``: how many they hold.

    ``taken``, ``service_ns`` and ``done_ns`` are (batches, rows)."""

    rows: Whole
    first: Whole
    count: Whole
    taken: Whole
    service_ns: Array
    done_ns: Array


def _blocks(replica: Replica, padded: Array, rng: np.random.Generator) -> Iterator[_Block]:
    flat, draw = padded.ravel(), _Draw(replica.laws)
    size = replica.laws.max_batch_size
    rows = np.arange(len(padded))
    at = rows * padded.shape[1]
    end = at + np.isfinite(padded).sum(axis=1)
    free = np.zeros((replica.instances, len(rows)))
    while len(rows):
        first = at
        steps = min(BLOCK, int((end - at).max(initial=1)))
        chance = rng.random((steps, len(rows)))
        taken = np.empty((steps, len(rows)), np.int64)
        service, done = np.empty(chance.shape), np.empty(chance.shape)
        for step in range(steps):
            start = _start(flat, at, free, size, replica.queue_delay_ns)
            after = np.minimum(at + _waiting(flat, at, start, size), end)
            np.subtract(after, at, out=taken[step])
            service[step] = draw(taken[step], chance[step])
            np.add(start, service[step], out=done[step])
            if len(free) == 1:
                free[0] = done[step]
            else:
                free[free.argmin(axis=0), np.arange(len(rows))] = done[step]
            at = after
        yield _Block(rows, first, at - first, taken, service, done)
        left = at < end
        if not left.all():
            rows, at, end, free = rows[left], at[left], end[left], free[:, left]


def _start(flat: Array, at: Whole, free: Array, size: int, delay_ns: int) -> Array:
    """When the next batch of each row starts; infinite where none does."""
    come = flat[at]
    if delay_ns and size > 1:
        come = np.minimum(come + delay_ns, flat[at + (size - 1)])
    return np.asarray(np.maximum(come, free[0] if len(free) == 1 else free.min(axis=0)))


def _waiting(flat: Array, at: Whole, start: Array, size: int) -> Whole:
    """How many of each row's next ``size`` have come by its start: the oldest has, the rest by bisection."""
    count = np.ones(len(at), np.int64)
    step = 1 << (size - 1).bit_length() >> 1
    while step:
        tried = count + step
        come = flat[at + np.minimum(tried, size) - 1] <= start
        count = np.where(come & (tried <= size), tried, count)
        step >>= 1
    return count


class _Draw:
    """Service times by batch size and chance: a sample of the law that the size is padded to."""

    def __init__(self, laws: ServiceLaws) -> None:
        lengths = np.array([len(samples) for samples in laws.samples_ns])
        law = np.searchsorted(laws.largest, np.arange(laws.max_batch_size + 1))
        self._samples = np.concatenate(laws.samples_ns)
        self._first = (lengths.cumsum() - lengths)[law]
        self._length = lengths[law].astype(np.float64)

    def __call__(self, batch: Whole, chance: Array) -> Array:
        index = self._first[batch] + (chance * self._length[batch]).astype(np.int64)
        return np.asarray(self._samples[index])
