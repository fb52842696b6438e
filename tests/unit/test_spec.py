"""plan.yaml: every mistake is one line that names file, line, key and what was expected."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from planner.errors import SpecError
from planner.spec import json_schema, read_spec
from planner.units import NS_PER_MS

GOOD = """\
model: models/net.onnx
dimensions: {N: batch, seq: 128}
data: {calibration: cal.npz, evaluation: "data:evaluation"}
accuracy: {metric: macro_accuracy, max_drop: 2%}
workload:
  rate_rps: 120
  slo: {percentile: 99, latency: 50ms, overhead: 5ms, headroom: 10%}
recipes: [int8, fp32, int8]
batch_sizes: [4, 1, 2]
threads: [1]
fleet: {providers: [aws], regions: [us-east-1], purchase: [on-demand, spot], max_instances_per_offer: 7}
output: out
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def test_every_key_reaches_its_value(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, GOOD)).only
    (main,) = spec.entrants
    assert main.model == tmp_path / "models/net.onnx"
    assert main.dimensions == (("N", "batch"), ("seq", 128))
    assert (main.calibration, main.evaluation) == ("cal.npz", "data:evaluation")
    assert spec.workload.name == "net"
    assert spec.workload.rate_rps == 120
    assert spec.workload.slo.budget_ns == 45 * NS_PER_MS
    assert spec.workload.slo.headroom == pytest.approx(0.1)
    assert spec.workload.floor.max_drop == pytest.approx(0.02)
    assert spec.recipes == ("int8", "fp32")
    assert spec.batch_sizes == (1, 2, 4)
    assert spec.limits.purchases == ("on-demand", "spot")
    assert spec.limits.max_instances_per_offer == 7
    assert spec.output == tmp_path / "out"
    assert spec.profiles == tmp_path / "out" / "profiles"


def test_backends_are_onnxruntime_unless_given(tmp_path: Path) -> None:
    assert read_spec(write(tmp_path, GOOD)).only.backends == ("onnxruntime",)
    given = write(tmp_path, GOOD + "backends: [openvino, onnxruntime, openvino]\n")
    assert read_spec(given).only.backends == ("openvino", "onnxruntime")


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ("latency: 50ms", "latencey: 50ms", 7, "workload.slo.latencey: unknown key; did you mean latency?"),
        ("output: out", "outptu: out", 12, "outptu: unknown key; did you mean output?"),
        ("rate_rps: 120", "rate_rps: 0", 6, "workload.rate_rps: input should be greater than 0, got 0"),
        ("rate_rps: 120", "rate_rps: -3", 6, "workload.rate_rps: input should be greater than 0, got -3"),
        ("rate_rps: 120", "rate_rps: .inf", 6, "workload.rate_rps: input should be a finite number"),
        ("latency: 50ms", "latency: 50", 7, "expected a duration with its unit, such as 20ms, got 50"),
        ("latency: 50ms", "latency: 5ms", 7, "overhead must be below latency"),
        ("headroom: 10%", "headroom: 100%", 7, "workload.slo.headroom: input should be less than 1"),
        ("percentile: 99", "percentile: 100", 7, "workload.slo.percentile: input should be less than 100"),
        ("max_drop: 2%", "max_drop: two", 4, "accuracy.max_drop: expected a share, such as 10% or 0.1"),
        ("max_drop: 2%", "max_drop: 2%, minimum: 0.9", 4, "give one of minimum"),
        (", max_drop: 2%", "", 4, "give one of minimum"),
        ("max_drop: 2%", "max_drop: -2%", 4, "max_drop: expected a number of 0 or more, got -0.02"),
        ("spot]", "sport]", 11, "input should be 'on-demand', 'spot' or 'reserved', got 'sport'"),
        ("threads: [1]", "threads: [0]", 10, "threads.0: input should be greater than or equal to 1"),
        ("output: out", "model: b.onnx", 12, "model: given twice; keep one of them"),
        ("output: out", "output: [", 13, "not valid YAML"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, old: str, new: str, line: int, expected: str) -> None:
    assert GOOD.count(old) == 1
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(SpecError) as caught:
        read_spec(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert expected in message
    assert "\n" not in message


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"model: missing"):
        read_spec(write(tmp_path, GOOD.replace("model: models/net.onnx\n", "")))


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n"])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError, match="expected keys"):
        read_spec(write(tmp_path, text))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="planner init"):
        read_spec(tmp_path / "nowhere.yaml")


def test_the_schema_accepts_what_the_parser_accepts_and_refuses_the_rest() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(GOOD), schema)
    for broken in (GOOD.replace("output:", "outptu:"), GOOD.replace("120", "0"), GOOD.replace("50ms", "50")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(broken), schema)


FLEET = """
services:
  - model: a.onnx
    accuracy: {max_drop: 1%}
    workload: {rates_rps: {day: 100, night: 5}, redundancy: n+1, slo: {latency: 50ms}}
  - model: b.onnx
    accuracy: {max_drop: 2%, per: average}
    workload: {name: second, rate_rps: 7, max_spot_share: 30%, slo: {latency: 1s}}
fleet:
  periods: [{name: day, hours: 14}, {name: night, hours: 10}]
  quotas:
    - {at_most: 64, unit: family_units, provider: aws, family: P}
    - {at_most: 2, device: T4}
    - {at_most: 3, device: T4}
  without: [Turing]
  min_zones: 2
  max_kinds: 3
  budget_usd_per_hour: 50
  objective: latency
  purchase: [spot, reserved]
  terms: [1yr]
  spot_availability: 95%
"""


def test_several_workloads_share_a_fleet(tmp_path: Path) -> None:
    fleet = read_spec(write(tmp_path, FLEET))
    a, b = fleet.services
    assert (a.workload.name, b.workload.name) == ("a", "second")
    assert (a.workload.rate_rps, a.workload.rates_rps, a.workload.redundancy) == (100, (100, 5), "instance")
    assert (b.workload.rate_rps, b.workload.rates_rps, b.workload.max_spot_share) == (7, (), 0.3)
    assert (a.workload.floor_on_average, b.workload.floor_on_average) == (False, True)
    assert a.output == tmp_path / "plan" / "a" and a.profiles == b.profiles == tmp_path / "plan" / "profiles"
    assert [(p.name, p.hours) for p in fleet.periods] == [("day", 14), ("night", 10)]
    limits = fleet.limits
    assert [q.name for q in limits.quotas] == [
        "aws P family_units",
        "T4 instances",
        "T4 instances (2)",
    ]
    assert (limits.without, limits.min_zones, limits.max_kinds) == (("Turing",), 2, 3)
    assert (limits.budget_usd_per_hour, limits.terms, limits.spot_availability) == (50, ("1yr",), 0.95)
    assert fleet.objective == "latency"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("rate_rps: 7", "rate_rps: 7, trace: t.csv", "give one of rate_rps, rates_rps and trace"),
        ("rate_rps: 7, ", "", "give one of rate_rps, rates_rps and trace, got none"),
        ("{day: 100, night: 5}", "{day: 100}", "give one for each period"),
        ("name: second", "name: a", "two are called a"),
        ("name: second", "name: a/b", "letters, digits"),
        ("budget_usd_per_hour: 50", "", "budget_usd_per_hour: missing"),
        ("{name: night, hours: 10}", "{name: day, hours: 10}", "two have the same name"),
        ("rate_rps: 7", "rate_rsp: 7", "did you mean rate_rps?"),
    ],
)
def test_a_fleets_mistakes(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert FLEET.count(old) == 1
    with pytest.raises(SpecError, match=re.escape(expected)) as raised:
        read_spec(write(tmp_path, FLEET.replace(old, new)))
    assert "\n" not in str(raised.value)


def test_rates_by_hour_from_a_trace(tmp_path: Path) -> None:
    """A request a minute from 9:30 to 11:00, and to 10:30 the next day: of 9:00 an hour and a half is told,
    with an hour of requests; of 10:00 as much, full of them; of all others nothing came."""
    rows = ["id,TIMESTAMP"]
    for day, end in ((1, 11 * 60), (2, 10 * 60 + 30)):
        rows += [f"x,2026-01-0{day} {m // 60:02}:{m % 60:02}:00" for m in range(9 * 60 + 30, end + 1)]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    text = GOOD.replace("rate_rps: 120", "trace: t.csv\n  scale: 60")
    fleet = read_spec(write(tmp_path, text))
    rates = dict(zip((p.name for p in fleet.periods), fleet.only.workload.rates_rps, strict=True))
    assert rates["09:00"] == pytest.approx(2 / 3, rel=0.02)
    assert rates["10:00"] == pytest.approx(1.0, rel=0.02)
    assert rates["03:00"] == 0 and len(rates) == 24
    assert fleet.only.workload.rate_rps == max(rates.values())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ":1: expected a column `timestamp`, got none"),
        ("time\n1\n", ":1: expected a column `timestamp`, got time"),
        ("timestamp\n1\nnoon\n", ":3: expected a time such as"),
        ("timestamp\n1\n", "two different times"),
    ],
)
def test_a_traces_mistakes(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(SpecError, match=re.escape(expected)):
        read_spec(write(tmp_path, GOOD.replace("rate_rps: 120", "trace: t.csv")))
