"""Checks every row of the shipped reference profiles: sources, and figures that can be right."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import pytest

from planner.domain.profile import Profile
from planner.store import profiles_of, read_sheet, reference_folder, reference_names

ALL = [p for name in reference_names() for p in profiles_of(reference_folder() / f"{name}.csv")]
BERT = list(profiles_of(reference_folder() / "bert-large.csv"))
BATCHES = (1, 2, 4, 8, 12, 16, 24, 32, 64, 128)


def named(profile: Profile) -> str:
    c = profile.configuration
    return f"{c.model}-{c.variant}-{c.device}-b{c.batch_size}"


def test_nothing_is_wrong_and_every_file_is_described() -> None:
    described = (reference_folder() / "README.md").read_text()
    for name in reference_names():
        assert read_sheet(reference_folder() / f"{name}.csv").problems == ()
        assert f"`{name}.csv`" in described


@pytest.mark.parametrize("profile", ALL, ids=named)
def test_row(profile: Profile) -> None:
    assert re.search(r"\b[0-9a-f]{12}\b", profile.source), "the commit that the figure was read at"
    assert profile.environment.libraries, "the version of the backend"
    published = profile.published
    assert published is not None and published.mean_ns is not None
    p99 = profile.percentile_ns(99)
    assert 0.5e6 <= published.mean_ns <= profile.percentile_ns(95) <= p99 <= 1.5e9
    # Warm, undisturbed runs on one GPU: the tail is short.
    assert p99 <= 1.35 * published.mean_ns


def test_bert_large_is_complete() -> None:
    assert len(BERT) == 238
    grid = Counter((c.device, c.model, c.variant) for c in (p.configuration for p in BERT))
    devices = ("V100-16GB", "T4", "A30", "L4", "L40S", "A100-40GB")
    expected = {
        (device, f"bert-large-{length}", variant): 9 if (device, length) == ("V100-16GB", 384) else 10
        for device in devices
        for length in (128, 384)
        for variant in ("fp16", "int8")
    }
    assert grid == expected
    assert {p.configuration.batch_size for p in BERT} == set(BATCHES)


def test_latency_rises_with_the_batch_and_the_length() -> None:
    mean = {named(p): p.mean_ns() for p in BERT}
    for profile in BERT:
        c = profile.configuration
        for smaller, larger in pairwise(BATCHES):
            if larger == c.batch_size:
                assert mean[named(profile)] > 0.95 * mean[f"{c.model}-{c.variant}-{c.device}-b{smaller}"]
        if c.model == "bert-large-384":
            assert mean[named(profile)] > mean[named(profile).replace("384", "128")]


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        # Read again in the document cited, by hand.
        ("bert-large-384-fp16-A100-40GB-b128", (155.47, 156.51, 156.99)),
        ("bert-large-384-int8-A100-40GB-b64", (44.83, 44.96, 45.30)),
        ("bert-large-128-int8-A100-40GB-b1", (1.23, 1.23, 1.23)),
    ],
)
def test_figures_read_again(name: str, figures: tuple[float, float, float]) -> None:
    (profile,) = [p for p in BERT if named(p) == name]
    found = (profile.mean_ns(), profile.percentile_ns(95), profile.percentile_ns(99))
    assert tuple(ns / 1e6 for ns in found) == pytest.approx(figures)
