"""What a server's pod asks of Kubernetes: where to run, with how much, and how far apart.

Labels of nodes and taints of spot ones: kubernetes.io/docs/reference/labels-annotations-taints, and those of
the providers: karpenter.sh, docs.aws.amazon.com/eks (managed node groups), cloud.google.com/kubernetes-engine
(spot VMs), learn.microsoft.com/azure/aks (spot node pools).
"""

from __future__ import annotations

import re
from math import ceil
from typing import Any

from planner.export.servers import SPOT, Served, Server
from planner.export.source import Origin
from planner.units import GIB

NAME = "app.kubernetes.io/name"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
REGION = "topology.kubernetes.io/region"
ZONE = "topology.kubernetes.io/zone"
AWS_ZONE_ID = "topology.k8s.aws/zone-id"
HOST = "kubernetes.io/hostname"
MANAGED = {"app.kubernetes.io/managed-by": "planner"}
PLAN = "planner/plan"
SERVES = "planner/serves-"
_SPOT_LABELS = (
    ("karpenter.sh/capacity-type", "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("cloud.google.com/gke-spot", "true"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
)
GPU = "gpu"
_TAINTS = (
    ("nvidia.com/gpu", GPU),
    ("cloud.google.com/gke-spot", SPOT),
    ("kubernetes.azure.com/scalesetpriority", SPOT),
)
_SYSTEM_MILLICORES = 400
"""What kubelet, network and monitoring of a small node keep of its CPUs (EKS, GKE, AKS: 0.2 to 0.4)."""
_SERVER_BYTES = GIB
"""Triton itself, beside the models: an allowance, not measured."""
_MIB = 1024**2
_ALLOCATABLE = 0.8
"""Of a node's memory, so much can be asked for: GKE keeps a quarter of the first 4 GiB, a fifth of 4 more."""


def labels(server: Server, origin: Origin) -> dict[str, str]:
    """Of a server's pods, and of all that belongs to it."""
    serves = {f"{SERVES}{served.model}": "true" for served in server.served}
    return {NAME: server.name, **MANAGED, PLAN: origin.id, **serves}


def selector(server: Server) -> dict[str, str]:
    """What stays the same when a new plan changes this server."""
    return {NAME: server.name}


def origin_notes(origin: Origin) -> dict[str, str]:
    return {"planner/plan-sha256": origin.sha256, "planner/plan-created-at": origin.created_at}


def resources(server: Server) -> dict[str, dict[str, str]]:
    """No limit on CPU and memory: throttled, no latency holds; and the nodes are the server's own.

    Memory is what was measured of each replica's process, with an allowance for the server, as far as the
    instance has it.
    """
    asked = {"cpu": f"{_millicores(server)}m"}
    memory = _memory_bytes(server)
    if memory:
        asked["memory"] = f"{ceil(memory / _MIB)}Mi"
    if not server.gpus:
        return {"requests": asked}
    kind = f"nvidia.com/mig-{server.mig.replace('+', '.')}" if server.mig else "nvidia.com/gpu"
    gpus = {kind: str(server.gpus)}
    return {"requests": asked | gpus, "limits": gpus}


def _millicores(server: Server) -> int:
    """The engines' threads, as far as a node has them to give; of a GPU's server, its part of the CPUs."""
    vcpus = server.offer.vcpus
    given = max(1000 * vcpus - _SYSTEM_MILLICORES, 500)
    if server.gpus:
        return max(given // server.on_instance, 100)
    threads = sum(served.replicas * served.candidate.threads for served in server.served)
    return given * threads // vcpus


def _memory_bytes(server: Server) -> float:
    """0 where it is not known: neither of the replicas nor of the instance."""
    offered = server.offer.memory_bytes
    part = None if offered is None else _ALLOCATABLE * offered / server.on_instance
    if server.gpus:
        # What was measured is the GPU's. Half of what there is keeps the pod from being evicted for another.
        return part / 2 if part else 0
    known = [_replicas_bytes(served) for served in server.served]
    if any(size is None for size in known):
        return 0
    wanted = sum(size for size in known if size is not None) + _SERVER_BYTES
    return wanted if part is None else min(wanted, part)


def _replicas_bytes(served: Served) -> float | None:
    size = served.candidate.memory_bytes
    return None if size is None else served.replicas * size


def placement(server: Server) -> dict[str, Any]:
    """The part of a pod's spec that says where it runs."""
    offer = server.offer
    # Google's N1 machines take GPUs of one's choice; the node's label is the machine's.
    where = {INSTANCE_TYPE: offer.instance_type.partition("+")[0], REGION: offer.region}
    if server.zone:
        where[_zone_label(server)] = server.zone
    affinity: dict[str, Any] = {"nodeAffinity": _required_nodes(server.spot)}
    if server.per_instance == 1:
        affinity["podAntiAffinity"] = _alone(server)
    spec: dict[str, Any] = {"nodeSelector": where, "affinity": affinity}
    tainted = [key for key, by in _TAINTS if (by == GPU and server.gpus) or (by == SPOT and server.spot)]
    if tainted:
        spec["tolerations"] = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in tainted]
    if server.redundant:
        spec["topologySpreadConstraints"] = _spread(server)
    return spec


def _zone_label(server: Server) -> str:
    """AWS's zones have ids, ``use1-az1``, and names, ``us-east-1a``, which differ from account to account."""
    is_id = server.offer.provider == "aws" and re.fullmatch(r"[a-z0-9]+-az\d+", server.zone)
    return AWS_ZONE_ID if is_id else ZONE


def _alone(server: Server) -> dict[str, Any]:
    """One of it on a node; and no server of another kind, unless the plan has them share the instance."""
    others = MANAGED if server.on_instance == 1 else selector(server)
    term = {"labelSelector": {"matchLabels": others}, "topologyKey": HOST}
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


def _required_nodes(spot: bool) -> dict[str, Any]:
    """Spot nodes by any of the providers' labels, or nodes that carry none of them."""
    if spot:
        terms = [{"matchExpressions": [_expression(key, "In", value)]} for key, value in _SPOT_LABELS]
    else:
        terms = [{"matchExpressions": [_expression(key, "NotIn", value) for key, value in _SPOT_LABELS]}]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _expression(key: str, operator: str, value: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": [value]}


def _spread(server: Server) -> list[dict[str, Any]]:
    """Evenly over instances, so that a lost one takes no more than planned; over zones as far as it goes."""
    spread = [(HOST, "DoNotSchedule")] + ([] if server.zone else [(ZONE, "ScheduleAnyway")])
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": otherwise,
            "labelSelector": {"matchLabels": selector(server)},
        }
        for key, otherwise in spread
    ]
