"""The entry point: what goes, what stays and why, and what reconstruction makes up for."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, checker, helper, numpy_helper, shape_inference

from planner.errors import DataError, ModelError, VariantError
from planner.variants.pruning import Pruned, prune

FLOAT = TensorProto.FLOAT


def build(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: dict[str, list[int | str]],
    outputs: dict[str, int],
    opset: int = 17,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, [None] * rank) for name, rank in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def node(kind: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), name=outputs.split()[0], **attributes)


def weights(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Weights scaled by their fan-in; vectors are small."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(size=shape) / math.sqrt(max(math.prod(shape) / max(shape), 1))).astype(np.float32)
        for name, shape in shapes.items()
    }


def run(model: onnx.ModelProto, **feed: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)


def data(*shape: int, seed: int = 1, rank: int | None = None) -> np.ndarray:
    """Samples; with ``rank``, their last axis lies in a subspace of that many dimensions."""
    rng = np.random.default_rng(seed)
    if rank is None:
        return rng.normal(size=shape).astype(np.float32)
    basis = np.random.default_rng(99).normal(size=(rank, shape[-1]))
    return (rng.normal(size=(*shape[:-1], rank)) @ basis).astype(np.float32)


def relative_error(model: onnx.ModelProto, pruned: Pruned, **feed: np.ndarray) -> float:
    whole, small = run(model, **feed)[0], run(pruned.model, **feed)[0]
    return float(np.linalg.norm(whole - small) / np.linalg.norm(whole - whole.mean(0)))


def widths(pruned: Pruned) -> list[tuple[str, int, int]]:
    return [(g.kind, g.before, g.after) for g in pruned.removed]


def shape_of(model: onnx.ModelProto, name: str) -> list[int]:
    return next(list(t.dims) for t in model.graph.initializer if t.name == name)


def mlp(hidden: int = 64, inputs: int = 16, outputs: int = 4) -> onnx.ModelProto:
    return build(
        [
            node("MatMul", "x w1", "h"),
            node("Add", "h b1", "a"),
            node("Relu", "a", "r"),
            node("Gemm", "r w2 b2", "y"),
        ],
        weights(w1=(inputs, hidden), b1=(hidden,), w2=(hidden, outputs), b2=(outputs,)),
        {"x": ["batch", inputs]},
        {"y": 2},
    )


def convnet(opset: int = 17) -> onnx.ModelProto:
    """Stem, residual block with batch norms, depthwise-separable block, class head."""
    positive = {"v": np.abs(weights(v=(16,))["v"]) + 0.5}
    constants = weights(
        w0=(16, 3, 3, 3), s=(16,), t=(16,), m=(16,), w1=(24, 16, 3, 3), b1=(24,), w2=(16, 24, 3, 3),
        dw=(16, 1, 3, 3), pw=(32, 16, 1, 1), fc=(5, 32), bfc=(5,),
    )  # fmt: skip
    pads = [1, 1, 1, 1]
    return build(
        [
            node("Conv", "x w0", "c0", pads=pads),
            node("BatchNormalization", "c0 s t m v", "n0"),
            node("Relu", "n0", "r0"),
            node("Conv", "r0 w1 b1", "c1", pads=pads),
            node("Relu", "c1", "r1"),
            node("Conv", "r1 w2", "c2", pads=pads),
            node("Add", "c2 r0", "sum"),
            node("Conv", "sum dw", "d", pads=pads, group=16),
            node("Relu", "d", "rd"),
            node("Conv", "rd pw", "p"),
            node("Relu", "p", "rp"),
            node("GlobalAveragePool", "rp", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f fc bfc", "y", transB=1),
        ],
        constants | positive,
        {"x": ["batch", 3, 8, 8]},
        {"y": 2},
        opset,
    )


def transformer(heads: int = 4, size: int = 8, hidden: int = 64) -> onnx.ModelProto:
    width = heads * size
    split = np.asarray([0, 0, heads, size])
    return build(
        [
            *(node("MatMul", f"x {k}", f"p{k}") for k in ("q", "k", "v")),
            *(node("Reshape", f"p{k} split", f"s{k}") for k in ("q", "k", "v")),
            node("Transpose", "sq", "tq", perm=[0, 2, 1, 3]),
            node("Transpose", "sk", "tk", perm=[0, 2, 3, 1]),
            node("Transpose", "sv", "tv", perm=[0, 2, 1, 3]),
            node("MatMul", "tq tk", "scores"),
            node("Softmax", "scores", "probabilities", axis=-1),
            node("MatMul", "probabilities tv", "mixed"),
            node("Transpose", "mixed", "back", perm=[0, 2, 1, 3]),
            node("Reshape", "back join", "joined"),
            node("MatMul", "joined o", "po"),
            node("Add", "po bo", "attended"),
            node("Add", "attended x", "r1"),
            node("LayerNormalization", "r1 g1 t1", "n1"),
            node("MatMul", "n1 up", "u"),
            node("Add", "u bu", "ub"),
            node("Erf", "ub", "e"),
            node("MatMul", "e down", "dn"),
            node("Add", "dn bd", "db"),
            node("Add", "db n1", "y"),
        ],
        weights(
            q=(width, width), k=(width, width), v=(width, width), o=(width, width), bo=(width,), g1=(width,),
            t1=(width,), up=(width, hidden), bu=(hidden,), down=(hidden, width), bd=(width,),
        )
        | {"split": split, "join": np.asarray([0, 0, -1])},
        {"x": ["batch", "length", width]},
        {"y": 3},
    )  # fmt: skip


def test_a_convnet_gets_narrower_everywhere_but_at_its_ends() -> None:
    model = convnet()
    before = model.SerializeToString()
    x = data(64, 3, 8, 8)
    pruned = prune(model, 0.5, {"x": x})
    assert widths(pruned) == [("channels", 16, 8), ("channels", 24, 16), ("channels", 32, 16)]
    assert pruned.removed[0].layers == ("n0", "c2", "d"), "a depthwise layer goes with its channels"
    assert shape_of(pruned.model, "n0.weight") == [8, 3, 3, 3]
    assert shape_of(pruned.model, "w1") == [16, 8, 3, 3]
    assert shape_of(pruned.model, "w2") == [8, 16, 3, 3]
    assert shape_of(pruned.model, "dw") == [8, 1, 3, 3]
    assert shape_of(pruned.model, "fc") == [5, 16]
    assert run(pruned.model, x=x)[0].shape == (64, 5)
    assert pruned.model.ByteSize() < 0.6 * model.ByteSize()
    assert model.SerializeToString() == before, "the input model is never touched"
    assert any("y is an output of the model" in note for note in pruned.notes)


def test_a_transformer_loses_whole_heads_and_hidden_neurons() -> None:
    x = data(32, 7, 32)
    pruned = prune(transformer(), 0.5, {"x": x})
    assert widths(pruned) == [("heads", 4, 2), ("neurons", 64, 32)]
    assert shape_of(pruned.model, "q") == shape_of(pruned.model, "v") == [32, 16]
    assert shape_of(pruned.model, "o") == [16, 32]
    assert any("left whole: MatMul po and 1 more" in note for note in pruned.notes)
    for length in (3, 11):
        assert run(pruned.model, x=data(2, length, 32))[0].shape == (2, length, 32)


def test_widths_left_are_the_nearest_multiples() -> None:
    x = data(64, 16)
    assert widths(prune(mlp(100), 0.3, {"x": x})) == [("neurons", 100, 72)]
    assert widths(prune(mlp(100), 0.3, {"x": x}, multiple=1)) == [("neurons", 100, 70)]
    assert widths(prune(mlp(64), 0.3, {"x": x}, multiple=16)) == [("neurons", 64, 48)]
    assert widths(prune(mlp(96), 0.3, {"x": x})) == [("neurons", 96, 64)]
    with pytest.raises(VariantError, match="30% of 16 neurons"):
        prune(mlp(16), 0.3, {"x": x})  # Half of them would be too many.


def test_nothing_to_remove_is_an_error_that_says_why() -> None:
    with pytest.raises(VariantError, match="nothing to remove at 30%"):
        prune(mlp(8), 0.3, {"x": data(16, 16)})
    with pytest.raises(VariantError, match="between 0 and 1"):
        prune(mlp(), 30, {"x": data(16, 16)})


def test_what_the_kept_channels_can_express_is_reconstructed_exactly() -> None:
    """The inputs span 6 dimensions and Identity keeps them, so 24 of 64 hidden neurons say all there is."""
    model = mlp()
    model.graph.node[2].op_type = "Identity"
    x = data(256, 16, rank=6)
    exact = prune(model, 0.6, {"x": x})
    assert widths(exact) == [("neurons", 64, 24)]
    unseen = data(50, 16, rank=6, seed=7)
    assert relative_error(model, exact, x=unseen) < 1e-2
    assert relative_error(model, prune(model, 0.6, {"x": x}, reconstruct=False), x=unseen) > 0.2


@pytest.mark.parametrize(
    ("model", "x"),
    [(mlp(), data(512, 16, rank=8)), (convnet(), data(96, 3, 8, 8)), (transformer(), data(64, 7, 32))],
    ids=["mlp", "convnet", "transformer"],
)
def test_reconstruction_and_activations_each_help(model: onnx.ModelProto, x: np.ndarray) -> None:
    half = len(x) // 2
    calibration, unseen = {"x": x[:half]}, {"x": x[half:]}
    errors = {
        (importance, reconstruct): relative_error(
            model, prune(model, 0.5, calibration, importance=importance, reconstruct=reconstruct), **unseen
        )
        for importance in ("activation", "magnitude")
        for reconstruct in (True, False)
    }
    assert errors["activation", True] < 0.7 * errors["activation", False]
    assert errors["activation", True] < 0.7 * errors["magnitude", False]
    assert errors["activation", True] < 1.05 * errors["magnitude", True]


def test_the_same_seed_gives_the_same_model() -> None:
    x = data(64, 3, 8, 8)
    one, same = (prune(convnet(), 0.5, {"x": x}, seed=3) for _ in range(2))
    assert one == same


@pytest.mark.parametrize("opset", [11, 13, 15, 21])
def test_opsets(opset: int) -> None:
    pruned = prune(convnet(opset), 0.5, {"x": data(32, 3, 8, 8)})
    checker.check_model(pruned.model, full_check=True)
    assert len(pruned.removed) == 3


def test_a_fixed_batch_is_fed_as_it_is() -> None:
    model = mlp()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    pruned = prune(model, 0.5, {"x": data(18, 16)})
    assert widths(pruned) == [("neurons", 64, 32)]
    assert run(pruned.model, x=data(4, 16))[0].shape == (4, 4)
    with pytest.raises(DataError, match="batches of 4"):
        prune(model, 0.5, {"x": data(3, 16)})


def test_calibration_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="no samples for input 'x'"):
        prune(mlp(), 0.5, {"y": data(4, 16)})
    with pytest.raises(DataError, match="at least 1"):
        prune(mlp(), 0.5, {"x": data(0, 16)})
    two = build(
        [node("Add", "a b", "s"), node("MatMul", "s w", "y")],
        weights(w=(4, 4)),
        {"a": [2, 4], "b": [3, 4]},
        {"y": 2},
    )
    with pytest.raises(ModelError, match="batch sizes"):
        prune(two, 0.5, {"a": data(6, 4), "b": data(6, 4)})


def test_a_weight_that_two_layers_share_is_cut_for_both_and_not_refitted() -> None:
    model = build(
        [
            node("MatMul", "x in", "h"),
            node("Tanh", "h", "t"),
            node("Identity", "w", "alias"),
            node("MatMul", "t w", "u"),
            node("Tanh", "u", "tu"),
            node("MatMul", "tu alias", "v"),
            node("Tanh", "v", "tv"),
            node("Gemm", "tv out", "y"),
        ],
        weights(w=(32, 32), out=(32, 3)) | {"in": weights(seed=5, w=(8, 32))["w"]},
        {"x": ["batch", 8]},
        {"y": 2},
    )
    x = data(64, 8)
    pruned = prune(model, 0.5, {"x": x})
    assert widths(pruned) == [("neurons", 32, 16)], "one axis goes around through the shared weight"
    assert shape_of(pruned.model, "w") == [16, 16]
    assert sum("not refitted" in note and "other nodes" in note for note in pruned.notes) == 2


def test_what_a_branch_reads_stays_whole() -> None:
    constants = weights(w1=(8, 32), w2=(32, 32), w3=(32, 4))
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ["h"], [f"{kind}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{kind}_out", FLOAT, None)],
        )
        for name, kind in (("then_branch", "Relu"), ("else_branch", "Tanh"))
    }
    model = build(
        [
            node("MatMul", "x w1", "h"),
            node("ReduceSum", "x", "total", keepdims=0),
            node("Greater", "total zero", "positive"),
            node("If", "positive", "i", **branches),
            node("MatMul", "i w2", "k"),
            node("Relu", "k", "r"),
            node("MatMul", "r w3", "y"),
        ],
        constants | {"zero": np.float32(0)},
        {"x": ["batch", 8]},
        {"y": 2},
    )
    pruned = prune(model, 0.5, {"x": data(32, 8)})
    assert shape_of(pruned.model, "w1") == [8, 32]
    assert shape_of(pruned.model, "w2") == [32, 16]
    assert any("MatMul h (If i is not traced)" in note for note in pruned.notes)


def test_what_an_unknown_operator_touches_stays_whole() -> None:
    model = build(
        [
            node("MatMul", "x w1", "h"),
            node("Relu", "h", "r"),
            node("MatMul", "r w2", "k"),
            node("FusedMatMul", "k w3", "y", domain="com.microsoft"),
        ],
        weights(w1=(8, 32), w2=(32, 32), w3=(32, 4)),
        {"x": ["batch", 8]},
        {"y": 2},
        domains=("com.microsoft",),
    )
    pruned = prune(model, 0.5, {"x": data(32, 8)})
    assert shape_of(pruned.model, "w1") == [8, 16]
    assert shape_of(pruned.model, "w2") == [16, 32]
    assert any("FusedMatMul y is not traced" in note for note in pruned.notes)


def test_axes_whose_size_is_computed_with_stay_whole() -> None:
    """Scores are divided by the square root of a width taken from Shape: that width must not change."""
    model = build(
        [
            node("MatMul", "x w1", "h"),
            node("Shape", "h", "shape"),
            node("Gather", "shape last", "width"),
            node("Cast", "width", "real", to=FLOAT),
            node("Sqrt", "real", "root"),
            node("Div", "h root", "scaled"),
            node("MatMul", "scaled w2", "k"),
            node("Relu", "k", "r"),
            node("MatMul", "r w3", "y"),
        ],
        weights(w1=(8, 32), w2=(32, 32), w3=(32, 4)) | {"last": np.int64(1)},
        {"x": ["batch", 8]},
        {"y": 2},
    )
    pruned = prune(model, 0.5, {"x": data(32, 8)})
    assert shape_of(pruned.model, "w1") == [8, 32]
    assert shape_of(pruned.model, "w2") == [32, 16]
    assert any("computes with its size" in note for note in pruned.notes)


def test_several_outputs_and_shapes_stay_as_they_were() -> None:
    model = build(
        [
            node("Conv", "x w1 b1", "h", pads=[1, 1, 1, 1]),
            node("Relu", "h", "r"),
            node("ConvTranspose", "r up", "image", strides=[2, 2]),
            node("ReduceMean", "r", "pooled", axes=[2, 3], keepdims=0),
            node("Gemm", "pooled fc", "classes"),
        ],
        weights(w1=(32, 3, 3, 3), b1=(32,), up=(32, 2, 2, 2), fc=(32, 6)),
        {"x": ["batch", 3, 6, 6]},
        {"image": 4, "classes": 2},
    )
    x = data(48, 3, 6, 6)
    pruned = prune(model, 0.5, {"x": x})
    for whole, small in zip(run(model, x=x), run(pruned.model, x=x), strict=True):
        assert whole.shape == small.shape
        assert np.linalg.norm(whole - small) < 0.5 * np.linalg.norm(whole)
    shape_inference.infer_shapes(pruned.model, check_type=True, strict_mode=True)
    assert [o.name for o in pruned.model.graph.output] == ["image", "classes"]


def test_half_precision_weights_stay_half() -> None:
    model = mlp()
    for tensor in model.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    x = data(64, 16).astype(np.float16)
    pruned = prune(model, 0.5, {"x": x})
    assert {t.data_type for t in pruned.model.graph.initializer} == {TensorProto.FLOAT16}
    assert relative_error(model, pruned, x=x) < 0.5
