"""Which quota a provider counts an instance type under, and how much of it one instance takes.

Sources, each to be checked against the quota page of one's own account:

* AWS counts vCPUs by the leading letters of the type, on-demand and spot apart (Service Quotas, *Running
  On-Demand P instances*, *All P5 Spot Instance Requests*; SkyPilot's catalog has the quota codes in
  ``aws/instance_quota_mapping.csv``).
* Google counts accelerators by kind, preemptible ones apart (``NVIDIA_L4_GPUS``; SkyPilot's
  ``gcp/accelerator_quota_mapping.csv``), and vCPUs by machine series (``C3_CPUS``; those of N1 and E2 are
  plain ``CPUS``) where there is no accelerator.
* Azure counts vCPUs by VM family (the names that ``az vm list-usage`` and ``list-skus`` give, as in
  SkyPilot's ``fetch_azure.py``), and those of spot machines all together.
"""

from __future__ import annotations

import re
from functools import lru_cache

from planner.domain.offer import SPOT

_AWS_FAMILIES = {
    **dict.fromkeys(("a", "c", "d", "h", "i", "is", "im", "m", "r", "t", "z"), "Standard"),
    **dict.fromkeys(("g", "gr", "vt"), "G and VT"),
    "p": "P",
    "dl": "DL",
    "inf": "Inf",
    "trn": "Trn",
    "f": "F",
    "x": "X",
    "hpc": "HPC",
    "u": "High Memory",
}
_AWS_LETTERS = re.compile(r"[a-z]+")

_GCP_PLAIN = ("n1", "e2", "f1", "g1")
"""Series without a vCPU quota of their own."""
_GCP_GPUS = (
    ("T4", "T4"),
    ("V100", "V100"),
    ("L4", "L4"),
    ("A100-80GB", "A100_80GB"),
    ("A100", "A100"),
    ("H100", "H100"),
    ("H200", "H200"),
    ("B200", "B200"),
    ("RTX-PRO-6000", "RTX_PRO_6000"),
)
"""Device names by their beginning, longest first, to what the quota calls them."""

_AZURE_FAMILIES = tuple(
    (re.compile(rf"Standard_{shape}"), family)
    for shape, family in (
        (r"NV\d+adm?s_A10_v5", "StandardNVADSA10v5Family"),
        (r"NC\d+ads_A10_v4", "StandardNCADSA10v4Family"),
        (r"NC\d+ads_A100_v4", "StandardNCADSA100v4Family"),
        (r"ND96asr_v4", "StandardNDASv4_A100Family"),
        (r"ND96amsr_A100_v4", "standardNDAMSv4_A100Family"),
        (r"NC\d+adi?s_H100_v5", "StandardNCadsH100v5Family"),
        (r"NCC\d+ads_H100_v5", "StandardNCCads2023Family"),
        (r"ND96isr?_H100_v5", "standardNDSH100v5Family"),
        (r"ND96isr_H200_v5", "standardNDISRH200V5Family"),
        (r"NC\d+as_T4_v3", "StandardNCASv3_T4Family"),
        (r"NC\d+r?s_v3", "standardNCSv3Family"),
        (r"ND40rs_v2", "standardNDSv2Family"),
        (r"D\d+s_v5", "standardDSv5Family"),
        (r"F\d+s_v2", "standardFSv2Family"),
    )
)


@lru_cache(maxsize=8192)
def quota_family(
    provider: str, instance_type: str, device: str, device_count: float, vcpus: int, purchase: str
) -> tuple[str, float]:
    """The quota that an instance counts under and what it takes of it; ``("", 0)`` where none is known."""
    if provider == "aws":
        family = _aws(instance_type, purchase)
    elif provider == "azure":
        family = _azure(instance_type, purchase)
    elif provider == "gcp":
        return _gcp(instance_type, device, device_count, vcpus, purchase)
    else:
        family = ""
    return (family, float(vcpus)) if family else ("", 0.0)


def _aws(instance_type: str, purchase: str) -> str:
    letters = _AWS_LETTERS.match(instance_type)
    family = _AWS_FAMILIES.get(letters.group(), "") if letters else ""
    # on demand all P types share one quota, as spot P5 has its own
    return "P5" if purchase == SPOT and instance_type.startswith("p5") else family


def _azure(instance_type: str, purchase: str) -> str:
    if purchase == SPOT:
        return "lowPriorityCores"
    return next((family for shape, family in _AZURE_FAMILIES if shape.fullmatch(instance_type)), "")


def _gcp(
    instance_type: str, device: str, device_count: float, vcpus: int, purchase: str
) -> tuple[str, float]:
    preemptible = "PREEMPTIBLE_" if purchase == SPOT else ""
    if device_count > 0:
        kind = next((kind for start, kind in _GCP_GPUS if device.startswith(start)), "")
        # a slice of a GPU counts as one
        return (f"{preemptible}NVIDIA_{kind}_GPUS", max(1.0, device_count)) if kind else ("", 0.0)
    if preemptible:
        return "PREEMPTIBLE_CPUS", float(vcpus)
    series = instance_type.partition("-")[0]
    return ("CPUS" if series in _GCP_PLAIN else f"{series.upper()}_CPUS"), float(vcpus)
