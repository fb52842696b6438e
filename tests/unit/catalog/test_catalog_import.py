"""An import lies under what the user wrote, over what ships, and is written whole or not at all."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from planner.catalog import check, import_skypilot, load
from planner.errors import CatalogError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "skypilot" / "v8"
DAY = date(2026, 11, 1)
SOURCES = "ours:\n  citation: our contract\n  as_of: 2026-03-01\n  quality: read\n"
PRICES = "instance_type,region,purchase,usd_per_hour,source\n"


def offers(folder: Path) -> dict[str, tuple[float, str, str]]:
    return {o.id: (o.usd_per_hour, o.price_as_of, o.price_source) for o in load(folder).offers}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_imported_prices_replace_shipped_ones_and_say_where_they_are_from(tmp_path: Path) -> None:
    done = import_skypilot(FIXTURES, tmp_path / "own", as_of=DAY)
    assert {tables.provider for tables in done.providers} == {
        "aws",
        "azure",
        "gcp",
        "lambda",
        "runpod",
        "vast",
    }
    assert set(dict(done.as_of).values()) == {"2026-11-01"}
    assert check(tmp_path / "own") == ()
    found = offers(tmp_path / "own")
    price, as_of, source = found["runpod/1x_A100-80GB_SECURE/CA/on-demand"]
    assert (price, as_of) == (1.39, "2026-11-01")
    assert source.startswith("SkyPilot's catalog, runpod/vms.csv (sha256 ")
    assert len(found) == len(load().offers) + 34
    (a2,) = [o for o in load(tmp_path / "own").offers if o.id == "gcp/a2-highgpu-1g/us-central1/on-demand"]
    assert "price derived" in a2.note
    assert a2.zones == ("us-central1-a", "us-central1-b")
    assert a2.grams_co2_per_kwh == 431.95
    assert (a2.family, a2.family_units) == ("NVIDIA_A100_GPUS", 1)


def test_what_the_user_wrote_wins_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "prices").mkdir()
    (tmp_path / "sources.yaml").write_text(SOURCES, encoding="utf-8")
    own = tmp_path / "prices" / "runpod.csv"
    own.write_text(PRICES + "1x_A100-80GB_SECURE,CA,on-demand,1.25,ours\n", encoding="utf-8")
    before = contents(tmp_path)
    import_skypilot(FIXTURES, tmp_path, ["runpod"], as_of=DAY)
    assert before.items() <= contents(tmp_path).items()
    assert offers(tmp_path)["runpod/1x_A100-80GB_SECURE/CA/on-demand"][:2] == (1.25, "2026-03-01")
    assert offers(tmp_path)["runpod/2x_A40_SECURE/CA/on-demand"][:2] == (0.8, "2026-11-01")


def test_a_later_import_replaces_its_provider_and_no_other(tmp_path: Path) -> None:
    import_skypilot(FIXTURES, tmp_path, ["runpod", "lambda"], as_of=DAY)
    newer = tmp_path / "newer"
    newer.mkdir()
    row = 'gpu_1x_a10,A10,1.0,30.0,200.0,0.5,us-east-1,"{}",'
    header = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice"
    (newer / "lambda.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    import_skypilot(newer, tmp_path, as_of=date(2026, 11, 20))
    found = offers(tmp_path)
    assert found["lambda/gpu_1x_a10/us-east-1/on-demand"][:2] == (0.5, "2026-11-20")
    assert "lambda/gpu_1x_a10/asia-south-1/on-demand" not in found
    assert found["runpod/2x_A40_SECURE/CA/on-demand"][:2] == (0.8, "2026-11-01")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["imported", "newer"], "nothing is left behind"


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    import_skypilot(FIXTURES, tmp_path, as_of=DAY)
    before = contents(tmp_path)
    import_skypilot(FIXTURES, tmp_path, as_of=DAY)
    assert contents(tmp_path) == before


def test_prices_have_the_date_of_their_file_unless_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "cellar.csv"
    file.write_text("InstanceType,AcceleratorName,AcceleratorCount,vCPUs,Price,Region\nbox,L4,1,4,1,x\n")
    os.utime(file, (1_780_000_000, 1_780_000_000))
    done = import_skypilot(tmp_path / "in", tmp_path / "own")
    assert done.as_of == (("cellar", "2026-05-28"),)
    assert offers(tmp_path / "own")["cellar/box/x/on-demand"][1] == "2026-05-28"


def test_a_users_own_device_can_be_imported_onto(tmp_path: Path) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "sources.yaml").write_text(SOURCES, encoding="utf-8")
    device = "- {name: MI300X, kind: gpu, vendor: AMD, architecture: CDNA 3, memory_gb: 192, source: ours}\n"
    (tmp_path / "devices" / "own.yaml").write_text(device, encoding="utf-8")
    done = import_skypilot(FIXTURES, tmp_path, ["runpod"], as_of=DAY)
    assert done.providers[0].unknown == ()
    (offer,) = [o for o in load(tmp_path).offers if o.device == "MI300X" and o.purchase == "on-demand"]
    assert offer.instance_type == "1x_MI300X_SECURE"


def test_where_no_row_can_be_used_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.csv").write_text("InstanceType,Price,Region\nbox,0,mars\n", encoding="utf-8")
    with pytest.raises(CatalogError, match="no row can be used"):
        import_skypilot(tmp_path / "in", tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_failure_leaves_the_earlier_import_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_skypilot(FIXTURES, tmp_path, ["lambda"], as_of=DAY)
    before = contents(tmp_path)
    monkeypatch.setattr("planner.catalog.imported.check", lambda folder, staged: ("a problem",))
    with pytest.raises(CatalogError, match="what was imported does not load: a problem; nothing was written"):
        import_skypilot(FIXTURES, tmp_path, ["runpod"], as_of=DAY)
    assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["imported"]
