"""Reading models, good and broken, and binding their dimensions."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper, numpy_helper

from planner.domain.model import BoundInput, Model, Tensor
from planner.errors import ModelError
from planner.variants import bind, read_model


def product(
    inputs: list[onnx.ValueInfoProto] | None = None, weights: list[onnx.TensorProto] | None = None
) -> onnx.ModelProto:
    """x [N, 16] times w [16, 4], with more inputs or other weights as asked."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "g",
        inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        weights or [numpy_helper.from_array(np.ones((16, 4), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def external(folder: Path, location: str = "weights.bin", size: int = 256) -> Path:
    """The product with its 256 bytes of weights at ``location``, where ``size`` bytes are."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[16, 4])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "256")):
        weight.external_data.add(key=key, value=value)
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    (folder / location).write_bytes(bytes(size))
    path = folder / "model.onnx"
    path.write_bytes(product(weights=[weight]).SerializeToString())
    return path


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        read_model(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_reads_what_the_model_says(tmp_path: Path) -> None:
    path = onnx_models.tiny_conv(tmp_path / "m.onnx")
    model = read_model(path)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.size_bytes, model.opset) == (path.stat().st_size, 17)
    assert model.inputs == (Tensor("x", "float32", ("N", 3, 12, 12)),)
    assert model.outputs == (Tensor("logits", "float32", ("N", 5)),)
    assert dict(model.operators) == {"Conv": 2, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Relu": 2}


def test_weights_listed_as_inputs_are_not_inputs(tmp_path: Path) -> None:
    """Models before IR version 4 list every initializer as an input."""
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16]),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 4]),
    ]
    onnx.save(product(inputs), tmp_path / "m.onnx")
    assert [t.name for t in read_model(tmp_path / "m.onnx").inputs] == ["x"]


@pytest.mark.parametrize("size", [None, 0, -1])
def test_unnamed_dimensions_get_a_name(tmp_path: Path, size: int | None) -> None:
    onnx.save(
        product([helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, 16])]), tmp_path / "m.onnx"
    )
    assert read_model(tmp_path / "m.onnx").inputs[0].shape == ("x.0", 16)


def test_external_data_count(tmp_path: Path) -> None:
    path = external(tmp_path, "data/weights.bin")
    before = read_model(path)
    assert before.size_bytes == path.stat().st_size + 256
    (tmp_path / "data/weights.bin").write_bytes(bytes(255) + b"\1")
    assert read_model(path).sha256 != before.sha256


def test_broken_files(tmp_path: Path) -> None:
    refused(tmp_path / "absent.onnx", "no such file")
    refused(onnx_models.truncated(tmp_path / "t.onnx"), "not an ONNX file, or cut short")
    for content in (b"", b"hello", b"\x00" * 100):
        (tmp_path / "x.onnx").write_bytes(content)
        refused(tmp_path / "x.onnx", "not an ONNX file")


def test_external_data_missing_short_or_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    refused(onnx_models.external_data_missing(folder / "a.onnx"), r"weights\.bin is missing")
    refused(external(folder, size=100), "cut short")
    refused(onnx_models.external_data_escaping(folder / "b.onnx"), "outside the model's folder")
    refused(external(folder, str(tmp_path / "absolute.bin")), "outside the model's folder")
    path = external(folder, "link.bin")
    (folder / "link.bin").unlink()
    (tmp_path / "secret.bin").write_bytes(bytes(256))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    refused(path, "outside the model's folder")


def test_invalid_graphs(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    dangling = product()
    dangling.graph.node[0].input[0] = "nowhere"
    onnx.save(dangling, path)
    refused(path, "not a valid ONNX model")
    none = product([helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 4])])
    none.graph.node[0].input[0] = "w"
    onnx.save(none, path)
    refused(path, "no inputs")
    onnx.save(product([helper.make_tensor_value_info("x", TensorProto.STRING, ["N", 16])]), path)
    refused(path, "x holds strings")


def dynamic() -> Model:
    tensors = (Tensor("x", "float32", ("N", "length", 8)), Tensor("mask", "int64", ("N", "length")))
    return Model(Path("m.onnx"), "0", 1, 17, tensors, (), ())


def test_binding() -> None:
    assert bind(dynamic(), {"N": "batch", "length": 32}) == (
        BoundInput("x", "float32", (1, 32, 8), 0),
        BoundInput("mask", "int64", (1, 32), 0),
    )
    assert bind(dynamic(), {"N": 4, "length": 32})[0] == BoundInput("x", "float32", (4, 32, 8), None)


@pytest.mark.parametrize(
    ("dimensions", "match"),
    [
        ({"N": "batch"}, r"dimension length of input x .axis 1. is dynamic; .*`dimensions: {length: batch}`"),
        ({"N": "batch", "lenght": 3}, "no dynamic dimension 'lenght' in its inputs; did you mean length"),
        ({"N": "batch", "length": "batch"}, "input x has two batch axes .0 and 1."),
        ({"N": 0, "length": 3}, "dimension N must be a size of at least 1"),
        ({"N": True, "length": 3}, "dimension N must be"),
        ({"N": "btach", "length": 3}, "dimension N must be"),
    ],
)
def test_binding_errors(dimensions: dict[str, int | str], match: str) -> None:
    with pytest.raises(ModelError, match=match):
        bind(dynamic(), dimensions)
