"""Guided profiling against measuring everything, by replay of recorded profiles.

    python benchmarks/guided.py [CASES]        # 300 cases by default
    python benchmarks/guided.py record         # first: the quickstart model's grid on this machine

Recorded: the published BERT-large figures (six GPUs, two precisions, two sequence lengths), and the
quickstart's model on this machine: what was recorded of every recipe that `auto` picks, on ONNX Runtime and
OpenVINO, with one and two threads, at batch sizes 1 to 8; and what `planner plan` of the quickstart has
left. A case draws SLO, rate and prices. Both sides then plan by the same rules, confirmation by fresh
samples included; what each would have spent on measuring is added up from the recorded latencies and a
second for every start of an engine; as in the planner's own bench, the one used last stays loaded. The
exhaustive side probes first, up to the first batch size whose median is over the SLO, and goes on with the
smaller ones.

Every second case is close: devices cost in proportion to their best throughput, give or take 5 %. How many
cases have a runner-up within 5 % of the winner is counted. Nobody sells an A30 in the catalog; it is offered
at the price per throughput of the others.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from shutil import copy2, copytree

import yaml

from planner import pipeline
from planner.capacity import capacity
from planner.catalog import load
from planner.domain.offer import Offer
from planner.domain.profile import Configuration, Profile, samples_for
from planner.domain.quality import AccuracyFloor
from planner.domain.workload import FleetLimits, Slo, Workload
from planner.optimize import runner_up, solve
from planner.pipeline.asked import Asked
from planner.pipeline.guiding import Market
from planner.pipeline.services import Traits
from planner.pipeline.steps import measurable
from planner.profiling import bench
from planner.profiling.bench import START_SECONDS
from planner.profiling.guided import (
    PROBE_ITERATIONS,
    SAMPLE_SHARE,
    Group,
    Guided,
    Measures,
    Samples,
    all_choices,
    guide,
    within,
)
from planner.store import ProfileStore, locate, profiles_of

HERE = Path(__file__).resolve().parent
QUICKSTART = HERE.parent / "examples" / "quickstart" / "plan" / "profiles"
GRID = HERE / "downloads" / "quickstart-grid"
CASES = 300
PERCENTILE = 99.0
SLOS_MS = (8, 12, 18, 27, 40, 60, 90, 135)
SOLD_AS = {"A100-40GB": "A100-40GB-SXM", "V100-16GB": "V100-SXM2-16GB"}
CLOSE = 0.05
# Multiply-accumulates of BERT-large for a sequence: 24 layers of hidden size 1024.
LAYERS, HIDDEN = 24, 1024
BYTES = {"fp16": 2, "int8": 1}


@dataclass(frozen=True, slots=True)
class Peaks:
    ops_per_s: float
    bytes_per_s: float


class Recorded:
    """Recorded profiles as the bench of both sides; adds up what measuring would have taken."""

    def __init__(self, profiles: Sequence[Profile], peaks: Mapping[tuple[str, str], Peaks]) -> None:
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
        self.looked: dict[Configuration, int] = {}
        self.full: set[Configuration] = set()
        self._taken: set[tuple[Configuration, bool]] = set()
        self._loaded = ""

    def start(self) -> None:
        self.seconds, self.looked, self.full, self._taken, self._loaded = 0.0, {}, set(), set(), ""

    def _load(self, group: Group) -> None:
        """As the planner's bench does: the engine used last stays loaded."""
        self.seconds += START_SECONDS if group.name != self._loaded else 0.0
        self._loaded = group.name

    def floor_ns(self, c: Configuration) -> float:
        """Peak arithmetic of the device, and reading the weights once a batch; 0 where not known."""
        peaks = self.peaks.get((c.device, c.variant))
        if peaks is None:
            return 0.0
        length = int(c.model.rsplit("-", 1)[1])
        macs = LAYERS * length * (12 * HIDDEN**2 + 2 * length * HIDDEN)
        weights = LAYERS * 12 * HIDDEN**2 * BYTES[c.variant]
        return max(c.batch_size * 2 * macs / peaks.ops_per_s, weights / peaks.bytes_per_s) * 1e9

    def probe(self, group: Group, budget_ns: float) -> dict[Configuration, Samples]:
        """Up to the first batch size that is over the budget."""
        seen: dict[Configuration, Samples] = {}
        while len(seen) < len(group.configurations) and within(group, seen, budget_ns) == len(seen):
            c = group.configurations[len(seen)]
            seen[c] = self._drawn(c, PROBE_ITERATIONS)
        self._look(group, len(seen), PROBE_ITERATIONS)
        return seen

    def sample(self, group: Group, count: int) -> dict[Configuration, Samples]:
        iterations = samples_for(PERCENTILE) // SAMPLE_SHARE
        self._look(group, count, iterations)
        return {c: self._drawn(c, iterations) for c in group.prefix(count)}

    def _drawn(self, c: Configuration, count: int) -> Samples:
        """At random, always the same: a probe is taken in turns, unlike the first of a recording."""
        rng = random.Random(f"{c.device} {c.variant} {c.batch_size}")
        return tuple(rng.choices(self.profiles[c].service_ns, k=count))

    def _look(self, group: Group, count: int, iterations: int) -> None:
        fewer = [c for c in group.prefix(count) if self.looked.get(c, 0) < iterations]
        if fewer:
            self._load(group)
        for c in fewer:
            self.seconds += self._seconds(c, iterations - self.looked.get(c, 0))
            self.looked[c] = iterations

    def measure(self, group: Group, count: int, again: bool) -> dict[Configuration, Samples]:
        new = [c for c in group.prefix(count) if (c, again) not in self._taken]
        if new:
            self._load(group)
        for c in new:
            known = 0 if again else self.looked.get(c, 0)
            self.seconds += self._seconds(c, samples_for(PERCENTILE) - known)
            self._taken.add((c, again))
        self.full |= set(new)
        return {c: self.profiles[c].service_ns for c in group.prefix(count)}

    def _seconds(self, c: Configuration, iterations: int) -> float:
        times = self.profiles[c].service_ns
        return iterations * sum(times) / len(times) / 1e9 / c.replicas


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
        workload = Workload("case", self.rate_rps, Slo(PERCENTILE, round(self.slo_ms * 1e6)), floor)

        def traits(group: Group) -> Traits:
            device = group.configurations[0].device
            memory = self.recorded.profiles
            return Traits(workload, SOLD_AS.get(device, device), lambda c: memory[c].memory_bytes)

        groups = {g.name: g for g in self.recorded.groups}
        return Market(Asked((workload,), FleetLimits()), self.offers, groups, traits, (), 60.0)

    def plan(self, exhaustive: bool) -> Guided:
        """What guided profiling finds; ``recorded`` holds what it spent."""
        recorded, budget_ns = self.recorded, round(self.slo_ms * 1e6)
        recorded.start()

        def capacities(service: Mapping[int, Sequence[int]], largest: int) -> tuple[float, float]:
            rate = capacity_of(tuple((b, tuple(s)) for b, s in service.items()), largest, budget_ns)
            return rate, rate

        measures = Measures(
            recorded.floor_ns,
            lambda group: recorded.probe(group, budget_ns),
            recorded.sample,
            recorded.measure,
            capacities,
            capacities,
            budget_ns,
        )
        always = all_choices(recorded.groups, measures) if exhaustive else ()
        return guide(recorded.groups, measures, self.market().optimum, always=always)


def behind(case: Case, found: Guided) -> float | None:
    """How far the best plan without the winner's main choice is behind, as a share; None without one."""
    problem = case.market().problem(found.bounds)
    best = solve(problem, 60.0)
    second = runner_up(problem, best)
    if second.solution is None:
        return None
    return second.solution.usd_per_hour / best.usd_per_hour - 1


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
    by_name = {device.name: device for device in catalog.devices}
    bert = profiles_of(locate("bert-large", HERE))
    peaks = {}
    for source in {p.configuration.device for p in bert}:
        device = by_name[SOLD_AS.get(source, source)]
        ops, bandwidth = dict(device.peak_ops_per_s), device.bandwidth_bytes_per_s
        assert bandwidth is not None
        peaks[source, "fp16"] = Peaks(ops["fp16"], bandwidth)
        # An int8 engine may run layers in fp16 where that is faster, as on V100.
        peaks[source, "int8"] = Peaks(max(ops["fp16"], ops.get("int8", 0.0)), bandwidth)
    found = []
    for model in sorted({p.configuration.model for p in bert}):
        recorded = Recorded([p for p in bert if p.configuration.model == model], peaks)
        offers = cheapest(catalog.offers, recorded)
        found.append((model, recorded, [*offers, *assumed(offers, recorded)]))
    own = {}
    for folder in (QUICKSTART, GRID / "profiles"):
        for p in ProfileStore(folder).all() if folder.is_dir() else ():
            c = p.configuration
            if len(p.samples_ns) >= samples_for(PERCENTILE):
                own[c.variant, c.backend, c.threads, c.batch_size] = p
    if own:
        recorded = Recorded(list(own.values()), {})
        found.append(("quickstart", recorded, cheapest(catalog.offers, recorded)))
    return found


def assumed(offers: Sequence[Offer], recorded: Recorded) -> list[Offer]:
    """An offer for each device that nobody sells, at the median price per throughput of the others."""
    value = _value(recorded)
    sold = {offer.device for offer in offers}
    rate = statistics.median(o.usd_per_hour / o.device_count / value[o.device] for o in offers)
    single = next(offer for offer in offers if offer.device_count == 1)
    return [
        replace(
            single,
            provider="assumed",
            instance_type=device,
            device=device,
            usd_per_hour=rate * value[device],
        )
        for device in sorted(set(value) - sold)
    ]


def describe(name: str, recorded: Recorded, offers: Sequence[Offer]) -> str:
    parts = []
    for backend in sorted({c.backend for c in recorded.profiles}):
        those = [c for c in recorded.profiles if c.backend == backend]
        devices, variants = {c.device for c in those}, {c.variant for c in those}
        threads, sizes = sorted({c.threads for c in those}), sorted({c.batch_size for c in those})
        grid = f"{len(devices)} devices, {len(variants)} variants, threads {threads}, batch sizes {sizes}"
        parts.append(f"{backend}: {grid}")
    return f"{name}: {len(recorded.profiles)} configurations ({'; '.join(parts)}), {len(offers)} offers"


def record() -> None:
    """The quickstart's model on this machine, with an SLO that everything holds. What is there is kept.

    No more samples than the percentile needs: how well they are taken does not matter for a replay.
    """
    GRID.mkdir(parents=True, exist_ok=True)
    example = HERE.parent / "examples" / "quickstart"
    copy2(example / "data.py", GRID / "data.py")
    copytree(example / "downloads", GRID / "downloads", dirs_exist_ok=True)
    spec = yaml.safe_load((example / "plan.yaml").read_text(encoding="utf-8"))
    spec |= {"recipes": "auto", "backends": ["openvino", "onnxruntime"], "threads": [1, 2]}
    spec |= {"batch_sizes": [1, 2, 4, 8], "output": "."}
    spec["workload"]["slo"]["latency"] = "10s"
    (GRID / "plan.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    bench.SECONDS, bench.REPEATS, bench.ROUNDS = 0.0, 0, 1
    prepared = pipeline.prepare(pipeline.load_spec(GRID / "plan.yaml").only)
    judged = pipeline.judge(prepared)
    with measurable(prepared, judged) as here:
        for number, group in enumerate(here.groups, 1):
            print(f"{number}/{len(here.groups)} {group.name}", flush=True)
            here.bench.full(group, len(group.configurations), again=False)


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
    if sys.argv[1:] == ["record"]:
        record()
        return
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else CASES
    rng = random.Random(2026)
    known = sources()
    for source in known:
        print("recorded:", describe(*source))
    drawn: dict[str, list[Case]] = {name: [] for name, _, _ in known}
    for number in range(cases):
        name, recorded, offers = known[number % len(known)]
        drawn[name].append(draw(rng, recorded, offers, near=(number // len(known)) % 2 == 0))
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(max_workers=len(known)) as pool:  # a process each: capacities are kept
        for future in as_completed([pool.submit(replay, name, found) for name, found in drawn.items()]):
            outcomes += future.result()
            print(f"{len(outcomes)}/{cases}", file=sys.stderr, flush=True)
    report(outcomes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one case. ``share``: of the configurations, those measured in full; ``behind``: the runner-up."""

    source: str
    equal: bool
    planned: bool
    time: float
    share: float
    behind: float | None


def replay(name: str, cases: Sequence[Case]) -> list[Outcome]:
    outcomes = []
    for case in cases:
        recorded = case.recorded
        whole = case.plan(exhaustive=True)
        exhaustive_s = recorded.seconds
        found = case.plan(exhaustive=False)
        planned = whole.optimum is not None
        outcomes.append(
            Outcome(
                name,
                same_cost(whole, found),
                planned,
                recorded.seconds / exhaustive_s,
                len(recorded.full) / len(recorded.profiles),
                behind(case, whole) if planned else None,
            )
        )
        print(f"{case.slo_ms} ms, {case.rate_rps:.0f}/s: {outcomes[-1]}", file=sys.stderr, flush=True)
    return outcomes


def report(outcomes: Sequence[Outcome]) -> None:
    planned = [o for o in outcomes if o.planned]
    near = sum(o.behind is not None and o.behind <= CLOSE for o in planned)
    print(f"{len(outcomes)} cases, {len(planned)} with a plan, {near} with a runner-up within {CLOSE:.0%}")
    print(f"equal cost in {sum(o.equal for o in outcomes)} of {len(outcomes)}")
    print("guided / exhaustive, median (10th to 90th percentile): time, and share of configurations in full")
    for label in (*sorted({o.source for o in planned}), "all"):
        those = [o for o in planned if label in (o.source, "all")]
        times, shares = _spread([o.time for o in those]), _spread([o.share for o in those])
        print(f"  {label:<16} {times}   {shares}")


def _spread(values: Sequence[float]) -> str:
    ends = statistics.quantiles(values, n=10)
    return f"{statistics.median(values):6.1%} ({ends[0]:.1%} to {ends[8]:.1%})"


def same_cost(whole: Guided, found: Guided) -> bool:
    if whole.optimum is None or found.optimum is None:
        return whole.optimum is found.optimum
    return math.isclose(whole.optimum.usd_per_hour, found.optimum.usd_per_hour, rel_tol=1e-6)


if __name__ == "__main__":
    main()
