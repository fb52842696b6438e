"""The program of a fleet in full; a problem builds only the rows of what it uses.

Notation (``fleet.Fleet`` holds the numbers)::

    t        a period, weight_t of the time
    w, c     a workload and a class of its requests, asked for at need_twc
    k        a column: offer o_k, zone z_k, and what one instance runs; it takes cap_kwc, costs price_k
    s        a source: replicas of one candidate worth the same; r_ks of them on an instance of k,
             each takes v_sc, with quality q_s and latency l_s

    n_tk     instances of column k that run in period t, integer from 0 to most_tk
    b_o      instances of offer o committed to, integer                  (reserved, with several periods)
    y_tsc    part of w's rate that is of class c and goes to source s    (blended workloads only)
    x_twcv   1 where v is the largest cap_kwc of the columns used in t   (redundancy "instance" only)
    u_tk     1 where column k is used in t                               (the same, classes served by turns)
    e_j      1 where instance type j is used;  g_tz  1 where zone z is used in t

Program::

    minimise  sum_t weight_t sum_{k not committed} price_k n_tk + sum_o price_o b_o     (usd; others below)

    serve[t,w,c]        sum_k cap_kwc n_tk >= need_twc                           w not blended
    steady[t,w]         sum_{k not spot} cap_kw n_tk >= (1 - S_w) need_tw        w not blended, S_w < 1
    serve[t,w,c]        sum_s y_tsc = need_twc / need_tw                         w blended
    capacity[t,s,c]     y_tsc need_tw <= v_sc sum_k r_ks n_tk                    w blended, mixing "each"
    capacity[t,s]       sum_c y_tsc need_tw / v_sc <= sum_k r_ks n_tk            w blended, mixing "time"
    quality[t,w]        sum_sc (q_s - Q_w) y_tsc >= 0                            where a mean is asked for
    spot[t,w]           sum_{s on spot, c} y_tsc <= S_w                          w blended, S_w < 1

    largest[t,w,c]      sum_v x_twcv = 1                                         redundancy "instance"
    lost[t,w,c]         sum_k cap_kwc n_tk - sum_v v x_twcv >= need_twc
    within[t,w,c,k]     n_tk <= most_tk sum_{v >= cap_kwc} x_twcv
    fewest[t,w,c]       sum_k n_tk >= sum_v (1 + ceil(need_twc / v)) x_twcv      k that takes any
    used[t,k]           n_tk <= most_tk u_tk                                     w by turns
    outage[t,w,c,z]     sum_{k not in z} cap_kwc n_tk >= need_twc                redundancy "zone"

    limit[t,o]          sum_{k of o} n_tk <= L       (b_o <= L where o is committed)
    committed[t,o]      sum_{k of o} n_tk <= b_o
    quota[t,q]          sum_k weight_qk n_tk + sum_o weight_qo b_o <= at_most_q
    budget              the mean cost <= budget
    kind[t,k]           n_tk <= most_tk e_j(k);      kinds      sum_j e_j <= K
    zone[t,z]           g_tz <= sum_{k in z} n_tk;   zones[t]   sum_z g_tz >= Z

Classes need no flows as long as replicas take each of theirs beside the others: class c can be routed if
and only if the capacities for it add up (the flows of Fourier-Motzkin again, class by class). Where replicas
serve several classes by turns that is not so; then a loss gets flows of its own, since after it requests may
take other ways: ``lost.serve``, ``lost.capacity`` (for every column k that might lose one: with r_ks u_tk
taken off), ``outage.serve`` and ``outage.capacity`` (for every zone: without its columns).

``largest`` is exact: the loss of one instance of k leaves sum cap n - cap_k, and the worst k for one class is
the one with the largest cap among those used; each class and workload has its own. That the largest is one of
a few values, and not a variable above all of them, is what makes the relaxation strong: it has to pay for the
instance it can lose. ``fewest`` follows for integers and cuts more off. Capacities are cut at the need, which
one instance that reaches it meets alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import ceil, gcd, lcm

from planner.domain.offer import Offer
from planner.domain.problem import (
    ACCURACY,
    ANY_INSTANCE,
    ANY_ZONE,
    CARBON,
    ENERGY,
    LATENCY,
    USD,
    Demand,
)
from planner.optimize.fleet import Counts, Fleet
from planner.optimize.patterns import mean_latencies
from planner.optimize.program import Program, Row, Variable, scaled_row
from planner.optimize.supply import by_turns, class_names, figures_by_offer, per_hour

Terms = list[tuple[str, Fraction]]
Objective = tuple[tuple[tuple[str, float], ...], Fraction]
"""Terms, and what one unit of their sum stands for."""

KINDS, COUNT, SWIFTNESS = "kinds", "instances", "swiftness"
"""What breaks ties: see ``stages``."""

TOLERANCE = 1e-9


def n(t: int, k: int) -> str:
    return f"n[{t},{k}]"


def b(offer_id: str) -> str:
    return f"b[{offer_id}]"


def y(t: int, s: int, name: str) -> str:
    return f"y[{t},{s},{name}]"


def kind_variable(offer: Offer) -> str:
    return f"e[{offer.provider}/{offer.instance_type}]"


def build(f: Fleet, objective: Objective, extra: Sequence[Row] = (), kinds: bool = False) -> Program:
    """The program. ``extra``: rows of earlier stages; ``kinds``: with a 0/1 for each packing of an offer."""
    rows: list[Row] = []
    binary: dict[str, None] = {}
    for t in f.periods:
        for demand in sorted(f.problem.demands, key=lambda d: d.workload):
            if any(period == t and w == demand.workload for period, w, _ in f.needs):
                rows += _normal(f, t, demand)
                rows += _survival(f, t, demand, binary)
        rows += _limits(f, t)
        rows += _zones(f, t, binary)
    rows += _kinds(f, binary)
    if kinds:
        rows += _packings(f, binary)
    if f.problem.budget_usd_per_hour is not None:
        rows.append(scaled_row("budget", cost_terms(f), None, Fraction(repr(f.problem.budget_usd_per_hour))))
    rows += extra
    integers = {n(t, k): f.most[t][k] for t in f.periods for k in range(len(f.columns))}
    variables = [Variable(name, True, most) for name, most in integers.items()]
    variables += [Variable(b(o), True) for o in f.committed]
    variables += [Variable(name, True, 1) for name in binary]
    known = {variable.name for variable in variables}
    flows = {name: None for row in rows for name, _ in row.terms if name not in known}
    variables += [Variable(name, False) for name in flows]
    return Program(tuple(variables), objective[0], tuple(rows), TOLERANCE)


def objective(f: Fleet, what: str) -> Objective:
    """To be minimised: accuracy is negated."""
    if what == USD:
        terms = cost_terms(f)
    elif what in (ENERGY, CARBON):
        figures = figures_by_offer(f.problem)
        terms = [
            (n(t, k), f.weights[t] * (per_hour(f.problem, figures[column.offer.id]) or 0))
            for t in f.periods
            for k, column in enumerate(f.columns)
        ]
    elif what in (ACCURACY, LATENCY):
        terms = _mean_terms(f, what)
    elif what == KINDS:
        terms = [(f"p[{i}]", Fraction(1)) for i in range(len(_packing_members(f)))]
    elif what == COUNT:
        terms = [(n(t, k), Fraction(1)) for t in f.periods for k in range(len(f.columns))]
    else:
        latencies = mean_latencies(f.columns, {c.id: c for c in f.problem.candidates})
        terms = [(n(t, k), latency) for t in f.periods for k, latency in enumerate(latencies)]
    terms = [(name, c) for name, c in terms if c]
    unit = _unit([c for _, c in terms], whole=what not in (ACCURACY, LATENCY))
    return tuple((name, float(c / unit)) for name, c in terms), unit


def cost_terms(f: Fleet) -> Terms:
    once = set(f.committed)
    terms = [
        (n(t, k), f.weights[t] * f.price(k))
        for t in f.periods
        for k, column in enumerate(f.columns)
        if column.offer.id not in once
    ]
    prices = {column.offer.id: f.price(k) for k, column in enumerate(f.columns)}
    return terms + [(b(o), prices[o]) for o in f.committed]


def fixed(f: Fleet, counts: Counts) -> list[Row]:
    """Rows that leave the counts no choice."""
    return [
        Row(f"fixed[{t},{k}]", ((n(t, k), 1.0),), count, count)
        for t in f.periods
        for k, count in enumerate(counts[t])
    ]


def serving(f: Fleet, workload: str) -> list[int]:
    """The sources of a workload."""
    return [s for s, source in enumerate(f.sources) if source.candidate.workload == workload]


def need_of(f: Fleet, t: int, workload: str) -> Fraction:
    """Over all classes."""
    total = (need for (period, w, _), need in f.needs.items() if (period, w) == (t, workload))
    return sum(total, Fraction(0))


def blend(f: Fleet, t: int, demand: Demand, supply: Mapping[int, Terms]) -> Iterator[Row]:
    """The rows of a blended workload's flows, where ``supply[s]`` counts the replicas of source s."""
    w = demand.workload
    mine = [s for s in serving(f, w) if supply[s]]
    yield from _flows(f, t, demand, supply, "", lambda s, name: y(t, s, name))
    quality, spot = demand.min_mean_quality, demand.max_spot_share
    flows = [(s, name, y(t, s, name)) for s in mine for name in _names(f, t, s)]
    if quality is not None:
        # In units of the qualities themselves: their differences may be nothing but rounding.
        qualities = {s: f.sources[s].candidate.quality or 0.0 for s in mine}
        unit = max([abs(quality), *(abs(q) for q in qualities.values())]) or 1.0
        better = [(v, (qualities[s] - quality) / unit) for s, _, v in flows]
        yield Row(f"quality[{t},{w}]", tuple((v, c) for v, c in better if c), 0.0, None)
    if spot < 1:
        terms = [(v, Fraction(1)) for s, _, v in flows if f.sources[s].spot]
        yield scaled_row(f"spot[{t},{w}]", terms, None, Fraction(repr(spot)))


def _flows(
    f: Fleet, t: int, demand: Demand, supply: Mapping[int, Terms], prefix: str, var: Callable[[int, str], str]
) -> Iterator[Row]:
    w, whole = demand.workload, need_of(f, t, demand.workload)
    mine = [s for s in serving(f, w) if supply[s]]
    for name in class_names(demand):
        need = f.needs[t, w, name]
        terms = [(var(s, name), Fraction(1)) for s in mine if name in _names(f, t, s)]
        yield scaled_row(f"{prefix}serve[{t},{w},{name}]", terms, need / whole, need / whole)
    for s in mine:
        rates = {name: min(rate, f.needs[t, w, name]) for name, rate in _rates(f, t, s)}
        if by_turns(f.sources[s].candidate):
            # Not cut at the need: a replica serves the classes one after the other.
            used = [(var(s, name), whole / rate) for name, rate in _rates(f, t, s)]
            yield scaled_row(f"{prefix}capacity[{t},{s}]", [*used, *_negative(supply[s])], None, Fraction(0))
            continue
        for name, rate in rates.items():
            terms = [(var(s, name), whole / rate), *_negative(supply[s])]
            yield scaled_row(f"{prefix}capacity[{t},{s},{name}]", terms, None, Fraction(0))


def supply_of(f: Fleet, t: int) -> dict[int, Terms]:
    """By source, its replicas in the instances that run."""
    found: dict[int, Terms] = {s: [] for s in range(len(f.sources))}
    for k, content in enumerate(f.contents):
        for s, count in content:
            found[s].append((n(t, k), Fraction(count)))
    return found


def _normal(f: Fleet, t: int, demand: Demand) -> Iterator[Row]:
    w = demand.workload
    if f.blended(w):
        yield from blend(f, t, demand, supply_of(f, t))
        return
    for name in class_names(demand):
        yield _enough(f, t, w, name, f"serve[{t},{w},{name}]", range(len(f.columns)), Fraction(1))
    if demand.max_spot_share < 1:
        spot = {s for s, source in enumerate(f.sources) if source.spot}
        steady = [k for k in range(len(f.columns)) if not any(s in spot for s, _ in f.contents[k])]
        part = 1 - Fraction(repr(demand.max_spot_share))
        [name] = class_names(demand)
        yield _enough(f, t, w, name, f"steady[{t},{w}]", steady, part)


def _enough(
    f: Fleet, t: int, w: str, name: str, title: str, among: Iterable[int], part: Fraction, less: str = ""
) -> Row:
    """The columns ``among`` take a class's need, or ``part`` of it, and the variable ``less`` besides."""
    need = f.needs[t, w, name]
    terms = [(n(t, k), min(f.capacity(k, w, name), need)) for k in among]
    return scaled_row(title, [*terms, *([(less, Fraction(-1))] if less else [])], need * part, None)


def _survival(f: Fleet, t: int, demand: Demand, binary: dict[str, None]) -> Iterator[Row]:
    w = demand.workload
    mine = set(serving(f, w))
    holding = [k for k, content in enumerate(f.contents) if any(s in mine for s, _ in content)]
    if demand.redundancy == ANY_INSTANCE and not f.by_turns(w):
        yield from _lost(f, t, demand, holding, binary)
    elif demand.redundancy == ANY_INSTANCE:
        for k in (k for k in holding if f"u[{t},{k}]" not in binary):
            binary[f"u[{t},{k}]"] = None
            yield scaled_row(f"used[{t},{k}]", [(n(t, k), 1), (f"u[{t},{k}]", -f.most[t][k])], None, 0)
        yield from _lost_by_turns(f, t, demand, holding)
    if demand.redundancy == ANY_ZONE:
        for zone in sorted({f.columns[k].zone for k in holding}):
            rest = [k for k, column in enumerate(f.columns) if column.zone != zone]
            if f.by_turns(w):
                supply = {
                    s: [(v, c) for v, c in terms if v in {n(t, k) for k in rest}]
                    for s, terms in supply_of(f, t).items()
                }
                yield from _detour(f, t, demand, supply, f"outage.{zone}")
                continue
            for name in class_names(demand):
                yield _enough(f, t, w, name, f"outage[{t},{w},{name},{zone}]", rest, Fraction(1))


def _lost(f: Fleet, t: int, demand: Demand, holding: Sequence[int], binary: dict[str, None]) -> Iterator[Row]:
    w = demand.workload
    for name in class_names(demand):
        # In units of the need, so that its coefficients are about those of the counts.
        need = f.needs[t, w, name]
        cut = {k: min(f.capacity(k, w, name), need) / need for k in holding}
        sizes = sorted({c for c in cut.values() if c})
        x = {c: f"x[{t},{w},{name},{i}]" for i, c in enumerate(sizes)}
        binary |= dict.fromkeys(x.values())
        title = f"[{t},{w},{name}"
        yield scaled_row(f"largest{title}]", [(v, 1) for v in x.values()], 1, 1)
        lost = [(v, -c) for c, v in x.items()]
        yield scaled_row(f"lost{title}]", [*((n(t, k), c) for k, c in cut.items()), *lost], 1, None)
        fewest = [(v, Fraction(-1 - ceil(1 / c))) for c, v in x.items()]
        yield scaled_row(f"fewest{title}]", [*((n(t, k), 1) for k, c in cut.items() if c), *fewest], 0, None)
        for k, c in cut.items():
            if c:
                as_large = [(v, -f.most[t][k]) for size, v in x.items() if size >= c]
                yield scaled_row(f"within{title},{k}]", [(n(t, k), 1), *as_large], None, 0)


def _lost_by_turns(f: Fleet, t: int, demand: Demand, holding: Sequence[int]) -> Iterator[Row]:
    for k in holding:
        lost = dict(f.contents[k])
        supply = {
            s: [*terms, *([(f"u[{t},{k}]", Fraction(-lost[s]))] if s in lost else [])]
            for s, terms in supply_of(f, t).items()
        }
        yield from _detour(f, t, demand, supply, f"lost.{k}")


def _detour(f: Fleet, t: int, demand: Demand, supply: Mapping[int, Terms], loss: str) -> Iterator[Row]:
    """Flows after a loss."""
    return _flows(f, t, demand, supply, f"{loss}.", lambda s, name: f"d[{loss},{t},{s},{name}]")


def held(f: Fleet, t: int) -> dict[str, Terms]:
    """By offer, what counts against limits in a period: the instances that run, or are committed to."""
    found: dict[str, Terms] = defaultdict(list)
    for k, column in enumerate(f.columns):
        found[column.offer.id].append((n(t, k), Fraction(1)))
    return found | {offer_id: [(b(offer_id), Fraction(1))] for offer_id in f.committed}


def _limits(f: Fleet, t: int) -> Iterator[Row]:
    p = f.problem
    counted = held(f, t)
    for offer_id in f.committed:
        running = [(n(t, k), 1) for k, column in enumerate(f.columns) if column.offer.id == offer_id]
        yield scaled_row(f"committed[{t},{offer_id}]", [*running, (b(offer_id), -1)], None, 0)
    if p.max_instances_per_offer is not None:
        for offer_id, terms in counted.items():
            yield scaled_row(f"limit[{t},{offer_id}]", terms, None, p.max_instances_per_offer)
    offers = {column.offer.id: column.offer for column in f.columns}
    for quota in sorted(p.quotas, key=lambda q: q.name):
        terms = [
            (name, Fraction(quota.counts(offers[offer_id])))
            for offer_id, mine in counted.items()
            if quota.selects(offers[offer_id])
            for name, _ in mine
        ]
        if terms:
            yield scaled_row(f"quota[{t},{quota.name}]", terms, None, Fraction(quota.at_most))


def _zones(f: Fleet, t: int, binary: dict[str, None]) -> Iterator[Row]:
    if not f.problem.min_zones or not any(period == t for period, _, _ in f.needs):
        return
    zones = sorted({column.zone for column in f.columns})
    for zone in zones:
        used = f"g[{t},{zone}]"
        binary[used] = None
        mine = [(n(t, k), -1) for k, column in enumerate(f.columns) if column.zone == zone]
        yield scaled_row(f"zone[{t},{zone}]", [(used, 1), *mine], None, 0)
    yield scaled_row(f"zones[{t}]", [(f"g[{t},{zone}]", 1) for zone in zones], f.problem.min_zones, None)


def _kinds(f: Fleet, binary: dict[str, None]) -> Iterator[Row]:
    if f.problem.max_kinds is None:
        return
    used: dict[str, None] = {}
    for k, column in enumerate(f.columns):
        e = kind_variable(column.offer)
        used[e] = None
        for t in f.periods:
            yield scaled_row(f"kind[{t},{k}]", [(n(t, k), 1), (e, -f.most[t][k])], None, 0)
    binary |= used
    yield scaled_row("kinds", [(e, 1) for e in used], None, f.problem.max_kinds)


def _packing_members(f: Fleet) -> list[list[int]]:
    """Columns that are one offer running one packing, in whatever zone."""
    members: dict[object, list[int]] = defaultdict(list)
    for k, column in enumerate(f.columns):
        members[column.offer.id, column.packing.replicas].append(k)
    return list(members.values())


def _packings(f: Fleet, binary: dict[str, None]) -> Iterator[Row]:
    for i, members in enumerate(_packing_members(f)):
        binary[f"p[{i}]"] = None
        for k in members:
            for t in f.periods:
                yield scaled_row(f"packing[{t},{k}]", [(n(t, k), 1), (f"p[{i}]", -f.most[t][k])], None, 0)


def _names(f: Fleet, t: int, s: int) -> list[str]:
    return [name for name, _ in _rates(f, t, s)]


def _rates(f: Fleet, t: int, s: int) -> list[tuple[str, Fraction]]:
    """The classes with a need that a source serves, and its rate for each."""
    source = f.sources[s]
    return [(n, rate) for n, rate in source.rates_rps if (t, source.candidate.workload, n) in f.needs]


def _negative(terms: Terms) -> Terms:
    return [(name, -c) for name, c in terms]


def _mean_terms(f: Fleet, what: str) -> Terms:
    """The mean quality (negated) or latency over all requests of all periods."""
    weights = {
        (t, demand.workload): f.weights[t] * need_of(f, t, demand.workload)
        for t in f.periods
        for demand in f.problem.demands
    }
    total = sum(weights.values(), Fraction(0))
    terms: Terms = []
    for s, source in enumerate(f.sources):
        c = source.candidate
        worth = -Fraction(repr(c.quality)) if what == ACCURACY else Fraction(repr(c.latency_ns))
        for t in f.periods:
            terms += [(y(t, s, name), worth * weights[t, c.workload] / total) for name in _names(f, t, s)]
    return terms


def _unit(coefficients: Sequence[Fraction], whole: bool) -> Fraction:
    """What the objective counts in: whole numbers where these are small, else parts of the largest.

    Not ``whole``: it counts flows, and about 1 is what the solver's tolerances are made for.
    """
    sizes = [abs(c) for c in coefficients if c]
    if not sizes:
        return Fraction(1)
    if not whole:
        return max(sizes)
    common = Fraction(gcd(*(c.numerator for c in sizes)), lcm(*(c.denominator for c in sizes)))
    return common if max(sizes) / common <= 10**7 else max(sizes) / 10**6
