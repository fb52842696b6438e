from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.capacity.chain import queue
from planner.capacity.service import lattice, service_laws


@st.composite
def services(draw):
    """Service times that need not rise with the batch, and a max batch size that need not be measured."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4, unique=True))
    samples = st.lists(st.integers(100, 4000), min_size=1, max_size=5)
    return {size: draw(samples) for size in sizes}, draw(st.integers(1, max(sizes)))


@settings(max_examples=25, deadline=None)
@given(service=services(), load=st.floats(0.02, 0.93))
def test_the_queue_is_that_of_the_dense_chain(stationary, service, load):
    laws = service_laws(*service)
    on = lattice(laws, 2.0 * laws.longest_ns, 64)
    rate = load * laws.limit_per_ns
    found = queue(on, rate)
    states = int(40 / found.decay + 4 * rate * laws.longest_ns) + 3 * laws.max_batch_size + 20
    if states > 700:
        return
    expected = stationary(on.times_ns, on.weights, laws.largest, rate, states)
    left = np.concatenate((found.below, found.left_waiting(states)))
    left[laws.max_batch_size] = found.beyond[0]
    half = states // 2
    assert left[:half] == pytest.approx(expected[:half], abs=1e-9)
    assert found.defect < 1e-7


@pytest.mark.parametrize("load", [1e-6, 0.1, 0.5, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("size", [1, 8, 128])
def test_it_keeps_its_balance_at_every_load(size, load):
    """What comes is what goes: E[b] follows from the chain alone, and from its time per batch."""
    laws = service_laws({b: [1000 + 60 * b, 1100 + 70 * b] for b in (1, 8, 128)}, size)
    rate = load * laws.limit_per_ns
    found = queue(lattice(laws, 3.0 * laws.longest_ns, 256), rate)
    first = np.arange(size)
    full = 1 - found.below.sum()
    by_chain = found.below @ np.maximum(first, 1) + full * size
    assert by_chain == pytest.approx(found.mean_batch_size, rel=1e-6)
    assert 0 < found.utilisation <= 1
    if size == 1:
        assert found.utilisation == pytest.approx(load, rel=1e-9)
        assert found.idle == pytest.approx(1 - load, rel=1e-6)


def test_binning_keeps_the_mean_on_a_lattice_that_widens():
    laws = service_laws({1: [17, 333, 5001, 99_999], 4: [50, 51, 52]}, 4)
    on = lattice(laws, 1000.0, 128)
    assert len(on.times_ns) > 129
    assert on.weights.sum(axis=1) == pytest.approx([1, 1])
    assert on.weights @ on.times_ns == pytest.approx(laws.mean_ns)


def test_batches_are_padded_to_the_next_measured_size():
    laws = service_laws({2: [10], 8: [20], 32: [30]}, 6)
    assert laws.largest == (2, 6)
    assert laws.mean_ns.tolist() == [10, 20]


@pytest.mark.parametrize(
    ("service", "size", "culprit"),
    [
        ({}, 1, "service_ns is empty"),
        ({1: [5]}, 0, "max_batch_size must be at least 1, got 0"),
        ({1: [5], 4: [9]}, 8, "max_batch_size 8 is above the largest measured batch size, 4"),
        ({0: [5], 4: [9]}, 4, "at least 1, got 0"),
        ({1: [5], 4: []}, 4, r"service_ns\[4\] holds no samples"),
        ({1: [5, 0]}, 1, r"service_ns\[1\]: samples must be above 0"),
    ],
)
def test_wrong_arguments_are_named(service, size, culprit):
    with pytest.raises(ValueError, match=culprit):
        service_laws(service, size)
