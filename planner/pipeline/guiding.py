"""The solver's side of guided profiling: what the cheapest fleet uses, for capacities known so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from planner.capacity import candidate_id
from planner.domain.offer import Offer
from planner.domain.problem import Candidate, Demand, Problem, Solution
from planner.domain.profile import Configuration
from planner.domain.workload import Workload
from planner.errors import InfeasibleError
from planner.optimize import solve
from planner.profiling.guided import Bounded, Choice, Group


@dataclass(frozen=True, slots=True)
class Market:
    """What can be bought for a workload. ``device``: what a configuration is priced as; ``memory_bytes``: the
    most that a replica is known to need, 0 where nothing is known yet."""

    workload: Workload
    offers: tuple[Offer, ...]
    max_instances_per_offer: int | None
    groups: Mapping[str, Group]
    device: Callable[[Configuration], str]
    memory_bytes: Callable[[Configuration], int]
    time_limit_s: float

    def used(self, bounds: Sequence[Bounded]) -> frozenset[Choice] | None:
        """``guided.Solve``."""
        found = self.optimum(bounds)
        return None if found is None else found[1]

    def optimum(self, bounds: Sequence[Bounded]) -> tuple[Solution, frozenset[Choice]] | None:
        """The cheapest fleet for these capacities, one of several at random, and what it uses."""
        choices = {candidate.id: choice for choice, candidate in self.candidates(bounds)}
        try:
            solution = solve(self.problem(bounds), self.time_limit_s, break_ties=False)
        except InfeasibleError:
            return None
        used = frozenset(
            choices[candidate] for p in solution.placements for candidate, _ in p.pattern.replicas
        )
        return solution, used

    def problem(self, bounds: Sequence[Bounded]) -> Problem:
        candidates = tuple(candidate for _, candidate in self.candidates(bounds))
        devices = {candidate.device for candidate in candidates}
        return Problem(
            demands=(Demand(self.workload.name, self.workload.rate_rps),),
            candidates=candidates,
            offers=tuple(offer for offer in self.offers if offer.device in devices),
            max_instances_per_offer=self.max_instances_per_offer,
        )

    def candidates(self, bounds: Sequence[Bounded]) -> list[tuple[Choice, Candidate]]:
        return [(b.choice, self._candidate(b)) for b in bounds if b.capacity_rps > 0]

    def _candidate(self, bounded: Bounded) -> Candidate:
        prefix = self.groups[bounded.choice.group].prefix(bounded.choice.count)
        largest = prefix[-1]
        device = self.device(largest)
        return Candidate(
            id=candidate_id(largest, device),
            workload=self.workload.name,
            variant=largest.variant,
            backend=largest.backend,
            device=device,
            threads=largest.threads,
            max_batch_size=largest.batch_size,
            memory_bytes=max(map(self.memory_bytes, prefix)),
            capacity_rps=self._usable(bounded.capacity_rps),
            side_by_side=largest.replicas,
            packed_capacity_rps=self._usable(bounded.packed_rps),
        )

    def _usable(self, rate_rps: float) -> float:
        """Without headroom, and no more than there is to serve: the rest would change nothing."""
        usable = rate_rps * (1.0 - self.workload.slo.headroom)
        return min(usable, self.workload.rate_rps) if isfinite(usable) else self.workload.rate_rps
