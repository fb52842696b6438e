"""Checks every row of the shipped hardware catalog: sources, dates, and figures that can be right."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from datetime import date

import pytest

from planner.catalog import Catalog, check, load
from planner.catalog.fields import Problem
from planner.catalog.load import shipped_folder
from planner.catalog.sheets import read_sources
from planner.domain.device import Device
from planner.domain.offer import Offer

COMPUTE_CAPABILITIES = {
    "Volta": {"7.0"},
    "Turing": {"7.5"},
    "Ampere": {"8.0", "8.6"},
    "Ada Lovelace": {"8.9"},
    "Hopper": {"9.0"},
    "Blackwell": {"10.0", "12.0"},
}
CATALOG = load()
GPUS = [device for device in CATALOG.devices if device.kind == "gpu"]
CPUS = [device for device in CATALOG.devices if device.kind == "cpu"]


def test_nothing_is_wrong() -> None:
    assert check() == ()


def test_breadth() -> None:
    assert len(GPUS) >= 20
    assert sum(device.architecture != "not settled" for device in CPUS) >= 5
    assert len(CATALOG.offers) >= 150
    assert {offer.provider for offer in CATALOG.offers} == {"aws", "gcp", "azure", "lambda", "runpod"}
    priced = {offer.device for offer in CATALOG.offers}
    assert {"ice-lake-sp", "sapphire-rapids", "genoa", "T4", "L4", "A10G", "H100-SXM"} <= priced


def test_no_offer_twice() -> None:
    assert [name for name, count in Counter(o.id for o in CATALOG.offers).items() if count > 1] == []


@pytest.mark.parametrize("offer", CATALOG.offers, ids=lambda o: o.id)
def test_offer(offer: Offer) -> None:
    device = CATALOG.device(offer.device)
    assert offer.price_source
    assert date(2023, 1, 1) <= date.fromisoformat(offer.price_as_of)
    assert 0.005 <= offer.usd_per_hour <= 200
    assert 1 <= offer.vcpus <= 512
    assert offer.memory_bytes is None or 1 <= offer.memory_bytes / 2**30 / offer.vcpus <= 32
    if device.kind == "gpu":
        assert 0.125 <= offer.device_count <= 8
        assert 0.05 <= offer.usd_per_hour / offer.device_count <= 20
    else:
        assert offer.device_count == 0
        assert 0.003 <= offer.usd_per_hour / offer.vcpus <= 0.08
    if device.name == "x86-mixed":
        assert " runs on " in offer.note, "an unsettled family names its candidates"


def test_spot_is_cheaper_than_on_demand() -> None:
    both = [found for found in bought().values() if "spot" in found]
    assert len(both) > 400
    for found in both:
        assert found["spot"] < found["on-demand"]


def bought() -> dict[tuple[str, str, str], dict[str, float]]:
    """What each type costs in each region, by how it is bought."""
    prices: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for offer in CATALOG.offers:
        key = f"{offer.purchase} {offer.term}".strip()
        prices[offer.provider, offer.instance_type, offer.region][key] = offer.usd_per_hour
    return prices


def test_who_commits_for_longer_pays_less_an_hour() -> None:
    reserved = [offer for offer in CATALOG.offers if offer.purchase == "reserved"]
    assert len(reserved) >= 200
    assert {offer.term for offer in reserved} == {"1yr", "3yr"}
    assert {offer.provider for offer in reserved} == {"gcp"}, "docs/catalog.md says whose are public"
    for found in bought().values():
        if "reserved 1yr" in found:
            assert 0.25 * found["on-demand"] < found["reserved 3yr"] < found["reserved 1yr"]
            assert found["reserved 1yr"] < 0.75 * found["on-demand"]


def test_commitments_of_a_family_are_the_same_share_of_on_demand() -> None:
    """They were read of one size and scaled to the others: this holds the scaling to account."""
    shares: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    on_demand = {key: found["on-demand"] for key, found in bought().items() if "on-demand" in found}
    for o in CATALOG.offers:
        if o.purchase == "reserved":
            series = o.instance_type.rpartition("-")[0]
            share = o.usd_per_hour / on_demand[o.provider, o.instance_type, o.region]
            shares[series, o.region, o.term].append(share)
    assert {series for series, _, _ in shares} == {"a2-highgpu", "a3-highgpu", "c3-standard", "g2-standard"}
    for key, found in shares.items():
        assert max(found) - min(found) < 0.001, key


def test_regions_have_their_carbon_intensity_where_a_source_gives_it() -> None:
    known = {(region.provider, region.name): region for region in CATALOG.regions}
    used = {(o.provider, o.region) for o in CATALOG.offers if o.provider in ("aws", "gcp", "azure")}
    assert set(known) == used
    for region in known.values():
        assert 5 <= region.grams_co2_per_kwh <= 900
        assert region.source.quality == "read"
    for offer in CATALOG.offers:
        region = known.get((offer.provider, offer.region))
        assert offer.grams_co2_per_kwh == (region.grams_co2_per_kwh if region else None)


def test_every_offer_of_a_cloud_counts_under_a_quota() -> None:
    for offer in CATALOG.offers:
        clouds = offer.provider in ("aws", "gcp", "azure")
        assert bool(offer.family) == clouds, offer.id
        assert (offer.family_units > 0) == clouds, offer.id


def test_spot_prices_carry_their_own_date() -> None:
    spot = [offer for offer in CATALOG.offers if offer.purchase == "spot"]
    assert {o.price_as_of for o in spot if o.provider == "azure"} == {"2023-12-01"}
    assert {o.price_as_of for o in spot if o.provider == "aws"} == {"2024-05-01"}
    azure = [o for o in CATALOG.offers if o.provider == "azure" and o.purchase == "on-demand"]
    assert {o.price_as_of for o in azure} == {"2026-06-18"}


def test_prices_put_together_from_two_dates_say_so() -> None:
    attached = [o for o in CATALOG.offers if o.provider == "gcp" and "+" in o.instance_type]
    assert attached
    for offer in attached:
        assert "2026-07-30" in offer.price_source
        assert "2024-04-30" in offer.price_source
        assert offer.price_as_of == "2024-04-30"
        assert "price derived" in offer.note


def test_price_of_many_devices_is_near_that_of_one() -> None:
    """Within an instance family of one region, N devices cost N times one device, within a factor."""
    per_device: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for o in CATALOG.offers:
        if o.device_count >= 1 and o.purchase == "on-demand":
            per_device[o.provider, o.region, o.device].append(o.usd_per_hour / o.device_count)
    for key, prices in per_device.items():
        assert max(prices) / min(prices) < 9, key


@pytest.mark.parametrize("device", CATALOG.devices, ids=lambda d: d.name)
def test_device(device: Device) -> None:
    sources = dict(device.sources)
    given = {name for name, _ in device.peak_ops_per_s}
    for name, value in (
        ("memory", device.memory_bytes),
        ("bandwidth", device.bandwidth_bytes_per_s),
        ("tdp", device.tdp_w),
        ("compute_capability", device.compute_capability),
        ("cores", device.cores),
        ("mig", device.mig or None),
    ):
        if value is not None:
            given.add(name)
    assert given <= set(sources), "every figure has a source"
    for source in sources.values():
        date.fromisoformat(source.as_of)
        assert source.quality in ("read", "derived", "from-memory")
        assert source.quality != "from-memory" or "check against" in source.citation


@pytest.mark.parametrize("device", GPUS, ids=lambda d: d.name)
def test_gpu(device: Device) -> None:
    assert device.memory_bytes is not None
    assert 16e9 <= device.memory_bytes <= 192e9
    assert device.compute_capability in COMPUTE_CAPABILITIES[device.architecture]
    assert device.bandwidth_bytes_per_s is None or 250e9 <= device.bandwidth_bytes_per_s <= 8e12
    assert device.tdp_w is None or 50 <= device.tdp_w <= 1200
    peaks = dict(device.peak_ops_per_s)
    for slower, faster in (("fp32", "fp16"), ("fp16", "fp8"), ("int8", "int4"), ("fp8", "fp4")):
        if slower in peaks and faster in peaks:
            assert peaks[slower] <= peaks[faster]
    if "int8" in peaks and "fp8" in peaks:
        assert peaks["int8"] == pytest.approx(peaks["fp8"])
    for mig in device.mig:
        # profile names are rounded: four slices of 24 GB on the 94 GB of an H100 NVL
        assert mig.memory_bytes * mig.max_per_device <= device.memory_bytes * 1.03
        assert mig.max_per_device * int(mig.name.split("g.")[0]) <= 7
    whole = {"A30", "A100", "H100", "H200", "B200", "GH200"}
    assert bool(device.mig) == (device.name.split("-")[0] in whole or device.name.startswith("RTX-PRO"))


def test_cpu_signatures_do_not_overlap() -> None:
    seen: set[tuple[str, int, int, int]] = set()
    for s in CATALOG.cpu_signatures:
        assert set(s.instruction_sets) >= {"avx2"}
        ids = {(s.vendor, s.family, m, step) for m in s.models for step in s.steppings or range(16)}
        assert not ids & seen
        seen |= ids


def test_a_cpu_peak_is_cores_times_clock_times_width() -> None:
    peaks = dict(CATALOG.device("genoa").peak_ops_per_s)
    assert peaks["fp32"] == pytest.approx(96 * 2.6e9 * 32)
    assert dict(CATALOG.device("genoa").sources)["fp32"].quality == "derived"


def test_no_source_and_no_instance_type_is_unused() -> None:
    folder, problems = shipped_folder(), list[Problem]()
    sources = read_sources(folder / "sources.yaml", problems)
    tables = [*sorted(folder.glob("*/*")), folder / "regions.csv"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in tables)
    assert [name for name in sources if name not in text] == []
    for file in sorted((folder / "instances").glob("*.csv")):
        with file.open(newline="") as stream:
            types = {row["instance_type"] for row in csv.DictReader(stream)}
        priced = {o.instance_type for o in CATALOG.offers if o.provider == file.stem}
        assert types == priced


def test_the_digest_is_that_of_the_files() -> None:
    again: Catalog = load()
    assert again.digest == CATALOG.digest
    assert len(again.digest) == 64
