"""Cutting channels out of a graph gives what zeroing them where they are read gives, for random graphs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

from planner.variants.pruning.groups import groups, kept_positions
from planner.variants.pruning.normalize import normalized
from planner.variants.pruning.pruned import traced
from planner.variants.pruning.surgery import cut

IMAGE = 8
OPSETS = (11, 13, 17, 18, 21)


@dataclass
class Net:
    """A graph under construction, with seeded weights."""

    rng: np.random.Generator
    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    parameters: dict[tuple[float, tuple[int, ...]], list[str]] = field(default_factory=dict)
    count: int = 0

    def name(self, what: str) -> str:
        self.count += 1
        return f"{what}{self.count}"

    def constant(self, array: np.ndarray, as_node: bool = False) -> str:
        name = self.name("k")
        tensor = numpy_helper.from_array(np.asarray(array), name)
        if as_node:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.constants.append(tensor)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.asarray(values, np.int64), as_node=bool(self.rng.integers(2)))

    def scalar(self, value: float) -> str:
        return self.constant(np.float32(value))

    def weight(self, *shape: int) -> str:
        fan = max(int(np.prod(shape)) // max(shape[0], 1), 1)
        return self.constant((self.rng.normal(size=shape) / np.sqrt(fan)).astype(np.float32))

    def around(self, center: float, *shape: int) -> str:
        """A parameter; one of the same shape and center may be stored once for both."""
        known = self.parameters.setdefault((center, shape), [])
        if not known or self.rng.integers(3):
            made = self.constant((center + 0.3 * self.rng.uniform(-1, 1, shape)).astype(np.float32))
            known.append(made)
        return known[-1]

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        return self.ops(kind, *inputs, outputs=outputs, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: object) -> list[str]:
        made = [self.name(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=self.name("n"), **attributes))
        return made

    def split(self, x: str, axis: int, sizes: list[int]) -> list[str]:
        if self.opset < 13:
            return self.ops("Split", x, outputs=len(sizes), axis=axis, split=sizes)
        if self.opset >= 18 and len(set(sizes)) == 1:
            return self.ops("Split", x, outputs=len(sizes), axis=axis, num_outputs=len(sizes))
        return self.ops("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)

    def slice(self, x: str, axis: int, start: int, end: int, step: int = 1) -> str:
        return self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis), self.ints(step))

    def mean(self, x: str, *axes: int, keep: int = 1) -> str:
        if self.opset < 18:
            return self.op("ReduceMean", x, axes=list(axes), keepdims=keep)
        return self.op("ReduceMean", x, self.ints(*axes), keepdims=keep)

    def unsqueeze(self, x: str, *axes: int) -> str:
        if self.opset < 13:
            return self.op("Unsqueeze", x, axes=list(axes))
        return self.op("Unsqueeze", x, self.ints(*axes))

    def model(self, shape: list[int | str], outputs: list[tuple[str, int]]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * rank) for n, rank in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


@dataclass(frozen=True)
class Image:
    name: str
    channels: int
    size: int


def conv(
    n: Net, x: Image, out: int, kernel: int = 3, stride: int = 1, group: int = 1, bias: bool = True
) -> Image:
    w = n.weight(out, x.channels // group, kernel, kernel)
    extra = [n.weight(out)] if bias else []
    attributes = {"group": group} if group > 1 else {}
    pads = [kernel // 2] * 4
    y = n.op(
        "Conv", x.name, w, *extra, kernel_shape=[kernel] * 2, pads=pads, strides=[stride] * 2, **attributes
    )
    return Image(y, out, -(-x.size // stride))


def norm(n: Net, x: Image) -> Image:
    c = x.channels
    y = n.op("BatchNormalization", x.name, n.around(1, c), n.around(0, c), n.around(0, c), n.around(1, c))
    return Image(y, c, x.size)


def activation(n: Net, x: Image, kind: str) -> Image:
    if kind == "PRelu":
        y = n.op("PRelu", x.name, n.around(0.2, x.channels, 1, 1))
    elif kind == "Clip":
        y = n.op("Clip", x.name, n.scalar(0), n.scalar(6))
    elif kind == "Swish":
        y = n.op("Mul", x.name, n.op("Sigmoid", x.name))
    elif kind == "Affine":
        y = n.op("Add", n.op("Mul", x.name, n.around(1, 1, x.channels, 1, 1)), n.around(0, x.channels, 1, 1))
    else:
        y = n.op(kind, x.name)
    return Image(y, x.channels, x.size)


ACTIVATIONS = ("Relu", "LeakyRelu", "Tanh", "HardSigmoid", "PRelu", "Clip", "Swish", "Affine", "Elu")


def conv_block(n: Net, x: Image, draw: st.DrawFn) -> Image:
    y = conv(
        n,
        x,
        draw(WIDTH),
        draw(st.sampled_from((1, 3))),
        draw(st.sampled_from((1, 1, 2))),
        bias=draw(st.booleans()),
    )
    y = norm(n, y) if draw(st.booleans()) else y
    return activation(n, y, draw(st.sampled_from(ACTIVATIONS)))


def residual(n: Net, x: Image, draw: st.DrawFn) -> Image:
    inner = activation(n, norm(n, conv(n, x, draw(WIDTH), bias=False)), "Relu")
    out = conv(n, inner, x.channels)
    out = norm(n, out) if draw(st.booleans()) else out
    return activation(n, Image(n.op("Add", out.name, x.name), x.channels, x.size), "Relu")


def preactivated(n: Net, x: Image, draw: st.DrawFn) -> Image:
    inner = conv(n, activation(n, norm(n, x), "Relu"), x.channels)
    return Image(n.op("Sum", inner.name, x.name), x.channels, x.size)


def depthwise(n: Net, x: Image, draw: st.DrawFn) -> Image:
    times = draw(st.sampled_from((1, 1, 2)))
    y = activation(n, norm(n, conv(n, x, x.channels * times, group=x.channels)), "Relu")
    return conv(n, y, draw(WIDTH), 1)


def grouped(n: Net, x: Image, draw: st.DrawFn) -> Image:
    wide = conv(n, x, 24, 1)
    group = draw(st.sampled_from((2, 3, 8, 12)))
    y = activation(n, conv(n, wide, draw(st.sampled_from((24, 48))), group=group), "Relu")
    y = shuffle(n, y, group) if draw(st.booleans()) else y
    return conv(n, y, draw(WIDTH), 1)


def shuffle(n: Net, x: Image, group: int) -> Image:
    c, s = x.channels, x.size
    y = n.op("Reshape", x.name, n.ints(0, group, c // group, s, s))
    y = n.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    return Image(n.op("Reshape", y, n.ints(0, -1, s, s)), c, s)


def dense(n: Net, x: Image, draw: st.DrawFn) -> Image:
    for _ in range(draw(st.integers(1, 2))):
        y = conv(n, activation(n, norm(n, x), "Relu"), draw(WIDTH))
        x = Image(
            n.op("Concat", x.name, y.name, axis=draw(st.sampled_from((1, -3)))),
            x.channels + y.channels,
            x.size,
        )
    return x


def split_and_shuffle(n: Net, x: Image, draw: st.DrawFn) -> Image:
    x = conv(n, x, 2 * draw(WIDTH), 1)
    half = x.channels // 2
    how = draw(st.sampled_from(("split", "slice", "strided", "gather")))
    if how == "split":
        left, right = n.split(x.name, 1, [half, half])
    elif how == "slice":
        left, right = n.slice(x.name, 1, 0, half), n.slice(x.name, 1, half, 1 << 40)
    elif how == "strided":
        left, right = n.slice(x.name, 1, 0, 1 << 40, 2), n.slice(x.name, 1, -1, -(1 << 40), -2)
    else:
        order = n.rng.permutation(x.channels)
        left = n.op("Gather", x.name, n.ints(*order[:half].tolist()), axis=1)
        right = n.op("Gather", x.name, n.ints(*order[half:].tolist()), axis=1)
    worked = activation(n, conv(n, Image(right, half, x.size), half), "Relu")
    y = Image(n.op("Concat", left, worked.name, axis=1), x.channels, x.size)
    return shuffle(n, y, 2) if draw(st.booleans()) else y


def squeeze_excite(n: Net, x: Image, draw: st.DrawFn) -> Image:
    pooled = n.op("GlobalAveragePool", x.name) if draw(st.booleans()) else n.mean(x.name, 2, 3)
    inner = activation(n, conv(n, Image(pooled, x.channels, 1), draw(WIDTH), 1), "Relu")
    gate = activation(n, conv(n, inner, x.channels, 1), draw(st.sampled_from(("Sigmoid", "HardSigmoid"))))
    return Image(n.op("Mul", x.name, gate.name), x.channels, x.size)


def linear_excite(n: Net, x: Image, draw: st.DrawFn) -> Image:
    hidden = draw(WIDTH)
    y = n.op("Flatten", n.op("GlobalAveragePool", x.name))
    y = n.op("Relu", n.op("Gemm", y, n.weight(hidden, x.channels), n.weight(hidden), transB=1))
    y = n.op("Sigmoid", n.op("Gemm", y, n.weight(x.channels, hidden), n.weight(x.channels), transB=1))
    gate = n.unsqueeze(y, 2, 3) if draw(st.booleans()) else n.op("Reshape", y, n.ints(-1, x.channels, 1, 1))
    return Image(n.op("Mul", gate, x.name), x.channels, x.size)


def spatial(n: Net, x: Image, draw: st.DrawFn) -> Image:
    kind = draw(st.sampled_from(("max", "average", "pad", "nearest", "sizes", "identity")))
    if kind == "max":
        return Image(n.op("MaxPool", x.name, kernel_shape=[3, 3], pads=[1] * 4), x.channels, x.size)
    if kind == "average":
        return Image(n.op("AveragePool", x.name, kernel_shape=[3, 3], pads=[1] * 4), x.channels, x.size)
    if kind == "pad":
        y = n.op("Pad", x.name, n.ints(0, 0, 1, 2, 0, 0, 1, 0))
        # Not straight into a pool: ONNX Runtime then fuses both into a pool it refuses.
        return Image(n.op("Relu", y), x.channels, x.size + 2)
    if kind == "nearest":
        scales = n.constant(np.asarray([1, 1, 2, 2], np.float32))
        return Image(
            n.op("Resize", x.name, n.constant(np.zeros(0, np.float32)), scales), x.channels, 2 * x.size
        )
    if kind == "sizes":
        sizes = n.op(
            "Concat", n.op("Slice", n.op("Shape", x.name), n.ints(0), n.ints(2)), n.ints(5, 5), axis=0
        )
        empty = n.constant(np.zeros(0, np.float32))
        return Image(n.op("Resize", x.name, empty, empty, sizes), x.channels, 5)
    return Image(n.op("Dropout", n.op("Identity", x.name)), x.channels, x.size)


def group_norm(n: Net, x: Image, draw: st.DrawFn) -> Image:
    x = conv(n, x, 16)
    y = n.op("Reshape", x.name, n.ints(0, 8, -1))
    y = n.op("InstanceNormalization", y, n.around(1, 8), n.around(0, 8))
    shape = n.op("Shape", x.name) if draw(st.booleans()) else n.ints(0, 16, x.size, x.size)
    return activation(n, Image(n.op("Reshape", y, shape), 16, x.size), "Affine")


def upconv(n: Net, x: Image, draw: st.DrawFn) -> Image:
    group = draw(st.sampled_from((1, 1, 2, 4)))
    x = conv(n, x, 16, 1)
    w = n.weight(16, draw(st.sampled_from((8, 16))) // group, 2, 2)
    out = int(n.constants[-1].dims[1]) * group
    y = n.op("ConvTranspose", x.name, w, n.weight(out), kernel_shape=[2, 2], strides=[2, 2], group=group)
    y2 = activation(n, Image(y, out, 2 * x.size), "Relu")
    return norm(n, y2) if draw(st.booleans()) else y2


def subpixel(n: Net, x: Image, draw: st.DrawFn) -> Image:
    x = conv(n, x, 4 * draw(WIDTH))
    mode = draw(st.sampled_from(("DCR", "CRD")))
    y = n.op("DepthToSpace", x.name, blocksize=2, mode=mode)
    y = (
        n.op("SpaceToDepth", y, blocksize=2)
        if draw(st.booleans())
        else n.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    )
    return Image(y, x.channels if y.startswith("space") else x.channels // 4, x.size)


WIDTH = st.sampled_from((6, 8, 12, 16))
IMAGE_BLOCKS = (
    conv_block,
    residual,
    preactivated,
    depthwise,
    grouped,
    dense,
    split_and_shuffle,
    squeeze_excite,
    linear_excite,
    spatial,
    group_norm,
    upconv,
    subpixel,
)


def to_outputs(n: Net, x: Image, draw: st.DrawFn) -> list[tuple[str, int]]:
    """One or two outputs: a class head, an image."""
    head = draw(st.sampled_from(("gap", "flatten", "reshape", "image", "both")))
    outputs = []
    if head in ("gap", "both"):
        y = n.op("Flatten", n.op("GlobalAveragePool", x.name))
        outputs.append((n.op("Gemm", y, n.weight(x.channels, 5), n.weight(5)), 2))
    if head == "flatten":
        wide = x.channels * x.size * x.size
        hidden = n.op("Relu", n.op("Gemm", n.op("Flatten", x.name), n.weight(wide, 16), n.weight(16)))
        outputs.append((n.op("Gemm", hidden, n.weight(3, 16), transB=1), 2))
    if head == "reshape":
        wide = x.channels * x.size * x.size
        flat = n.op("Reshape", x.name, n.ints(-1, wide))
        hidden = n.op("Tanh", n.op("Add", n.weight(16), n.op("MatMul", flat, n.weight(wide, 16))))
        outputs.append((n.op("MatMul", hidden, n.weight(16, 3)), 2))
    if head in ("image", "both"):
        outputs.append((conv(n, x, 2, 1).name, 4))
    return outputs


@st.composite
def image_nets(draw: st.DrawFn) -> onnx.ModelProto:
    n = Net(np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(OPSETS)))
    x = Image("x", 3, IMAGE)
    x = conv_block(n, x, draw)
    for block in draw(st.lists(st.sampled_from(IMAGE_BLOCKS), min_size=1, max_size=4)):
        x = block(n, x, draw)
    outputs = to_outputs(n, x, draw)
    batch = draw(st.sampled_from(("batch", 2)))
    return n.model([batch, 3, IMAGE, IMAGE], outputs)


@dataclass(frozen=True)
class Tokens:
    name: str
    width: int


SEQUENCE = 6


def layer_norm(n: Net, x: Tokens, draw: st.DrawFn) -> Tokens:
    if n.opset >= 17 and draw(st.booleans()):
        y = n.op("LayerNormalization", x.name, n.around(1, x.width), n.around(0, x.width), axis=-1)
        return Tokens(y, x.width)
    centered = n.op("Sub", x.name, n.mean(x.name, -1))
    deviation = n.op("Sqrt", n.op("Add", n.mean(n.op("Pow", centered, n.scalar(2)), -1), n.scalar(1e-5)))
    y = n.op("Mul", n.op("Div", centered, deviation), n.around(1, x.width))
    return Tokens(n.op("Add", y, n.around(0, x.width)), x.width)


def linear(n: Net, x: Tokens, out: int) -> Tokens:
    y = n.op("MatMul", x.name, n.weight(x.width, out))
    parts = (y, n.weight(out))
    return Tokens(n.op("Add", *(parts if n.rng.integers(2) else parts[::-1])), out)


def to_shape(n: Net, x: str, sizes: list[int], draw: st.DrawFn) -> str:
    """Reshape that keeps batch and sequence, its shape constant or built from Shape as exporters do."""
    if draw(st.booleans()):
        return n.op("Reshape", x, n.ints(0, 0, *sizes))
    shape = n.op("Shape", x)
    lead = [n.unsqueeze(n.op("Gather", shape, n.constant(np.int64(k)), axis=0), 0) for k in range(2)]
    return n.op("Reshape", x, n.op("Concat", *lead, *(n.ints(s) for s in sizes), axis=0))


def attention(n: Net, x: Tokens, draw: st.DrawFn) -> Tokens:
    heads, size = draw(st.sampled_from(((4, 4), (3, 8), (6, 2))))
    inner = heads * size
    how = draw(st.sampled_from(("separate", "split", "slice", "gather", "per-head")))
    if how == "separate":
        q, k, v = (to_shape(n, linear(n, x, inner).name, [heads, size], draw) for _ in range(3))
    elif how in ("split", "slice"):
        fused = linear(n, x, 3 * inner).name
        if how == "split":
            parts = n.split(fused, draw(st.sampled_from((2, -1))), [inner] * 3)
        else:
            parts = [n.slice(fused, 2, k * inner, (k + 1) * inner) for k in range(3)]
        q, k, v = (to_shape(n, part, [heads, size], draw) for part in parts)
    elif how == "gather":
        fused = n.op("Reshape", linear(n, x, 3 * inner).name, n.ints(0, 0, 3, heads, size))
        fused = n.op("Transpose", fused, perm=[2, 0, 1, 3, 4])
        q, k, v = (n.op("Gather", fused, n.constant(np.int64(k)), axis=0) for k in range(3))
    else:
        fused = n.op("Reshape", linear(n, x, 3 * inner).name, n.ints(0, 0, heads, 3 * size))
        q, k, v = n.split(fused, 3, [size] * 3)
    if draw(st.booleans()):
        q = n.op("Add", q, n.around(0, heads, size))
    q = n.op("Transpose", q, perm=[0, 2, 1, 3])
    k = n.op("Transpose", k, perm=[0, 2, 3, 1])
    v = n.op("Transpose", v, perm=[0, 2, 1, 3])
    scores = n.op("Softmax", n.op("Div", n.op("MatMul", q, k), n.scalar(size**0.5)), axis=3)
    mixed = n.op("Transpose", n.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    return linear(n, Tokens(to_shape(n, mixed, [inner], draw), inner), x.width)


def single_head(n: Net, x: Tokens, draw: st.DrawFn) -> Tokens:
    q, k, v = linear(n, x, 8).name, linear(n, x, 8).name, linear(n, x, 16).name
    scores = n.op("Softmax", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 2, 1])), axis=2)
    return linear(n, Tokens(n.op("MatMul", scores, v), 16), x.width)


def hidden(n: Net, x: Tokens, draw: st.DrawFn) -> Tokens:
    width = draw(st.sampled_from((16, 24)))
    up = linear(n, x, width)
    kind = draw(st.sampled_from(("erf", "relu", "gated", "tanh")))
    if kind == "erf":
        inner = n.op("Add", n.op("Erf", n.op("Div", up.name, n.scalar(2**0.5))), n.scalar(1))
        y = n.op("Mul", n.op("Mul", up.name, inner), n.scalar(0.5))
    elif kind == "gated":
        y = n.op("Mul", n.op("Sigmoid", up.name), linear(n, x, width).name)
    else:
        y = n.op("Relu" if kind == "relu" else "Tanh", up.name)
    return linear(n, Tokens(y, width), x.width)


def with_residual(n: Net, x: Tokens, y: Tokens) -> Tokens:
    return Tokens(n.op("Add", x.name, y.name), x.width)


@st.composite
def token_nets(draw: st.DrawFn) -> onnx.ModelProto:
    n = Net(np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(OPSETS)))
    x = linear(n, Tokens("x", 5), 16)
    for block in draw(st.lists(st.sampled_from((attention, hidden, single_head)), min_size=1, max_size=3)):
        normed = layer_norm(n, x, draw) if draw(st.booleans()) else x
        x = with_residual(n, x, block(n, normed, draw))
        x = layer_norm(n, x, draw) if draw(st.booleans()) else x
    outputs = [(linear(n, x, 3).name, 3)]
    if draw(st.booleans()):
        pooled = n.mean(x.name, 1, keep=0)
        outputs.append((n.op("Gemm", pooled, n.weight(x.width, 4)), 2))
    return n.model(
        [draw(st.sampled_from(("batch", 2))), draw(st.sampled_from(("length", SEQUENCE))), 5], outputs
    )


SUMMING = {"Conv": 0, "ConvTranspose": 0, "Gemm": 0, "MatMul": 0}


def zeroed(model: onnx.ModelProto, kept: dict[tuple[str, int], np.ndarray]) -> onnx.ModelProto:
    """The model as drawn, with removed channels multiplied by 0 where a product reads them.

    Written apart from the package's own ``masked``, on the graph before normalization: each operand of a
    product is masked along whatever of its axes lost positions; that a product of two activations is masked
    along an axis that it does not sum over only zeroes what is gone anyway.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    axes = traced(normalized(model)).axes
    nodes = []
    for node in copy.graph.node:
        if node.op_type in SUMMING:
            x = node.input[0]
            for (tensor, axis), positions in kept.items():
                if tensor != x:
                    continue
                along = axes[tensor][axis]
                assert along is not None
                mask = np.zeros(len(along), np.float32)
                mask[positions] = 1
                name = f"{node.output[0]}.mask{axis}"
                shape = [-1 if k == axis else 1 for k in range(len(axes[x]))]
                copy.graph.initializer.append(numpy_helper.from_array(mask.reshape(shape), name))
                nodes.append(helper.make_node("Mul", [node.input[0], name], [f"{name}ed"]))
                node.input[0] = f"{name}ed"
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})


def sample_input(model: onnx.ModelProto, rng: np.random.Generator) -> np.ndarray:
    fallback = {"batch": 3, "length": SEQUENCE}
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [d.dim_value or fallback[d.dim_param] for d in dims]
    return rng.normal(size=shape).astype(np.float32)


def check_cut(model: onnx.ModelProto, seed: int, share: float) -> int:
    """Removes random units of random groups; returns how many units went."""
    checker.check_model(model, full_check=True)
    rng = np.random.default_rng(seed)
    found = traced(normalized(model))
    removed: set[int] = set()
    for group in groups(found):
        count = int(share * len(group.units))
        removed |= set(rng.choice(group.units, count, replace=False).tolist())
    kept = kept_positions(found, removed)
    pruned = cut(found.graph, kept)
    checker.check_model(pruned, full_check=True)
    shape_inference.infer_shapes(pruned, check_type=True, strict_mode=True, data_prop=True)
    x = sample_input(model, rng)
    for whole, small in zip(run(zeroed(model, kept), x), run(pruned, x), strict=True):
        assert whole.shape == small.shape
        assert np.abs(whole - small).max() <= 1e-4 * max(np.abs(whole).max(), 1e-3)
    return len(removed)


RANDOM = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
SHARES = st.sampled_from((0.25, 0.5, 0.8))


@RANDOM
@given(image_nets(), st.integers(0, 9), SHARES)
def test_cut_image_nets_compute_what_masked_ones_do(model: onnx.ModelProto, seed: int, share: float) -> None:
    assert check_cut(model, seed, share) > 0


@RANDOM
@given(token_nets(), st.integers(0, 9), SHARES)
def test_cut_token_nets_compute_what_masked_ones_do(model: onnx.ModelProto, seed: int, share: float) -> None:
    check_cut(model, seed, share)
