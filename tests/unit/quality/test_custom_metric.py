"""A user's own metric, and every way in which it can fail: one line that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner.errors import DataError, SpecError, VariantError
from planner.quality import assess, check_metric, metric

OUTPUT = np.arange(12, dtype=np.float32).reshape(6, 2)
LABELS = np.arange(6)


def written(folder: Path, body: str, name: str) -> str:
    (folder / f"{name}.py").write_text(f"import numpy as np\n{body}\n")
    return f"{name}:score"


def test_the_mean_of_one_score_for_each_sample(tmp_path: Path) -> None:
    name = written(
        tmp_path, "def score(outputs, labels):\n    return outputs[0][:, 1] - labels", "own_metric_mean"
    )
    quality = assess(metric(name, tmp_path), [OUTPUT], [OUTPUT + 1], LABELS)
    assert quality.value == pytest.approx(np.mean(OUTPUT[:, 1] - LABELS))
    assert (quality.metric, quality.drop, quality.higher_is_better) == (name, pytest.approx(1), True)


def test_less_may_be_better(tmp_path: Path) -> None:
    body = "def score(outputs, labels):\n    return outputs[0][:, 0]\nscore.higher_is_better = False"
    quality = assess(
        metric(written(tmp_path, body, "own_metric_less"), tmp_path), [OUTPUT], [OUTPUT + 1], None
    )
    assert quality.drop == pytest.approx(-1) and not quality.higher_is_better


def test_another_text_is_another_version(tmp_path: Path) -> None:
    versions = set()
    for folder, sign in (("a", "+"), ("b", "-")):
        (tmp_path / folder).mkdir()
        body = f"def score(outputs, labels):\n    return {sign}outputs[0][:, 0]"
        own = metric(written(tmp_path / folder, body, "own_metric_version"), tmp_path / folder)
        versions.add((own.version, assess(own, [OUTPUT], [OUTPUT], None).value))
    assert {value for _, value in versions} == {5, -5} and len({version for version, _ in versions}) == 2


def test_perfect_scores_still_leave_doubt(tmp_path: Path) -> None:
    name = written(
        tmp_path, "def score(outputs, labels):\n    return np.ones(len(labels))", "own_metric_ones"
    )
    quality = assess(metric(name, tmp_path), [np.zeros((100, 1))], [np.zeros((100, 1))], np.zeros(100))
    assert quality.drop_high == pytest.approx(3.84 / 100, rel=1e-2) == 1 - quality.low


@pytest.mark.parametrize(
    ("number", "body", "match"),
    [
        (1, "def scored(outputs, labels): pass", "has no function score; did you mean scored"),
        (2, "def score(outputs, labels): return 1 / 0", r"score\(\) failed: ZeroDivisionError"),
        (3, "def score(outputs): return 1", r"score\(\) failed: TypeError"),
        (4, "def score(outputs, labels): return 0.5", "one number for each of 6 samples, got float64"),
        (
            5,
            "def score(outputs, labels): return np.ones((6, 2))",
            r"for each of 6 samples, got float64 .6, 2.",
        ),
        (6, "def score(outputs, labels): return ['a'] * 6", "one number for each of 6 samples"),
        (7, "def score(outputs, labels): return [[1], [1, 2], 3, 4, 5, 6]", "one number for each sample"),
        (8, "def score(outputs, labels): return np.full(6, np.nan)", "6 of 6 scores are NaN"),
        (9, "def score(outputs, labels):\n    outputs[0][:] = 0\n    return labels", "read-only"),
        (10, "raise ValueError('first\\nsecond')", "importing own_metric_10 failed: ValueError: first"),
    ],
)
def test_failures_are_one_line(tmp_path: Path, number: int, body: str, match: str) -> None:
    name = written(tmp_path, body, f"own_metric_{number}")
    with pytest.raises(DataError, match=match) as caught:
        assess(metric(name, tmp_path), [OUTPUT.copy()], [OUTPUT], LABELS)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_broken_outputs_are_the_variants_fault(tmp_path: Path) -> None:
    name = written(tmp_path, "def score(outputs, labels):\n    return outputs[0][:, 0]", "own_metric_broken")
    broken = OUTPUT.copy()
    broken[0] = np.nan
    with pytest.raises(VariantError, match="in 1 of 6 samples"):
        assess(metric(name, tmp_path), [broken], [OUTPUT], LABELS)


def test_names_that_are_none() -> None:
    for name in ("accuracy2", "top-", "wer-x", "a b:c", ":score", "top-1:"):
        with pytest.raises(SpecError, match="unknown metric"):
            check_metric(name)
    with pytest.raises(DataError, match="importing no_such_module_here failed"):
        check_metric("no_such_module_here:score")
