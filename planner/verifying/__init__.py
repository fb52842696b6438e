"""Whether a plan holds: the fleet as planned, simulated, and what was seen of it live.

``fleet`` is what the plan's files say there is, ``simulate`` divides one stream of requests among it,
``seen`` makes figures with intervals of what became of them, ``verify`` goes through workloads, periods and
losses. ``observed`` is what a live run saw, ``verdict`` judges it, ``recalibrate`` learns from it.
"""

from planner.verifying.observed import Observed
from planner.verifying.observed_json import dump_observed, observed_schema, read_observed
from planner.verifying.recalibrate import recalibrate
from planner.verifying.seen import Seen
from planner.verifying.simulate import Alike, Simulated, simulated
from planner.verifying.verdict import Judged, judged
from planner.verifying.verification_json import dump_verification, verification_schema
from planner.verifying.verify import (
    FAILS,
    HOLDS,
    REQUESTS,
    UNCLEAR,
    Case,
    Replicas,
    Verification,
    verify,
)
from planner.verifying.words import arrivals_words, case_words, percentile_words

__all__ = [
    "FAILS",
    "HOLDS",
    "REQUESTS",
    "UNCLEAR",
    "Alike",
    "Case",
    "Judged",
    "Observed",
    "Replicas",
    "Seen",
    "Simulated",
    "Verification",
    "arrivals_words",
    "case_words",
    "dump_observed",
    "dump_verification",
    "judged",
    "observed_schema",
    "percentile_words",
    "read_observed",
    "recalibrate",
    "simulated",
    "verification_schema",
    "verify",
]
