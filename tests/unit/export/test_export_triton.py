"""Model repositories: read back by Triton's own protobuf, and run where ONNX Runtime can."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from exported_plans import C7I, candidate, mixed_fleet, network, offer, placed, plan, workload, write_plan
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

from planner.domain.variant import Variant
from planner.errors import InputError
from planner.export import Exported, Settings, export
from planner.export.signature import TRITON_TYPES
from planner.report import Deployed, Engine, write_engines

Config = model_config_pb2.ModelConfig


def read(path: Path) -> Config:
    return text_format.Parse(path.read_text(), Config())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    export(write_plan(folder / "plan", mixed_fleet()), "triton", folder / "out", Settings())
    return folder / "out"


def configs(out: Path) -> dict[str, Config]:
    return {path.parent.relative_to(out).as_posix(): read(path) for path in out.glob("*/*/config.pbtxt")}


def test_names_are_folders_and_versions_hold_the_file(out: Path) -> None:
    found = configs(out)
    assert len(found) == 6
    for name, config in found.items():
        assert config.name == name.partition("/")[2]
        version = out / name / "1"
        held = {path.name for path in version.iterdir()}
        if name.startswith("gcp"):
            assert held == {"model.plan.missing"}
        else:
            assert config.default_model_filename in held


def test_a_model_is_read_once_for_all_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.export import signature, triton

    engines: list[str] = []

    def counted(engine: Engine, dimensions: Mapping[str, int | str]) -> signature.Signature:
        engines.append(engine.variant)
        return signature.signature_of(engine, dimensions)

    monkeypatch.setattr(triton, "signature_of", counted)
    small = offer("aws", "c7i.large", "us-east-1", "sapphire-rapids", device_count=0.0, vcpus=2)
    served = candidate("rank", "int8", "onnxruntime", "sapphire-rapids")
    placements = [placed(where, 1, {served.id: (1, 5.0)}) for where in (C7I, small)]
    source = write_plan(tmp_path / "plan", plan([workload("rank")], [served], [C7I, small], placements))
    export(source, "triton", tmp_path / "out", Settings())
    assert len(configs(tmp_path / "out")) == 2
    assert engines == ["int8"]


def test_cpu_with_onnx_runtime(out: Path) -> None:
    config = configs(out)["aws-c7i-4xlarge-us-east-1/search"]
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 8)
    (group,) = config.instance_group
    assert (group.count, group.kind) == (3, model_config_pb2.ModelInstanceGroup.KIND_CPU)
    assert config.parameters["intra_op_thread_count"].string_value == "4"
    assert config.parameters["inter_op_thread_count"].string_value == "1"
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [
        ("x", model_config_pb2.TYPE_FP32, [8])
    ]
    y, score = config.output
    assert (y.name, list(y.dims), y.HasField("reshape")) == ("y", [4], False)
    assert (score.name, list(score.dims), list(score.reshape.shape)) == ("score", [1], [])
    assert score.HasField("reshape")


def test_the_exported_onnx_runs_with_its_external_data(out: Path) -> None:
    folder = out / "aws-c7i-4xlarge-us-east-1" / "search" / "1"
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "weights.bin"}
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    y, _ = session.run(None, {"x": np.ones((2, 8), np.float32)})
    assert y.tolist() == [[8] * 4] * 2


def test_cpu_with_openvino(out: Path) -> None:
    config = configs(out)["aws-c7i-4xlarge-us-east-1/rank"]
    assert (config.backend, config.default_model_filename) == ("openvino", "model.onnx")
    values = {key: value.string_value for key, value in config.parameters.items()}
    assert values == {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "2"}


def test_tensorrt_on_several_gpus(out: Path) -> None:
    config = configs(out)["azure-standard-nc64as-t4-v3-eastus/search"]
    (group,) = config.instance_group
    assert config.backend == "tensorrt"
    assert (group.kind, group.count, list(group.gpus)) == (
        model_config_pb2.ModelInstanceGroup.KIND_GPU,
        2,
        [0, 1, 2],
    )
    assert list(group.profile) == ["0", "1", "2"]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1500
    assert [(i.name, list(i.dims)) for i in config.input] == [("x", [8])]
    assert not config.output, "Triton completes them from the engine"
    other = configs(out)["azure-standard-nc64as-t4-v3-eastus/rank"]
    assert (other.backend, list(other.instance_group[0].gpus)) == ("onnxruntime", [3])
    assert (
        out / "azure-standard-nc64as-t4-v3-eastus/search/1/model.plan"
    ).read_bytes() == b"an engine for T4"


def test_only_the_optimization_profiles_that_the_batches_need(out: Path) -> None:
    """The engine has profiles up to 1, 4 and 8; the plan's batches go up to 4."""
    config = configs(out)["aws-p4d-24xlarge-us-east-1a-1g-5gb/search"]
    assert config.max_batch_size == 4
    assert list(config.instance_group[0].profile) == ["0", "1"]


def test_every_measured_batch_size_is_warmed_up(out: Path) -> None:
    for name, config in configs(out).items():
        sizes = [warmup.batch_size for warmup in config.model_warmup]
        assert sizes == [size for size in (1, 4, 8) if size <= config.max_batch_size], name
        for warmup in config.model_warmup:
            (given,) = warmup.inputs.values()
            assert set(warmup.inputs) == {"x"}
            assert (list(given.dims), given.zero_data) == ([8], True)


def test_what_is_yet_to_be_built(out: Path) -> None:
    folder = out / "gcp-g2-standard-8-us-central1-spot" / "rank"
    assert read(folder / "config.pbtxt").backend == "tensorrt"
    told = (folder / "1" / "model.plan.missing").read_text()
    assert "trtexec --onnx=model.onnx --saveEngine=model.engine" in told
    assert "mv model.engine ../1/model.plan" in told
    assert onnx.load(folder / "build" / "model.onnx").graph.name == "network"


def test_notes(tmp_path: Path) -> None:
    notes = export(write_plan(tmp_path / "plan", mixed_fleet()), "triton", tmp_path / "out", Settings()).notes
    assert any("rank on L4: model.plan is yet to be built" in note for note in notes)
    assert any("OpenVINO" in note for note in notes)
    assert sum("TensorRT 10.13.3 built engines" in note for note in notes) == 1


def one_model(
    folder: Path,
    path: Path,
    backend: str = "onnxruntime",
    most: int = 8,
    bound: dict[str, int | str] | None = None,
    **dimensions: int,
) -> tuple[Exported, Config]:
    """The export of a plan that runs this ONNX file on a CPU; ``bound``: what its plan.yaml says, if any."""
    served = candidate("net", "fp32", backend, C7I.device, max_batch_size=most)
    report = plan([workload("net")], [served], [C7I], [placed(C7I, 1, {served.id: (1, 10.0)})])
    folder.mkdir()
    if bound is not None:
        text = yaml.safe_dump(
            {
                "model": "model.onnx",
                "dimensions": bound,
                "data": {"calibration": "c.npz", "evaluation": "e.npz"},
                "accuracy": {"metric": "accuracy", "max_drop": 0.1},
                "workload": {"name": "net", "rate_rps": 10, "slo": {"latency": "50ms"}},
            }
        )
        (folder / "plan.yaml").write_text(text)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        files = report.files.model_copy(update={"plan_yaml": "../plan.yaml"})
        inputs = report.inputs.model_copy(update={"plan_yaml_sha256": sha256})
        report = report.model_copy(update={"files": files, "inputs": inputs})
    write_plan(folder / "plan", report)
    engine = Deployed(Variant("fp32", "m" * 64, path, "v" * 64, 1), backend, C7I.device, ())
    write_engines(folder / "plan" / "engines", [engine], ())
    done = export(folder / "plan", "triton", folder / "out", Settings(dimensions=dimensions))
    (config,) = configs(folder / "out").values()
    return done, config


def identity(path: Path, elem_type: int, shape: list[str | int]) -> Path:
    """x of any type and shape -> y, the same."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", elem_type, shape)],
        [helper.make_tensor_value_info("y", elem_type, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    return path


@pytest.mark.parametrize("numpy_name", sorted(set(TRITON_TYPES) - {"str"}))
def test_every_type(numpy_name: str, tmp_path: Path) -> None:
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, numpy_name, numpy_name))
    elem_type = helper.np_dtype_to_tensor_dtype(dtype)
    path = identity(tmp_path / "model.onnx", elem_type, ["N", 3])
    _, config = one_model(tmp_path / "at", path)
    bits = {"float": "FP", "bfloat": "BF", "int": "INT", "uint": "UINT"}
    kind = numpy_name.rstrip("0123456789")
    expected = "TYPE_BOOL" if kind == "bool" else f"TYPE_{bits[kind]}{8 * dtype.itemsize}"
    assert model_config_pb2.DataType.Name(config.input[0].data_type) == expected


def test_other_dynamic_dimensions(tmp_path: Path) -> None:
    path = identity(tmp_path / "model.onnx", TensorProto.INT64, ["N", "sequence"])
    done, config = one_model(tmp_path / "unknown", path)
    assert list(config.input[0].dims) == list(config.output[0].dims) == [-1]
    assert not config.model_warmup
    assert any("--dimension" in note for note in done.notes)
    done, config = one_model(tmp_path / "known", path, sequence=128)
    assert list(config.input[0].dims) == [-1]
    assert [list(w.inputs["x"].dims) for w in config.model_warmup] == [[128]] * 3
    assert not done.notes
    with pytest.raises(InputError, match=r"--dimension length: .* no such dynamic dimension"):
        one_model(tmp_path / "wrong", path, length=128)


def test_dimensions_as_plan_yaml_binds_them(tmp_path: Path) -> None:
    path = identity(tmp_path / "model.onnx", TensorProto.INT64, ["N", "sequence"])
    done, config = one_model(tmp_path / "first", path, bound={"N": "batch", "sequence": 64})
    assert config.max_batch_size == 8
    assert [list(w.inputs["x"].dims) for w in config.model_warmup] == [[64]] * 3
    assert not done.notes
    _, config = one_model(tmp_path / "other", path, bound={"N": "batch", "sequence": 64}, sequence=32)
    assert [list(w.inputs["x"].dims) for w in config.model_warmup] == [[32]] * 3
    _, config = one_model(tmp_path / "single", path, most=1, bound={"N": 2, "sequence": "batch"})
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [-1, -1]
    assert [list(w.inputs["x"].dims) for w in config.model_warmup] == [[2, 1]]
    with pytest.raises(InputError, match="export the model with the batch first"):
        one_model(tmp_path / "second", path, bound={"N": 2, "sequence": "batch"})


def test_no_batch_axis(tmp_path: Path) -> None:
    path = identity(tmp_path / "model.onnx", TensorProto.FLOAT, [1, 3])
    _, config = one_model(tmp_path / "one", path, most=1)
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [1, 3])
    assert not config.HasField("dynamic_batching")
    assert [w.batch_size for w in config.model_warmup] == [1]
    with pytest.raises(InputError, match="planned in batches of 8"):
        one_model(tmp_path / "many", path)


def test_what_is_no_tensor_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    with pytest.raises(InputError, match="y is of sequence_type, which Triton does not take"):
        one_model(tmp_path / "at", path)


@pytest.mark.parametrize("backend", ["tensorrt-rtx", "openvino-throughput", "openvino-gpu"])
def test_what_triton_cannot_run_is_refused(backend: str, tmp_path: Path) -> None:
    path = network(tmp_path / "model.onnx")
    with pytest.raises(InputError, match=f"net runs with {backend} on .*; plan with") as refused:
        one_model(tmp_path / "at", path, backend)
    assert "\n" not in str(refused.value)


def test_imported_profiles_have_no_engines(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    t4 = offer("aws", "g4dn.xlarge", "us-east-1", "T4")
    served = candidate("net", "int8", "tensorrt", "T4")
    report = plan([workload("net")], [served], [t4], [placed(t4, 1, {served.id: (1, 10.0)})])
    (tmp_path / "plan" / "plan.json").write_text(report.model_dump_json())
    with pytest.raises(InputError, match="no engine of int8 for T4, its latencies were imported"):
        export(tmp_path / "plan", "triton", tmp_path / "out", Settings())
    (note,) = export(tmp_path / "plan", "kubernetes", tmp_path / "out", Settings()).notes
    assert note.startswith("The plan has no engines")
