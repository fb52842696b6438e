from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.backends.tensorrt.order import BuildOptions, Order, ranges

SIZES = st.sets(st.integers(1, 64), min_size=1, max_size=6).map(lambda s: tuple(sorted(s)))


@given(SIZES)
def test_every_batch_size_up_to_the_largest_has_exactly_one_profile(sizes: tuple[int, ...]) -> None:
    found = [n for r in ranges(sizes) for n in range(r.least, r.most + 1)]
    assert found == list(range(1, sizes[-1] + 1))


@given(SIZES, st.integers(1, 80))
def test_a_batch_runs_in_the_profile_of_the_smallest_size_that_holds_it(
    sizes: tuple[int, ...], batch_size: int
) -> None:
    profile = Order("", (), sizes).profile_of(batch_size)
    holding = [s for s in sizes if s >= batch_size]
    assert (sizes[profile] if profile is not None else None) == min(holding, default=None)


@given(SIZES)
def test_profiles_are_tuned_for_the_sizes_considered(sizes: tuple[int, ...]) -> None:
    assert tuple(r.most for r in ranges(sizes)) == sizes


@pytest.mark.parametrize("sizes", [(), (0, 1), (4, 1), (1, 1)])
def test_sizes_ascend_from_one(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Order("", (), sizes)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="builder_level is 0 to 5, got 6"):
        BuildOptions(builder_level=6)
    with pytest.raises(ValueError, match="workspace_bytes"):
        BuildOptions(workspace_bytes=-1)
