"""Guided profiling against measuring everything, by replay of recorded profiles.

    python benchmarks/guided.py [CASES]        # 300 cases by default

Recorded: the published BERT-large figures (six GPUs, two precisions, two sequence lengths), and, where
`planner profile examples/quickstart/plan.yaml` was run before, the quickstart's own grid on this machine.
A case draws SLO, rate and prices. Both sides then plan by the same rules, confirmation by fresh samples
included; what each would have spent on measuring is added up from the recorded latencies and a second for
every start of an engine. The exhaustive side probes first, and measures no batch size whose median is over
the SLO.

Every second case is close: devices cost in proportion to their best throughput, give or take 5 %. How many
cases have a runner-up within 5 % of the winner is counted.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from planner.capacity import capacity
from planner.catalog import load
from planner.domain.offer import Offer
from planner.domain.profile import Configuration, Profile, samples_for
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import Slo, Workload
from planner.optimize import runner_up
from planner.pipeline.guiding import Market
from planner.profiling.bench import START_SECONDS
from planner.profiling.guided import (
    PROBE_ITERATIONS,
    Bounded,
    Choice,
    Group,
    Guided,
    Measures,
    Samples,
    all_choices,
    guide,
)
from planner.store import ProfileStore, locate, profiles_of

HERE = Path(__file__).resolve().parent
QUICKSTART = HERE.parent / "examples" / "quickstart" / "plan" / "profiles"
CASES = 300
PERCENTILE = 99.0
SLOS_MS = (8, 12, 18, 27, 40, 60, 90, 135)
SOLD_AS = {"A100-40GB": "A100-40GB-SXM", "V100-16GB": "V100-SXM2-16GB"}
CLOSE = 0.05
# Multiply-accumulates of BERT-large for a sequence: 24 layers of hidden size 1024.
LAYERS, HIDDEN = 24, 1024


class Recorded:
    """Recorded profiles as the bench of both sides; adds up what measuring would have taken."""

    def __init__(self, profiles: Sequence[Profile], peaks: Mapping[tuple[str, str], float]) -> None:
        self.profiles = {p.configuration: p for p in profiles}
        self.peaks = peaks
        by_engine: dict[tuple[str, ...], list[Configuration]] = {}
        for c in self.profiles:
            key = (c.model or c.model_sha256, c.device, c.variant, c.backend, str(c.threads))
            by_engine.setdefault(key, []).append(c)
        self.groups = tuple(
            Group("/".join(key[1:]), tuple(sorted(found, key=lambda c: c.batch_size)))
            for key, found in by_engine.items()
        )
        self.seconds = 0.0
        self.looked: set[Configuration] = set()
        self.full: set[Configuration] = set()
        self._rng = random.Random(0)
        self._taken: set[tuple[Configuration, bool]] = set()

    def start(self) -> None:
        self.seconds, self.looked, self.full, self._taken = 0.0, set(), set(), set()
        self._rng = random.Random(0)

    def floor_ns(self, c: Configuration) -> float:
        """Peak arithmetic of the device; 0 where it is not known."""
        peak = self.peaks.get((c.device, c.variant))
        if peak is None:
            return 0.0
        length = int(c.model.rsplit("-", 1)[1])
        macs = LAYERS * length * (12 * HIDDEN**2 + 2 * length * HIDDEN)
        return c.batch_size * 2 * macs / peak * 1e9

    def probe(self, group: Group) -> dict[Configuration, Samples]:
        fresh = [c for c in group.configurations if c not in self.looked]
        taken = {}
        self.seconds += START_SECONDS if fresh else 0.0
        for c in group.configurations:
            drawn = random.Random(f"{c.device} {c.variant} {c.batch_size}").choices(
                self.profiles[c].service_ns, k=PROBE_ITERATIONS
            )
            taken[c] = tuple(drawn)
            self.seconds += sum(drawn) / 1e9 if c in fresh else 0.0
        self.looked |= set(fresh)
        return taken

    def measure(self, group: Group, count: int, again: bool) -> dict[Configuration, Samples]:
        new = [c for c in group.prefix(count) if (c, again) not in self._taken]
        self.seconds += START_SECONDS if new else 0.0
        for c in new:
            times = self.profiles[c].service_ns
            self.seconds += samples_for(PERCENTILE) * sum(times) / len(times) / 1e9 / c.replicas
            self._taken.add((c, again))
        self.full |= set(new)
        return {c: self.profiles[c].service_ns for c in group.prefix(count)}


@cache
def capacity_of(service: tuple[tuple[int, Samples], ...], largest: int, budget_ns: int) -> float:
    return capacity(dict(service), largest, PERCENTILE, budget_ns).rate_rps


@dataclass(frozen=True, slots=True)
class Case:
    recorded: Recorded
    slo_ms: float
    rate_rps: float
    offers: tuple[Offer, ...]

    def market(self) -> Market:
        floor = AccuracyFloor("accuracy", None, 1.0)
        return Market(
            Workload("case", self.rate_rps, Slo(PERCENTILE, round(self.slo_ms * 1e6)), floor),
            self.offers,
            None,
            {g.name: g for g in self.recorded.groups},
            lambda c: SOLD_AS.get(c.device, c.device),
            lambda c: self.recorded.profiles[c].memory_bytes,
            60.0,
        )

    def plan(self, exhaustive: bool, confirm: bool) -> tuple[Guided, float | None]:
        """What guided profiling found, and the cost per hour of the optimum (None: no fleet)."""
        recorded, budget_ns = self.recorded, round(self.slo_ms * 1e6)
        recorded.start()

        def capacities(service: Mapping[int, Sequence[int]], largest: int) -> tuple[float, float]:
            rate = capacity_of(tuple((b, tuple(s)) for b, s in service.items()), largest, budget_ns)
            return rate, rate

        measures = Measures(recorded.floor_ns, recorded.probe, recorded.measure, capacities, budget_ns)
        always = all_choices(recorded.groups, measures) if exhaustive else ()
        market, best = self.market(), None

        def used(bounds: Sequence[Bounded]) -> frozenset[Choice] | None:
            nonlocal best
            best, choices = market.optimum(bounds) or (None, None)
            return choices

        found = guide(recorded.groups, measures, used, always=always, confirm=confirm)
        return found, None if best is None else best.usd_per_hour


def behind(case: Case, found: Guided) -> float | None:
    """How far the best plan without the winner's main choice is behind, as a share; None without one."""
    market = case.market()
    best = market.optimum(found.bounds)
    assert best is not None
    second = runner_up(market.problem(found.bounds), best[0])
    if second.solution is None:
        return None
    return second.solution.usd_per_hour / best[0].usd_per_hour - 1


def draw(rng: random.Random, recorded: Recorded, offers: Sequence[Offer], near: bool) -> Case:
    fastest = min(min(p.service_ns) for p in recorded.profiles.values()) / 1e6
    choices = [s for s in SLOS_MS if s >= 1.5 * fastest] or [SLOS_MS[-1]]
    spread = 0.05 if near else 0.5
    factor = {offer.device: math.exp(rng.gauss(0, spread)) for offer in offers}
    value = _value(recorded)
    near = near and len(value) > 1
    priced = tuple(
        replace(
            offer,
            usd_per_hour=factor[offer.device]
            * (value[offer.device] * offer.device_count if near else offer.usd_per_hour),
        )
        for offer in offers
    )
    return Case(recorded, rng.choice(choices), math.exp(rng.uniform(math.log(20), math.log(20_000))), priced)


def _value(recorded: Recorded) -> dict[str, float]:
    """Prices at which every device is worth about the same: in proportion to its best throughput."""
    best: dict[str, float] = {}
    for c, p in recorded.profiles.items():
        rate = c.batch_size * len(p.service_ns) / (sum(p.service_ns) / 1e9)
        name = SOLD_AS.get(c.device, c.device)
        best[name] = max(best.get(name, 0.0), rate)
    return {name: rate / 1000 for name, rate in best.items()}


def sources() -> list[tuple[str, Recorded, list[Offer]]]:
    catalog = load(None)
    peaks = {}
    for device in catalog.devices:
        for kind, rate in device.peak_ops_per_s:
            peaks[device.name, kind] = rate
    named = {
        (source, v): peaks.get((SOLD_AS.get(source, source), v))
        for source in ("V100-16GB", "T4", "L4", "L40S", "A100-40GB", "A30")
        for v in ("fp16", "int8")
    }
    known = {key: rate for key, rate in named.items() if rate}
    found = []
    sold = {offer.device for offer in catalog.offers}
    bert = [
        p
        for p in profiles_of(locate("bert-large", HERE))
        if SOLD_AS.get(p.configuration.device, p.configuration.device) in sold
    ]
    for model in sorted({p.configuration.model for p in bert}):
        recorded = Recorded([p for p in bert if p.configuration.model == model], known)
        found.append((model, recorded, cheapest(catalog.offers, recorded)))
    if QUICKSTART.is_dir():
        own = [p for p in ProfileStore(QUICKSTART).all() if len(p.samples_ns) >= samples_for(PERCENTILE)]
        if own:
            recorded = Recorded(own, {})
            found.append(("quickstart", recorded, cheapest(catalog.offers, recorded)))
    return found


def cheapest(offers: Sequence[Offer], recorded: Recorded) -> list[Offer]:
    """The cheapest on-demand offer of each instance type with a device that was recorded."""
    devices = {SOLD_AS.get(c.device, c.device) for c in recorded.profiles}
    best: dict[tuple[str, str], Offer] = {}
    for offer in offers:
        if offer.device in devices and offer.purchase == "on-demand":
            key = (offer.provider, offer.instance_type)
            if key not in best or offer.usd_per_hour < best[key].usd_per_hour:
                best[key] = offer
    return list(best.values())


def main() -> None:
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else CASES
    rng = random.Random(2026)
    known = sources()
    print(
        "recorded:",
        ", ".join(f"{n} ({len(r.profiles)} configurations, {len(o)} offers)" for n, r, o in known),
    )
    near, equal, planned = 0, 0, 0
    times: dict[tuple[str, bool], list[float]] = {}
    shares = []
    for number in range(cases):
        name, recorded, offers = known[number % len(known)]
        case = draw(rng, recorded, offers, near=(number // len(known)) % 2 == 0)
        for confirm in (True, False):
            whole, wanted = case.plan(exhaustive=True, confirm=confirm)
            exhaustive_s, everything = recorded.seconds, len(recorded.looked)
            _, got = case.plan(exhaustive=False, confirm=confirm)
            if wanted is not None:
                for label in (name, "all"):
                    times.setdefault((label, confirm), []).append(recorded.seconds / exhaustive_s)
        equal += wanted == got or bool(wanted and got and abs(wanted - got) <= 1e-6 * wanted)
        if wanted is None:
            continue
        planned += 1
        shares.append(len(recorded.full) / everything)
        second = behind(case, whole)
        near += second is not None and second <= CLOSE
        print(f"\r\033[K{number + 1}/{cases}", end="", file=sys.stderr, flush=True)
    print(f"\n{cases} cases, {planned} with a plan, {near} of them with a runner-up within {CLOSE:.0%}")
    print(f"equal cost in {equal} of {cases}")
    print(f"configurations measured in full, of all: median {statistics.median(shares):.1%}")
    print("time, guided / exhaustive: median (10th to 90th percentile)")
    for (label, confirm), found in sorted(times.items()):
        q = statistics.quantiles(found, n=10)
        what = "with" if confirm else "without"
        print(
            f"  {label:<16} {what:<7} confirmation {statistics.median(found):6.1%} ({q[0]:.1%} to {q[8]:.1%})"
        )


if __name__ == "__main__":
    main()
