"""How good a variant is, with the uncertainty that the number of samples leaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quality:
    """A metric on evaluation data that calibration never saw.

    ``low``..``high`` is the interval of ``value``. ``drop`` is how much worse the variant is than the
    baseline (positive: worse), with its own *paired* interval, the same samples on both sides. ``stake``: by
    how much the value moves when a sample fails wholly, times ``samples`` (1 for accuracy); 3.8 such failures
    can hide behind any number of samples that show none.
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
    higher_is_better: bool = True
    stake: float = 1.0
    source: str = ""
    """Of a declared accuracy, which nothing was measured for: where it comes from."""


@dataclass(frozen=True, slots=True)
class DeclaredAccuracy:
    """The accuracy of a variant of which there are only imported profiles."""

    variant: str
    value: float
    source: str


@dataclass(frozen=True, slots=True)
class AccuracyFloor:
    """Either an absolute ``minimum``, or a ``max_drop`` from the fp32 baseline; exactly one is set.

    ``by`` says what must hold it: the interval's pessimistic end, or the point estimate. Where less is
    better, ``minimum`` is the most that the metric may be, and ``max_drop`` the most that it may rise.
    """

    metric: str
    minimum: float | None
    max_drop: float | None
    by: str = "interval"

    def shortfall(self, quality: Quality) -> float:
        """By how much the floor is missed; 0 or less where it holds."""
        estimate, pessimistic = self.distances(quality)
        return pessimistic if self.by == "interval" else estimate

    def distances(self, quality: Quality) -> tuple[float, float]:
        """By how much the estimate, and the interval's pessimistic end, miss the floor."""
        if self.minimum is None:
            assert self.max_drop is not None
            return quality.drop - self.max_drop, quality.drop_high - self.max_drop
        if quality.higher_is_better:
            return self.minimum - quality.value, self.minimum - quality.low
        return quality.value - self.minimum, quality.high - self.minimum

    def that_holds(self, quality: Quality) -> float:
        """The ``minimum`` or ``max_drop`` that this quality would just hold."""
        missed = self.shortfall(quality)
        if self.minimum is None:
            assert self.max_drop is not None
            return self.max_drop + missed
        return self.minimum - missed if quality.higher_is_better else self.minimum + missed
