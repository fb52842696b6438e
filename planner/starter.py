"""A first plan.yaml for a model, commented, that runs as it is."""

from __future__ import annotations

import os
from pathlib import Path

from planner.domain.model import BATCH, Model, Tensor
from planner.units import format_bytes

DEFAULT_SIZE = 128
"""What a dynamic dimension other than the batch is bound to until the user says better."""


def starter_spec(model: Model, rate_rps: float, latency: str, percentile: float, target: Path) -> str:
    """The text of plan.yaml, to be written to ``target``: the model's path is relative to it."""
    path = Path(os.path.relpath(model.path.resolve(), target.resolve().parent)).as_posix()
    operators = sorted(model.operators, key=lambda pair: -pair[1])
    counted = ", ".join(f"{count} {name}" for name, count in operators[:6])
    return f"""\
# {model.path.name}: {format_bytes(model.size_bytes)}, opset {model.opset}, {counted}
# Inputs:  {_tensors(model.inputs)}
# Outputs: {_tensors(model.outputs)}
# All keys: planner schema plan
model: {_quoted(path)}
{_dimensions(model)}
data:
  # An .npz with an array for each input (and `labels` for evaluation), or a Python callable
  # `module:function` beside this file that returns a dict of them. `random` draws valid random
  # inputs: right for latency, but accuracy is then only agreement with the fp32 model on noise.
  calibration: random
  evaluation: random

accuracy:
  metric: agreement       # with labelled data: accuracy, f1, auc, ... (docs/metrics.md)
  max_drop: 5%            # from the fp32 baseline; or minimum: 0.9 for an absolute floor
  judge: interval         # the interval's pessimistic end must hold it; or point

workload:
  rate_rps: {rate_rps:g}            # requests per second
  slo:
    percentile: {percentile:g}
    latency: {latency}
    overhead: 0ms         # network, pre- and post-processing: subtracted from the latency
    headroom: 10%         # of each replica's capacity, kept free

recipes: auto             # what makes sense for the model; or a list, such as [fp32, int8, prune-30+int8]
batch_sizes: {"[1, 2, 4, 8]" if _has_batch(model) else "[1]"}
threads: auto             # of one replica: powers of two up to this machine's cores

fleet:
  providers: []           # any; or [aws, azure, gcp, lambda, runpod]
  regions: []             # any
  purchase: [on-demand]   # add spot for interruptible instances

output: plan
"""


def _tensors(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in tensors)


def _batch_dimensions(model: Model) -> set[str]:
    """Dynamic first axes: by convention the batch."""
    return {t.shape[0] for t in model.inputs if t.shape and isinstance(t.shape[0], str)}


def _has_batch(model: Model) -> bool:
    return bool(_batch_dimensions(model))


def _dimensions(model: Model) -> str:
    names = model.dynamic_dimensions()
    if not names:
        return ""
    batch = _batch_dimensions(model)
    lines = ["dimensions:"]
    for name in names:
        if name in batch:
            lines.append(f"  {_quoted(name)}: {BATCH}")
        else:
            lines.append(f"  {_quoted(name)}: {DEFAULT_SIZE}    # a guess: what your requests have")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    plain = text.replace("/", "").replace("_", "").replace("-", "").replace(".", "")
    return text if plain.isalnum() and not text[0].isdigit() and text[0] not in "-." else f'"{text}"'
