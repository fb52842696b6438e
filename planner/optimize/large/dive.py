"""From the relaxed program to whole instances: which, and so how much room there is in every pool."""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np

from planner.optimize.large.covers import near_cheapest_covers
from planner.optimize.large.market import Floats, Market
from planner.optimize.large.master import Duals, Master

_PART = 1e-6
# Covers that cost so much more, as a share of what an average workload costs, give the rounding room.
_NEAR = 3e-3
_NEAR_COVERS = 20
# Of few workloads, whole instances are a large part of the fleet, and other covers may fill them better.
_FEW, _NEAR_IF_FEW, _NEAR_COVERS_IF_FEW = 60, 0.3, 100
# Parts of instances that cost less than this share of the fleet are left to the purchase.
_SMALL = 1e-4


def enrich(m: Market, master: Master, duals: Duals) -> None:
    """Adds covers that cost nearly as little as the cheapest at these prices."""
    few = len(m.needs) <= _FEW
    near, most = (_NEAR_IF_FEW, _NEAR_COVERS_IF_FEW) if few else (_NEAR, _NEAR_COVERS)
    slack = np.full(len(m.needs), near * float(duals.serve.sum()) / len(m.needs))
    master.add_covers(near_cheapest_covers(m.rates, m.needs, duals.goods, slack, most))


def dive(m: Market, master: Master, deadline: float) -> Floats:
    """How many instances of each offer, nearly all of them whole.

    The dearest with a part of one first: both roundings are tried and the one that costs less stays. The
    rest of the program adapts, since many workloads have covers that cost nearly the same.
    """
    fixed: dict[int, float] = {}
    cost, _ = master.solve()
    while True:
        n = master.values()[1]
        part = np.abs(n - np.round(n))
        open_ = [int(o) for o in np.argsort(-m.prices) if int(o) not in fixed and part[o] > _PART]
        if not open_ or m.prices[open_[0]] < _SMALL * cost or perf_counter() > deadline:
            return n
        o = open_[0]
        tried: dict[float, float] = {}
        for count in (math.floor(n[o]), math.ceil(n[o])):
            if _within_quotas(m, fixed | {o: count}):
                master.bound_instances(o, count, count)
                tried[count] = master.solve()[0]
        fixed[o] = min(tried, key=lambda count: (tried[count], count))
        master.bound_instances(o, fixed[o], fixed[o])
        master.solve()


def _within_quotas(m: Market, fixed: dict[int, float]) -> bool:
    offers = list(fixed)
    used = m.quota_use[:, offers] @ np.array([fixed[o] for o in offers])
    return bool((used <= m.quota_limits + 1e-9).all())
