"""A plan's fleet as KServe's InferenceServices, in its raw (standard) deployment mode.

An InferenceService makes a Deployment ``<name>-predictor``; where the plan has periods, our autoscaler stands
in for KServe's, which knows CPU and memory only.
Source: https://kserve.github.io/website (InferenceService v1beta1, Triton runtime, raw deployment).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.export.files import File, yaml_file
from planner.export.kubernetes import autoscaler, described, disruption
from planner.export.pods import labels, placement, resources
from planner.export.servers import Server, about_server
from planner.export.source import Origin
from planner.export.traffic import by_cluster

RUNTIME = "kserve-tritonserver"


def inference_services(servers: Sequence[Server], origin: Origin, image: str, claim: str) -> list[File]:
    """A folder for each cluster: a file for each server, one for disruptions."""
    files = [
        yaml_file(
            f"{server.cluster}/{server.name}.yaml",
            origin,
            _of_server(server, origin, image, claim),
            about_server(server),
        )
        for server in servers
    ]
    return files + [disruption(cluster, origin) for cluster in by_cluster(servers)]


def _of_server(server: Server, origin: Origin, image: str, claim: str) -> list[object]:
    service = _inference_service(server, origin, image, claim)
    scaler = [autoscaler(server, origin, f"{server.name}-predictor")] if server.scaled else []
    return [service, *scaler]


def _inference_service(server: Server, origin: Origin, image: str, claim: str) -> dict[str, Any]:
    tagged = labels(server, origin)
    meta = described(server.name, origin, tagged)
    meta["annotations"] |= {"serving.kserve.io/deploymentMode": "RawDeployment"}
    if server.scaled:
        meta["annotations"] |= {"serving.kserve.io/autoscalerClass": "external"}
    model = {
        "modelFormat": {"name": "triton", "version": "2"},
        "runtime": RUNTIME,
        "runtimeVersion": image.rpartition(":")[2],
        "protocolVersion": "v2",
        "storageUri": f"pvc://{claim}/{server.name}",
        "resources": resources(server),
    }
    predictor = {
        "minReplicas": server.always if server.scaled else server.most,
        "maxReplicas": server.most,
        "labels": tagged,
        **placement(server),
        "model": model,
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": meta,
        "spec": {"predictor": predictor},
    }
