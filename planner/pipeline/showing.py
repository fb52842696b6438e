"""What report.html shows, found again from a plan's files, as far as there is time; and why not the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from planner.capacity import replica_by_class, sojourn_by_rate
from planner.domain.profile import Profile
from planner.domain.reasons import Alternative, Curve
from planner.domain.workload import QUEUEING
from planner.errors import PlannerError, first_line
from planner.optimize import alternatives, cheapest_when_full
from planner.page import REPORT_HTML, ByRate, Shown, page
from planner.pipeline.curves import RATE, SLO, Sweep, curve
from planner.pipeline.made import Made, read_plan
from planner.pipeline.profiled import known_profiles, profiles_of
from planner.pipeline.recomputed import fleet_of
from planner.report.plan_json import WorkloadPart
from planner.spec import Fleet
from planner.store import replace_text, writable_folder

SECONDS = 0.5
"""For all that is solved again. What is begun by then is finished."""
STEPS, REACH = 5, 4.0
"""Points of a sweep, from a fourth of what was asked to four times as much."""
RATES, BEYOND = 12, 1.1
"""Rates that latencies are drawn at, up to so many times the capacity."""
MOST_REPLICAS = 12
"""Kinds of replicas whose latencies are drawn."""
LEAST_OVERHEAD = 1.2
"""A sweep's lowest latency is no less than so many times the overhead."""


def write_page(
    plan: Path,
    output: Path | None = None,
    profiles: Path | None = None,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """report.html beside plan.json, or ``output``; where it is. ``plan`` and errors as for ``read_plan``;
    else as for ``shown``."""
    made = read_plan(plan)
    target = (output or made.folder / REPORT_HTML).resolve()
    text = page(shown(made, profiles, seconds, clock))
    writable_folder(target.parent)
    replace_text(target, text)
    return target


def draw(folder: Path, wanted: bool, failed: Callable[[str], object]) -> Path | None:
    """The page of the plan that was just written to ``folder``. What goes wrong, ``failed`` is told, and it
    costs no plan; a page of an earlier plan does not stay."""
    (folder / REPORT_HTML).unlink(missing_ok=True)
    if not wanted:
        return None
    try:
        return write_page(folder)
    except Exception as error:
        failed(f"the plan is written, its {REPORT_HTML} is not: {first_line(error)}")
        return None


def shown(
    made: Made, profiles: Path | None, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Shown:
    """``profiles``: the store, where that is not plan.yaml's. ``seconds``: for what is solved again."""
    found = _Found(made, profiles, clock() + seconds, clock)
    by_rate = tuple(found.by_rate())
    # What takes longest comes last.
    over_rate, others, over_slo = tuple(found.over_rate()), tuple(found.others()), tuple(found.over_slo())
    return Shown(
        report=made.report,
        candidates={c.id: c for c in made.problem.candidates},
        full=cheapest_when_full(made.problem),
        by_rate=by_rate,
        alternatives=others,
        curves=(*over_rate, *over_slo),
        unmeasured=len(made.unmeasured),
        missing={section: tuple(dict.fromkeys(why)) for section, why in found.missing.items()},
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """``missing``: what is not there, and why, by the page's section."""

    made: Made
    profiles: Path | None
    deadline: float
    clock: Callable[[], float]
    missing: dict[str, list[str]] = field(default_factory=dict)

    def more(self) -> bool:
        return self.clock() < self.deadline

    def left(self) -> float:
        return max(self.deadline - self.clock(), 0.1)

    def lacks(self, section: str, why: str) -> None:
        self.missing.setdefault(section, []).append(why)

    def by_rate(self) -> Iterator[ByRate]:
        """Of each kind of replica in the plan, crowded or not, in its order."""
        kinds: dict[tuple[str, bool], dict[str, float]] = {}
        for placement in self.made.report.fleet.placements:
            for traffic in placement.traffic:
                kinds.setdefault((traffic.candidate_id, placement.extrapolated), traffic.classes)
        if len(kinds) > MOST_REPLICAS:
            self.lacks(
                "capacity", f"Only the first {MOST_REPLICAS} of {len(kinds)} kinds of replicas are drawn."
            )
        try:
            fleet = fleet_of(self.made)
            known = known_profiles(fleet.services, self.profiles)
        except PlannerError as error:
            self.lacks("capacity", f"Latencies by rate are not drawn: {error}")
            return
        for (candidate_id, extrapolated), classes in list(kinds.items())[:MOST_REPLICAS]:
            try:
                yield self._replica(fleet, known, candidate_id, extrapolated, classes)
            except PlannerError as error:
                self.lacks("capacity", f"Latencies by rate are not drawn: {error}")

    def _replica(
        self,
        fleet: Fleet,
        known: dict[str, tuple[Profile, ...]],
        candidate_id: str,
        extrapolated: bool,
        classes: dict[str, float],
    ) -> ByRate:
        """``classes``: the rates that requests of each come at, of which only the proportions count."""
        candidate = next(c for c in self.made.problem.candidates if c.id == candidate_id)
        part = next(c for c in self.made.report.candidates if c.id == candidate_id)
        spec = next(spec for spec in fleet.services if spec.workload.name == candidate.workload)
        percentile = spec.workload.slo.percentile
        found = profiles_of(self.made, part, known[candidate.workload], percentile)
        stretch = 1.0 + fleet.packing_derating if extrapolated else 1.0
        replica = replica_by_class(candidate, found, spec.workload, stretch, classes or None)
        most = part.packed_capacity_rps if extrapolated else part.capacity_rps
        rates = [most * BEYOND * (k + 1) / RATES for k in range(RATES)]
        percentiles = sorted({50.0, 95.0, percentile})
        return ByRate(candidate_id, extrapolated, sojourn_by_rate(replica, spec.workload, rates, percentiles))

    def others(self) -> Iterator[Alternative]:
        """Plans with one device or one variant alone, as far as there is time."""
        if self._no_time("cost", "No plans with one device or variant alone"):
            return
        asked = replace(self.made.problem, keep=None)
        unmeasured, present = self.made.unmeasured, self.made.solution
        for other in alternatives(asked, present, unmeasured, None, self.left()):
            yield other
            if not self.more():
                self.lacks("cost", f"There was no time for all devices and variants; {_HOW}")
                return

    def over_rate(self) -> Iterator[Curve]:
        """Of all workloads together."""
        total = sum(demand.rate_rps for demand in self.made.problem.demands)
        if not self._no_time("sweeps", "No sweep over the rate"):
            yield from self._curve(Sweep(RATE, total / REACH, total * REACH, STEPS), None)

    def over_slo(self) -> Iterator[Curve]:
        """Of each workload, whose capacities are found anew for every point."""
        if self._no_time("sweeps", "No sweep over the SLO"):
            return
        for part in self.made.report.workloads:
            slo = part.slo
            if self._simulated(part):
                why = "capacities are simulated, and would be anew for every point"
                self.lacks("sweeps", f"No sweep over the SLO of {part.name}: {why}; {_EXPLAIN}")
                continue
            lowest = max(slo.latency_ms / REACH, slo.overhead_ms * LEAST_OVERHEAD)
            yield from self._curve(Sweep(SLO, lowest, slo.latency_ms * REACH, STEPS), part.name)

    def _curve(self, sweep: Sweep, workload: str | None) -> Iterator[Curve]:
        """As far as there is time."""
        asked = replace(self.made.problem, keep=None)
        try:
            found = curve(self.made, asked, sweep, workload, self.profiles, self.left(), self.more)
        except PlannerError as error:
            self.lacks("sweeps", f"No sweep over the {sweep.over}: {error}")
            return
        if len(found.points) < STEPS:
            of = f" of {workload}" if workload else ""
            self.lacks("sweeps", f"There was no time for all points over the {sweep.over}{of}; {_HOW}")
        if found.points:
            yield found

    def _no_time(self, section: str, what: str) -> bool:
        took = self.made.report.proof.solve_seconds
        if self.more() and took <= self.deadline - self.clock():
            return False
        why = f"solving the plan itself took {took:.0f} s" if took >= 1 else "there was no time"
        self.lacks(section, f"{what}: {why}; {_HOW}")
        return True

    def _simulated(self, part: WorkloadPart) -> bool:
        mine = (c for c in self.made.problem.candidates if c.workload == part.name)
        waits = any(c.instances > 1 or c.queue_delay_ns > 0 for c in mine)
        return part.capacity == QUEUEING and (part.arrivals is not None or waits)


_EXPLAIN = "planner explain --sweep slo=FROM:TO finds it."
_HOW = "planner report with more --seconds has it."
