"""workload.classes of plan.yaml: what reaches its value, and every mistake in one line."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from planner.domain.problem import RequestClass
from planner.errors import SpecError
from planner.spec import json_schema, read_spec

MODEL = """\
model: net.onnx
dimensions: {N: batch, seq: 128}
accuracy: {max_drop: 2%}
workload:
  rate_rps: 120
  slo: {latency: 50ms}
  classes: CLASSES
"""
IMPORTED = """\
imported: {profiles: bert-large}
accuracy: {minimum: 0, declared: {int8: {value: 0.9, source: a paper}}}
workload:
  rate_rps: 120
  slo: {latency: 50ms}
  classes: CLASSES
"""
SHORT = "{name: short, share: 70%, dimensions: {seq: 64}}"
LONG = "{name: long, share: 0.3, dimensions: {seq: 384}}"


def write(folder: Path, classes: str, text: str = MODEL) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text.replace("CLASSES", classes))
    return path


def test_classes_of_a_model(tmp_path: Path) -> None:
    path = write(tmp_path, f"[{SHORT}, {LONG}]")
    spec = read_spec(path).only
    assert spec.workload.classes == (RequestClass("short", 0.7), RequestClass("long", 0.3))
    assert spec.workload.shares(["long"]) == (0.3,)
    assert spec.workload.shares([""]) == (1.0,)
    assert spec.class_dimensions == (("short", (("seq", 64),)), ("long", (("seq", 384),)))
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())


def test_classes_of_imported_profiles(tmp_path: Path) -> None:
    classes = "[{name: a, share: 80%, imported_model: m-1}, {name: b, share: 20%, imported_model: m-2}]"
    spec = read_spec(write(tmp_path, classes, IMPORTED)).only
    assert spec.imported is not None
    assert spec.imported.class_models == (("a", "m-1"), ("b", "m-2"))
    assert spec.class_dimensions == ()


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (f"[{SHORT}]", "the shares must add up to 100%, got 70"),
        (f"[{SHORT}, {SHORT}]", "two have the same name"),
        (f"[{SHORT}, {{name: long, share: 30%}}]", "long: dimensions: missing"),
        (f"[{SHORT}, {{name: long, share: 0}}]", "share"),
        (f"[{SHORT}, {{name: a b, share: 30%, dimensions: {{seq: 1}}}}]", "name"),
        (f"[{SHORT}, {{name: long, share: 30%, dimensions: {{seq: batch}}}}]", "seq"),
        (
            f"[{SHORT}, {{name: l, share: 30%, dimensions: {{seq: 9}}, imported_model: m}}]",
            "imported_model is for",
        ),
        (f"[{SHORT}, {{name: l, share: 30%, dimensions: {{seq: 9}}, data: x.npz}}]", "data: unknown key"),
        (
            "["
            + ", ".join(f"{{name: c{k}, share: 20%, dimensions: {{seq: {k + 1}}}}}" for k in range(5))
            + "]",
            "4",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, classes: str, expected: str) -> None:
    with pytest.raises(SpecError) as error:
        read_spec(write(tmp_path, classes))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
    assert "plan.yaml:" in str(error.value)


@pytest.mark.parametrize(
    ("classes", "text", "expected"),
    [
        (f"[{SHORT}, {LONG}]", IMPORTED, "short: imported_model: missing"),
        (
            "[{name: a, share: 50%, imported_model: m}, {name: b, share: 50%, imported_model: m}]",
            IMPORTED,
            "two have the same imported_model",
        ),
        (
            "[{name: a, share: 50%, imported_model: m}, {name: b, share: 50%, imported_model: n}]",
            IMPORTED.replace("bert-large}", "bert-large, model: m}"),
            "imported.model: not together with workload.classes",
        ),
    ],
)
def test_mistakes_of_imported_classes(tmp_path: Path, classes: str, text: str, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        read_spec(write(tmp_path, classes, text))
