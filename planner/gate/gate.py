"""A new plan, and whether it may replace the baseline's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from planner.domain.plan import Plan
from planner.domain.progress import Progress, Step, silent
from planner.errors import InfeasibleError, InputError
from planner.gate import accuracy, latency, rules, verification
from planner.gate.diff import Diff, diff
from planner.gate.known import Known, called, known_plan
from planner.gate.outcome import Outcome
from planner.gate.pairs import Pair, Unpaired, pairs
from planner.gate.policy import Policy
from planner.gate.significance import level_of_each
from planner.pipeline import plan as make
from planner.pipeline import publish
from planner.spec import Fleet

FOLDER = "gate"
"""In the plan's output folder: where the new plan is written."""


@dataclass(frozen=True, slots=True)
class Gated:
    """``new``: None where there is no feasible plan."""

    baseline: Known
    new: Known | None
    policy: Policy
    outcomes: tuple[Outcome, ...]
    changes: Diff | None

    @property
    def violated(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if self.policy.weight(o) == "fail")

    @property
    def warned(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if self.policy.weight(o) == "warn")


def gate(
    fleet: Fleet,
    baseline: Path,
    policy: Policy,
    output: Path | None = None,
    progress: Progress = silent,
    time_limit_s: float = 60.0,
    measure_identical: bool = False,
) -> Gated:
    """Make the plan that ``fleet`` asks for, and judge it beside the ``baseline``, a plan.json or its folder.

    What the profile store holds is not measured again for the plan. The new plan is written to ``output``, by
    default ``gate`` in the plan's output folder; the baseline stays as it is. ``measure_identical``: also
    engines that are the baseline's, bit for bit. Raises InputError where both would be in one folder, and as
    ``plan`` does, but for InfeasibleError, which is an outcome.
    """
    before = known_plan(baseline)
    if len(fleet.services) == 1:
        before = called(before, fleet.only.workload.name)
    folder = (output or fleet.output / FOLDER).resolve()
    if folder == before.folder:
        raise InputError(
            f"{folder}: the new plan would replace the baseline; choose another folder with --output"
        )
    try:
        made = make(fleet, progress, time_limit_s)
    except InfeasibleError as error:
        return Gated(before, None, policy, (rules.feasible(str(error)),), None)
    # Before the new engines are written: read while the baseline's are surely there.
    found = tuple(pairs(before, made, fleet))
    publish(made, replace(fleet, output=folder))
    after = known_plan(folder)
    outcomes = _judged(before, after, made, fleet, found, policy, progress, measure_identical)
    progress(Step("comparing", "", 1, 1))
    return Gated(before, after, policy, outcomes, diff(before, after))


def _judged(
    before: Known,
    after: Known,
    made: Plan,
    fleet: Fleet,
    found: tuple[Pair | Unpaired, ...],
    policy: Policy,
    progress: Progress,
    measure_identical: bool,
) -> tuple[Outcome, ...]:
    # Latency and accuracy of each pair, and the simulation.
    level = level_of_each(2 * len(found) + 1)
    latencies, accuracies = [], []
    for done, pair in enumerate(found):
        progress(Step("comparing", pair.subject, done, len(found)))
        measured = isinstance(pair, Pair) and (measure_identical or not pair.same)
        latencies.append(
            latency.judged(pair, policy.max_slowdown, level)
            if isinstance(pair, Pair) and measured
            else latency.unjudged(pair)
        )
        accuracies.append(
            accuracy.outcome(
                pair, before, after.report, fleet.services[0].base, policy.max_accuracy_drop, level
            )
        )
    outcomes = [
        rules.feasible(""),
        rules.cost(before, after, policy.max_cost_increase, latencies),
        *accuracies,
        *latencies,
        rules.margin(before.report, after.report, policy.min_latency_margin, latencies, level),
        rules.prices(before.report, after.report),
        *rules.choice(before, after, latencies, level),
    ]
    if policy.verification:
        outcomes.append(verification.judged(after.folder, fleet.services[0].profiles, progress))
    return tuple(outcomes)
