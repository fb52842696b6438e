"""A plan's fleet as Kubernetes objects: a Deployment for each server, a Service for each workload.

Source: kubernetes.io/docs/reference/kubernetes-api; Triton's ports, probes and metrics:
https://github.com/triton-inference-server/server/blob/main/docs (protocol, metrics).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.export.files import File, yaml_file
from planner.export.pods import (
    MANAGED,
    NAME,
    PLAN,
    SERVES,
    labels,
    origin_notes,
    placement,
    resources,
    selector,
)
from planner.export.servers import (
    HTTP_PORT,
    MODELS,
    READY,
    STARTS_WITHIN_S,
    Server,
    about_server,
    distinct,
    dns_name,
    models,
)
from planner.export.source import Origin
from planner.export.traffic import about_shares, by_cluster

ADAPTER_VALUES = "prometheus-adapter.yaml"
_REQUESTS_COUNTER = "nv_inference_request_success"
REQUESTS_METRIC = f"{_REQUESTS_COUNTER}_per_second"
"""What a Prometheus adapter is to make of Triton's counter: its rate in each pod, by model."""
_PORTS = {"http": HTTP_PORT, "grpc": 8001, "metrics": 8002}
_LIVE = "/v2/health/live"
_PROBE_S = 10
_STEADY_S = 300


def manifests(servers: Sequence[Server], origin: Origin, image: str, claim: str) -> list[File]:
    """A folder for each cluster: a file for each server, one for the Services, one for disruptions."""
    files = []
    for cluster, inside in by_cluster(servers).items():
        files += [
            yaml_file(
                f"{cluster}/{s.name}.yaml", origin, _of_server(s, origin, image, claim), about_server(s)
            )
            for s in inside
        ]
        names = distinct(map(dns_name, models(inside)))
        services = [_service(m, name, origin) for m, name in zip(models(inside), names, strict=True)]
        files.append(yaml_file(f"{cluster}/services.yaml", origin, services, list(about_shares(inside))))
        files.append(disruption(cluster, origin))
    return files


def _of_server(server: Server, origin: Origin, image: str, claim: str) -> list[object]:
    made: list[object] = [_deployment(server, origin, image, claim)]
    if server.scaled:
        made.append(autoscaler(server, origin, server.name))
    return made


def described(name: str, origin: Origin, tagged: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "labels": tagged, "annotations": origin_notes(origin)}


def _deployment(server: Server, origin: Origin, image: str, claim: str) -> dict[str, Any]:
    tagged = labels(server, origin)
    # With an instance to spare one pod may be missing while another is replaced; else it needs one more node.
    update = (
        {"maxSurge": 0, "maxUnavailable": 1} if server.redundant else {"maxSurge": 1, "maxUnavailable": 0}
    )
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(_PORTS["metrics"])}
    pod = {
        "automountServiceAccountToken": False,
        **placement(server),
        "containers": [_container(server, image)],
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": described(server.name, origin, tagged),
        "spec": {
            "replicas": server.most,
            "progressDeadlineSeconds": STARTS_WITHIN_S,
            "selector": {"matchLabels": selector(server)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": update},
            "template": {
                "metadata": {"labels": tagged, "annotations": origin_notes(origin) | scraped},
                "spec": pod,
            },
        },
    }


def _container(server: Server, image: str) -> dict[str, Any]:
    return {
        "name": "triton",
        "image": image,
        "args": ["tritonserver", f"--model-repository={MODELS}"],
        "ports": [{"name": name, "containerPort": port} for name, port in _PORTS.items()],
        "resources": resources(server),
        "startupProbe": _probe(READY, STARTS_WITHIN_S // _PROBE_S),
        "livenessProbe": _probe(_LIVE, 3),
        "readinessProbe": _probe(READY, 3),
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS, "subPath": server.name, "readOnly": True},
        ],
    }


def _probe(path: str, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": _PROBE_S,
        "failureThreshold": failures,
    }


def autoscaler(server: Server, origin: Origin, deployment: str) -> dict[str, Any]:
    """Between the fewest and the most of the plan's periods, by what a pod gets of each model."""
    metrics = [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": REQUESTS_METRIC, "selector": {"matchLabels": {"model": served.model}}},
                "target": {
                    "type": "AverageValue",
                    "averageValue": f"{_milli(server.rate_to_scale_at(served))}m",
                },
            },
        }
        for served in server.served
        if server.rate_to_scale_at(served) > 0
    ]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": described(server.name, origin, labels(server, origin)),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
            "minReplicas": server.always,
            "maxReplicas": server.most,
            "metrics": metrics,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": _STEADY_S}},
        },
    }


def _milli(rate: float) -> int:
    """Rounded down: a higher target could start one server too few."""
    return max(int(1000 * rate), 1)


def metrics_rule(origin: Origin) -> File:
    """Values for the Helm chart prometheus-adapter, without which an autoscaler has no metric."""
    rule = {
        "seriesQuery": f'{_REQUESTS_COUNTER}{{namespace!="",pod!=""}}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
        "name": {"as": REQUESTS_METRIC},
        "metricsQuery": "sum(rate(<<.Series>>{<<.LabelMatchers>>}[2m])) by (<<.GroupBy>>)",
    }
    about = "For the Helm chart prometheus-adapter: helm upgrade --install ... --values with this file."
    return yaml_file(ADAPTER_VALUES, origin, [{"rules": {"custom": [rule]}}], (about,))


def _service(model: str, name: str, origin: Origin) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": described(name, origin, {NAME: name, PLAN: origin.id}),
        "spec": {
            "selector": {f"{SERVES}{model}": "true"},
            "ports": [
                {"name": called, "port": port, "targetPort": called}
                for called, port in _PORTS.items()
                if called != "metrics"
            ],
        },
    }


def disruption(cluster: str, origin: Origin) -> File:
    """One budget for all: a pod that serves two workloads must not be in two of them."""
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": described("planner", origin, MANAGED),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": MANAGED}},
    }
    return yaml_file(f"{cluster}/disruption.yaml", origin, [budget], ("One pod at a time.",))
