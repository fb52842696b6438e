"""Which calibration method to take: the one whose quantized model errs least."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from planner.variants.reference import Reference

# A simpler method is taken if it comes this near to the best.
_TIE = 1.05


def choose(
    methods: Iterable[str], write: Callable[[str], Path], reference: Reference
) -> tuple[str, dict[str, float]]:
    """The method and every method's output error; ``methods`` from the simplest on.

    ``write`` writes the model that is quantized with a method's ranges.
    """
    errors = {method: reference.error(write(method)) for method in methods}
    least = min(errors.values())
    return next(method for method, error in errors.items() if error <= _TIE * least), errors


def described(chosen: str, errors: dict[str, float], samples: int) -> str:
    others = ", ".join(f"{method} {error:.2%}" for method, error in errors.items() if method != chosen)
    return (
        f"ranges by {chosen}: output error {errors[chosen]:.2%} on {samples} calibration samples ({others})"
    )
