"""A metric of the user's own: ``module:function``, beside plan.yaml or importable."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from planner.errors import DataError
from planner.quality.base import Array, Floats, Metric, finite, mean, scale_seen
from planner.quality.callables import call, find


def custom_metric(name: str, base: Path) -> Metric:
    """The mean of ``function(outputs, labels)``, which gives one score for each sample.

    ``outputs``: the model's, each with the sample first, read-only; ``labels``: an array or None. More is
    better unless the function has the attribute ``higher_is_better = False``. Raises DataError, here and as
    it observes; VariantError where there is no score because the outputs hold NaN or infinity.
    """
    module, function = find("metric", name, base)

    def scores(outputs: Sequence[Array], labels: Array | None, baseline: Sequence[Array]) -> Floats:
        given = [_read_only(output) for output in outputs]
        result = call("metric", name, function, given, None if labels is None else _read_only(labels))
        return _checked(name, result, outputs)

    file = getattr(module, "__file__", None)
    version = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
    higher = bool(getattr(function, "higher_is_better", True))
    return Metric(name, False, higher, scores, mean, stake=scale_seen, version=version)


def _read_only(array: Array) -> Array:
    """A view: the baseline's outputs are used again for every variant."""
    view = array.view()
    view.flags.writeable = False
    return view


def _checked(name: str, result: object, outputs: Sequence[Array]) -> Floats:
    samples = len(outputs[0])
    try:
        scores = np.asarray(result)
    except ValueError as error:
        raise DataError(f"metric {name}: must return one number for each sample") from error
    if scores.shape != (samples,) or scores.dtype.kind not in "iufb":
        raise DataError(
            f"metric {name}: must return one number for each of {samples} samples, got "
            f"{scores.dtype} {list(scores.shape)}"
        )
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        for output in outputs:
            if output.dtype.kind == "f":
                finite(output)
        raise DataError(f"metric {name}: {broken} of {samples} scores are NaN or infinite")
    return scores.astype(np.float64)
