"""Error rates against a recursive edit distance, perplexity against probabilities multiplied out."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import DataError, VariantError
from planner.quality import assess
from planner.quality.sequences import edit_distances, transcripts

IDS = st.lists(st.integers(0, 3), max_size=7)


def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    @cache
    def of(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return of(len(a), len(b))


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=8))
@settings(max_examples=60)
def test_edit_distances_of_all_pairs_at_once(pairs: list[tuple[list[int], list[int]]]) -> None:
    ours, wanted = ([np.array(s, np.int64) for s in side] for side in zip(*pairs, strict=True))
    expected = [distance(tuple(a), tuple(b)) for a, b in pairs]
    assert edit_distances(ours, wanted).tolist() == expected


def padded(*rows: list[int]) -> np.ndarray:
    width = max(map(len, rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows])


def test_error_rate_sums_before_it_divides() -> None:
    wanted, ours = padded([1, 2, 3, 4, 5, 6, 7], [8]), padded([1, 2, 3, 4, 5, 6, 7], [9, 8])
    for name in ("cer", "wer"):
        quality = assess(name, [ours], [wanted], wanted)
        assert quality.value == pytest.approx(1 / 8) == quality.drop
        assert not quality.higher_is_better


def test_words_are_split_at_the_separator() -> None:
    wanted = padded([1, 2, 0, 3, 0, 4, 5], [0, 6, 0])  # words 12, 3, 45; 6
    ours = padded([1, 2, 0, 0, 3, 0, 5, 4], [6])  # 12, 3, 54; 6
    assert assess("wer-0", [ours], [wanted], wanted).value == pytest.approx(1 / 4)


def test_ctc_merges_repeats_then_drops_blanks() -> None:
    best = np.array([[0, 1, 1, 0, 1, 2, 2, 0], [3, 3, 3, 3, 3, 3, 3, 3], [0] * 8])
    scores = np.eye(4)[best]
    assert [t.tolist() for t in transcripts(scores)] == [[1, 1, 2], [3], []]
    scores[1, 4] = np.nan
    assert transcripts(scores)[1].tolist() == [3, 3]
    assert assess("cer", [np.eye(4)[best]], [np.eye(4)[best]], padded([1, 1, 2], [3], [])).value == 0


def test_perplexity_is_the_inverse_geometric_mean_probability() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 5, 7)), rng.integers(-1, 7, (6, 5))
    chances = []
    for row, ids in zip(logits.reshape(-1, 7).tolist(), labels.reshape(-1).tolist(), strict=True):
        if ids >= 0:
            chances.append(math.exp(row[ids]) / sum(map(math.exp, row)))
    quality = assess("perplexity", [logits + 1000], [logits], labels)
    assert quality.value == pytest.approx(math.prod(chances) ** (-1 / len(chances)))
    assert quality.drop == pytest.approx(0) and not quality.higher_is_better
    assert assess("perplexity", [np.zeros((6, 5, 7))], [logits], labels).value == pytest.approx(7)


def test_a_class_ruled_out_is_no_error_unless_it_is_the_label() -> None:
    logits, labels = np.zeros((4, 3, 5)), np.zeros((4, 3), int)
    ruled_out = logits.copy()
    ruled_out[..., 4] = -np.inf
    assert assess("perplexity", [ruled_out], [logits], labels).value == pytest.approx(4)
    ruled_out[0, 0, 0] = -np.inf
    with pytest.raises(VariantError, match="in 1 of 4 samples"):
        assess("perplexity", [ruled_out], [logits], labels)
    huge = logits.copy()
    huge[..., 1] = 1e30
    assert math.isfinite(assess("perplexity", [huge], [logits], labels).drop_high)


@pytest.mark.parametrize(
    ("name", "output", "labels", "match"),
    [
        ("cer", np.zeros((3, 4)), np.zeros((3, 4)), "needs ids"),
        ("cer", np.zeros((3, 4), int), np.zeros(3), "padded with -1"),
        ("cer", np.zeros((3, 4), int), np.full((3, 4), -1), "nothing but padding"),
        ("wer", np.zeros((3, 4), int), np.full((3, 4), 0.5), "whole numbers"),
        ("perplexity", np.zeros((3, 4)), np.zeros((3, 4)), "needs logits"),
        ("perplexity", np.zeros((3, 4, 2)), np.full((3, 4), 2), "beyond the model's vocabulary of 2"),
        ("perplexity", np.zeros((3, 4, 2)), np.full((3, 4), -1), "nothing but padding"),
    ],
)
def test_what_does_not_suit_is_named(name: str, output: np.ndarray, labels: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        assess(name, [output], [output], labels)
