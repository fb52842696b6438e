"""What happens where tracing is wrong: the cut graph does not give what the masked one does.

No graph is known for which it is, so these tests plant a wrong rule.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.errors import VariantError
from planner.variants.pruning import prune, rules_pointwise
from planner.variants.pruning.tracing import Rule, Trace

X = np.random.default_rng(1).normal(size=(128, 8)).astype(np.float32)


def three_layers(between: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """``between`` leads from the first hidden tensor h (32 wide) to what the second layer reads, g."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 32), "w2": (32, 48), "w3": (48, 4)}
    weights = {n: (rng.normal(size=s) / s[0] ** 0.5).astype(np.float32) for n, s in shapes.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        *between,
        helper.make_node("MatMul", ["g", "w2"], ["k"], name="second"),
        helper.make_node("Relu", ["k"], ["r"]),
        helper.make_node("MatMul", ["r", "w3"], ["y"], name="third"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])],
        [numpy_helper.from_array(a, n) for n, a in (weights | constants).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def softmax_between() -> onnx.ModelProto:
    return three_layers([helper.make_node("Softmax", ["h"], ["g"], axis=-1)])


def sum_between() -> onnx.ModelProto:
    bias = np.linspace(0, 1, 32, dtype=np.float32)
    nodes = [helper.make_node("Tanh", ["h"], ["t"]), helper.make_node("Add", ["t", "bias"], ["g"])]
    return three_layers(nodes, bias=bias)


def first_operand_only(t: Trace, i: int, node: onnx.NodeProto) -> bool:
    """Wrong for an Add: the other operand would have to get narrower too."""
    t.give(node.output[0], list(t.of(node.input[0]) or ()), "first operand")
    return True


@pytest.mark.parametrize(
    ("model", "operator", "wrong", "complaint"),
    [
        (softmax_between(), "Softmax", rules_pointwise.unary, "output y changes more than it should"),
        (sum_between(), "Add", first_operand_only, "removing it gives an invalid graph: "),
    ],
    ids=["other values", "invalid graph"],
)
def test_a_group_that_tracing_got_wrong_stays_whole_and_the_others_go(
    model: onnx.ModelProto, operator: str, wrong: Rule, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rules_pointwise.RULES, operator, wrong)
    pruned = prune(model, 0.5, {"x": X})
    assert [(g.name, g.before, g.after) for g in pruned.removed] == [("MatMul second", 48, 24)]
    (note,) = [n for n in pruned.notes if n.startswith("left whole: MatMul first")]
    assert complaint in note and "\n" not in note
    shapes = {t.name: list(t.dims) for t in pruned.model.graph.initializer}
    assert [shapes["w1"], shapes["w2"], shapes["w3"]] == [[8, 32], [32, 24], [24, 4]]
    whole, small = outputs(model), outputs(pruned.model)
    assert np.linalg.norm(whole - small) < 0.5 * np.linalg.norm(whole - whole.mean(0))


def test_where_every_group_is_wrong_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules_pointwise.RULES, "Softmax", rules_pointwise.unary)
    model = softmax_between()
    model.graph.node[3].op_type = "Softmax"
    with pytest.raises(VariantError, match="would not compute what it should; output y changes more"):
        prune(model, 0.5, {"x": X})


def test_rightly_traced_both_models_lose_what_they_can() -> None:
    """The wrong rules, not the models, are what the tests above are about."""
    softmax, added = prune(softmax_between(), 0.5, {"x": X}), prune(sum_between(), 0.5, {"x": X})
    assert [g.name for g in softmax.removed] == ["MatMul second"]
    assert any("normalises over it" in note for note in softmax.notes)
    assert [g.name for g in added.removed] == ["MatMul first", "MatMul second"]


def outputs(model: onnx.ModelProto) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": X})[0])
