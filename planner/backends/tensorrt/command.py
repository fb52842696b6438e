"""The command that builds an engine where this machine cannot.

Source: trtexec --help (TensorRT 10 and 11)
"""

from __future__ import annotations

import shlex

from planner.backends.tensorrt.order import Order

_MIB = 1024**2


def build_command(order: Order, onnx: str, engine: str) -> str:
    """The ``trtexec`` line, to be run on the GPU, for the engine that ``order`` describes.

    ``onnx`` and ``engine`` are file names there. ``--stronglyTyped`` is needed on 10, the default on 11.
    """
    options = order.options
    words = [
        "trtexec",
        f"--onnx={onnx}",
        f"--saveEngine={engine}",
        "--stronglyTyped",
        "--skipInference",
        f"--builderOptimizationLevel={options.builder_level}",
    ]
    if options.workspace_bytes is not None:
        words.append(f"--memPoolSize=workspace:{options.workspace_bytes // _MIB}M")
    if options.sparse_weights:
        words.append("--sparsity=enable")
    if any(given.batch_axis is not None for given in order.inputs):
        words += _profiles(order)
    return shlex.join(words)


def _profiles(order: Order) -> list[str]:
    words = []
    for index, sizes in enumerate(order.ranges):
        if len(order.ranges) > 1:
            words.append(f"--profile={index}")
        for option, size in (("min", sizes.least), ("opt", sizes.most), ("max", sizes.most)):
            shapes = (f"{i.name}:{'x'.join(map(str, i.shape_at(size)))}" for i in order.inputs)
            words.append(f"--{option}Shapes={','.join(shapes)}")
    return words
