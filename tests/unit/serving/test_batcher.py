"""A replica with scripted engines: what shares a batch, who gets what, and what becomes of failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from scripted_engines import DEADLY, POISON, Doubling, Outcome

from planner.backends import Feed
from planner.errors import BackendError
from planner.serving.batcher import Batched, Batcher, Overfull, Unavailable
from planner.serving.engine import EngineDied, Inferred


@contextmanager
def replica(engines: list[Doubling], **options: object) -> Iterator[tuple[Batcher, list[Batched]]]:
    """A batcher that starts these engines one after the other, and the batches it tells of."""
    left, seen = list(engines), []

    def start() -> Doubling:
        if not left:
            raise BackendError("there is no further engine")
        return left.pop(0)

    settings = {"batch_sizes": [1, 2, 4], "max_waiting": 100, "observe": seen.append} | options
    batcher = Batcher(start, **settings)  # type: ignore[arg-type]
    try:
        yield batcher, seen
    finally:
        for engine in engines:
            engine.kill()
        batcher.close()


def submit(batcher: Batcher, *values: float, kind: object = None) -> Outcome:
    outcome = Outcome()
    x = np.array([[v] for v in values], np.float32)
    batcher.submit({"x": x}, outcome, len(values), kind)  # type: ignore[arg-type]
    return outcome


def held(engine: Doubling, batcher: Batcher) -> Outcome:
    """A request that the engine has begun with, and waits for its gate."""
    first = submit(batcher, 100)
    assert engine.entered.acquire(timeout=20)
    return first


def test_what_waits_is_one_batch_padded_to_a_measured_size_and_each_gets_its_own() -> None:
    engine = Doubling(gate := threading.Event())
    with replica([engine]) as (batcher, seen):
        first = held(engine, batcher)
        waiting = [submit(batcher, v) for v in (1, 2, 3)]
        assert (batcher.waiting, batcher.load) == (3, 4)
        gate.set()
        assert first.value().tolist() == [[200]]
        assert [outcome.value().tolist() for outcome in waiting] == [[[2]], [[4]], [[6]]]
    # Padded with what was sent, not with zeros.
    assert [batch.ravel().tolist() for batch in engine.batches] == [[100], [1, 2, 3, 3]]
    assert [(b.requests, b.inferences, b.padded_to) for b in seen] == [(1, 1, 1), (3, 3, 4)]


def test_no_batch_is_larger_than_the_largest_and_requests_stay_whole() -> None:
    engine = Doubling(gate := threading.Event())
    with replica([engine]) as (batcher, _):
        held(engine, batcher)
        outcomes = [submit(batcher, 1, 2), submit(batcher, 3, 4, 5), submit(batcher, 6)]
        gate.set()
        assert [o.value().ravel().tolist() for o in outcomes] == [[2, 4], [6, 8, 10], [12]]
    assert [batch.ravel().tolist() for batch in engine.batches] == [[100], [1, 2], [3, 4, 5, 6]]


def test_requests_of_other_shapes_go_into_other_batches() -> None:
    engine = Doubling(gate := threading.Event())
    with replica([engine]) as (batcher, _):
        held(engine, batcher)
        outcomes = [submit(batcher, v, kind=kind) for v, kind in ((1, "a"), (2, "a"), (3, "b"), (4, "a"))]
        gate.set()
        for outcome in outcomes:
            outcome.value()
    assert [batch.ravel().tolist() for batch in engine.batches] == [[100], [1, 2], [3], [4]]


def test_instances_serve_side_by_side() -> None:
    gate = threading.Event()
    engines = [Doubling(gate), Doubling(gate)]
    engines[0].entered = engines[1].entered
    with replica(engines, instances=2) as (batcher, _):
        both = [held(engines[0], batcher)]
        # Another one begins, though none has ended.
        both.append(held(engines[1], batcher))
        gate.set()
        assert [o.value().tolist() for o in both] == [[[200]], [[200]]]


def test_a_queue_delay_lets_a_batch_fill() -> None:
    engine = Doubling()
    with replica([engine], queue_delay_ns=20_000_000_000) as (batcher, _):
        # Far below the delay: it is being full that starts the batch.
        outcomes = [submit(batcher, v) for v in (1, 2, 3, 4)]
        for outcome in outcomes:
            outcome.value()
    assert len(engine.batches) == 1


def test_one_that_the_engine_refuses_does_not_harm_its_neighbours() -> None:
    engine = Doubling(gate := threading.Event())
    with replica([engine]) as (batcher, _):
        held(engine, batcher)
        outcomes = [submit(batcher, v) for v in (1, POISON, 3)]
        gate.set()
        assert isinstance(outcomes[1].result(), BackendError)
        assert [outcomes[0].value().tolist(), outcomes[2].value().tolist()] == [[[2]], [[6]]]


def test_one_that_ends_the_engine_after_its_batch_was_refused_takes_back_no_answer() -> None:
    class Alone(Doubling):
        def infer(self, feed: Feed) -> Inferred:
            if len(feed["x"]) > 1:
                raise BackendError("one at a time")
            return super().infer(feed)

    engine = Alone(gate := threading.Event())
    with replica([engine, Doubling()]) as (batcher, _):
        held(engine, batcher)
        outcomes = [submit(batcher, v) for v in (1, DEADLY, 3)]
        gate.set()
        assert isinstance(outcomes[2].result(), EngineDied)
        assert outcomes[0].value().tolist() == [[2]]
        assert isinstance(outcomes[1].result(), EngineDied)
    assert [outcome.calls for outcome in outcomes] == [1, 1, 1]


def test_an_engine_that_dies_is_started_again_and_what_waited_is_served() -> None:
    first, second = Doubling(gate := threading.Event()), Doubling()
    with replica([first, second]) as (batcher, _):
        held(first, batcher)
        dies = submit(batcher, DEADLY, 1, 1, 1)
        waits = submit(batcher, 5)
        gate.set()
        assert isinstance(dies.result(), EngineDied)
        assert waits.value().tolist() == [[10]]
        assert (batcher.restarts, batcher.ready) == (1, True)


def test_without_an_engine_requests_are_refused_and_none_waits_for_ever() -> None:
    engine = Doubling(gate := threading.Event())
    with replica([engine]) as (batcher, _):
        held(engine, batcher)
        dies, waits = submit(batcher, DEADLY, 1, 1, 1), submit(batcher, 5)
        gate.set()
        assert isinstance(dies.result(), EngineDied)
        assert isinstance(waits.result(), Unavailable)
        assert not batcher.ready
        with pytest.raises(Unavailable, match="no engine"):
            submit(batcher, 1)


def test_an_engine_that_hangs_is_ended() -> None:
    engine = Doubling(threading.Event())
    with replica([engine, Doubling()], hangs_after_s=0.2) as (batcher, _):
        assert isinstance(submit(batcher, 1).result(), EngineDied)


def test_too_many_may_not_wait() -> None:
    engine = Doubling(gate := threading.Event())
    with replica([engine], max_waiting=2) as (batcher, _):
        held(engine, batcher)
        waiting = [submit(batcher, 1), submit(batcher, 2)]
        with pytest.raises(Overfull, match="2 requests wait"):
            submit(batcher, 3)
        gate.set()
        assert [o.value().tolist() for o in waiting] == [[[2]], [[4]]]


def test_closing_answers_whoever_waits_once() -> None:
    engine = Doubling(threading.Event())
    with replica([engine]) as (batcher, _):
        first = held(engine, batcher)
        waits = submit(batcher, 1)
        batcher.close()
        assert isinstance(waits.result(), Unavailable)
        assert isinstance(first.result(), EngineDied)
        with pytest.raises(Unavailable):
            submit(batcher, 1)
    assert first.calls == waits.calls == 1


def test_without_a_batch_axis_requests_are_served_one_by_one() -> None:
    engine = Doubling(gate := threading.Event())
    with replica([engine], batch_sizes=[1], batched=False) as (batcher, _):
        outcomes = [Outcome(), Outcome()]
        for value, outcome in enumerate(outcomes):
            batcher.submit({"x": np.array([value, 7.0], np.float32)}, outcome)
        gate.set()
        assert [o.value().tolist() for o in outcomes] == [[0, 14], [2, 14]]
