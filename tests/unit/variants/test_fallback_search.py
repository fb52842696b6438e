"""The search for layers to leave float, against brute force over made-up costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.variants.context import Context
from planner.variants.fallback import LAYERS_ALONE, Criterion, Outcome, search, sensitivities, share

SOURCE = Path("float")


class Additive:
    """A candidate is a path that names its float layers; every other layer costs what it costs."""

    def __init__(self, costs: Mapping[str, float], of_float: float = 0.0) -> None:
        self.costs, self.of_float = costs, of_float
        self.written: list[frozenset[str]] = []
        self.judged: list[Path] = []

    def write(self, kept_float: frozenset[str]) -> Path:
        self.written.append(kept_float)
        return Path(" ".join(sorted(kept_float)))

    def error(self, path: Path, samples: int | None = None) -> float:
        kept = set(str(path).split())
        return sum(cost for name, cost in self.costs.items() if name not in kept)

    def drop(self, path: Path) -> float:
        self.judged.append(path)
        return self.of_float if path == SOURCE else self.of_float + self.error(path)

    def outcome(self, macs: Mapping[str, int], tolerated: float, judged: bool = True) -> Outcome:
        criterion = Criterion(self.drop if judged else self.error, tolerated, judged)
        return search(macs, sum(macs.values()), self.write, self.error, criterion, SOURCE)


layers = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 50)), min_size=2, max_size=20)


@given(layers, st.integers(0, 6000), st.booleans())
def test_as_few_as_hold_and_half_stays_quantized(
    drawn: list[tuple[int, int]], tolerated: int, judged: bool
) -> None:
    costs = {f"l{i}": float(cost) for i, (cost, _) in enumerate(drawn)}
    macs = {f"l{i}": mac for i, (_, mac) in enumerate(drawn)}
    model = Additive(costs)
    found = model.outcome(macs, tolerated, judged)
    assert found.before == sum(costs.values())
    assert found.cost == model.error(model.write(frozenset(found.kept_float)))
    assert len(found.kept_float) < len(costs)

    half = sum(macs.values()) / 2
    inside: list[str] = []
    for name in sorted(costs, key=lambda n: -costs[n])[:-1]:
        if sum(macs[n] for n in macs if n not in [*inside, name]) >= half:
            inside.append(name)
    prefixes = [inside[:k] for k in range(len(inside) + 1)]
    holding = [p for p in prefixes if model.error(Path(" ".join(p))) <= tolerated]
    if holding:
        assert list(found.kept_float) == min(holding, key=len)
    elif not judged:
        assert found.cost > tolerated
    if not judged or holding:
        assert share(macs, sum(macs.values()), found.kept_float) >= 0.5


def test_a_model_that_holds_costs_one_judgement() -> None:
    model = Additive({"a": 0.1, "b": 0.2})
    assert model.outcome({"a": 1, "b": 1}, 0.4) == Outcome(
        (), pytest.approx(0.3), pytest.approx(0.3), 0.4, {}
    )
    assert len(model.judged) == 1 and model.written == [frozenset()]


def test_many_layers_take_few_judgements() -> None:
    costs = {f"l{i}": 1.0 + (i == 70) * 100 + (i == 3) * 50 for i in range(100)}
    model = Additive(costs)
    found = model.outcome(dict.fromkeys(costs, 1), 101.0)
    # Neighbours share their sensitivity, since there are more than 64 layers.
    assert {"l70", "l3"} <= set(found.kept_float) <= {"l70", "l71", "l2", "l3"}
    assert found.cost <= 101
    assert len(model.judged) <= 12
    assert len(model.written) <= LAYERS_ALONE + len(model.judged)


def test_only_a_judge_may_go_below_half() -> None:
    costs, macs = {"large": 1.0, "small": 0.1, "tiny": 0.05}, {"large": 90, "small": 6, "tiny": 4}
    below = Additive(costs).outcome(macs, 0.2)
    assert below.kept_float == ("large",) and below.cost <= 0.2
    within = Additive(costs).outcome(macs, 0.2, judged=False)
    assert set(within.kept_float) <= {"small", "tiny"}


def test_nothing_gained_leaves_all_quantized() -> None:
    model = Additive({"a": 0.01, "b": 0.01}, of_float=0.0)
    criterion = Criterion(lambda path: 0.0 if path == SOURCE else 0.5, 0.1, judged=True)
    found = search({"a": 1, "b": 1}, 2, model.write, model.error, criterion, SOURCE)
    assert found.kept_float == () and found.cost == 0.5
    assert "no layer left float would mend it" in found.notes(criterion)[0]


def test_what_an_earlier_recipe_lost_is_not_asked_back() -> None:
    lost = Additive({"a": 0.02, "b": 0.3, "c": 0.02}, of_float=0.2)
    found = lost.outcome({"a": 1, "b": 1, "c": 1}, 0.05)
    assert found.tolerated == 0.2
    assert found.kept_float[:1] == ("b",) and len(found.kept_float) < 3


def test_the_context_sets_the_criterion(tmp_path: Path) -> None:
    def error(path: Path, samples: int | None) -> float:
        return 0.07

    plain = Criterion.of(Context((), None), error)
    assert (plain.of_model(tmp_path), plain.tolerated, plain.judged) == (0.07, 0.1, False)
    judged = Criterion.of(Context((), None, judge=lambda path: 0.3), error)
    assert (judged.of_model(tmp_path), judged.tolerated, judged.judged) == (0.3, 0.01, True)
    assert Criterion.of(Context((), None, judge=lambda path: 0.3, tolerated_drop=0.0), error).tolerated == 0.0


def test_every_layer_is_quantized_alone() -> None:
    model = Additive({"a": 3.0, "b": 1.0, "c": 2.0})
    assert sensitivities(("a", "b", "c"), model.write, model.error) == model.costs
    assert model.written == [frozenset("bc"), frozenset("ac"), frozenset("ab")]
