"""A user's folder laid over the shipped catalog, and the one line that each mistake gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner import catalog
from planner.errors import CatalogError

SOURCES = """\
ours:
  citation: our contract
  as_of: 2026-03-01
  quality: read
"""
GPU = """\
- name: X1
  kind: gpu
  vendor: Ours
  architecture: New
  memory_gb: 8
  peak_tera_ops_per_s: {int8: 100}
  mig: {1g.4gb: 2}
  source: ours
"""
CPU = """\
- name: our-cpu
  kind: cpu
  vendor: Intel
  architecture: Lake
  cpuid: {vendor: GenuineIntel, family: 6, models: [250]}
  instruction_sets: [avx2]
  cores: 10
  clock_ghz: 2
  operations_per_cycle: {fp32: 32}
  source: ours
"""
INSTANCES = "instance_type,device,device_count,vcpus,memory_gib,source\n"
PRICES = "instance_type,region,purchase,usd_per_hour,source\n"


def write(folder: Path, **files: str) -> Path:
    """``devices__own_yaml`` becomes devices/own.yaml; sources.yaml is there unless given."""
    for name, text in {"sources_yaml": SOURCES, **files}.items():
        file = folder / name.replace("__", "/").replace("_yaml", ".yaml").replace("_csv", ".csv")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def test_a_price_replaces_the_one_with_its_key(tmp_path: Path) -> None:
    shipped = catalog.load()
    own = write(tmp_path, prices__aws_csv=PRICES + "c7i.large,us-east-1,on-demand,0.05,ours\n")
    laid_over = catalog.load(own)
    (offer,) = [o for o in laid_over.offers if o.id == "aws/c7i.large/us-east-1/on-demand"]
    assert (offer.usd_per_hour, offer.price_source, offer.price_as_of) == (0.05, "our contract", "2026-03-01")
    assert offer.vcpus == 2
    assert len(laid_over.offers) == len(shipped.offers)
    assert laid_over.digest != shipped.digest


def test_a_folder_adds_devices_instances_and_reserved_prices(tmp_path: Path) -> None:
    own = write(
        tmp_path,
        devices__own_yaml=GPU + CPU,
        instances__onprem_csv=INSTANCES + "box,X1,2,16,64,ours\nblade,our-cpu,0,20,,ours\n",
        prices__onprem_csv=PRICES + "box,cellar,reserved,1.5,ours\nblade,cellar,on-demand,0.2,ours\n",
    )
    laid_over = catalog.load(own)
    box, blade = (o for o in laid_over.offers if o.provider == "onprem")
    assert (box.purchase, box.device_count, box.memory_bytes) == ("reserved", 2, 64 * 2**30)
    assert blade.memory_bytes is None
    x1 = laid_over.device("X1")
    assert x1.memory_bytes == 8 * 10**9
    assert dict(x1.peak_ops_per_s) == {"int8": 100e12}
    assert [(s.name, s.memory_bytes, s.max_per_device) for s in x1.mig] == [("1g.4gb", 4 * 10**9, 2)]
    assert x1.bandwidth_bytes_per_s is None
    assert {name for name, _ in x1.sources} == {"memory", "int8", "mig"}
    cpu = laid_over.device("our-cpu")
    assert dict(cpu.peak_ops_per_s) == {"fp32": 10 * 2e9 * 32}
    assert dict(cpu.sources)["fp32"].quality == "derived"


def test_a_device_replaces_the_one_with_its_name(tmp_path: Path) -> None:
    own = write(tmp_path, devices__own_yaml=GPU.replace("X1", "L4"))
    laid_over = catalog.load(own)
    assert laid_over.device("L4").vendor == "Ours"
    assert len(laid_over.devices) == len(catalog.load().devices)


def test_columns_may_come_in_any_order_and_notes_reach_the_offer(tmp_path: Path) -> None:
    header = "note,source,usd_per_hour,purchase,region,instance_type\n"
    own = write(tmp_path, prices__aws_csv=header + "negotiated,ours,0.04,on-demand,us-east-1,c7i.large\n")
    (offer,) = [o for o in catalog.load(own).offers if o.price_source == "our contract"]
    assert offer.note == "negotiated"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("box,X1,,16,64,ours", "device_count is blank, expected a number of 0 or more"),
        ("box,X1,-1,16,64,ours", "device_count is '-1', expected a number of 0 or more"),
        ("box,X1,0,16,64,ours", "device_count is '0', expected a number above 0, for X1 is a GPU"),
        ("box,genoa,1,16,64,ours", "device_count is '1', expected 0, for genoa is a CPU"),
        ("box,X1,2,0,64,ours", "vcpus is '0', expected a whole number above 0"),
        ("box,X1,2,1.5,64,ours", "vcpus is '1.5', expected a whole number above 0"),
        ("box,X1,2,16,lots,ours", "memory_gib is 'lots', expected a number above 0"),
        ("box,X1,2,16,nan,ours", "memory_gib is 'nan', expected a number above 0"),
        ("box,L5,2,16,64,ours", "device is 'L5', expected a known one; did you mean L4"),
        ("box,X1,2,16,64,their", "source is 'their', expected a known one"),
        (",X1,2,16,64,ours", "instance_type is blank, expected text"),
        ("box,X1,2,16,64", "5 cells, expected 6"),
        ("first,X1,1,1,1,ours", "instance_type is 'first', expected each type once"),
    ],
)
def test_a_wrong_instance(tmp_path: Path, row: str, expected: str) -> None:
    own = write(
        tmp_path,
        devices__own_yaml=GPU,
        instances__onprem_csv=f"{INSTANCES}first,X1,1,1,1,ours\n{row}\n",
    )
    assert_problem(own, "instances/onprem.csv", 3, expected)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("c7i.large,us-east-1,on-demand,0,ours", "usd_per_hour is '0', expected a number above 0"),
        ("c7i.large,us-east-1,on-demand,-1,ours", "usd_per_hour is '-1', expected a number above 0"),
        ("c7i.large,us-east-1,on-demand,free,ours", "usd_per_hour is 'free', expected a number above 0"),
        ("c7i.large,us-east-1,on-demand,inf,ours", "usd_per_hour is 'inf', expected a number above 0"),
        ("c7i.large,us-east-1,on-demand,,ours", "usd_per_hour is blank, expected a number above 0"),
        ("c7i.large,us-east-1,lease,1,ours", "purchase is 'lease', expected a known one; known: on-demand"),
        ("c7i.larg,us-east-1,spot,1,ours", "instance_type is 'c7i.larg', expected a known one; did you mean"),
        ("c7i.large,,spot,1,ours", "region is blank, expected text"),
        ("c7i.large,mars,spot,1,ours", "expected one price for each type, region, purchase and term"),
        ('c7i.large,mars,spot,1,"ours', "not valid CSV"),
    ],
)
def test_a_wrong_price(tmp_path: Path, row: str, expected: str) -> None:
    own = write(tmp_path, prices__aws_csv=f"{PRICES}c7i.large,mars,spot,1,ours\n{row}\n")
    assert_problem(own, "prices/aws.csv", 3, expected)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (PRICES.replace("region,", ""), "column 'region' is missing"),
        (PRICES.replace("region", "region,colour"), "unknown column 'colour'"),
        (PRICES.replace("region", "region,region"), "a column is given twice"),
        ("", "column 'instance_type' is missing"),
    ],
)
def test_a_wrong_header(tmp_path: Path, header: str, expected: str) -> None:
    assert_problem(write(tmp_path, prices__aws_csv=header), "prices/aws.csv", 1, expected)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        (SOURCES.replace("03-01", "02-30"), 3, "as_of is '2026-02-30', expected a date such as"),
        (SOURCES.replace("2026-03-01", "v8"), 3, "as_of is 'v8', expected a date such as"),
        (SOURCES.replace("2026-03-01", "20260301"), 3, "as_of is 20260301, expected text"),
        (SOURCES.replace("read", "hearsay"), 4, "quality is 'hearsay', expected a known one"),
        (SOURCES.replace("  citation: our contract\n", ""), 2, "citation is blank, expected text"),
        (SOURCES + "  licence: none\n", 5, "unknown key 'licence'"),
        (SOURCES + "ours:\n  citation: again\n", 5, "not valid YAML: 'ours' is given twice"),
        (SOURCES + "theirs: hearsay\n", 5, "expected a mapping, got 'hearsay'"),
        ("- ours\n", 1, "expected a mapping of ids to sources"),
        ("ours: [\n", 2, "not valid YAML"),
    ],
)
def test_a_wrong_source(tmp_path: Path, text: str, line: int, expected: str) -> None:
    assert_problem(write(tmp_path, sources_yaml=text), "sources.yaml", line, expected)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        (GPU.replace("gpu", "tpu"), 2, "kind is 'tpu', expected a known one; did you mean gpu or cpu"),
        (GPU.replace("memory_gb: 8", "memory_gb: -8"), 5, "memory_gb is -8, expected a number above 0"),
        (GPU.replace("memory_gb: 8", "memory_gb: true"), 5, "memory_gb is True, expected a number above 0"),
        (GPU.replace("memory_gb", "memory_gib"), 5, "unknown key 'memory_gib'; did you mean memory_gb"),
        (GPU.replace("int8: 100", "int8: fast"), 6, "expected numbers above 0"),
        (GPU.replace("int8: 100", "int9: 100"), 6, "expected only fp32, tf32"),
        (GPU.replace("1g.4gb", "small"), 7, "expected profiles such as 1g.10gb, not small"),
        (GPU.replace("source: ours", "source: their"), 8, "source is 'their', expected a known one"),
        (GPU.replace("  source: ours\n", ""), 1, "source is blank, expected text"),
        (GPU + "  sources: {tdp: ours}\n", 9, "unknown key 'tdp'"),
        (GPU + "  sources: {int8: their}\n", 9, "int8 is 'their', expected a known one"),
        (GPU + "  sources: ours\n", 9, "sources is 'ours', expected a mapping"),
        (GPU + GPU, 9, "name is 'X1', expected each device once"),
        (CPU.replace("  cores: 10\n", ""), 1, "cores is blank, expected a whole number above 0"),
        (CPU.replace("[250]", "[]"), 5, "models is [], expected at least one whole number"),
        (CPU.replace("[250]", "new"), 5, "models is 'new', expected a list of whole numbers"),
        (CPU.replace("cpuid: {", "cpuid: 6 #"), 5, "cpuid is 6, expected a mapping"),
        (CPU.replace("[avx2]", "avx2"), 6, "instruction_sets is 'avx2', expected a list of names"),
        (CPU + "  peak_tera_ops_per_s: {fp32: 1}\n", 9, "expected nothing beside peak_tera_ops_per_s"),
        ("X1: gpu\n", 1, "expected a list of devices"),
        ("- X1\n", 1, "expected a mapping, got 'X1'"),
    ],
)
def test_a_wrong_device(tmp_path: Path, text: str, line: int, expected: str) -> None:
    assert_problem(write(tmp_path, devices__own_yaml=text), "devices/own.yaml", line, expected)


def test_check_lists_every_problem_and_load_the_first(tmp_path: Path) -> None:
    rows = "c7i.large,mars,spot,0,ours\nc7i.xlarge,mars,lease,1,ours\n"
    own = write(tmp_path, prices__aws_csv=PRICES + rows)
    problems = catalog.check(own)
    assert [problem.line for problem in problems] == [2, 3]
    with pytest.raises(
        CatalogError, match=r"aws\.csv:2: .*\(and 1 more; `planner catalog check` lists them\)"
    ):
        catalog.load(own)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="is not a folder"):
        catalog.load(tmp_path / "absent")
    with pytest.raises(CatalogError, match="holds no catalog file"):
        catalog.check(tmp_path)


def test_an_unknown_device_names_the_nearest() -> None:
    with pytest.raises(CatalogError, match="no device 'h100_sxm' in the catalog; did you mean H100-SXM"):
        catalog.load().device("h100_sxm")


def assert_problem(folder: Path, file: str, line: int, expected: str) -> None:
    """The first problem is at this place and says this in one line, and loading raises it."""
    problems = catalog.check(folder)
    text = str(problems[0])
    assert text.startswith(f"{folder / file}:{line}: ")
    assert expected in text
    assert "\n" not in text
    with pytest.raises(CatalogError) as raised:
        catalog.load(folder)
    assert str(raised.value).startswith(text)


def test_terms_and_zones_of_a_price(tmp_path: Path) -> None:
    header = "instance_type,region,purchase,term,usd_per_hour,source,zones\n"
    rows = (
        "c7i.large,us-east-1,reserved,1yr,0.06,ours,\n"
        "c7i.large,us-east-1,reserved,3yr,0.04,ours,\n"
        "c7i.large,us-east-1,reserved,,0.05,ours,\n"
        "c7i.large,us-east-1,spot,,0.03,ours,use1-az1 use1-az2\n"
    )
    own = write(tmp_path, prices__aws_csv=header + rows)
    found = {o.id: o for o in catalog.load(own).offers if o.price_source == "our contract"}
    assert {name.rpartition("/")[2]: o.term for name, o in found.items()} == {
        "reserved-1yr": "1yr",
        "reserved-3yr": "3yr",
        "reserved": "",
        "spot": "",
    }
    assert found["aws/c7i.large/us-east-1/spot"].zones == ("use1-az1", "use1-az2")
    assert found["aws/c7i.large/us-east-1/reserved"].zones == ()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("c7i.large,mars,reserved,2yr,1,ours", "term is '2yr', expected a known one; did you mean"),
        ("c7i.large,mars,spot,1yr,1,ours", "term is '1yr', expected nothing, for spot is not for a term"),
    ],
)
def test_a_wrong_term(tmp_path: Path, row: str, expected: str) -> None:
    header = "instance_type,region,purchase,term,usd_per_hour,source\n"
    own = write(tmp_path, prices__aws_csv=f"{header}{row}\n")
    with pytest.raises(CatalogError) as caught:
        catalog.load(own)
    assert expected in str(caught.value)


def test_a_users_figure_of_a_region_replaces_the_shipped_one(tmp_path: Path) -> None:
    rows = "aws,us-east-1,120,ours\ncellar,here,0,ours\n"
    own = write(tmp_path, regions_csv=f"provider,region,grams_co2_per_kwh,source\n{rows}")
    laid_over = catalog.load(own)
    assert {
        o.grams_co2_per_kwh for o in laid_over.offers if o.region == "us-east-1" and o.provider == "aws"
    } == {120}
    assert [r.grams_co2_per_kwh for r in laid_over.regions if r.provider == "cellar"] == [0]
    assert len(laid_over.regions) == len(catalog.load().regions) + 1


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("aws,us-east-1,-1,ours\n", "grams_co2_per_kwh is '-1', expected a number of 0 or more"),
        ("aws,us-east-1,,ours\n", "grams_co2_per_kwh is blank"),
        ("aws,us-east-1,1,ours\naws,us-east-1,2,ours\n", "region is 'us-east-1', expected each region"),
        ("aws,us-east-1,1,their\n", "source is 'their', expected a known one"),
    ],
)
def test_a_wrong_region(tmp_path: Path, rows: str, expected: str) -> None:
    own = write(tmp_path, regions_csv=f"provider,region,grams_co2_per_kwh,source\n{rows}")
    with pytest.raises(CatalogError) as caught:
        catalog.load(own)
    assert expected in str(caught.value)


def test_a_type_may_name_its_own_quota(tmp_path: Path) -> None:
    own = write(
        tmp_path,
        devices__own_yaml=GPU + CPU,
        instances__onprem_csv=INSTANCES.replace("source", "source,family")
        + "box,X1,2,16,64,ours,racks\nblade,our-cpu,0,20,,ours,racks\n",
        prices__onprem_csv=PRICES + "box,cellar,on-demand,1.5,ours\nblade,cellar,on-demand,0.2,ours\n",
    )
    box, blade = (o for o in catalog.load(own).offers if o.provider == "onprem")
    assert (box.family, box.family_units) == ("racks", 2)
    assert (blade.family, blade.family_units) == ("racks", 20)
