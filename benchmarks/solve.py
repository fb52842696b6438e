"""How the cheapest fleet is found as the problem grows, and against a direct formulation on CBC.

    python benchmarks/solve.py                     the table: 1 to 1,000 workloads, both ways
    python benchmarks/solve.py --sizes 1000 --no-direct

Every run is a process of its own, so that its peak memory is its own.

*The generator.* All draws come from one seed. 30 kinds of devices and 500 offers:

* 20 GPUs. Speeds are log-uniform from 1 to 40. One accelerator costs ``0.4 speed^0.8`` USD/h times a
  lognormal factor (sigma 0.15). Each is sold in 2 or 3 of the sizes 2, 4 and 8, with 4 to 24 vCPUs per
  accelerator (none of size 1, so that a third of all instances and more are shared by workloads; there is
  then nothing small to round with, which makes the problem harder).
* 10 CPUs at ``0.045`` USD per vCPU and hour times a lognormal factor (sigma 0.1), in 3 to 5 of the sizes
  from 4 to 96 vCPUs, with 2, 4 or 8 GiB per vCPU. One thread has a speed of 0.05 to 0.12.
* ``k`` of anything cost ``k^0.93`` times one. Regions add a factor of 0.95 to 1.3 of their own; each shape is
  offered in as many of 7 regions as 500 offers allow.

Workloads are independent of one another:

* A workload runs on 8 to 30 of the devices. It uses a device's speed to the power gamma, gamma uniform from
  0.4 to 1.1 (small models gain less from fast devices), times a lognormal factor for each device (sigma
  0.25).
* On a GPU it has one or two candidates (two: the second takes half the threads and 5 to 15 % less rate). On
  a CPU it has two to four, of 1 to 16 threads; the rate grows with the threads to the power 0.85. Memory is
  lognormal around 1 GiB (sigma 0.5), in steps of 256 MiB, and grows with the threads.
* A replica among others loses 2 to 12 % of its rate; 1 to 4 of a kind were measured side by side.
* Its rate takes 0.3 to 30 replicas (log-uniform) of the candidate that costs least per request on its
  cheapest offer. Nothing else looks at prices.

Quotas count accelerators (GPU) or vCPUs (CPU) of a device in a region, as providers do: each is 0.1 to 0.6
of what the workloads would take of that device if each had the device that is best for it, at least 32
accelerators or 384 vCPUs.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import count
from random import Random
from time import perf_counter

from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Demand, Problem, Quota, Solution

GIB = 1024**3
REGIONS = ("us-east", "us-west", "eu-west", "eu-north", "ap-south", "ap-east", "sa-east")
SIZES = (1, 3, 10, 30, 100, 300, 1000)


def fleet_problem(
    workloads: int, seed: int = 1, offers: int = 500, gpus: int = 20, cpus: int = 10
) -> Problem:
    rng = Random(f"{seed}/devices")
    speed, shapes = _devices(rng, gpus, cpus)
    sold = _offers(rng, shapes, offers)
    candidates: list[Candidate] = []
    demands: list[Demand] = []
    best_use: Counter[str] = Counter()
    cheapest = _cheapest_unit(sold)
    for w in range(workloads):
        mine = _candidates(Random(f"{seed}/workload/{w}"), f"w{w:04}", speed)
        rng = Random(f"{seed}/rate/{w}")
        cost = {c: cheapest[c.device] * (1 if c.device.startswith("gpu") else c.threads) for c in mine}
        best = min(mine, key=lambda c: cost[c] / c.capacity_rps)
        replicas = math.exp(rng.uniform(math.log(0.3), math.log(30)))
        best_use[best.device] += math.ceil(replicas) * (1 if best.device.startswith("gpu") else best.threads)
        demands.append(Demand(best.workload, replicas * best.capacity_rps))
        candidates += mine
    return Problem(
        tuple(demands),
        tuple(candidates),
        tuple(sold),
        quotas=_quotas(Random(f"{seed}/quotas"), sold, best_use),
    )


def _devices(rng: Random, gpus: int, cpus: int) -> tuple[dict[str, float], list[Offer]]:
    """Speeds by device, and one offer of every shape, priced for a region with a factor of 1."""
    speed: dict[str, float] = {}
    shapes: list[Offer] = []

    def shape(device: str, size: int, count: int, vcpus: int, memory: int, usd: float) -> Offer:
        return Offer(
            provider="cloud",
            instance_type=f"{device}.{size}x",
            region="",
            device=device,
            device_count=count,
            vcpus=vcpus,
            memory_bytes=memory,
            purchase="on-demand",
            usd_per_hour=usd,
            price_source="generated",
            price_as_of="2025-01-01",
            family=device,
        )

    for i in range(gpus):
        device = f"gpu{i:02}"
        speed[device] = 40 ** (i / max(1, gpus - 1))
        base = 0.4 * speed[device] ** 0.8 * rng.lognormvariate(0, 0.15)
        vcpus = rng.choice((4, 8, 12, 24))
        shapes += [
            shape(device, k, k, k * vcpus, k * vcpus * 4 * GIB, base * k**0.93)
            for k in sorted(rng.sample((2, 4, 8), rng.randint(2, 3)))
        ]
    for i in range(cpus):
        device = f"cpu{i:02}"
        speed[device] = rng.uniform(0.05, 0.12)
        base = 0.045 * 4**0.07 * rng.lognormvariate(0, 0.1)
        memory = rng.choice((2, 4, 8))
        shapes += [
            shape(device, k, 0, k, k * memory * GIB, base * k**0.93)
            for k in sorted(rng.sample((4, 8, 16, 32, 48, 64, 96), rng.randint(3, 5)))
        ]
    return speed, shapes


def _offers(rng: Random, shapes: list[Offer], number: int) -> list[Offer]:
    factor = {region: rng.uniform(0.95, 1.3) for region in REGIONS}
    everywhere = [(s, region) for s in shapes for region in REGIONS]
    chosen = rng.sample(everywhere, min(number, len(everywhere)))
    return [
        Offer(
            **{name: getattr(s, name) for name in Offer.__slots__}
            | {"region": region, "usd_per_hour": round(s.usd_per_hour * factor[region], 4)}
        )
        for s, region in sorted(chosen, key=lambda pair: (pair[0].instance_type, pair[1]))
    ]


def _cheapest_unit(offers: list[Offer]) -> dict[str, float]:
    """The least price of one accelerator or one vCPU of every device."""
    least: dict[str, float] = defaultdict(lambda: math.inf)
    for o in offers:
        least[o.device] = min(least[o.device], o.usd_per_hour / (o.device_count or o.vcpus))
    return least


def _candidates(rng: Random, workload: str, speed: dict[str, float]) -> list[Candidate]:
    gamma, size = rng.uniform(0.4, 1.1), math.exp(rng.uniform(math.log(5), math.log(500)))
    memory = rng.lognormvariate(0, 0.5)
    number = rng.randint(min(8, len(speed)), min(30, len(speed)))
    mine: list[Candidate] = []
    ids = count()

    def add(device: str, threads: int, rate: float) -> None:
        used = math.ceil(4 * memory * (1 + threads / 16)) * GIB // 4
        mine.append(
            Candidate(
                id=f"{workload}/{next(ids):02}",
                workload=workload,
                variant="int8",
                backend="b",
                device=device,
                threads=threads,
                max_batch_size=8,
                memory_bytes=used,
                capacity_rps=rate,
                side_by_side=rng.randint(1, 4),
                packed_capacity_rps=rate * rng.uniform(0.88, 0.98),
            )
        )

    for device in sorted(rng.sample(sorted(speed), number)):
        rate = size * speed[device] ** gamma * rng.lognormvariate(0, 0.25)
        if device.startswith("gpu"):
            add(device, 4, rate)
            if rng.random() < 0.5:
                add(device, 2, rate * rng.uniform(0.85, 0.95))
        else:
            for threads in sorted(rng.sample((1, 2, 4, 8, 16), rng.randint(2, 4))):
                add(device, threads, rate * threads**0.85)
    return mine


def _quotas(rng: Random, offers: list[Offer], best_use: Counter[str]) -> tuple[Quota, ...]:
    found = []
    for device, region in sorted({(o.device, o.region) for o in offers}):
        gpu = device.startswith("gpu")
        most = max(32 if gpu else 384, math.floor(best_use[device] * rng.uniform(0.1, 0.6)))
        unit = "devices" if gpu else "vcpus"
        found.append(Quota(f"{device} in {region}", most, unit, region=region, device=device))
    return tuple(found)


def direct(problem: Problem, time_limit_s: float) -> dict[str, float | str]:
    """The textbook formulation on CBC through PuLP: nothing pruned, an integer for every candidate on every
    offer.

    Instances of an offer share accelerators, threads and bytes in one sum (which flatters it: replicas need
    not be packed), and every replica takes its packed capacity unless its instances run nothing else.
    """
    import pulp

    start = perf_counter()
    lp = pulp.LpProblem("direct", pulp.LpMinimize)
    offers = defaultdict(list)
    for i, o in enumerate(problem.offers):
        offers[o.device].append((i, o, lp.add_variable(f"n{i}", 0, None, pulp.LpInteger)))
    serve = defaultdict(list)
    used: dict[tuple[int, str], list[tuple[pulp.LpVariable, float]]] = defaultdict(list)
    alone = defaultdict(list)
    for j, c in enumerate(problem.candidates):
        for i, o, _ in offers[c.device]:
            x = lp.add_variable(f"x{j}_{i}", 0, None, pulp.LpInteger)
            own = lp.add_variable(f"a{j}_{i}", 0, None, pulp.LpInteger)
            fit = o.vcpus // c.threads
            fit = min(fit, int(o.device_count) if o.device_count else (o.memory_bytes or 0) // c.memory_bytes)
            serve[c.workload] += [
                (x, c.packed_capacity_rps if fit else 0.0),
                (own, c.capacity_rps * min(fit, c.side_by_side)),
            ]
            alone[i].append((own, 1.0))
            used[i, "vcpus"].append((x, float(c.threads)))
            if o.device_count:
                used[i, "devices"].append((x, 1.0))
            else:
                used[i, "GiB"].append((x, c.memory_bytes / GIB))
    for demand in problem.demands:
        lp += pulp.LpAffineExpression(serve[demand.workload]) >= demand.rate_rps
    lp += pulp.LpAffineExpression([(n, o.usd_per_hour) for rows in offers.values() for _, o, n in rows])
    for rows in offers.values():
        for i, o, n in rows:
            for unit, size in (
                ("vcpus", o.vcpus),
                ("devices", o.device_count),
                ("GiB", (o.memory_bytes or 0) / GIB),
            ):
                if used[i, unit]:
                    taken = used[i, unit] + [(own, float(size)) for own, _ in alone[i]]
                    lp += pulp.LpAffineExpression([*taken, (n, -float(size))]) <= 0
    for q in problem.quotas:
        mine = [(n, q.counts(o)) for rows in offers.values() for _, o, n in rows if q.selects(o)]
        lp += pulp.LpAffineExpression(mine) <= q.at_most
    built = perf_counter() - start
    log = "/dev/null" if sys.platform != "win32" else "NUL"
    lp.solve(pulp.PULP_CBC_CMD(msg=False, timeLimit=time_limit_s, threads=2, logPath=log))
    found = lp.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
    return {
        "usd": float(pulp.value(lp.objective)) if found else math.nan,
        "bound": math.nan,
        "seconds": perf_counter() - start,
        "note": f"{lp.numVariables():,} integers, built in {built:.0f} s"
        + (", closed" if lp.sol_status == pulp.LpSolutionOptimal else ""),
    }


def ours(problem: Problem, time_limit_s: float) -> dict[str, float | str]:
    from planner.optimize import solve

    start = perf_counter()
    solution = solve(problem, time_limit_s)
    return {
        "usd": solution.usd_per_hour,
        "bound": solution.bound_usd_per_hour,
        "seconds": perf_counter() - start,
        "note": _of_the_fleet(problem, solution),
    }


def _of_the_fleet(problem: Problem, solution: Solution) -> str:
    workload_of = {c.id: c.workload for c in problem.candidates}
    offer_of = {o.id: o for o in problem.offers}
    instances: Counter[str] = Counter()
    shared = 0
    for placement in solution.placements:
        instances[placement.pattern.offer_id] += placement.instances
        if len({workload_of[i] for i, _ in placement.pattern.replicas}) > 1:
            shared += placement.instances
    binding = 0
    for quota in problem.quotas:
        mine = [(quota.counts(offer_of[i]), n) for i, n in instances.items() if quota.selects(offer_of[i])]
        smallest = min(quota.counts(o) for o in problem.offers if quota.selects(o))
        binding += bool(mine) and sum(c * n for c, n in mine) + smallest > quota.at_most
    total = sum(instances.values())
    return f"{total} instances, {shared / total:.0%} shared, {binding} of {len(problem.quotas)} quotas bind"


def _one(how: str, workloads: int, seed: int, time_limit_s: float) -> None:
    problem = fleet_problem(workloads, seed)
    answer = (ours if how == "planner" else direct)(problem, time_limit_s)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps(answer | {"gib": peak / 1024**2}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=30.0, help="seconds for the planner")
    parser.add_argument("--direct-limit", type=float, default=60.0, help="seconds for CBC, without building")
    parser.add_argument("--no-direct", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("HOW", "WORKLOADS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        limit = args.time_limit if args.one[0] == "planner" else args.direct_limit
        _one(args.one[0], int(args.one[1]), args.seed, limit)
        return
    print(f"{'workloads':>9} {'by':>8} {'seconds':>8} {'GiB':>5} {'USD/h':>10} {'gap':>7}")
    for size in args.sizes:
        bound = math.nan
        for how in ("planner", "direct")[: 1 if args.no_direct else 2]:
            command = [sys.executable, __file__, "--one", how, str(size), "--seed", str(args.seed)]
            command += ["--time-limit", str(args.time_limit), "--direct-limit", str(args.direct_limit)]
            try:
                run = subprocess.run(command, capture_output=True, text=True, timeout=15 * args.direct_limit)
            except subprocess.TimeoutExpired:
                print(f"{size:>9} {how:>8} still at it after {15 * args.direct_limit:.0f} s")
                continue
            if run.returncode:
                print(f"{size:>9} {how:>8} failed: {run.stderr.strip().splitlines()[-1:]}")
                continue
            answer = json.loads(run.stdout.splitlines()[-1])
            # The direct formulation is judged by the same bound: it holds for every fleet.
            bound = answer["bound"] if how == "planner" else bound
            cost = "none" if math.isnan(answer["usd"]) else f"{answer['usd']:,.2f}"
            gap = "" if math.isnan(answer["usd"]) else f"{max(0.0, 1 - bound / answer['usd']):.3%}"
            print(
                f"{size:>9} {how:>8} {answer['seconds']:>8.1f} {answer['gib']:>5.2f} {cost:>10} {gap:>7} "
                f" {answer['note']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
