"""The rules, each a function of the two plans, of what was measured, and of what the policy allows.

Figures of a plan have noise in them: latencies were measured at another time. So where a rule is about such a
figure, it fails only with what was measured side by side (``latencies``), or beyond the figure's own
interval.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from planner.domain.problem import Candidate
from planner.gate.diff import SECONDS, price_changes
from planner.gate.inputs import CATALOG, changed_inputs
from planner.gate.known import Known
from planner.gate.outcome import CANNOT_TELL, FAILED, PASSED, Outcome, Verdict
from planner.optimize import best_or_why
from planner.quality.intervals import z_value
from planner.report import PlanReport
from planner.report.plan_json import CandidatePart
from planner.units import format_usd

PLAN, COST, MARGIN, CHOICE, PRICES = "plan", "cost", "latency margin", "choice", "prices"
_ROUNDING = 1e-9
_CONFIDENCE = 0.9
"""Two-sided, of the interval that plan.json gives a capacity: each end at 95 %."""


def feasible(why_not: str) -> Outcome:
    """``why_not``: what blocks every plan; empty: there is one."""
    return (
        Outcome(PLAN, FAILED, f"no feasible plan: {why_not}")
        if why_not
        else Outcome(PLAN, PASSED, "feasible")
    )


def cost(
    before: Known,
    after: Known,
    allowed: float,
    latencies: Collection[Outcome],
    seconds: float = SECONDS,
) -> Outcome:
    """What the plan costs more. What capacities add counts where engines are slower when measured side by
    side; all else, such as prices, rates, limits and variants that are gone, counts as it is."""
    was, now = before.usd_per_hour, after.usd_per_hour
    most = was * (1 + allowed) * (1 + _ROUNDING)
    more = f"{now / was - 1:+.1%}; allowed {allowed:+.1%}"
    words = f"{format_usd(now)}/h, the baseline {format_usd(was)}/h ({more})"
    if now <= most:
        return Outcome(COST, PASSED, words)
    certain = without_noise(before, after, seconds)
    if certain is not None and certain > most:
        more = f"; without any change of capacities it would be {format_usd(certain)}/h"
        return Outcome(COST, FAILED, words + more)
    verdict = summed_up(latencies)
    why = {
        FAILED: "; engines are slower",
        PASSED: "; the baseline's engines, measured again, are as fast as the new ones: the "
        "difference is noise, or the machine's",
        CANNOT_TELL: "; whether capacities did really change is not known",
    }
    return Outcome(COST, verdict, words + why[verdict])


def without_noise(before: Known, after: Known, seconds: float) -> float | None:
    """USD per hour of the new problem, with the baseline's capacities for the candidates that it had; those
    of variants that may serve no more are gone. None where it cannot be told."""
    if before.problem is None or after.problem is None:
        return None
    new = {candidate.id: candidate for candidate in after.problem.candidates}
    old = [c for c in before.problem.candidates if c.id in new or may_serve(c, after.report)]
    kept = [replace(c, quality=new[c.id].quality if c.id in new else c.quality) for c in old]
    known = {candidate.id for candidate in kept}
    candidates = (*kept, *(candidate for candidate in new.values() if candidate.id not in known))
    # Where the baseline was measured on another device: what that is sold for.
    sold = {offer.device for offer in after.problem.offers}
    others = tuple(offer for offer in before.problem.offers if offer.device not in sold)
    ids = {offer.id for offer in others}
    problem = replace(
        after.problem,
        candidates=candidates,
        offers=(*after.problem.offers, *others),
        figures=(*after.problem.figures, *(f for f in before.problem.figures if f.offer_id in ids)),
        keep=None,
    )
    found = best_or_why(problem, seconds)
    return None if isinstance(found, str) else found.usd_per_hour


def may_serve(candidate: Candidate, report: PlanReport) -> bool:
    """Whether its variant is still made, and holds the floor where each variant has to."""
    found = [v for v in report.variants if (v.workload, v.variant) == (candidate.workload, candidate.variant)]
    mine = [v for v in found if v.backend == candidate.backend] or found
    on_average = any(w.floor.per == "average" for w in report.workloads if w.name == candidate.workload)
    return any(v.holds_floor or on_average for v in mine)


def summed_up(outcomes: Collection[Outcome]) -> Verdict:
    """Failed if one is, passed if all are; of none nothing can be told."""
    found = {outcome.verdict for outcome in outcomes}
    if FAILED in found:
        return FAILED
    return PASSED if found == {PASSED} else CANNOT_TELL


def margin(
    before: PlanReport, after: PlanReport, least: float, latencies: Collection[Outcome], level: float
) -> Outcome:
    """What is left of the budget at the planned rate, by the plan's prediction, where least is left."""
    (left, name), (had, _) = _least_margin(after), _least_margin(before)
    words = f"{left:.1%} of the budget is left for {name} (at least {least:.1%}; the baseline has {had:.1%})"
    if left >= least - _ROUNDING:
        return Outcome(MARGIN, PASSED, words)
    verdict = summed_up(latencies)
    if verdict == FAILED:
        return Outcome(MARGIN, FAILED, f"{words}; engines are slower")
    if changed_inputs(before, after):
        part = next(c for c in after.candidates if c.id == name)
        # At a given load, waiting and service grow as service times do.
        best = 1 - (1 - left) / upper(part, level)
        if best < least:
            return Outcome(MARGIN, FAILED, f"{words}; with what noise leaves open {best:.1%}")
        return Outcome(MARGIN, PASSED, f"{words}; noise can make as much")
    why = "noise: the engines are as fast as the baseline's" if verdict == PASSED else "noise, or not"
    return Outcome(MARGIN, verdict, f"{words}; {why}")


def _least_margin(report: PlanReport) -> tuple[float, str]:
    budgets = {workload.name: workload.slo.budget_ms for workload in report.workloads}
    of = {candidate.id: budgets[candidate.workload] for candidate in report.candidates}
    traffic = [t for placement in report.fleet.placements for t in placement.traffic]
    return min((t.slo_margin_ms / of[t.candidate_id], t.candidate_id) for t in traffic)


def upper(part: CandidatePart, level: float) -> float:
    """By what its capacity, at the upper end of its interval, widened to the level, exceeds the estimate."""
    if part.capacity_rps <= 0:
        return 1.0
    wide = z_value(1 - 2 * level) / z_value(_CONFIDENCE)
    return float((max(part.capacity_high_rps, part.capacity_rps) / part.capacity_rps) ** wide)


def prices(before: PlanReport, after: PlanReport) -> Outcome:
    """Prices of the offers that both plans name."""
    if before.inputs.catalog_sha256 == after.inputs.catalog_sha256:
        return Outcome(PRICES, PASSED, "the catalog is the same")
    changes = list(price_changes(before, after))
    if not changes:
        return Outcome(PRICES, PASSED, "the catalog has changed; the offers of both plans cost the same")
    alone = " although nothing else did" if changed_inputs(before, after) == (CATALOG,) else ""
    told = "; ".join(f"{c.subject} {c.before}, now {c.after} USD/h" for c in changes[:5])
    more = f", and {len(changes) - 5} more" if len(changes) > 5 else ""
    total = sum(c.usd_per_hour or 0.0 for c in changes)
    words = f"prices changed{alone}: {told}{more}; the baseline's fleet costs {total:+.4g} USD/h"
    return Outcome(PRICES, FAILED, words)


def choice(
    before: Known,
    after: Known,
    latencies: Collection[Outcome],
    level: float,
    seconds: float = SECONDS,
) -> Iterator[Outcome]:
    """What changed although nothing else did: files of variants, and the fleet's variants, engines and
    offers.

    The fleet may change with capacities, which have noise: only what differs by more than their intervals
    counts, and measured side by side must not be the same.
    """
    inputs = changed_inputs(before.report, after.report)
    if inputs:
        yield Outcome(CHOICE, PASSED, f"other inputs: {', '.join(inputs)}")
        return
    files = list(_other_files(before.report, after.report))
    if files:
        yield Outcome(
            CHOICE, FAILED, f"made anew of the same inputs, and another file: {', '.join(files)}", "files"
        )
    was, now = _fleet(before.report), _fleet(after.report)
    if was == now:
        yield Outcome(CHOICE, PASSED, "the same inputs, the same fleet", "fleet")
        return
    words = f"{', '.join(sorted(was - now)) or 'less'}, now {', '.join(sorted(now - was)) or 'less'}"
    if not _measured_anew(before, after):
        yield Outcome(CHOICE, FAILED, f"{words}; the profiles are the same, so this is no noise", "fleet")
        return
    former = former_choice(before, after, level, seconds)
    if former is None:
        yield Outcome(
            CHOICE, CANNOT_TELL, f"{words}; what the former choice would cost is not known", "fleet"
        )
        return
    this = format_usd(after.usd_per_hour)
    words += f"; the former choice would cost at least {format_usd(former)}/h, this one {this}/h"
    if former <= after.usd_per_hour * (1 + _ROUNDING):
        yield Outcome(CHOICE, PASSED, f"{words}: within the interval of the capacities", "fleet")
        return
    verdict = summed_up(latencies)
    why = {
        FAILED: "engines are slower",
        PASSED: "beyond the capacities' intervals, but side by side the engines are as fast: noise "
        "that lasts longer than a measurement",
        CANNOT_TELL: "beyond the capacities' intervals, and engines were not measured side by side",
    }
    yield Outcome(CHOICE, verdict, f"{words}: {why[verdict]}", "fleet")


def _other_files(before: PlanReport, after: PlanReport) -> Iterator[str]:
    """Variants, not engines that a backend builds of them: two builds always differ."""
    was = {(v.workload, v.variant): v.sha256 for v in before.variants}
    now = {(v.workload, v.variant): v.sha256 for v in after.variants}
    return (variant for (w, variant), sha256 in now.items() if was.get((w, variant), sha256) != sha256)


def _fleet(report: PlanReport) -> set[str]:
    return {
        f"{t.replicas_per_instance} × {t.candidate_id} on {p.offer_id}"
        for p in report.fleet.placements
        for t in p.traffic
    }


def _measured_anew(before: Known, after: Known) -> bool:
    """Whether anything that the plans use was measured, or first known, at another time."""
    was, now = (
        {c.id: [(p.batch_size, p.taken_at) for p in c.profiles] for c in side.report.candidates}
        for side in (before, after)
    )
    used = before.used | after.used
    return any(name not in was or name not in now or was[name] != now[name] for name in used)


def former_choice(before: Known, after: Known, level: float, seconds: float) -> float | None:
    """The least that the new problem costs with the candidates alone that the baseline used, at the upper
    ends of their capacities' intervals."""
    if before.problem is None or after.problem is None:
        return None
    parts = {c.id: c for c in (*before.report.candidates, *after.report.candidates)}
    at_hand = {c.id: c for c in (*before.problem.candidates, *after.problem.candidates)}
    used = [at_hand[name] for name in sorted(before.used) if may_serve(at_hand[name], after.report)]
    if not used:
        return None
    widest = tuple(_at_upper_end(candidate, parts[candidate.id], level) for candidate in used)
    found = best_or_why(replace(after.problem, candidates=widest, keep=None), seconds)
    return None if isinstance(found, str) else found.usd_per_hour


def _at_upper_end(candidate: Candidate, part: CandidatePart, level: float) -> Candidate:
    if part.capacity_low_rps <= 0:
        return candidate
    factor = part.capacity_rps / part.capacity_low_rps * upper(part, level)
    return replace(
        candidate,
        capacity_rps=candidate.capacity_rps * factor,
        packed_capacity_rps=candidate.packed_capacity_rps * factor,
        classes=tuple((name, rate * factor) for name, rate in candidate.classes),
    )
