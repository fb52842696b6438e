"""How replicas share the GPUs of an instance that MIG divides.

A replica takes slices of one GPU (``Candidate.slices``) or all of it, never of two. A set of slices fits a
GPU where compute slices add up to at most 7 and memory slices to at most 8. Those are the sizes in NVIDIA's
table of profiles ("Fraction of SMs", "Fraction of Memory",
https://docs.nvidia.com/datacenter/tesla/mig-user-guide/supported-mig-profiles.html); where on the GPU a
profile may start is restricted beyond that, and the test beside this module checks that with the profiles of
A100 and H100 every set within the sums has a place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.domain.problem import GPU_SLICES

Slices = tuple[int, int]
Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tenant:
    """One replica: its slices, its threads, and what it takes on each axis (axis, rate)."""

    slices: Slices
    threads: int
    takes: tuple[tuple[int, float], ...]


def most_on_one(slices: Slices) -> int:
    """Replicas of one kind that fit one GPU."""
    return min(whole // part for whole, part in zip(GPU_SLICES, slices, strict=True))


def divisions(
    tenants: Sequence[Tenant], gpus: int, threads: int, axes: int, most: int
) -> list[Counts] | None:
    """How many of each tenant an instance can hold, without the ways that another one matches.

    A way is matched by one that takes no less on any axis with no more threads. GPU is added to GPU, and what
    is matched so far is matched for good: whatever the other GPUs hold goes with either. None where there are
    more than ``most`` ways.
    """
    demanding = max((t.threads * most_on_one(t.slices) for t in tenants), default=0)
    weights = [t.threads if demanding * gpus > threads else 0 for t in tenants]

    def unmatched(ways: set[Counts]) -> list[Counts]:
        def worth(way: Counts) -> tuple[float, ...]:
            total = [0.0] * axes
            for tenant, count in zip(tenants, way, strict=True):
                for axis, rate in tenant.takes:
                    total[axis] += rate * count
            return (*total, -float(sum(n * w for n, w in zip(way, weights, strict=True))))

        kept: list[tuple[tuple[float, ...], Counts]] = []
        for mine, way in sorted(
            ((worth(way), way) for way in ways), key=lambda p: ([-v for v in p[0]], p[1])
        ):
            if not any(all(a >= b for a, b in zip(theirs, mine, strict=True)) for theirs, _ in kept):
                kept.append((mine, way))
                if len(kept) > most:
                    break
        return [way for _, way in kept]

    def fits(way: Counts) -> bool:
        return sum(n * t.threads for n, t in zip(way, tenants, strict=True)) <= threads

    one = unmatched({way for way in _on_one([t.slices for t in tenants], GPU_SLICES) if fits(way)})
    ways: list[Counts] = [(0,) * len(tenants)]
    for _ in range(gpus):
        both = {tuple(a + b for a, b in zip(way, more, strict=True)) for way in ways for more in one}
        ways = unmatched({way for way in both if fits(way)})
        if len(ways) > most:
            return None
    return ways


def fit_together(replicas: Sequence[tuple[Slices, int]], gpus: int) -> bool:
    """Whether so many replicas of each kind find room on ``gpus`` GPUs."""
    kinds = [slices for slices, _ in replicas]
    one = list(_on_one(kinds, GPU_SLICES))

    def place(left: Counts, gpus: int) -> bool:
        if not any(left):
            return True
        if gpus == 0:
            return False
        # The first kind that is left goes somewhere: on this GPU, without loss of generality.
        first = next(i for i, count in enumerate(left) if count)
        return any(
            way[first] and place(tuple(max(0, a - b) for a, b in zip(left, way, strict=True)), gpus - 1)
            for way in one
        )

    return place(tuple(count for _, count in replicas), gpus)


def _on_one(kinds: Sequence[Slices], room: Slices) -> Iterator[Counts]:
    """Every set of slices that fits one GPU, the empty one included."""
    if not kinds:
        yield ()
        return
    (compute, memory), *others = kinds
    count = 0
    while count * compute <= room[0] and count * memory <= room[1]:
        for rest in _on_one(others, (room[0] - count * compute, room[1] - count * memory)):
            yield (count, *rest)
        count += 1
