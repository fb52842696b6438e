"""What recipes may search with: calibration data, and a judge of accuracy on them.

The evaluation data, which a variant's reported accuracy comes from, stay out of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from planner.backends import backend
from planner.domain.quality import AccuracyFloor
from planner.pipeline.inputs import BACKEND, Entry, Prepared
from planner.profiling.environment import usable_cores
from planner.quality import Dataset, Metric, assess, metric, predict_all
from planner.variants import Context

WITHOUT_LABELS = "agreement"


def search_context(prepared: Prepared, entry: Entry) -> Context:
    """Calibration data and, where there is a metric for them, its drop as what to search by.

    Where the metric needs labels and the calibration data have none, it is agreement with fp32; where they
    are random, or the outputs are no class scores, the search goes by the outputs' error.
    """
    floor = prepared.spec.workload.floor
    data = entry.calibration
    measure = _metric(prepared.metric, entry)
    if measure is None:
        return Context(entry.inputs, data.inputs)
    return Context(
        entry.inputs,
        data.inputs,
        judge=_Judge(entry, data, measure),
        tolerated_drop=_tolerated(floor),
        search_digest=f"{measure.name} {measure.version} {data.digest} {floor.max_drop} {floor.minimum}",
    )


def _metric(asked: Metric, entry: Entry) -> Metric | None:
    if entry.calibration.synthetic:
        return None
    if not asked.needs_labels or entry.calibration.labels is not None:
        return asked
    shape = entry.model.outputs[0].shape
    scores = len(shape) == 2 and isinstance(shape[1], int) and shape[1] > 1
    return metric(WITHOUT_LABELS) if scores else None


def _tolerated(floor: AccuracyFloor) -> float | None:
    """Half of what the floor allows: the search's data are not those that the floor is judged on."""
    return None if floor.max_drop is None else floor.max_drop / 2


class _Judge:
    """The drop from the entry's own fp32 model on its calibration data."""

    def __init__(self, entry: Entry, data: Dataset, measure: Metric) -> None:
        self._entry, self._data, self._metric = entry, data, measure
        self._baseline: list[np.ndarray] | None = None

    def __call__(self, path: Path, /, optimized: bool = True) -> float:
        if self._baseline is None:
            self._baseline = self._outputs(self._entry.model.path)
        outputs = self._outputs(path, optimized)
        # Only the drop counts here: no resampling for its interval.
        return assess(self._metric, outputs, self._baseline, self._data.labels, resamples=2).drop

    def _outputs(self, path: Path, optimized: bool = True) -> list[np.ndarray]:
        with backend(BACKEND).load(path, usable_cores(), optimized) as session:
            return predict_all(session.infer, self._data, self._entry.inputs)
