"""Which replicas run on which instance: first fit decreasing, by the replicas' true sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from planner.domain.problem import Candidate
from planner.optimize.large.covers import Cover
from planner.optimize.large.market import Market, share_of
from planner.optimize.packing import Resources

Load = tuple[tuple[str, int], ...]
"""Replicas on one instance, by candidate id."""
Replicas = list[tuple[Candidate, int, int]]
"""A candidate, how many replicas of it, and the slot that one takes."""


def alone(m: Market, covers: Sequence[Cover]) -> dict[int, Counter[Load]]:
    """By shape: what runs on instances that a workload has for itself."""
    found: dict[int, Counter[Load]] = {}
    for w, cover in enumerate(covers):
        for g, count in cover:
            if g >= len(m.slots):
                use = m.uses[w, g]
                found.setdefault(g - len(m.slots), Counter())[((use.candidate.id, use.count),)] += count
    return found


def shared(m: Market, covers: Sequence[Cover]) -> dict[int, Replicas]:
    """By pool: the replicas that share its instances."""
    found: dict[int, Replicas] = {}
    for w, cover in enumerate(covers):
        for g, count in cover:
            if g < len(m.slots):
                found.setdefault(m.slots[g].pool, []).append((m.uses[w, g].candidate, count, g))
    return found


def pack(replicas: Replicas, bins: Sequence[Resources], gpu: bool) -> tuple[list[dict[str, int]], Replicas]:
    """What each bin holds, and the replicas that found no room.

    The largest go first, by whichever resource they need most of, and each into the first bin that has room.
    """
    if not bins:
        return [], replicas
    whole = max(first for first, _ in bins), max(1, *(second for _, second in bins))

    def greed(replica: tuple[Candidate, int, int]) -> tuple[float, int, str]:
        first, second = share_of(replica[0], gpu)
        return -max(first / whole[0], second / whole[1]), -replica[1], replica[0].id

    room = [list(limits) for limits in bins]
    held: list[dict[str, int]] = [{} for _ in bins]
    left_over: Replicas = []
    start = 0
    for candidate, count, slot in sorted(replicas, key=greed):
        first, second = share_of(candidate, gpu)
        left = count
        for b in range(start, len(room)):
            fit = min(left, room[b][0] // first, room[b][1] // second if second else left)
            if fit > 0:
                room[b][0] -= fit * first
                room[b][1] -= fit * second
                held[b][candidate.id] = held[b].get(candidate.id, 0) + fit
                left -= fit
                if not left:
                    break
        while start < len(room) and room[start][0] == 0:
            start += 1
        if left:
            left_over.append((candidate, left, slot))
    return held, left_over
