"""Every way in which data can be wrong ends in a DataError of one line that names the culprit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.domain.model import BoundInput
from planner.errors import DataError
from planner.quality import Dataset, load_data, overlap, random_data

X = BoundInput("x", "float32", (1, 4), 0)
IDS = BoundInput("ids", "int32", (1, 3), 0)


def saved(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "data.npz", **arrays)
    return "data.npz"


def ramp(samples: int = 5, dtype: str = "float32") -> np.ndarray:
    return np.arange(samples * 4, dtype=dtype).reshape(samples, 4)


def refused(
    match: str, source: str, base: Path, inputs: tuple[BoundInput, ...], labels: bool = False
) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load_data(source, base, inputs, labels)
    assert "\n" not in str(caught.value)


def test_file_is_read_into_the_models_dtypes(tmp_path: Path) -> None:
    source = saved(tmp_path, x=ramp(dtype="float64"), ids=np.ones((5, 3), np.int64), labels=np.arange(5))
    data = load_data(source, tmp_path, (X, IDS), True)
    assert data.samples == 5 and not data.synthetic
    assert data.inputs["x"].dtype == np.float32 and data.inputs["ids"].dtype == np.int32
    assert data.labels is not None and data.labels.tolist() == [0, 1, 2, 3, 4]


def test_digest_covers_values_and_labels(tmp_path: Path) -> None:
    def digest(**arrays: Any) -> str:
        return load_data(saved(tmp_path, **arrays), tmp_path, (X,)).digest

    other = ramp()
    other[3, 2] += 1
    digests = [digest(x=ramp()), digest(x=other), digest(x=ramp(), labels=np.zeros(5, np.int64))]
    assert len(set(digests)) == 3 and digest(x=ramp()) == digests[0]


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"X1": ramp()}, "no array for input x; did you mean X1|there are X1"),
        ({"x": ramp().reshape(5, 2, 2)}, r"x has shape \[5, 2, 2\], expected \[5, 4\]"),
        ({"x": ramp(0)}, "no samples"),
        ({"x": ramp().astype(np.int64)}, "x has dtype int64, the model takes float32"),
        ({"x": np.full((2, 4), np.nan, np.float32)}, "x holds NaN or infinity .first in sample 0"),
        ({"x": np.full((2, 4), 1e300)}, "do not fit float32"),
        ({"x": ramp(), "labels": np.arange(4)}, "4 labels for 5 samples"),
        ({"x": ramp(), "labels": np.array(list("abcde"))}, "labels must be numbers"),
        ({"x": np.float32(3)}, "single values"),
        ({"x": np.array([{}, []], dtype=object)}, "x holds pickled objects, never unpickled"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], match: str) -> None:
    refused(match, saved(tmp_path, **arrays), tmp_path, (X,))


def test_missing_labels_are_refused_only_where_needed(tmp_path: Path) -> None:
    source = saved(tmp_path, x=ramp())
    assert load_data(source, tmp_path, (X,)).labels is None
    refused("no array labels", source, tmp_path, (X,), labels=True)


def test_integers_must_fit(tmp_path: Path) -> None:
    refused("do not fit int32", saved(tmp_path, ids=np.full((2, 3), 2**40)), tmp_path, (IDS,))
    refused("the model takes int32", saved(tmp_path, ids=np.ones((2, 3))), tmp_path, (IDS,))


def test_inputs_must_have_as_many_samples(tmp_path: Path) -> None:
    source = saved(tmp_path, x=ramp(5), ids=np.ones((4, 3), np.int32))
    refused("ids has 4 samples, x has 5", source, tmp_path, (X, IDS))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    refused("no such file", "absent.npz", tmp_path, (X,))
    whole = tmp_path / saved(tmp_path, x=np.random.default_rng(0).random((500, 4), np.float32))
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    refused("cut short", "data.npz", tmp_path, (X,))
    whole.write_bytes(content[:300] + bytes(200) + content[500:])
    refused("damaged", "data.npz", tmp_path, (X,))
    whole.write_text("x")
    refused("not an .npz", "data.npz", tmp_path, (X,))
    refused("expected an .npz file or module:function", "data.csv", tmp_path, (X,))


def test_function_beside_the_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for folder, value in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "evaluation_source.py").write_text(
            "import numpy as np\n"
            f"def rows(): return {{'x': np.full((3, 4), {value}.0)}}\n"
            "def ragged(): return {'x': [[1], [1, 2]]}\n"
            "def nothing(): return None\n"
            "def broken(): raise KeyError('gone\\nfor good')\n"
        )
        path = list(sys.path)
        data = load_data("evaluation_source:rows", tmp_path / folder, (X,))
        assert sys.path == path
        assert data.inputs["x"].max() == value  # the second folder's module, not the first one's again
    for function, match in (
        ("ragged", "x is not an array of one shape"),
        ("nothing", "must return a mapping"),
        ("broken", "broken.. failed: KeyError"),
        ("row", "has no function row; did you mean rows"),
    ):
        refused(match, f"evaluation_source:{function}", tmp_path / "two", (X,))
    (tmp_path / "syntax_error_source.py").write_text("def")
    refused("importing syntax_error_source failed: SyntaxError", "syntax_error_source:f", tmp_path, (X,))
    refused("importing absent_source failed: ModuleNotFoundError", "absent_source:f", tmp_path, (X,))


def test_batches_follow_the_batch_axis() -> None:
    second = BoundInput("s", "float32", (2, 1, 3), 1)
    data = random_data((X, second), 5, 0, {})
    feed = data.batch([1, 3], (X, second))
    assert feed["x"].shape == (2, 4) and feed["s"].shape == (2, 2, 3)
    assert np.array_equal(feed["s"][:, 1], data.inputs["s"][3])
    assert np.array_equal(data.batch([6], (X,))["x"], data.batch([1], (X,))["x"])


def test_fixed_inputs_take_whole_samples_or_rows(tmp_path: Path) -> None:
    fixed = BoundInput("x", "float32", (3, 4), None)
    rows = load_data(saved(tmp_path, x=ramp(5)), tmp_path, (fixed,))
    assert np.array_equal(rows.batch([4], (fixed,))["x"], np.repeat(ramp(5)[4:], 3, axis=0))
    assert np.array_equal(rows.batch([0, 1, 2], (fixed,))["x"], ramp(5)[:3])
    whole = load_data(saved(tmp_path, x=np.zeros((2, 3, 4))), tmp_path, (fixed,))
    assert whole.batch([1], (fixed,))["x"].shape == (3, 4)


def test_a_scalar_input_is_the_same_for_every_sample(tmp_path: Path) -> None:
    rate = BoundInput("rate", "int64", (), None)
    data = load_data(saved(tmp_path, x=ramp(5), rate=np.array(16000)), tmp_path, (X, rate))
    assert data.inputs["rate"].tolist() == [16000] * 5
    assert data.batch([2], (X, rate))["rate"].shape == ()


def test_random_data_are_seeded_and_in_range() -> None:
    one = random_data((X, IDS), 50, 7, {"ids": (10, 20)})
    assert one.synthetic and one.digest == random_data((X, IDS), 50, 7, {"ids": (10, 20)}).digest
    assert one.digest != random_data((X, IDS), 50, 8, {"ids": (10, 20)}).digest
    assert one.inputs["ids"].min() >= 10 and one.inputs["ids"].max() < 20
    assert set(np.unique(random_data((IDS,), 50, 7, {}).inputs["ids"])) == {0, 1}


def test_overlap_counts_evaluation_samples_seen_before() -> None:
    def data(rows: np.ndarray) -> Dataset:
        return Dataset({"x": rows, "k": rows[:, :1] * 2}, None, len(rows), "", False)

    rows = ramp(6)
    assert overlap(data(rows[:3]), data(rows[3:])) == 0
    assert overlap(data(rows[:3]), data(rows[[2, 5, 2]])) == 2
