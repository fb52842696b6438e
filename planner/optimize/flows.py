"""Who serves what: the rates of a fleet whose counts are known.

A workload that is not blended is balanced in closed form: every replica runs at the same utilisation, that
is, takes a share of each class in proportion to its capacity for it; where spot may get only so much, that
and the rest are balanced each by itself. Blended workloads get the flows that keep all rows of theirs and
whose busiest replica is least busy, from a linear program over the rows of ``rows.blend``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction

from planner.domain.problem import Demand
from planner.optimize.fleet import Counts, Fleet
from planner.optimize.program import Program, Row, Variable
from planner.optimize.rows import TOLERANCE, Terms, blend, y

Flows = dict[tuple[int, int, str], Fraction]
"""Requests per second by period, source and class."""

# What the linear program may exceed a replica's capacity by: rounding.
_FULL = 1 + 1e-7


def share_out(
    f: Fleet, counts: Counts, floor: Row | None, run: Callable[[Program], Mapping[str, float]]
) -> Flows | None:
    """The flows, or None where these counts cannot serve. ``floor``: what blended flows must keep besides."""
    flows: Flows = {}
    blended: list[tuple[int, Demand]] = []
    for t in f.periods:
        for demand in sorted(f.problem.demands, key=lambda d: d.workload):
            if demand.rate_in(t) == 0:
                continue
            if f.blended(demand.workload):
                blended.append((t, demand))
            else:
                flows.update(_balanced(f, t, demand, counts))
    if blended:
        found = _least_busy(f, blended, counts, floor, run)
        if found is None:
            return None
        flows.update(found)
    return flows


def replicas(f: Fleet, t: int, counts: Counts) -> dict[int, int]:
    """Replicas of each source that run in a period."""
    found: dict[int, int] = defaultdict(int)
    for k, count in enumerate(counts[t]):
        for s, per_instance in f.contents[k]:
            found[s] += per_instance * count
    return found


def _balanced(f: Fleet, t: int, demand: Demand, counts: Counts) -> Flows:
    shares = {c.name: Fraction(repr(c.share)) for c in demand.classes} or {"": Fraction(1)}
    flows: Flows = {}
    running = {s: n for s, n in replicas(f, t, counts).items() if n}
    for name, share in shares.items():
        rate = Fraction(demand.rate_in(t)) * share
        takes = {
            s: dict(f.sources[s].rates_rps)[name] * n
            for s, n in running.items()
            if f.sources[s].candidate.workload == demand.workload and name in dict(f.sources[s].rates_rps)
        }
        on_spot = sum((c for s, c in takes.items() if f.sources[s].spot), Fraction(0))
        total = sum(takes.values(), Fraction(0))
        to_spot = min(rate * on_spot / total, rate * Fraction(repr(demand.max_spot_share)))
        for s, capacity in takes.items():
            part, whole = (to_spot, on_spot) if f.sources[s].spot else (rate - to_spot, total - on_spot)
            flows[t, s, name] = part * capacity / whole
    return flows


def _least_busy(
    f: Fleet,
    blended: list[tuple[int, Demand]],
    counts: Counts,
    floor: Row | None,
    run: Callable[[Program], Mapping[str, float]],
) -> Flows | None:
    rows: list[Row] = []
    busiest = []
    for t, demand in blended:
        theta = f"busiest[{t},{demand.workload}]"
        running = replicas(f, t, counts)
        supply: dict[int, Terms] = {
            s: [(theta, Fraction(running[s]))] if running.get(s) else [] for s in range(len(f.sources))
        }
        rows += blend(f, t, demand, supply)
        rows.append(Row(theta, ((theta, 1.0),), None, _FULL))
        busiest.append(theta)
    names = {name: None for row in rows for name, _ in row.terms} | dict.fromkeys(busiest)
    if floor is not None:
        # What does not run gets nothing.
        rows.append(replace(floor, terms=tuple(term for term in floor.terms if term[0] in names)))
    program = Program(
        tuple(Variable(name, False) for name in names),
        tuple((theta, 1.0) for theta in busiest),
        tuple(rows),
        TOLERANCE,
    )
    # The counts were found within the tolerance; the last bit of it may be missing to share them out.
    values = run(program) or run(replace(program, tolerance=None))
    if not values:
        return None
    flows: Flows = {}
    for t, demand in blended:
        shares = {c.name: Fraction(repr(c.share)) for c in demand.classes} or {"": Fraction(1)}
        for name, share in shares.items():
            parts = {
                s: max(Fraction(values[y(t, s, name)]), Fraction(0))
                for s in range(len(f.sources))
                if f.sources[s].candidate.workload == demand.workload and y(t, s, name) in names
            }
            total = sum(parts.values(), Fraction(0))
            if not total:
                return None
            for s, part in parts.items():
                flows[t, s, name] = part / total * share * Fraction(demand.rate_in(t))
    return flows
