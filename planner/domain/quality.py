"""How good a variant is, with the uncertainty that the number of samples leaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quality:
    """A metric on evaluation data that calibration never saw.

    ``low``..``high`` is the interval of ``value``. ``drop`` is baseline minus variant (positive: worse,
    for metrics where more is better), with its own *paired* interval, the same samples on both sides.
    """

    metric: str
    value: float
    low: float
    high: float
    drop: float
    drop_low: float
    drop_high: float
    confidence: float
    samples: int


@dataclass(frozen=True, slots=True)
class AccuracyFloor:
    """Either an absolute ``minimum``, or a ``max_drop`` from the fp32 baseline; exactly one is set.

    ``by`` says what must hold it: the interval's pessimistic end, or the point estimate.
    """

    metric: str
    minimum: float | None
    max_drop: float | None
    by: str = "interval"

    def shortfall(self, quality: Quality) -> float:
        """By how much the floor is missed; 0 or less where it holds."""
        if self.minimum is not None:
            return self.minimum - (quality.low if self.by == "interval" else quality.value)
        assert self.max_drop is not None
        return (quality.drop_high if self.by == "interval" else quality.drop) - self.max_drop
