"""Whether an engine is slower than the baseline's: both measured now, on this machine, by turns.

Latencies of another day say nothing about small differences: clocks, neighbours and libraries were others. So
the baseline's engine and the new one are launched side by side, and time the same inputs by turns, again and
again; one rests while the other has its turn. Then both are launched anew (see ``significance``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median

from planner.errors import BackendError
from planner.gate.outcome import CANNOT_TELL, FAILED, PASSED, Outcome
from planner.gate.pairs import Pair, Unpaired
from planner.gate.significance import slowdown
from planner.pipeline.steps import feeds_for
from planner.profiling.bench import Running
from planner.profiling.replicas import running

RULE = "latency"
ROUNDS = 8
"""Turns of each engine in a launch."""
TURN_NS, FEWEST, MOST = 30e6, 10, 400
"""What a turn takes about, and how many inferences it is at least and at most."""
TIMEOUT_S = 120.0

Start = Callable[[Path], AbstractContextManager[Running]]


def judged(pair: Pair, allowed: float, level: float) -> Outcome:
    """``level``: of a false alarm by this pair."""
    with _starting(pair) as start:
        order = count()
        try:
            found = slowdown(
                lambda: launch(pair.before, pair.after, next(order) % 2 == 1, start), allowed, level
            )
        except BackendError as error:
            return Outcome(RULE, CANNOT_TELL, f"they cannot be measured together: {error}", pair.subject)
    interval = f"{found.low - 1:+.1%} to {found.high - 1:+.1%}, {found.launches} launches of both"
    words = f"{found.ratio - 1:+.1%} against the baseline's engine ({interval}); allowed are {allowed:+.1%}"
    if not found.slower and found.ratio > 1 + allowed:
        words += "; noise can make as much"
    return Outcome(RULE, FAILED if found.slower else PASSED, words, pair.subject)


def unjudged(found: Pair | Unpaired) -> Outcome:
    """Of a pair that need not be measured, and of what has no counterpart."""
    if isinstance(found, Pair):
        return Outcome(RULE, PASSED, "the same engine as the baseline's, bit for bit", found.subject)
    return Outcome(
        RULE, CANNOT_TELL, f"not measured beside the baseline's engine: {found.why}", found.subject
    )


def launch(before: Path, after: Path, new_first: bool, start: Start) -> float:
    """The log ratio of the new engine's latency to the old one's, in processes of their own.

    It is the median over rounds, in each of which both had a turn: what else goes on hits both alike.
    """
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(start(path)) for path in ((after, before) if new_first else (before, after))
        )
        old, new = (second, first) if new_first else (first, second)
        size = _turn_size(old, new)
        ratios = []
        for number in range(ROUNDS):
            by_turns = (old, new) if number % 2 else (new, old)
            took = {id(one): _turn(one, size) for one in by_turns}
            ratios.append(math.log(took[id(new)] / took[id(old)]))
    return median(ratios)


def _turn_size(*engines: Running) -> int:
    """Both have warmed up then."""
    slowest = max(_turn(engine, FEWEST) for engine in engines)
    return min(max(round(TURN_NS / slowest), FEWEST), MOST)


def _turn(engine: Running, samples: int) -> float:
    taken = engine.measure(samples, TIMEOUT_S + 10 * samples)
    engine.rest()
    return median(taken.samples_ns)


@contextmanager
def _starting(pair: Pair) -> Iterator[Start]:
    """How to start either engine: as one replica of the candidate, on its largest batch."""
    candidate = pair.candidate
    of_class = list(candidate.classes)[-1] if candidate.classes else ""
    feed = (pair.variant.entrant, of_class, candidate.max_batch_size)
    threads = max(candidate.threads // candidate.instances, 1)
    with feeds_for(pair.prepared, {feed}) as feeds:

        def start(engine: Path) -> AbstractContextManager[Running]:
            return running(engine, candidate.backend, threads, 1, [feeds[feed]], pair.place.gpu)

        yield start
