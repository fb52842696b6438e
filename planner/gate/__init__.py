"""Whether a new plan may replace the present one, and what changed between two.

``policy`` says how much worse it may be, ``rules`` judge one thing each, ``latency`` and ``accuracy`` compare
engines at the level that ``significance`` shares out, ``gate`` goes through all of it; ``outputs`` tells
people and machines. ``diff`` is for any two plans.
"""

from planner.gate.diff import Change, Diff, diff, dump_diff
from planner.gate.gate import Gated, gate
from planner.gate.outcome import CANNOT_TELL, FAILED, PASSED, Outcome
from planner.gate.outputs import dump_gate, github_annotations, junit, markdown
from planner.gate.policy import Policy, policy_schema, read_policy

__all__ = [
    "CANNOT_TELL",
    "FAILED",
    "PASSED",
    "Change",
    "Diff",
    "Gated",
    "Outcome",
    "Policy",
    "diff",
    "dump_diff",
    "dump_gate",
    "gate",
    "github_annotations",
    "junit",
    "markdown",
    "policy_schema",
    "read_policy",
]
