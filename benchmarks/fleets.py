"""Whole fleets against brute force, on as many random problems as wanted.

    python benchmarks/fleets.py --first 2000 --count 20000

The problems are those of the tests (tests/fixtures/fleet_oracle.py), by seed; the tests take the first 2,000.
Prints every problem on which the planner and the listing of all fleets differ, how often each feature is
used, and the processor time of both sides. Ends in 1 where anything differs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fixtures"))

import fleet_oracle

from planner.errors import InfeasibleError
from planner.optimize import solve


def differs(seed: int, ties: bool, used: Counter[str], seconds: Counter[str]) -> str | None:
    """What the two sides disagree on, or None."""
    problem = fleet_oracle.problem(seed)
    used.update(fleet_oracle.features(problem))
    start = process_time()
    best = fleet_oracle.brute_force(problem)
    seconds["brute force"] += process_time() - start
    start = process_time()
    try:
        solution = solve(problem, break_ties=ties)
    except InfeasibleError as error:
        used["(no plan)"] += 1
        return None if best is None else f"no plan ({error}), brute force has {best}"
    finally:
        seconds["planner"] += process_time() - start
    try:
        found = fleet_oracle.check(problem, solution)
    except AssertionError as error:
        return f"the plan breaks a rule: {error}"
    if not solution.proven:
        return "the plan is not proven"
    instances = Counter[str]()
    for placement in solution.placements:
        instances[placement.period] += placement.instances
    listed = max(instances.values(), default=0) <= fleet_oracle.most_instances(problem)
    if best is None:
        used["(beyond the listing)"] += 1
        return f"{found}, brute force has none" if listed else None
    near = abs(found.amount - best.amount) <= 1e-6 * max(1, abs(best.amount))
    if found.amount > best.amount and not near:
        return f"{found} is worse than {best}"
    if listed and not (near and found.cost == best.cost):
        return f"{found} is not {best}"
    counted = ties and listed and best.kinds is not None and problem.objective not in ("accuracy", "latency")
    if counted and (found.kinds, found.instances) != (best.kinds, best.instances):
        return f"{found} is tied with the simpler {best}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--ties", action="store_true", help="break ties, and compare kinds and instances")
    asked = parser.parse_args()
    used, seconds, wrong = Counter[str](), Counter[str](), 0
    for seed in range(asked.first, asked.first + asked.count):
        reason = differs(seed, asked.ties, used, seconds)
        if reason is not None:
            wrong += 1
            print(f"problem {seed}: {reason}")
    for name, count in sorted(used.items()):
        print(f"{name:22} {count:6} {count / asked.count:6.1%}")
    for side, spent in seconds.items():
        print(f"{side}: {spent:.1f} s of processor time")
    print(f"{asked.count} problems, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
