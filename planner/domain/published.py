"""Latencies of which only a mean and percentiles are known: what is published, or kept of others' runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

STEPS = 200
"""How many equally likely service times stand for the distribution. A step that a percentile falls into takes
the next one."""


@dataclass(frozen=True, slots=True)
class Published:
    """``percentiles_ns`` are pairs such as ``(99.0, 3_120_000)``, ascending; of how many samples is unknown.

    Raises ValueError where there is no percentile, they do not ascend, or the mean is below what they
    imply.
    """

    percentiles_ns: tuple[tuple[float, int], ...]
    mean_ns: float | None = None
    throughput_rps: float | None = None
    """As stated by the source, of all instances together; nothing is computed from it."""

    def __post_init__(self) -> None:
        if not self.percentiles_ns:
            raise ValueError("at least one percentile is needed; a mean alone bounds none")
        last_level, last_ns = 0.0, 1
        for level, ns in self.percentiles_ns:
            if not last_level < level < 100:
                raise ValueError(f"percentiles lie between 0 and 100 and ascend, got p{level:g}")
            if ns < last_ns:
                raise ValueError(f"p{level:g} is below p{last_level:g}" if last_level else f"p{level:g} is 0")
            last_level, last_ns = level, ns
        # Both are rounded where they are published: by a hundredth, at most, in what is worth importing.
        if self.mean_ns is not None and self.mean_ns < 0.99 * self.least_mean_ns:
            raise ValueError(
                f"the mean is {self.mean_ns:.0f} ns, the percentiles imply at least {self.least_mean_ns:.0f}"
            )

    @property
    def least_mean_ns(self) -> float:
        """The mean of the fastest distribution with these percentiles: all between two take the lower."""
        levels = [level / 100 for level, _ in self.percentiles_ns] + [1.0]
        return sum(
            ns * (after - before)
            for (_, ns), before, after in zip(self.percentiles_ns, levels, levels[1:], strict=False)
        )

    @property
    def last_percentile(self) -> float:
        """Beyond it, nothing is known."""
        return self.percentiles_ns[-1][0]

    def steps_ns(self) -> tuple[int, ...]:
        """The conservative step distribution, as ``STEPS`` equally likely service times, ascending.

        Between two percentiles q' < q every time is taken to be the one of q; up to the first, the first.
        Where the mean is known, Markov's inequality can say less for the u-quantile Q(u)::

            mean >= below + (u - q') T' + (q - u) Q(u) + above

        with T' the time at q', ``below`` and ``above`` the least that the mass outside (q', q] adds to the
        mean. So Q(u) is at most what solves it, and every time is at or above the true one, whatever the
        distribution.

        That ends at the last percentile. What lies beyond is *assumed*: the last time, plus its distance to
        the one before (to the mean, where there is one percentile only), and more where the mean would
        otherwise be missed. After p95 and p99, that is above the mean of an exponential tail through both.
        """
        return _steps_ns(self)


@lru_cache(maxsize=4096)
def _steps_ns(published: Published) -> tuple[int, ...]:
    slowest = [_at_most_ns(published, (i + 1) / STEPS) for i in range(STEPS)]
    known = [ns for ns in slowest if ns is not None]
    beyond = STEPS - len(known)
    tail = _assumed_tail_ns(published)
    if published.mean_ns is not None and beyond:
        tail = max(tail, (published.mean_ns * STEPS - sum(known)) / beyond)
    return (*(max(round(ns), 1) for ns in known), *(round(tail),) * beyond)


def _at_most_ns(published: Published, u: float) -> float | None:
    """The least upper bound of the u-quantile; None beyond the last percentile."""
    levels = [0.0, *(level / 100 for level, _ in published.percentiles_ns)]
    times = [0, *(ns for _, ns in published.percentiles_ns)]
    # A hair: u is a multiple of 1/STEPS, and neither is exact in binary.
    at = next((k for k in range(1, len(levels)) if u <= levels[k] + 1e-9), None)
    if at is None:
        return None
    if published.mean_ns is None or levels[at] - u < 1e-9:
        return times[at]
    below = sum(times[k - 1] * (levels[k] - levels[k - 1]) for k in range(1, at))
    above = sum(
        times[k] * (after - levels[k])
        for k, after in zip(range(at, len(levels)), [*levels[at + 1 :], 1.0], strict=True)
    )
    rest = published.mean_ns - below - (u - levels[at - 1]) * times[at - 1] - above
    return min(max(rest / (levels[at] - u), times[at - 1]), times[at])


def _assumed_tail_ns(published: Published) -> float:
    *before, (_, last) = published.percentiles_ns
    previous = before[-1][1] if before else published.mean_ns
    return last if previous is None else last + max(last - previous, 0)
