"""Whether a plan holds: every workload in every period, as planned and with the worst loss, simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from planner.domain.progress import Progress, Step, silent
from planner.domain.workload import SATURATED, Arrivals, Workload
from planner.pipeline.made import Made
from planner.pipeline.recomputed import fleet_of
from planner.spec import Fleet
from planner.units import NS_PER_MS
from planner.verifying.fleet import Kind, Laws, after, kinds_of, worst_loss
from planner.verifying.seen import Seen
from planner.verifying.service import laws_of
from planner.verifying.simulate import Alike, Simulated, simulated

REQUESTS = 1_000_000
HOLDS: Final = "holds"
FAILS: Final = "fails"
UNCLEAR: Final = "cannot tell"
Verdict = Literal["holds", "fails", "cannot tell"]
ARRIVALS: Final = "arrivals"
QUEUES: Final = "queues"
REDUNDANCY: Final = "redundancy"
Broke = Literal["", "arrivals", "queues", "redundancy"]
"""Assumptions that may have broken; empty: none, or that is unknown."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """Those of one kind, together and each, beside the percentile that the plan predicts; None: it has none
    for them."""

    kind: Kind
    together: Seen
    each: tuple[Seen, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Case:
    """A workload in a period: ``lost`` is empty as planned, or names what was lost.

    ``verdict`` is that of all its requests, ``broke`` the assumption that does not hold, where it fails and
    that can be told. ``settled``: as ``Simulated`` has it. ``replicas`` are none where nothing is left to
    serve some requests.
    """

    workload: Workload
    period: str
    rate_rps: float
    lost: str
    verdict: Verdict
    broke: Broke
    whole: Seen | None
    replicas: tuple[Replicas, ...]
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Verification:
    """``arrivals``: in place of those that the plan assumes; None: these. ``simulated``: requests in all."""

    made: Made
    arrivals: Arrivals | None
    requests: int
    seed: int
    cases: tuple[Case, ...]
    simulated: int

    @property
    def verdict(self) -> Verdict:
        found = {case.verdict for case in self.cases}
        if FAILS in found:
            return FAILS
        return UNCLEAR if UNCLEAR in found else HOLDS


@dataclass(frozen=True, slots=True)
class _Asked:
    """All that does not change from case to case."""

    made: Made
    laws: Laws
    arrivals: Arrivals | None
    requests: int
    seed: int

    def simulated(self, kinds: Sequence[Kind], workload: Workload, rate_rps: float) -> Simulated:
        fleet = [Alike(k.replica(self.laws, workload), k.count, k.rate_rps) for k in kinds]
        arrivals = self.arrivals or workload.arrivals
        return simulated(fleet, arrivals, rate_rps, workload.slo, self.requests, self.seed)


def verify(
    made: Made,
    requests: int = REQUESTS,
    arrivals: Arrivals | None = None,
    profiles: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Verification:
    """Simulates ``made``: ``requests`` of each workload, in each period and with each loss.

    ``arrivals``: in place of those that the plan assumes. ``profiles``: the store, where that is not
    plan.yaml's. Raises SpecError where plan.yaml is not as it was when the plan was made, StoreError where
    the profiles are not there.
    """
    fleet = fleet_of(made)
    placements = made.solution.placements
    used = {i for placement in placements for i, _ in placement.pattern.replicas}
    asked = _Asked(made, laws_of(made, fleet.services, used, profiles), arrivals, requests, seed)
    todo = list(_served(fleet))
    cases: list[Case] = []
    count = 0
    for done, (workload, period, rate_rps) in enumerate(todo):
        progress(Step("simulating", f"{workload.name} {period}".strip(), done, len(todo)))
        for case, number in _cases(asked, workload, period, rate_rps):
            cases.append(case)
            count += number
    progress(Step("simulating", "", len(todo), len(todo)))
    return Verification(made, arrivals, requests, seed, tuple(cases), count)


def _served(fleet: Fleet) -> Iterator[tuple[Workload, str, float]]:
    """Each workload and period with requests in it."""
    periods = [period.name for period in fleet.periods] or [""]
    for spec in fleet.services:
        workload = spec.workload
        for period, rate in zip(
            periods, workload.rates_rps or [workload.rate_rps] * len(periods), strict=True
        ):
            if rate > 0:
                yield workload, period, rate


def _cases(asked: _Asked, workload: Workload, period: str, rate_rps: float) -> Iterator[tuple[Case, int]]:
    placements = [p for p in asked.made.solution.placements if p.period == period]
    candidates = {c.id: c for c in asked.made.problem.candidates}
    derating = asked.made.report.packing_derating
    kinds = kinds_of(workload, placements, candidates, derating, _predicted(asked.made, period))
    yield _case(asked, workload, period, rate_rps, "", kinds)
    loss = worst_loss(kinds, placements, workload, rate_rps)
    if loss is not None:
        left = after(loss, kinds, workload, rate_rps) if loss.load < float("inf") else ()
        yield _case(asked, workload, period, rate_rps, loss.name, left)


def _case(
    asked: _Asked, workload: Workload, period: str, rate_rps: float, lost: str, kinds: Sequence[Kind]
) -> tuple[Case, int]:
    served = [kind for kind in kinds if kind.rate_rps > 0]
    if not served:
        return Case(workload, period, rate_rps, lost, FAILS, REDUNDANCY, None, ()), 0
    found = asked.simulated(served, workload, rate_rps)
    allowed = 1 - workload.slo.percentile / 100
    replicas = tuple(
        Replicas(kind, together, each, verdict_of(together, allowed, found.settled))
        for kind, together, each in zip(served, found.alike, found.replicas, strict=True)
    )
    verdict = verdict_of(found.whole, allowed, found.settled)
    count = found.simulated
    broke: Broke = ""
    if verdict == FAILS:
        broke, more = _what_broke(asked, workload, rate_rps, served, allowed)
        count += more
    return Case(workload, period, rate_rps, lost, verdict, broke, found.whole, replicas, found.settled), count


def verdict_of(seen: Seen, allowed: float, settled: bool = True) -> Verdict:
    """By the interval of the share of late requests; what is not settled may fail, but not hold."""
    if seen.late_low > allowed:
        return FAILS
    return HOLDS if settled and seen.late_high <= allowed else UNCLEAR


def _what_broke(
    asked: _Asked, workload: Workload, rate_rps: float, kinds: Sequence[Kind], allowed: float
) -> tuple[Broke, int]:
    """The assumption without which it would not have failed, and how many requests it took to tell."""
    if workload.capacity == SATURATED:
        return QUEUES, 0
    if asked.arrivals is None or asked.arrivals == workload.arrivals:
        return "", 0
    planned = replace(asked, arrivals=None).simulated(kinds, workload, rate_rps)
    held = verdict_of(planned.whole, allowed) != FAILS
    return (ARRIVALS if held else ""), planned.simulated


def _predicted(made: Made, period: str) -> dict[tuple[int, str], float]:
    """By number of the placement in the period and candidate, in ns."""
    placements = [p for p in made.report.fleet.placements if p.period == period]
    return {
        (number, traffic.candidate_id): traffic.predicted_sojourn_ms * NS_PER_MS
        for number, placement in enumerate(placements)
        for traffic in placement.traffic
    }
