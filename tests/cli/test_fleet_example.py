"""examples/fleet as a user plans it, but for the workload that has to be measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from plan_files import planner

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fleet"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    shutil.copytree(EXAMPLE / "traces", folder / "traces")
    content = yaml.safe_load((EXAMPLE / "plan.yaml").read_text())
    content["services"] = [service for service in content["services"] if "imported" in service]
    content["fleet"]["max_periods"] = 3  # five take a minute
    (folder / "plan.yaml").write_text(yaml.safe_dump(content))
    run = planner("plan", folder / "plan.yaml", env={"COLUMNS": "100", "PATH": "/usr/bin:/bin"})
    assert run.returncode == 0, run.stderr
    (folder / "out.txt").write_text(run.stdout)
    return folder


def test_the_table_says_what_to_buy_and_where_within_100_columns(planned: Path) -> None:
    shown = (planned / "out.txt").read_text()
    assert max(map(len, shown.splitlines())) <= 100
    for wanted in ("Committed:", "reserved 1yr", "us-central1", "search", "answers", "moderation", "n+1"):
        assert wanted in shown
    assert "Runner-up:" in shown and "Proof:" in shown


def test_every_limit_is_kept_in_every_period(planned: Path) -> None:
    report = json.loads((planned / "plan" / "plan.json").read_text())
    offers = {offer["id"]: offer for offer in report["offers"]}
    assert [workload["name"] for workload in report["workloads"]] == ["search", "answers", "moderation"]
    assert sum(period["hours"] for period in report["periods"]) == 24 and len(report["periods"]) == 3
    committed = {c["offer_id"]: c["instances"] for c in report["fleet"]["commitments"]}
    assert committed
    kinds = set()
    for period in report["periods"]:
        mine = [p for p in report["fleet"]["placements"] if p["period"] == period["name"]]
        l4s = dict(committed)
        by_workload: dict[str, list[float]] = {}
        for placement in mine:
            offer = offers[placement["offer_id"]]
            kinds.add((offer["provider"], offer["instance_type"]))
            if offer["id"] not in committed:
                l4s[offer["id"]] = l4s.get(offer["id"], 0) + placement["instances"]
            for traffic in placement["traffic"]:
                candidate = next(c for c in report["candidates"] if c["id"] == traffic["candidate_id"])
                takes = candidate["capacity_low_rps"] * 0.9 * traffic["replicas_per_instance"]
                rates = by_workload.setdefault(candidate["workload"], [])
                rates += [takes] * placement["instances"]
        of_google = {o: n for o, n in l4s.items() if offers[o]["provider"] == "gcp"}
        assert (
            sum(n * offers[o]["device_count"] for o, n in of_google.items() if offers[o]["device"] == "L4")
            <= 12
        )
        for workload in report["workloads"]:
            rates = by_workload[workload["name"]]
            lost = max(rates) if workload["redundancy"] == "instance" else 0.0
            needed = workload["rates_rps"].get(period["name"], workload["rate_rps"])
            assert sum(rates) - lost >= needed * (1 - 1e-6)
    assert len(kinds) <= 6
