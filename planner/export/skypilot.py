"""A plan's fleet as SkyPilot's tasks: a SkyServe service for each server, with its repository.

Source: https://docs.skypilot.co/en/latest/reference/yaml-spec.html and serving/service-yaml-spec.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.errors import InputError
from planner.export.files import File, yaml_file
from planner.export.servers import HTTP_PORT, MODELS, READY, STARTS_WITHIN_S, Server, about_server
from planner.export.source import Origin

REPOSITORIES = "repositories"
_GOOGLE_GPUS = {
    "T4": "T4",
    "L4": "L4",
    "V100-SXM2-16GB": "V100",
    "A100-40GB-SXM": "A100",
    "A100-80GB-SXM": "A100-80GB",
    "H100-SXM": "H100",
}
"""Only on Google does an instance type not say its GPUs to SkyPilot."""


def tasks(servers: Sequence[Server], origin: Origin, image: str) -> list[File]:
    """One file for each server. Raises InputError where an instance would have to run several."""
    return [
        yaml_file(f"{server.name}.yaml", origin, [_task(server, origin, image)], about_server(server))
        for server in servers
    ]


def _task(server: Server, origin: Origin, image: str) -> dict[str, Any]:
    if server.mig or server.on_instance > 1:
        parts = "MIG slices" if server.mig else "two configurations of one workload"
        raise InputError(
            f"{server.offer.instance_type} runs {parts}, each in a Triton of its own; a SkyPilot replica has "
            "one endpoint, so export this plan to kubernetes"
        )
    return {
        "name": server.name,
        "resources": _resources(server, image),
        "file_mounts": {MODELS: f"./{REPOSITORIES}/{server.name}"},
        "envs": {"PLANNER_PLAN": origin.id},
        "service": {
            "readiness_probe": {"path": READY, "initial_delay_seconds": STARTS_WITHIN_S},
            "replica_policy": _replicas(server),
        },
        "run": f"tritonserver --model-repository={MODELS} --http-port={HTTP_PORT}",
    }


def _resources(server: Server, image: str) -> dict[str, Any]:
    offer = server.offer
    made: dict[str, Any] = {
        "infra": "/".join(part for part in (offer.provider, offer.region, server.zone) if part),
        "instance_type": offer.instance_type.partition("+")[0],
        "use_spot": server.spot,
        "image_id": f"docker:{image}",
        "ports": HTTP_PORT,
    }
    if offer.provider == "gcp" and offer.device in _GOOGLE_GPUS:
        name = "H100-MEGA" if "megagpu" in offer.instance_type else _GOOGLE_GPUS[offer.device]
        made["accelerators"] = {name: offer.device_count}
    return made


def _replicas(server: Server) -> dict[str, Any]:
    """Between the fewest and the most of the plan's periods, by what one gets of all its models."""
    if not server.scaled:
        return {"min_replicas": server.most}
    rate = sum(server.rate_to_scale_at(served) for served in server.served)
    return {
        "min_replicas": server.always,
        "max_replicas": server.most,
        "target_qps_per_replica": float(f"{rate:.6g}"),
    }
