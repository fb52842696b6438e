"""Where NaN or infinity first appears in a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from planner.variants.context import Array
from planner.variants.session import load_session, quiet

# Tensors looked at in one run: all of a large model's at once may not fit in memory.
_AT_ONCE = 64


def is_finite(value: object) -> bool:
    """True for what holds no floats."""
    # bfloat16 and the 8-bit floats, which numpy does not know by itself, are of kind V.
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fV":
        return True
    return bool(np.isfinite(value).all())


def first_not_finite(path: Path, feed: Mapping[str, Array]) -> str | None:
    """The first tensor, in the order of the main graph, that holds NaN or infinity for ``feed``.

    Tensors with no more than negative infinities come last: attention masks are made of them. Runs the
    graph as it is written; None where nothing is found, or where ONNX Runtime cannot run it like that.
    """
    masks = []
    try:
        for tensor, value in _tensors(path, feed):
            if is_finite(value):
                continue
            if not np.isneginf(value[~np.isfinite(value)]).all():
                return tensor
            masks.append(tensor)
    except Exception:  # a name to add to an error that is raised in any case
        return None
    return masks[0] if masks else None


def _tensors(path: Path, feed: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    proto = onnx.load(path, load_external_data=False)
    present = {value.name for value in proto.graph.output}
    names = [t for node in proto.graph.node for t in node.output if t]
    watched = path.with_name("watched.onnx")  # beside the model, whose external data it shares
    try:
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            watching = onnx.ModelProto()
            watching.CopyFrom(proto)
            watching.graph.output.extend(onnx.ValueInfoProto(name=t) for t in some if t not in present)
            onnx.save(watching, watched)
            with quiet():
                session = load_session(watched, optimized=False)
                values = session.run(some, dict(feed))
            yield from zip(some, values, strict=True)
    finally:
        watched.unlink(missing_ok=True)
