"""What flows through a model on calibration samples, feed by feed, whatever the model's size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx

from planner.variants.context import Array
from planner.variants.session import session_of


def observed(
    proto: onnx.ModelProto, tensors: Sequence[str], feeds: Iterable[Mapping[str, Array]], folder: Path
) -> Iterator[dict[str, Array]]:
    """For each feed the values of ``tensors``, inputs of the model among them, from ONNX Runtime.

    External weights of ``proto`` lie in ``folder``.
    """
    inputs = {value.name for value in proto.graph.input}
    asked = [t for t in dict.fromkeys(tensors) if t not in inputs]
    watching = onnx.ModelProto()
    watching.CopyFrom(proto)
    present = {value.name for value in proto.graph.output}
    watching.graph.output.extend(onnx.ValueInfoProto(name=t) for t in asked if t not in present)
    session = session_of(watching, folder)
    del watching
    for feed in feeds:
        made = session.run(asked, dict(feed)) if asked else []
        yield {t: feed[t] for t in tensors if t in inputs} | dict(zip(asked, made, strict=True))
