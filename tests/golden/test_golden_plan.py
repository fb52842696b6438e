"""plan.json and the terminal's table against golden files; renew with: pytest tests/golden --renew-golden"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from planner.capacity import service_times, servings, sojourn_percentile_ns
from planner.cli import render
from planner.domain.device import Device
from planner.domain.model import Model, Tensor
from planner.domain.offer import Offer
from planner.domain.plan import DataDigest, Judgement, Margin, Plan, Planned, RunnerUp, replica_rates
from planner.domain.problem import Demand, Problem, Rejection
from planner.domain.profile import Configuration, Environment, Profile
from planner.domain.quality import AccuracyFloor, Quality
from planner.domain.variant import Variant
from planner.domain.workload import FleetLimits, Slo, Workload
from planner.optimize import baseline, runner_up, solve
from planner.report import EnginePart, FilesPart, PlanReport, dump, to_report
from planner.units import NS_PER_MS

GOLDEN = Path(__file__).parent
ENVIRONMENT = Environment(
    "A CPU", "Zen 4", ("avx2",), 2, 8 << 30, "Linux x86_64, Python 3.11.7", (("onnxruntime", "1.31.1"),)
)
WORKLOAD = Workload(
    "net", 300, Slo(90, 60 * NS_PER_MS, 10 * NS_PER_MS, 0.1), AccuracyFloor("accuracy", None, 0.02)
)


def offer(instance_type: str, vcpus: int, usd_per_hour: float) -> Offer:
    return Offer(
        provider="aws",
        instance_type=instance_type,
        region="us-east-1",
        device="genoa",
        device_count=0,
        vcpus=vcpus,
        memory_bytes=vcpus << 31,
        purchase="on-demand",
        usd_per_hour=usd_per_hour,
        price_source="a price list",
        price_as_of=date(2026, 7, 20).isoformat(),
    )


def profile(variant: str, batch_size: int, ms: float) -> Profile:
    """A spread of a tenth around ``ms``."""
    samples = tuple(round(ms * NS_PER_MS * (0.95 + 0.1 * i / 59)) for i in range(60))
    shapes = (("x", (batch_size, 8)),)
    configuration = Configuration(
        "m" * 64, variant, variant[0] * 64, "genoa", "onnxruntime", batch_size, 1, 2, shapes
    )
    return Profile(configuration, ENVIRONMENT, samples, 100 << 20, "2026-11-22T00:00:00+00:00", 0.01)


def quality(value: float, drop: float) -> Quality:
    return Quality("accuracy", value, value - 0.01, value + 0.01, drop, drop - 0.01, drop + 0.01, 0.95, 400)


def make_plan() -> Plan:
    profiles = [profile("fp32", 1, 8), profile("int8", 1, 3), profile("int8", 4, 8)]
    accepted, refused = servings(WORKLOAD, profiles, 0.1, "genoa")
    problem = Problem(
        demands=(Demand("net", WORKLOAD.rate_rps),),
        candidates=tuple(s.candidate for s in accepted),
        offers=(offer("c.large", 2, 0.1), offer("c.xlarge", 4, 0.19)),
    )
    solution = replace(solve(problem), solve_seconds=0.0, solver="HiGHS through PuLP")
    fp32 = baseline(problem, lambda c: c.variant == "fp32" and c.max_batch_size == 1)
    assert fp32 is not None
    second = runner_up(problem, solution)
    solutions = [s for s in (solution, fp32, second.solution) if s]
    by_id = {s.candidate.id: s for s in accepted}
    margins = {
        (i, p.pattern.extrapolated, rate): Margin(
            i,
            p.pattern.extrapolated,
            rate,
            sojourn_percentile_ns(
                service_times(by_id[i].profiles, 1.1 if p.pattern.extrapolated else 1.0),
                by_id[i].candidate.max_batch_size,
                rate,
                WORKLOAD.slo.percentile,
            ),
            WORKLOAD.slo.budget_ns,
        )
        for s in solutions
        for p in s.placements
        for i, rate in replica_rates(p)
    }
    judgements = tuple(
        Judgement(
            Variant(r, "m" * 64, Path("/variants") / r / "model.onnx", r[0] * 64, size, notes),
            "onnxruntime",
            q,
            "net",
        )
        for r, size, notes, q in (
            ("fp32", 4000, (), quality(0.95, 0.0)),
            ("int8", 1000, ("all of it in int8",), quality(0.945, 0.005)),
        )
    )
    return Plan(
        created_at="2026-11-22T00:00:00+00:00",
        planner_version="0.1.0",
        spec_sha256="s" * 64,
        catalog_sha256="c" * 64,
        services=(
            Planned(
                workload=WORKLOAD,
                model=Model(
                    Path("/models/net.onnx"),
                    "m" * 64,
                    4000,
                    17,
                    (Tensor("x", "float32", ("N", 8)),),
                    (Tensor("y", "float32", ("N", 4)),),
                    (("Gemm", 2),),
                ),
                calibration=DataDigest("cal.npz", "a" * 64, 100, False),
                evaluation=DataDigest("eval.npz", "b" * 64, 400, False),
            ),
        ),
        periods=(),
        objective="usd",
        limits=FleetLimits(),
        packing_derating=0.1,
        environment=ENVIRONMENT,
        device=Device("genoa", "cpu", "AMD", "Zen 4", None, 460.8e9, None, (), None, (), 96, ()),
        device_note="",
        judgements=judgements,
        servings=tuple(accepted),
        rejections=(*refused, Rejection("fleet", "L4", "66 offers: no profile on this device")),
        offers_considered=2,
        offers=problem.offers,
        problem=problem,
        unmeasured=(),
        solution=solution,
        margins=tuple(margins.values()),
        baseline=fp32,
        baseline_note="fp32, one request at a time, on the cheapest offer for it",
        runner_up=RunnerUp(second.solution, second.winner.candidate_id, second.reason),
        measured=3,
        reused=0,
        notes=(),
    )


@pytest.fixture(scope="module")
def report() -> PlanReport:
    engine = EnginePart(
        workload="net",
        variant="int8",
        backend="onnxruntime",
        device="genoa",
        path="engines/int8/model.onnx",
        sha256="i" * 64,
        status="measured",
        build="",
    )
    files = FilesPart(plan_yaml="../plan.yaml", problem="problem.json", problem_sha256="p" * 64)
    return to_report(make_plan(), [engine], files)


def compare(name: str, text: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / name
    if request.config.getoption("--renew-golden"):
        path.write_text(text)
    assert text == path.read_text(), f"{name} changed; read the diff, then renew with --renew-golden"


def rounded(value: Any) -> Any:
    """Four digits: libraries may differ in the last ones from CPU to CPU."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if abs(value) > 1e-6 else 0.0
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def test_plan_json(report: PlanReport, request: pytest.FixtureRequest) -> None:
    text = json.dumps(rounded(json.loads(dump(report))), indent=2, ensure_ascii=False) + "\n"
    compare("plan.json", text, request)


def test_plan_json_comes_back_equal(report: PlanReport, tmp_path: Path) -> None:
    from planner.report import read_report

    (tmp_path / "plan.json").write_text(dump(report))
    assert read_report(tmp_path / "plan.json") == report


def test_the_terminal_table(
    report: PlanReport, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    render.plan(report, Path("plan"))
    printed = re.sub(r" +$", "", capsys.readouterr().out, flags=re.MULTILINE)
    assert max(map(len, printed.splitlines())) <= 100
    compare("plan.txt", printed, request)
