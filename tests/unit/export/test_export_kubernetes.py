"""Kubernetes and KServe: every object against Kubernetes' own schemas, and against what the plan says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from exported_plans import (
    C7I,
    DAY,
    L4,
    NIGHT,
    RANK_CPU,
    SEARCH_CPU,
    candidate,
    mixed_fleet,
    offer,
    placed,
    plan,
    workload,
    write_plan,
)

from planner.export import Settings, export
from planner.report import PlanReport

Object = dict[str, Any]


def documents(folder: Path) -> dict[str, list[Object]]:
    """What is applied to clusters, by file, relative to ``folder``."""
    return {
        path.relative_to(folder).as_posix(): list(yaml.safe_load_all(path.read_text()))
        for path in sorted(folder.glob("*/*.yaml"))
    }


def written(tmp_path: Path, report: PlanReport, target: Any = "kubernetes") -> dict[str, list[Object]]:
    export(write_plan(tmp_path / "plan", report), target, tmp_path / "out", Settings())
    return documents(tmp_path / "out")


def of_kind(found: dict[str, list[Object]], kind: str) -> dict[str, Object]:
    return {o["metadata"]["name"]: o for objects in found.values() for o in objects if o["kind"] == kind}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    return written(tmp_path_factory.mktemp("kubernetes"), mixed_fleet())


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    return written(tmp_path_factory.mktemp("kserve"), mixed_fleet(), "kserve")


def valid(thing: Object) -> None:
    kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)


def test_the_schemas_catch_what_is_wrong(fleet: dict[str, list[Object]]) -> None:
    """The validator itself, or the tests below would prove nothing."""
    deployment = of_kind(fleet, "Deployment")["aws-c7i-4xlarge-us-east-1"]
    for change in ({"replicas": "three"}, {"replica": 3}, {"strategy": "RollingUpdate"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            valid(deployment | {"spec": deployment["spec"] | change})


def test_all_objects_are_valid(fleet: dict[str, list[Object]]) -> None:
    kinds = []
    for objects in fleet.values():
        for thing in objects:
            valid(thing)
            kinds.append(thing["kind"])
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "Deployment": 4,
        "HorizontalPodAutoscaler": 2,
        "Service": 5,
        "PodDisruptionBudget": 3,
    }


def test_names_and_labels_fit(fleet: dict[str, list[Object]]) -> None:
    """Rules that are not in the schemas."""
    label = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
    for thing in (thing for objects in fleet.values() for thing in objects):
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", thing["metadata"]["name"])
        for key, value in thing["metadata"]["labels"].items():
            assert label.fullmatch(value)
            assert label.fullmatch(key.rpartition("/")[2])


def test_selectors_find_their_pods(fleet: dict[str, list[Object]]) -> None:
    pods = {
        name: d["spec"]["template"]["metadata"]["labels"] for name, d in of_kind(fleet, "Deployment").items()
    }
    for name, deployment in of_kind(fleet, "Deployment").items():
        wanted = deployment["spec"]["selector"]["matchLabels"].items()
        assert [pod for pod, labels in pods.items() if wanted <= labels.items()] == [name]
    for model, serving in {
        "search": {"aws-c7i-4xlarge-us-east-1", "aws-p4d-24xlarge-us-east-1a-1g-5gb"},
        "rank": {"aws-c7i-4xlarge-us-east-1"},
    }.items():
        (service,) = (s for s in fleet["aws-us-east-1/services.yaml"] if s["metadata"]["name"] == model)
        found = {pod for pod, labels in pods.items() if service["spec"]["selector"].items() <= labels.items()}
        assert {name for name in found if name.startswith("aws")} == serving
    for budget in of_kind(fleet, "PodDisruptionBudget").values():
        assert all(
            budget["spec"]["selector"]["matchLabels"].items() <= labels.items() for labels in pods.values()
        )
    for scaler in of_kind(fleet, "HorizontalPodAutoscaler").values():
        assert scaler["spec"]["scaleTargetRef"]["name"] in pods


def test_counts_and_places(fleet: dict[str, list[Object]]) -> None:
    found = of_kind(fleet, "Deployment")
    assert {name: d["spec"]["replicas"] for name, d in found.items()} == {
        "aws-c7i-4xlarge-us-east-1": 3,
        "aws-p4d-24xlarge-us-east-1a-1g-5gb": 7,
        "gcp-g2-standard-8-us-central1-spot": 2,
        "azure-standard-nc64as-t4-v3-eastus": 1,
    }
    where = {name: d["spec"]["template"]["spec"]["nodeSelector"] for name, d in found.items()}
    assert where["aws-p4d-24xlarge-us-east-1a-1g-5gb"] == {
        "node.kubernetes.io/instance-type": "p4d.24xlarge",
        "topology.kubernetes.io/region": "us-east-1",
        "topology.kubernetes.io/zone": "us-east-1a",
    }
    assert where["azure-standard-nc64as-t4-v3-eastus"] == {
        "node.kubernetes.io/instance-type": "Standard_NC64as_T4_v3",
        "topology.kubernetes.io/region": "eastus",
    }


def test_resources(fleet: dict[str, list[Object]]) -> None:
    found = {
        name: d["spec"]["template"]["spec"]["containers"][0]["resources"]
        for name, d in of_kind(fleet, "Deployment").items()
    }
    cpu = found["aws-c7i-4xlarge-us-east-1"]
    assert set(cpu) == {"requests"}
    # 14 threads of 16 vCPUs, of which 0.4 are the system's; four replicas of 300 MiB and 1 GiB.
    assert cpu["requests"] == {"cpu": "13650m", "memory": "2224Mi"}
    mig = found["aws-p4d-24xlarge-us-east-1a-1g-5gb"]
    assert mig["limits"] == {"nvidia.com/mig-1g.5gb": "1"}
    assert 7 * int(mig["requests"]["cpu"][:-1]) <= 96_000
    assert found["azure-standard-nc64as-t4-v3-eastus"]["limits"] == {"nvidia.com/gpu": "4"}
    assert found["gcp-g2-standard-8-us-central1-spot"]["limits"] == {"nvidia.com/gpu": "1"}
    for asked in found.values():
        assert asked.get("limits", {}).items() <= asked["requests"].items()


def pod_of(fleet: dict[str, list[Object]], name: str) -> Object:
    pod: Object = of_kind(fleet, "Deployment")[name]["spec"]["template"]["spec"]
    return pod


def test_spot(fleet: dict[str, list[Object]]) -> None:
    def terms(name: str) -> list[Object]:
        found = pod_of(fleet, name)["affinity"]["nodeAffinity"]
        return list(found["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"])

    spot = terms("gcp-g2-standard-8-us-central1-spot")
    assert len(spot) == 4, "any one of the providers' labels"
    assert {e["operator"] for term in spot for e in term["matchExpressions"]} == {"In"}
    (other,) = terms("aws-c7i-4xlarge-us-east-1")
    assert {e["operator"] for e in other["matchExpressions"]} == {"NotIn"}
    tolerated = {t["key"] for t in pod_of(fleet, "gcp-g2-standard-8-us-central1-spot")["tolerations"]}
    assert tolerated == {
        "nvidia.com/gpu",
        "cloud.google.com/gke-spot",
        "kubernetes.azure.com/scalesetpriority",
    }
    assert "tolerations" not in pod_of(fleet, "aws-c7i-4xlarge-us-east-1")


def test_redundant_pods_are_spread(fleet: dict[str, list[Object]]) -> None:
    """n+1: no instance holds more than its part, and one pod at a time is replaced."""
    spread = pod_of(fleet, "aws-c7i-4xlarge-us-east-1")["topologySpreadConstraints"]
    assert [(s["topologyKey"], s["whenUnsatisfiable"]) for s in spread] == [
        ("kubernetes.io/hostname", "DoNotSchedule"),
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
    ]
    mig = pod_of(fleet, "aws-p4d-24xlarge-us-east-1a-1g-5gb")
    assert [s["topologyKey"] for s in mig["topologySpreadConstraints"]] == ["kubernetes.io/hostname"]
    assert "podAntiAffinity" not in mig["affinity"], "seven share an instance"
    assert "podAntiAffinity" in pod_of(fleet, "aws-c7i-4xlarge-us-east-1")["affinity"]
    # Rank alone is not redundant.
    assert "topologySpreadConstraints" not in pod_of(fleet, "gcp-g2-standard-8-us-central1-spot")


def test_the_autoscaler_goes_between_the_periods(fleet: dict[str, list[Object]]) -> None:
    scaler = of_kind(fleet, "HorizontalPodAutoscaler")["aws-c7i-4xlarge-us-east-1"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 3)
    targets = {
        m["pods"]["metric"]["selector"]["matchLabels"]["model"]: m["pods"]["target"]["averageValue"]
        for m in scaler["metrics"]
    }
    assert targets == {"search": "180000m", "rank": "40000m"}
    kept = of_kind(fleet, "HorizontalPodAutoscaler")["gcp-g2-standard-8-us-central1-spot"]["spec"]
    assert (kept["minReplicas"], kept["maxReplicas"]) == (1, 2), "none at night is kept at one"


def test_each_server_mounts_its_own_repository(fleet: dict[str, list[Object]], tmp_path: Path) -> None:
    export(write_plan(tmp_path / "plan", mixed_fleet()), "triton", tmp_path / "triton", Settings())
    exported = {path.name for path in (tmp_path / "triton").iterdir() if path.is_dir()}
    mounted = {
        d["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["subPath"]
        for d in of_kind(fleet, "Deployment").values()
    }
    assert mounted == exported


def test_settings_reach_the_pods(tmp_path: Path) -> None:
    settings = Settings(image="registry.local/triton:1", claim="weights")
    export(write_plan(tmp_path / "plan", mixed_fleet()), "kubernetes", tmp_path / "out", settings)
    for deployment in of_kind(documents(tmp_path / "out"), "Deployment").values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["containers"][0]["image"] == "registry.local/triton:1"
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "weights"


def test_shares_that_a_service_cannot_keep_are_told(tmp_path: Path) -> None:
    small = offer("aws", "c7i.large", "us-east-1", "sapphire-rapids", device_count=0.0, vcpus=2)
    weak = candidate("search", "int8", "onnxruntime", "sapphire-rapids", threads=2, packed_capacity_rps=50.0)
    report = plan(
        [workload("search")],
        [SEARCH_CPU, weak],
        [C7I, small],
        [placed(C7I, 1, {SEARCH_CPU.id: (4, 80.0)}), placed(small, 3, {weak.id: (1, 40.0)})],
    )
    report = report.model_copy(update={"candidates": [SEARCH_CPU, weak.model_copy(update={"id": "weak"})]})
    placements = [report.fleet.placements[0], placed(small, 3, {"weak": (1, 40.0)})]
    report = report.model_copy(update={"fleet": report.fleet.model_copy(update={"placements": placements})})
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text(report.model_dump_json())
    done = export(tmp_path / "plan", "kubernetes", tmp_path / "out", Settings())
    # (320 + 3 × 40) / 4
    (note,) = (note for note in done.notes if "a Service gives every pod" in note)
    assert (
        "search: a Service gives every pod 110 requests/s, those of aws-c7i-large-us-east-1 stand 50" in note
    )
    head = (tmp_path / "out" / "aws-us-east-1" / "services.yaml").read_text()
    assert "# search: planned requests/s of a pod: aws-c7i-4xlarge-us-east-1 320" in head


def test_traffic_between_clusters_is_told(tmp_path: Path) -> None:
    report = plan(
        [workload("rank")],
        [RANK_CPU],
        [C7I, L4],
        [placed(C7I, 1, {RANK_CPU.id: (1, 30.0)}), placed(L4, 2, {RANK_CPU.id: (1, 35.0)})],
    )
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text(report.model_dump_json())
    done = export(tmp_path / "plan", "kubernetes", tmp_path / "out", Settings())
    assert any("rank: route 30.0% to aws-us-east-1, 70.0% to gcp-us-central1" in note for note in done.notes)


def test_inference_services(kserve: dict[str, list[Object]]) -> None:
    """KServe's own schema is in no package: its frame is checked here, all else by Kubernetes'."""
    found = of_kind(kserve, "InferenceService")
    assert set(found) == {
        "aws-c7i-4xlarge-us-east-1",
        "aws-p4d-24xlarge-us-east-1a-1g-5gb",
        "gcp-g2-standard-8-us-central1-spot",
        "azure-standard-nc64as-t4-v3-eastus",
    }
    for name, service in found.items():
        assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
        assert service["apiVersion"] == "serving.kserve.io/v1beta1"
        predictor = dict(service["spec"]["predictor"])
        model = predictor.pop("model")
        assert set(model) == {
            "modelFormat",
            "runtime",
            "runtimeVersion",
            "protocolVersion",
            "storageUri",
            "resources",
        }
        assert model["storageUri"] == f"pvc://model-repository/{name}"
        assert model["protocolVersion"] == "v2"
        assert predictor.pop("minReplicas") <= predictor.pop("maxReplicas")
        tagged = predictor.pop("labels")
        container = {"name": "kserve-container", "resources": model["resources"]}
        metadata = service["metadata"] | {"labels": tagged}
        spec = predictor | {"containers": [container]}
        valid({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def test_inference_services_are_scaled_by_our_autoscaler(kserve: dict[str, list[Object]]) -> None:
    services = of_kind(kserve, "InferenceService")
    scalers = of_kind(kserve, "HorizontalPodAutoscaler")
    assert set(scalers) == {"aws-c7i-4xlarge-us-east-1", "gcp-g2-standard-8-us-central1-spot"}
    for name, service in services.items():
        external = service["metadata"]["annotations"].get("serving.kserve.io/autoscalerClass")
        assert external == ("external" if name in scalers else None)
    for name, scaler in scalers.items():
        valid(scaler)
        assert scaler["spec"]["scaleTargetRef"]["name"] == f"{name}-predictor"


def test_the_metrics_rule_makes_the_autoscalers_metric(tmp_path: Path) -> None:
    found = written(tmp_path, mixed_fleet())
    (rule,) = yaml.safe_load((tmp_path / "out" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    asked = {
        metric["pods"]["metric"]["name"]
        for scaler in of_kind(found, "HorizontalPodAutoscaler").values()
        for metric in scaler["spec"]["metrics"]
    }
    assert asked == {rule["name"]["as"]}
    assert rule["seriesQuery"].startswith("nv_inference_request_success{")


def test_no_autoscaler_where_the_count_stays(tmp_path: Path) -> None:
    report = plan([workload("rank")], [RANK_CPU], [C7I], [placed(C7I, 2, {RANK_CPU.id: (1, 30.0)})])
    for target in ("kubernetes", "kserve"):
        found = written(tmp_path / target, report, target)
        assert not of_kind(found, "HorizontalPodAutoscaler")
        assert not (tmp_path / target / "out" / "prometheus-adapter.yaml").exists()


@pytest.mark.parametrize(
    ("zone", "label"),
    [("us-east-1a", "topology.kubernetes.io/zone"), ("use1-az1", "topology.k8s.aws/zone-id")],
)
def test_zones_by_name_or_id(tmp_path: Path, zone: str, label: str) -> None:
    there = placed(C7I, 2, {RANK_CPU.id: (1, 30.0)}, zone=f"aws/{zone}")
    found = written(tmp_path, plan([workload("rank", redundancy="zone")], [RANK_CPU], [C7I], [there]))
    (deployment,) = of_kind(found, "Deployment").values()
    assert deployment["spec"]["template"]["spec"]["nodeSelector"][label] == zone


def test_workloads_whose_names_are_alike(tmp_path: Path) -> None:
    names = ("a.b", "a-b", "1st")
    served = [candidate(name, "int8", "onnxruntime", "sapphire-rapids") for name in names]
    report = plan(
        [workload(name) for name in names], served, [C7I], [placed(C7I, 1, {c.id: (1, 5.0) for c in served})]
    )
    found = written(tmp_path, report)
    services = found["aws-us-east-1/services.yaml"]
    assert [s["metadata"]["name"] for s in services] == ["a-b", "a-b-2", "m-1st"]
    for thing in (thing for things in found.values() for thing in things):
        valid(thing)


def test_periods_by_name(fleet: dict[str, list[Object]], tmp_path: Path) -> None:
    done = export(write_plan(tmp_path / "plan", mixed_fleet()), "kubernetes", tmp_path / "out", Settings())
    head = (tmp_path / "out" / "aws-us-east-1" / "aws-c7i-4xlarge-us-east-1.yaml").read_text().splitlines()[2]
    assert f"3 in {DAY}, 1 in {NIGHT}" in head
    assert any("Prometheus adapter" in note for note in done.notes)
