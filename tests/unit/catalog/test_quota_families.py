"""The quota that each provider counts an instance under, against the names in its own quota lists."""

from __future__ import annotations

import pytest

from planner.catalog.families import quota_family


@pytest.mark.parametrize(
    ("instance_type", "purchase", "family"),
    [
        # SkyPilot's aws/instance_quota_mapping.csv: L-DB2E81BA is "G and VT", L-417A185B "P"
        ("g4dn.xlarge", "on-demand", "G and VT"),
        ("g5.48xlarge", "spot", "G and VT"),
        ("gr6.4xlarge", "on-demand", "G and VT"),
        ("p4d.24xlarge", "on-demand", "P"),
        ("p4d.24xlarge", "spot", "P"),
        ("p5.48xlarge", "on-demand", "P"),
        ("p5en.48xlarge", "spot", "P5"),
        ("p6-b200.48xlarge", "on-demand", "P"),
        ("c7i.large", "on-demand", "Standard"),
        ("m7i.large", "spot", "Standard"),
        ("inf2.xlarge", "on-demand", "Inf"),
        ("trn1.2xlarge", "on-demand", "Trn"),
        ("u-6tb1.metal", "on-demand", "High Memory"),
    ],
)
def test_aws_counts_vcpus_by_leading_letters(instance_type: str, purchase: str, family: str) -> None:
    assert quota_family("aws", instance_type, "?", 8, 96, purchase) == (family, 96)


@pytest.mark.parametrize(
    ("instance_type", "device", "count", "purchase", "expected"),
    [
        # SkyPilot's gcp/accelerator_quota_mapping.csv
        ("a2-highgpu-2g", "A100-40GB-SXM", 2, "on-demand", ("NVIDIA_A100_GPUS", 2)),
        ("a2-ultragpu-1g", "A100-80GB-SXM", 1, "spot", ("PREEMPTIBLE_NVIDIA_A100_80GB_GPUS", 1)),
        ("n1-standard-4+1xT4", "T4", 1, "on-demand", ("NVIDIA_T4_GPUS", 1)),
        ("n1-standard-8+1xV100-16GB", "V100-SXM2-16GB", 1, "spot", ("PREEMPTIBLE_NVIDIA_V100_GPUS", 1)),
        ("g4-standard-6", "RTX-PRO-6000-Server", 0.125, "on-demand", ("NVIDIA_RTX_PRO_6000_GPUS", 1)),
        ("c3-standard-8", "sapphire-rapids", 0, "on-demand", ("C3_CPUS", 8)),
        ("n1-standard-8", "x86-mixed", 0, "on-demand", ("CPUS", 8)),
        ("n2-standard-8", "x86-mixed", 0, "spot", ("PREEMPTIBLE_CPUS", 8)),
    ],
)
def test_google_counts_gpus_by_kind_and_else_vcpus_by_series(
    instance_type: str, device: str, count: float, purchase: str, expected: tuple[str, float]
) -> None:
    assert quota_family("gcp", instance_type, device, count, 8, purchase) == expected


@pytest.mark.parametrize(
    ("instance_type", "family"),
    [
        ("Standard_NC24ads_A100_v4", "StandardNCADSA100v4Family"),
        ("Standard_NC80adis_H100_v5", "StandardNCadsH100v5Family"),
        ("Standard_ND96asr_v4", "StandardNDASv4_A100Family"),
        ("Standard_ND96amsr_A100_v4", "standardNDAMSv4_A100Family"),
        ("Standard_NC4as_T4_v3", "StandardNCASv3_T4Family"),
        ("Standard_NC6s_v3", "standardNCSv3Family"),
        ("Standard_NV36adms_A10_v5", "StandardNVADSA10v5Family"),
        ("Standard_D8s_v5", "standardDSv5Family"),
        ("Standard_X1", ""),
    ],
)
def test_azure_counts_vcpus_by_family(instance_type: str, family: str) -> None:
    assert quota_family("azure", instance_type, "?", 1, 24, "on-demand") == (family, 24 if family else 0)
    assert quota_family("azure", instance_type, "?", 1, 24, "spot") == ("lowPriorityCores", 24)


def test_who_sets_no_quotas_has_no_family() -> None:
    assert quota_family("lambda", "gpu_1x_a10", "A10", 1, 30, "on-demand") == ("", 0)
