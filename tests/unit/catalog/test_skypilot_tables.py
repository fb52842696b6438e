"""SkyPilot's catalogs in the layouts of its repository (fixtures/skypilot), row by row.

The fixtures have the columns and the quirks of the files at github.com/skypilot-org/skypilot-catalog
(v8, Azure's v6), cut to the rows that matter; their prices are near real ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.catalog import load
from planner.catalog.skypilot import ImportedInstance, ImportedPrice, ProviderTables, catalog_files
from planner.catalog.skypilot import provider_tables as tables_of
from planner.catalog.skypilot.tables import series
from planner.errors import CatalogError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "skypilot"
CATALOG = load()
PROVIDERS = ("aws", "azure", "gcp", "lambda", "runpod", "vast")


def read(provider: str, **renamed: str) -> ProviderTables:
    return tables_of(FIXTURES / "v8" / provider / "vms.csv", provider, CATALOG, renamed)


def machines(read: ProviderTables) -> dict[str, ImportedInstance]:
    return {instance.instance_type: instance for instance in read.instances}


def priced(read: ProviderTables) -> dict[tuple[str, str, str], ImportedPrice]:
    return {(price.instance_type, price.region, price.purchase): price for price in read.prices}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_row_is_kept_or_dropped_for_a_reason(provider: str) -> None:
    found = read(provider)
    lines = len((FIXTURES / "v8" / provider / "vms.csv").read_text(encoding="utf-8").splitlines()) - 1
    assert found.rows_read == lines
    assert found.rows_kept + sum(count for _, count in found.dropped) == lines


def test_aws() -> None:
    found = read("aws")
    assert {name: m.device for name, m in machines(found).items()} == {
        "c7i.large": "sapphire-rapids",
        "g6.xlarge": "L4",
        "g6f.large": "L4",
        "p3dn.24xlarge": "V100-SXM2-32GB",
        "p4de.24xlarge": "A100-80GB-SXM",
    }
    assert machines(found)["g6f.large"].device_count == 0.125
    assert dict(found.dropped) == {
        "duplicate": 1,
        "blank price": 1,
        "accelerator not in the catalog": 1,
        "CPU not in the catalog": 1,
    }
    assert dict(found.unknown) == {"CPU of c7g": 1, "Inferentia2": 1}


def test_zones_of_a_region_become_one_offer_at_the_dearest_ones_price() -> None:
    """AWS's spot prices differ by zone; where spot is no cheaper than on-demand there is no spot offer."""
    prices = priced(read("aws"))
    on_demand = prices["c7i.large", "us-east-1", "on-demand"]
    assert (on_demand.usd_per_hour, on_demand.note) == (0.08925, "")
    assert on_demand.zones == ("use1-az1", "use1-az2", "use1-az4")
    spot = prices["c7i.large", "us-east-1", "spot"]
    assert (spot.usd_per_hour, spot.zones) == (0.0411, ("use1-az1", "use1-az2"))
    assert spot.note == "price of the dearest of 2 zones, the cheapest has 0.0383"


def test_a_row_without_on_demand_price_may_still_sell_spot() -> None:
    found = read("aws")
    assert ("p4de.24xlarge", "us-east-1", "spot") in priced(found)
    assert ("p4de.24xlarge", "us-east-1", "on-demand") not in priced(found)
    assert dict(found.prices_left_out) == {"no on-demand price": 1, "spot price not below on-demand": 1}


def test_google_machines_and_their_gpus_are_added_up() -> None:
    found = read("gcp")
    prices = priced(found)
    a2 = prices["a2-highgpu-1g", "us-central1", "on-demand"]
    assert a2.usd_per_hour == pytest.approx(0.73948 + 2.93391)
    assert (a2.zones, a2.joined) == (("us-central1-a", "us-central1-b"), True)
    assert prices["g2-standard-24", "us-central1", "spot"].usd_per_hour == pytest.approx(0.3525 + 0.4462)
    attached = prices["n1-standard-8+1xV100-16GB", "us-central1", "on-demand"]
    assert attached.usd_per_hour == pytest.approx(0.38 + 2.48)
    assert not prices["c3-standard-8", "us-central1", "on-demand"].joined
    devices = {name: (m.device, m.device_count) for name, m in machines(found).items()}
    assert devices["g2-standard-24"] == ("L4", 2)
    assert devices["a3-ultragpu-8g"] == ("H200-SXM", 8)
    assert devices["n1-standard-4+1xT4"] == ("T4", 1)


def test_half_a_google_price_is_none() -> None:
    """A T4 without spot price, an H200 whose spot price is above on-demand, an A2 without its GPU."""
    found = read("gcp")
    sold = priced(found)
    assert ("n1-standard-4+1xT4", "us-central1", "spot") not in sold
    assert ("a3-ultragpu-8g", "us-south1", "spot") not in sold
    assert not any(region in ("us-west3", "us-east1") for _, region, _ in sold)
    assert dict(found.dropped) == {
        "accelerator without a machine": 2,
        "no vCPUs, or its GPUs have no price": 1,
    }


def test_azure_machines_tell_the_form_of_the_gpu_and_zeros_stand_for_unknown_prices() -> None:
    found = read("azure")
    assert {name: (m.device, m.device_count) for name, m in machines(found).items()} == {
        "Standard_NC24ads_A100_v4": ("A100-80GB-PCIe", 1),
        "Standard_NC40ads_H100_v5": ("H100-NVL-94GB", 1),
        "Standard_NC4as_T4_v3": ("T4", 1),
        "Standard_ND96asr_v4": ("A100-40GB-SXM", 8),
        "Standard_NV12ads_A10_v5": ("A10", 0.333),
    }
    assert ("Standard_NC40ads_H100_v5", "eastus2", "on-demand") not in priced(found)
    assert dict(found.dropped)["price of zero or below"] == 1
    assert dict(found.dropped)["CPU not settled by the type"] == 1


def test_lambda_has_no_zones_and_one_price_everywhere() -> None:
    found = read("lambda")
    assert {name: m.device for name, m in machines(found).items()} == {
        "gpu_1x_a10": "A10",
        "gpu_1x_a6000": "RTX-A6000",
        "gpu_8x_h100_sxm5": "H100-SXM",
        "gpu_8x_v100_n": "V100-SXM2-16GB",
    }
    assert all(price.zones == () for price in found.prices)
    assert {price.region for price in found.prices} == {"us-east-1", "asia-south-1"}


def test_runpod_gives_a_gpus_memory_for_a_hosts_and_repeats_on_demand_as_spot() -> None:
    found = read("runpod")
    memory = {name: m.memory_gib for name, m in machines(found).items()}
    assert memory == {
        "1x_A100-80GB_SECURE": 117,
        "2x_A40_SECURE": None,
        "1x_H100-NVL_SECURE": None,
        "1x_H100-SXM_SECURE": 125,
        "1x_RTXA6000_SECURE": 50,
        "1x_RTX6000-Ada_SECURE": 62,
    }
    assert {m.device for m in found.instances} == {
        *("A100-80GB-PCIe", "A40", "H100-NVL-94GB", "H100-SXM", "RTX-A6000", "RTX6000-Ada")
    }
    assert dict(found.repaired) == {"the GPU's memory for the host's: left blank": 2}
    assert ("1x_A100-80GB_SECURE", "CA", "spot") not in priced(found)
    assert ("2x_A40_SECURE", "CA", "spot") in priced(found)


def test_vast_memory_tells_gpus_of_one_name_apart() -> None:
    """Its GpuInfo is of all GPUs together; a 4090 with 48 GB is none of the catalog's."""
    found = read("vast")
    assert {name: m.device for name, m in machines(found).items()} == {
        "2x-H100_NVL-32-65536": "H100-NVL-94GB",
        "4x-H100_SXM-32-65536": "H100-SXM",
        "1x-RTX_4090-32-65536": "RTX4090",
        "2x-A100_SXM4-32-65536": "A100-40GB-SXM",
        "1x-A100_PCIE-32-65536": "A100-80GB-PCIe",
    }
    assert machines(found)["2x-A100_SXM4-32-65536"].memory_gib == 64
    assert dict(found.repaired) == {"memory in MiB, not GiB": 1}
    assert dict(found.unknown) == {"RTX4090": 1, "V100": 1}


def test_who_knows_better_says_which_device_an_accelerator_is() -> None:
    found = read("vast", V100="V100-PCIe-16GB")
    assert machines(found)["8x-Tesla_V100-32-65536"].device == "V100-PCIe-16GB"
    assert dict(found.unknown) == {"RTX4090": 1}
    with pytest.raises(CatalogError, match="no device 'V100-PCI' in the catalog; did you mean"):
        read("vast", V100="V100-PCI")
    with pytest.raises(CatalogError, match="accelerator V100: genoa is a CPU"):
        read("vast", V100="genoa")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("box,L4,1,4,16,0,0,mars,", "price of zero or below"),
        ("box,L4,1,4,16,-1,,mars,", "price of zero or below"),
        ("box,L4,1,4,16,,,mars,", "blank price"),
        ("box,L4,1,,16,1,,mars,", "no vCPUs, or its GPUs have no price"),
        ("box,L4,1,0.5,16,1,,mars,", "no whole vCPUs"),
        ("box,L4,,4,16,1,,mars,", "no number of accelerators"),
        ("box,L4,1,4,16,1,,,", "no region"),
        (",,,4,16,1,,mars,", "no instance type"),
        ("ok,L4,1,8,16,1,,mars,b", "another size under the same name"),
        ("ok,L4,1,4,16,2,,mars,a", "duplicate"),
    ],
)
def test_why_a_row_is_dropped(tmp_path: Path, rows: str, reason: str) -> None:
    machine = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB"
    header = f"{machine},Price,SpotPrice,Region,AvailabilityZone"
    file = tmp_path / "vms.csv"
    file.write_text(f"{header}\nok,L4,1,4,16,1,,mars,a\n{rows}\n", encoding="utf-8")
    found = tables_of(file, "newcloud", CATALOG, {})
    assert dict(found.dropped) == {reason: 1}
    assert [(price.instance_type, price.usd_per_hour) for price in found.prices] == [("ok", 1.0)]


@pytest.mark.parametrize(
    ("provider", "instance_type", "expected"),
    [
        ("aws", "c7i.metal-24xl", "c7i"),
        ("aws", "c7i-flex.large", "c7i-flex"),
        ("gcp", "c3-highmem-8", "c3"),
        ("azure", "Standard_D96s_v5", "Standard_D_s_v5"),
        ("azure", "Standard_E96-24ads_v5", "Standard_E_ads_v5"),
        ("lambda", "cpu_4x_general", "cpu_4x_general"),
    ],
)
def test_series(provider: str, instance_type: str, expected: str) -> None:
    assert series(provider, instance_type) == expected


def test_files_of_a_repository_a_version_a_provider_or_a_flat_folder(tmp_path: Path) -> None:
    everywhere = catalog_files(FIXTURES)
    assert tuple(everywhere) == PROVIDERS
    assert {file.parts[-3] for file in everywhere.values()} == {"v8"}, "the highest version of each provider"
    assert tuple(catalog_files(FIXTURES / "v8")) == PROVIDERS
    assert catalog_files(FIXTURES / "v8" / "aws") == {"aws": (FIXTURES / "v8" / "aws" / "vms.csv").resolve()}
    (tmp_path / "cellar.csv").write_text("InstanceType,Price,Region\n", encoding="utf-8")
    assert catalog_files(tmp_path) == {"cellar": tmp_path / "cellar.csv"}
    assert tuple(catalog_files(FIXTURES, ["gcp", "aws"])) == ("aws", "gcp")


def test_a_folder_without_catalogs_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"holds no <provider>/vms\.csv"):
        catalog_files(tmp_path)
    with pytest.raises(CatalogError, match="is not a folder"):
        catalog_files(tmp_path / "none")
    with pytest.raises(CatalogError, match="no catalog of provider 'azur'; did you mean azure"):
        catalog_files(FIXTURES, ["azur"])
