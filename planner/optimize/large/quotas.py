"""Quotas as whole instances can use them.

Instances are whole, so of a quota of 37 accelerators no more than 4 instances of 8 can be had. Divide a quota
by any number k and round it down::

    sum_o floor(use_o / k) n_o  <=  floor(limit / k)

Every fleet of whole instances within the quota keeps to that too (Chvatal, Edmonds polytopes and a hierarchy
of combinatorial problems, 1973), a fleet of parts of instances need not: the relaxed program gets closer to
what whole instances cost. ``k`` is each amount that an instance takes of the quota; where amounts divide one
another, as 1, 2, 4 and 8 do, little more is to be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from planner.domain.offer import Offer
from planner.domain.problem import Quota

_NOTHING = Fraction(0)


@dataclass(frozen=True, slots=True)
class Limit:
    """``uses[o]`` is what an instance of offer o takes of what there is ``at_most``, of quota ``name``."""

    name: str
    uses: tuple[float, ...]
    at_most: float


def limits_of(quotas: Sequence[Quota], offers: Sequence[Offer]) -> list[Limit]:
    """Every quota, and it rounded to whole instances wherever that says more."""
    found: list[Limit] = []
    for q in quotas:
        uses = [Fraction(q.counts(o)) if q.selects(o) else _NOTHING for o in offers]
        amounts, at_most = sorted(set(uses) - {_NOTHING}), Fraction(q.at_most)
        found.append(Limit(q.name, tuple(map(float, uses)), q.at_most))
        for k in amounts:
            if at_most % k or any(amount % k for amount in amounts):
                rounded = {_NOTHING: 0.0} | {amount: float(amount // k) for amount in amounts}
                found.append(Limit(q.name, tuple(rounded[use] for use in uses), float(at_most // k)))
    return found
