"""What services really took, into the profile store, for the plan to be made again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from planner.errors import InputError
from planner.pipeline.made import Made
from planner.pipeline.profiled import variant_sha256
from planner.report.plan_json import CandidatePart
from planner.store import Calibration, write_calibrations
from planner.verifying.observed import Observed

AGREES = 0.02
"""Service times that differ by no more than this share from the plan's are as profiled."""


def recalibrate(
    made: Made, observed: Iterable[Observed], store: Path, now: datetime
) -> tuple[Calibration, ...]:
    """Writes a factor for each variant, backend and device whose services took another time than planned.

    Several observations of one are averaged, by their requests. None: all took what was planned. Raises
    InputError where no observation tells service times, or one is of no candidate of the plan.
    """
    candidates = {part.id: part for part in made.report.candidates}
    by_key: dict[tuple[str, ...], list[Calibration]] = defaultdict(list)
    planned: dict[tuple[str, ...], float] = {}
    for seen in observed:
        if seen.candidate_id not in candidates:
            raise InputError(f"{seen.candidate_id} was observed, the plan has no such candidate; plan again")
        if seen.service_ratio is not None:
            candidate = candidates[seen.candidate_id]
            found = _calibration(made, candidate, seen, seen.service_ratio, now)
            by_key[found.key].append(found)
            planned[found.key] = candidate.profiles[0].calibration
    if not by_key:
        raise InputError(
            "no observation tells service times: an endpoint hides them; use --live where it runs"
        )
    joined = [_mean(found) for found in by_key.values()]
    off = tuple(c for c in joined if abs(c.factor / planned[c.key] - 1) > AGREES)
    if off:
        write_calibrations(store, off)
    return off


def _calibration(
    made: Made, candidate: CandidatePart, seen: Observed, ratio: float, now: datetime
) -> Calibration:
    """A ratio to what the plan took, so a factor that it had already counts, too."""
    profile = candidate.profiles[0]
    return Calibration(
        variant=candidate.variant,
        variant_sha256=variant_sha256(made, candidate),
        backend=candidate.backend,
        device=profile.device,
        environment=profile.environment,
        factor=profile.calibration * ratio,
        requests=seen.requests,
        taken_at=now.isoformat(timespec="seconds"),
    )


def _mean(found: list[Calibration]) -> Calibration:
    requests = sum(each.requests for each in found)
    factor = sum(each.factor * each.requests for each in found) / requests
    return replace(found[0], factor=factor, requests=requests)
