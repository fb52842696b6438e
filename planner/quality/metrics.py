"""The metrics by name. A new one is one entry here; what each takes is told in docs/metrics.md."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from planner.errors import SpecError
from planner.quality.base import Metric
from planner.quality.callables import is_callable_name
from planner.quality.classification import ACCURACY, AGREEMENT, AUC, F1, MACRO_ACCURACY, top_k
from planner.quality.custom import custom_metric
from planner.quality.regression import COSINE, MAE, RMSE
from planner.quality.segmentation import MIOU
from planner.quality.sequences import CER, PERPLEXITY, WER, error_rate

_METRICS = {
    m.name: m
    for m in (
        ACCURACY,
        MACRO_ACCURACY,
        F1,
        AUC,
        MAE,
        RMSE,
        COSINE,
        CER,
        WER,
        MIOU,
        PERPLEXITY,
        AGREEMENT,
    )
}
_TOP_K = re.compile(r"top-(\d{1,6})")
_WORDS = re.compile(r"wer-(\d{1,9})")


def metric(name: str, base: Path = Path()) -> Metric:
    """The metric called ``name``; ``module:function`` is looked for in ``base`` first.

    Raises SpecError for a name that is none, DataError where the function cannot be had.
    """
    if name in _METRICS:
        return _METRICS[name]
    if match := _TOP_K.fullmatch(name):
        return top_k(int(match[1]))
    if match := _WORDS.fullmatch(name):
        return error_rate(name, separator=int(match[1]))
    if is_callable_name(name):
        return custom_metric(name, base)
    near = get_close_matches(name, [*_METRICS, "top-5"], 1)
    known = ", ".join((*_METRICS, "top-5 (any k)", "wer-4 (words separated by id 4)", "module:function"))
    raise SpecError(
        f"unknown metric {name!r}; {f'did you mean {near[0]}?' if near else f'there are {known}'}"
    )


def check_metric(name: str, base: Path = Path()) -> None:
    """Raises what ``metric`` raises."""
    metric(name, base)


def metric_names() -> tuple[str, ...]:
    """Those that have one name; there are also ``top-K``, ``wer-ID`` and ``module:function``."""
    return tuple(_METRICS)
