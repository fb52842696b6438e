"""Which devices the machines of a cluster have, and whether they have the packages of here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.backends import backend
from planner.catalog import CpuIdentity, load, match_cpu
from planner.domain.profile import Environment
from planner.errors import InputError, MissingDependencyError
from planner.profiling.cluster import Kind, Node, Said, check_libraries, check_planner, introduce, slots_of

CATALOG = load(None)
GENOA = CpuIdentity("AuthenticAMD", 25, 17, 1, "AMD EPYC 9R14", ("avx2", "avx512f", "avx512_vnni"))
ENVIRONMENT = Environment("AMD EPYC 9R14", "", (), 8, 64 << 30, "Linux", ())
SAID = Said(GENOA, ENVIRONMENT, {"onnxruntime": backend("onnxruntime").libraries()})


def node(**resources: float) -> Node:
    return Node("n1", "10.0.0.1", {"memory": 1e9, **resources})


def test_a_node_s_cpu_is_what_the_catalog_says_and_wholly_reserved() -> None:
    (slot,) = slots_of(node(CPU=8.0), SAID, CATALOG)
    device = match_cpu(GENOA, CATALOG).device
    assert slot.kind == Kind(device.name, "cpu", 8)
    assert slot.environment == replace(ENVIRONMENT, cpu_architecture=device.architecture)
    assert (slot.cpus, slot.gpus, slot.resources) == (8.0, 0.0, ())


def test_a_custom_resource_stands_for_a_kind_in_place_of_the_cpu() -> None:
    (slot,) = slots_of(node(CPU=8.0, **{"device:edge-box": 1.0}), SAID, CATALOG)
    assert slot.kind == Kind("edge-box", "cpu", 8)
    assert (slot.cpus, slot.resources) == (8.0, (("device:edge-box", 1.0),))
    (gpu,) = slots_of(node(CPU=8.0, **{"device:L4": 1.0}), SAID, CATALOG)
    assert gpu.kind.runs_on == "nvidia-gpu", "the catalog knows L4"


def test_devices_of_one_node_share_its_cpus() -> None:
    slots = slots_of(node(CPU=8.0, **{"device:a": 2.0, "device:b": 1.0}), SAID, CATALOG)
    assert [slot.kind.device for slot in slots] == ["a", "a", "b"]
    assert {slot.cpus for slot in slots} == {2.0}


def test_gpus_are_called_what_the_cluster_calls_them_and_the_cpu_is_one_more() -> None:
    *gpus, cpu = slots_of(node(CPU=8.0, GPU=2.0, **{"accelerator_type:T4": 1.0}), SAID, CATALOG)
    assert [slot.kind for slot in gpus] == [Kind("T4", "nvidia-gpu", 8)] * 2
    assert {(slot.cpus, slot.gpus) for slot in gpus} == {(4.0, 1.0)}
    assert cpu.cpus == 8.0, "no task of a GPU runs beside one of the CPU"


def test_a_node_with_nothing_to_give_has_no_device() -> None:
    assert slots_of(node(), SAID, CATALOG) == []


def test_every_node_needs_the_planner_of_here() -> None:
    check_planner("10.0.0.1", "1.0", "1.0")
    with pytest.raises(MissingDependencyError, match=r"10\.0\.0\.1: planner is not installed.*planner==1\.0"):
        check_planner("10.0.0.1", None, "1.0")
    with pytest.raises(InputError, match=r"10\.0\.0\.1: planner 0\.9, here 1\.0"):
        check_planner("10.0.0.1", "0.9", "1.0")


def test_every_node_needs_the_libraries_of_here() -> None:
    check_libraries("a", SAID, ["onnxruntime"])
    with pytest.raises(InputError, match=r"node a: backend onnxruntime has onnxruntime 1\.2, here .*install"):
        check_libraries(
            "a", replace(SAID, libraries={"onnxruntime": (("onnxruntime", "1.2"),)}), ["onnxruntime"]
        )
    with pytest.raises(MissingDependencyError, match="node a: backend onnxruntime: pip install it"):
        check_libraries("a", replace(SAID, libraries={"onnxruntime": "pip install it"}), ["onnxruntime"])


def test_a_machine_introduces_itself(tmp_path: Path) -> None:
    said = introduce(["onnxruntime"])
    assert said.libraries["onnxruntime"] == backend("onnxruntime").libraries()
    assert said.environment.cores >= 1
    assert slots_of(node(CPU=1.0), said, CATALOG)
