"""The queue's rule, against the simulation that capacities are computed with, and by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.capacity import Replica, service_laws, simulate
from planner.serving.waiting import Waiting

SERVICE_NS = {1: 1_000, 2: 1_300, 4: 1_900}


def served(
    arrived_ns: list[int], service_ns: dict[int, int], most: int, instances: int, delay_ns: int
) -> list[int]:
    """When each request is done: an event loop over the queue, in place of threads and engines."""
    waiting: Waiting[int] = Waiting(most, delay_ns)
    free = [0] * instances
    done = [0] * len(arrived_ns)
    coming = list(enumerate(arrived_ns))
    while coming or len(waiting):
        due = waiting.due_ns()
        start = None if due is None else max(due, min(free))
        # What comes at the very time of a start is part of the batch.
        if coming and (start is None or coming[0][1] <= start):
            number, came = coming.pop(0)
            waiting.put(number, came)
            continue
        assert start is not None
        batch = waiting.take(start)
        assert 1 <= len(batch) <= most
        padded = min(size for size in service_ns if size >= len(batch))
        idle = free.index(min(free))
        free[idle] = start + service_ns[padded]
        for number in batch:
            done[number] = free[idle]
    return done


@given(
    gaps=st.lists(st.integers(0, 3_000), min_size=1, max_size=60),
    most=st.sampled_from([1, 2, 4]),
    instances=st.integers(1, 3),
    delay_ns=st.sampled_from([0, 400, 5_000]),
)
def test_requests_are_done_when_the_simulation_says(
    gaps: list[int], most: int, instances: int, delay_ns: int
) -> None:
    arrived = np.cumsum(gaps).tolist()
    laws = service_laws({size: [ns] for size, ns in SERVICE_NS.items() if size <= most}, most)
    simulated = simulate(
        Replica(laws, instances, delay_ns), np.array([arrived], float), np.random.default_rng(0)
    )
    within = {size: ns for size, ns in SERVICE_NS.items() if size <= most}
    assert served(arrived, within, most, instances, delay_ns) == simulated.done_ns[0].tolist()


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    kinds=st.lists(st.integers(0, 1), min_size=30, max_size=30),
)
def test_batches_hold_what_fits_of_one_kind_in_order(sizes: list[int], kinds: list[int]) -> None:
    waiting: Waiting[int] = Waiting(4)
    for number, size in enumerate(sizes):
        waiting.put(number, 0, size, kinds[number])
    seen = []
    while batch := waiting.take(0):
        assert sum(sizes[number] for number in batch) <= 4
        assert len({kinds[number] for number in batch}) == 1
        if seen and kinds[seen[-1][0]] == kinds[batch[0]]:
            # The one before was taken as full as it could be.
            assert sum(sizes[number] for number in seen[-1]) + sizes[batch[0]] > 4
        seen.append(batch)
    assert [number for batch in seen for number in batch] == list(range(len(sizes)))


def test_a_batch_that_nothing_can_join_does_not_wait_for_more() -> None:
    waiting: Waiting[str] = Waiting(4, queue_delay_ns=1_000)
    waiting.put("a", 0, kind="long")
    assert waiting.due_ns() == 1_000
    assert waiting.take(999) == []
    waiting.put("b", 300, kind="short")
    assert waiting.due_ns() == 300
    assert waiting.take(300) == ["a"]
    assert waiting.due_ns() == 1_300


def test_what_fits_no_batch_is_refused() -> None:
    waiting: Waiting[str] = Waiting(4)
    for size in (0, 5):
        with pytest.raises(ValueError, match="1 to 4 inferences"):
            waiting.put("a", 0, size)
    assert not waiting.all()
