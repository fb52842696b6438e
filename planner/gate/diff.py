"""Two plans side by side: what changed, and what each change costs or saves.

Cost is attributed by solving: beginning with the first plan's problem, the second's prices take the place of
its own, then its demand, its limits, and at last its candidates with their capacities; each step's difference
is what that costs. The order is this one always: another one may divide a cost that two changes cause
together otherwise. What is left, as where one of the plans was kept or not proven, is a remainder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace

from planner.domain.problem import Problem
from planner.gate.inputs import changed_inputs
from planner.gate.known import Known, called
from planner.optimize import best_or_why
from planner.report import PlanReport
from planner.report.plan_json import CandidatePart, PlacementPart, WorkloadPart
from planner.units import usd_per_million_requests

# 1: first format
DIFF_SCHEMA = 1
SECONDS = 10.0
"""For each problem that is solved again."""
ALONE = 8
"""Candidates whose capacity changed are told what that alone costs, up to so many."""


@dataclass(frozen=True, slots=True)
class Change:
    """``kind``: input, fleet, price, capacity, variant, accuracy, engine, workload or limit;
    ``usd_per_hour``: what it adds to the first plan's cost, negative where it saves, None where that is not
    told by itself."""

    kind: str
    subject: str
    before: str
    after: str
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """Of the difference in cost, what is ``due_to`` something; None: that cannot be told, and why."""

    due_to: str
    usd_per_hour: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Diff:
    before_usd_per_hour: float
    after_usd_per_hour: float
    before_usd_per_million: float
    after_usd_per_million: float
    changes: tuple[Change, ...]
    shares: tuple[Share, ...]
    notes: tuple[str, ...]


def diff(before: Known, after: Known, seconds: float = SECONDS) -> Diff:
    """``seconds``: for each problem that is solved. Nothing is measured."""
    if len(after.report.workloads) == 1:
        before = called(before, after.report.workloads[0].name)
    one, other = before.report, after.report
    changes = (
        *(Change("input", what, "", "changed") for what in changed_inputs(one, other)),
        *_workloads(one, other),
        *_limits(before.problem, after.problem),
        *price_changes(one, other),
        *_fleet(one, other),
        *_capacities(before, after, seconds),
        *_variants(one, other),
        *_engines(one, other),
    )
    missing = [f"Costs are not attributed: {side.missing}" for side in (before, after) if side.missing]
    return Diff(
        before.usd_per_hour,
        after.usd_per_hour,
        _per_million(one),
        _per_million(other),
        changes,
        tuple(shares(before, after, seconds)),
        tuple(missing),
    )


def shares(before: Known, after: Known, seconds: float = SECONDS) -> Iterator[Share]:
    """The difference in cost, divided; they add up to it where all can be told. None without both
    problems."""
    if before.problem is None or after.problem is None:
        return
    first, last = replace(before.problem, keep=None), replace(after.problem, keep=None)
    cost, carried = before.usd_per_hour, ""
    for due_to, problem, same in _steps(first, last):
        if same:
            yield Share(due_to, 0.0)
            continue
        found = best_or_why(problem, seconds)
        if isinstance(found, str):
            carried = f"no plan with that alone ({found}); it is in what follows"
            yield Share(due_to, None, carried)
            continue
        yield Share(due_to, found.usd_per_hour - cost, "" if found.proven else "not proven optimal")
        cost = found.usd_per_hour
    yield Share("remainder", after.usd_per_hour - cost)


def _steps(first: Problem, last: Problem) -> Iterator[tuple[str, Problem, bool]]:
    """What changes, the problem with that and all before it, and whether it is the same as without."""
    priced = with_prices(first, last)
    yield "prices and offers", priced, priced.offers == first.offers
    asked = replace(priced, demands=last.demands, periods=last.periods)
    yield "demand", asked, (asked.demands, asked.periods) == (first.demands, first.periods)
    limited = replace(
        asked,
        max_instances_per_offer=last.max_instances_per_offer,
        quotas=last.quotas,
        budget_usd_per_hour=last.budget_usd_per_hour,
        max_kinds=last.max_kinds,
        min_zones=last.min_zones,
        objective=last.objective,
    )
    yield "limits and objective", limited, limited == asked
    yield "capacities and candidates", last, set(last.candidates) == set(limited.candidates)


def with_prices(problem: Problem, later: Problem) -> Problem:
    """The problem with the offers and prices of a later one; those of devices that it has no candidates for,
    and so no offers of, stay."""
    devices = {offer.device for offer in later.offers}
    kept = tuple(offer for offer in problem.offers if offer.device not in devices)
    mine = {candidate.device for candidate in problem.candidates}
    offers = (*kept, *(offer for offer in later.offers if offer.device in mine))
    if {o.id: o.usd_per_hour for o in offers} == {o.id: o.usd_per_hour for o in problem.offers}:
        return problem
    ids = {offer.id for offer in offers}
    figures = {f.offer_id: f for f in (*problem.figures, *later.figures) if f.offer_id in ids}
    return replace(problem, offers=offers, figures=tuple(figures.values()))


def _per_million(report: PlanReport) -> float:
    cost = report.fleet.cost
    return cost.usd_per_million_requests or usd_per_million_requests(
        cost.usd_per_hour, sum(workload.rate_rps for workload in report.workloads)
    )


def _workloads(one: PlanReport, other: PlanReport) -> Iterator[Change]:
    earlier = {workload.name: _asked(workload) for workload in one.workloads}
    later = {workload.name: _asked(workload) for workload in other.workloads}
    for name in dict.fromkeys((*earlier, *later)):
        was, now = earlier.get(name, {}), later.get(name, {})
        if not was or not now:
            yield Change("workload", name, "there" if was else "absent", "there" if now else "absent")
            continue
        for key in was:
            if was[key] != now[key]:
                yield Change("workload", f"{name}: {key}", was[key], now[key])


def _asked(workload: WorkloadPart) -> dict[str, str]:
    """What it asks for, in words."""
    slo, floor = workload.slo, workload.floor
    by_period = ", ".join(f"{period} {rate:g}" for period, rate in workload.rates_rps.items())
    holds = f"at least {floor.minimum:g}" if floor.minimum is not None else f"drop at most {floor.max_drop:g}"
    return {
        "rate, rps": by_period or f"{workload.rate_rps:g}",
        "SLO": f"p{slo.percentile:g} within {slo.latency_ms:g} ms, {slo.overhead_ms:g} ms overhead",
        "headroom": f"{slo.headroom:.0%}",
        "floor": f"{floor.metric} {holds} ({floor.judge}, per {floor.per})",
        "redundancy": workload.redundancy,
        "spot": f"at most {workload.max_spot_share:.0%}",
        "arrivals": "Poisson"
        if workload.arrivals is None
        else f"{workload.arrivals.kind}, cv {workload.arrivals.cv:g}",
        "classes": ", ".join(f"{c.name} {c.share:.0%}" for c in workload.classes) or "none",
        "model": "" if workload.model is None else workload.model.sha256[:12],
    }


def _limits(first: Problem | None, last: Problem | None) -> Iterator[Change]:
    if first is None or last is None:
        return
    for name in ("max_instances_per_offer", "budget_usd_per_hour", "max_kinds", "min_zones", "objective"):
        was, now = getattr(first, name), getattr(last, name)
        if was != now:
            yield Change("limit", name, str(was), str(now))
    quotas = {quota.name: quota.at_most for quota in first.quotas}
    later = {quota.name: quota.at_most for quota in last.quotas}
    for name in dict.fromkeys((*quotas, *later)):
        if quotas.get(name) != later.get(name):
            yield Change("limit", f"quota {name}", _or_none(quotas.get(name)), _or_none(later.get(name)))


def _or_none(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def price_changes(one: PlanReport, other: PlanReport) -> Iterator[Change]:
    """Offers that both plans name, at another price; what that adds to the first plan's fleet as it is."""
    later = {offer.id: offer for offer in other.offers}
    hours = {period.name: period.hours for period in one.periods}
    whole = sum(hours.values())
    for offer in one.offers:
        now = later.get(offer.id)
        if now is None or now.usd_per_hour == offer.usd_per_hour:
            continue
        bought = sum(
            p.instances * (hours[p.period] / whole if p.period in hours else 1.0)
            for p in one.fleet.placements
            if p.offer_id == offer.id
        )
        committed = [c.instances for c in one.fleet.commitments if c.offer_id == offer.id]
        count = committed[0] if committed else bought
        yield Change(
            "price",
            offer.id,
            f"{offer.usd_per_hour:.6g}",
            f"{now.usd_per_hour:.6g}",
            count * (now.usd_per_hour - offer.usd_per_hour),
        )


def _fleet(one: PlanReport, other: PlanReport) -> Iterator[Change]:
    """Rows of the fleet; of several periods each costs what it does while that lasts."""
    earlier, later = _rows(one.fleet.placements), _rows(other.fleet.placements)
    for row in dict.fromkeys((*earlier, *later)):
        (was, before_usd), (now, after_usd) = earlier.get(row, (0, 0.0)), later.get(row, (0, 0.0))
        if was != now:
            yield Change("fleet", row, f"{was} ×", f"{now} ×", after_usd - before_usd)


def _rows(placements: Iterable[PlacementPart]) -> dict[str, tuple[int, float]]:
    rows: dict[str, tuple[int, float]] = {}
    for placement in placements:
        runs = " + ".join(f"{t.replicas_per_instance} × {t.candidate_id}" for t in placement.traffic)
        where = " ".join(part for part in (placement.period, placement.zone) if part)
        row = f"{where + ': ' if where else ''}{placement.offer_id}, each {runs}"
        count, usd = rows.get(row, (0, 0.0))
        rows[row] = count + placement.instances, usd + placement.usd_per_hour
    return rows


def _capacities(before: Known, after: Known, seconds: float) -> Iterator[Change]:
    """Candidates that either plan uses, or had, whose capacity changed."""
    earlier = {candidate.id: candidate for candidate in before.report.candidates}
    later = {candidate.id: candidate for candidate in after.report.candidates}
    used = before.used | after.used
    alone = 0
    for name in sorted(earlier.keys() | later.keys(), key=lambda name: (name not in used, name)):
        was, now = earlier.get(name), later.get(name)
        if was and now and was.capacity_low_rps == now.capacity_low_rps:
            continue
        usd = None
        if name in used and alone < ALONE:
            alone += 1
            usd = _by_itself(before, after, name, seconds)
        yield Change("capacity", name, _capacity(was), _capacity(now), usd)


def _capacity(part: CandidatePart | None) -> str:
    if part is None:
        return "not a candidate"
    return f"{part.capacity_rps:.4g} rps ({part.capacity_low_rps:.4g} to {part.capacity_high_rps:.4g})"


def _by_itself(before: Known, after: Known, name: str, seconds: float) -> float | None:
    """What the first plan would cost more with this one candidate as in the second, or without it."""
    if before.problem is None or after.problem is None:
        return None
    new = [c for c in after.problem.candidates if c.id == name]
    rest = [c for c in before.problem.candidates if c.id != name]
    changed = replace(before.problem, candidates=(*rest, *new), keep=None)
    if not changed.candidates:
        return None
    found = best_or_why(changed, seconds)
    return None if isinstance(found, str) else found.usd_per_hour - before.usd_per_hour


def _variants(one: PlanReport, other: PlanReport) -> Iterator[Change]:
    earlier = {(v.workload, v.variant, v.backend): v for v in one.variants}
    later = {(v.workload, v.variant, v.backend): v for v in other.variants}
    for key in dict.fromkeys((*earlier, *later)):
        workload, variant, backend = key
        subject = (
            f"{workload}/{variant} on {backend}" if len(other.workloads) > 1 else f"{variant} on {backend}"
        )
        was, now = earlier.get(key), later.get(key)
        if was is None or now is None:
            yield Change("variant", subject, "there" if was else "absent", "there" if now else "absent")
            continue
        if was.sha256 != now.sha256:
            yield Change("variant", subject, (was.sha256 or "")[:12], (now.sha256 or "")[:12])
        if was.holds_floor != now.holds_floor:
            words = {True: "holds the floor", False: "misses the floor"}
            yield Change("variant", subject, words[was.holds_floor], words[now.holds_floor])
        a, b = was.quality, now.quality
        if (a.value, a.low, a.high) != (b.value, b.low, b.high):
            yield Change(
                "accuracy",
                f"{subject}: {b.metric}",
                f"{a.value:.4f} ({a.low:.4f} to {a.high:.4f})",
                f"{b.value:.4f} ({b.low:.4f} to {b.high:.4f})",
            )


def _engines(one: PlanReport, other: PlanReport) -> Iterator[Change]:
    earlier = {(e.workload, e.variant, e.backend, e.device): e.sha256 for e in one.engines}
    later = {(e.workload, e.variant, e.backend, e.device): e.sha256 for e in other.engines}
    for key in dict.fromkeys((*earlier, *later)):
        was, now = earlier.get(key), later.get(key)
        if was != now:
            name = "/".join(key[1:] if len(other.workloads) == 1 else key)
            yield Change("engine", name, (was or "absent")[:12], (now or "absent")[:12])


def dump_diff(found: Diff) -> str:
    return json.dumps({"schema_version": DIFF_SCHEMA, **asdict(found)}, indent=2, ensure_ascii=False) + "\n"
