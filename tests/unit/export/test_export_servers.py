"""The fleet as Triton servers."""

from __future__ import annotations

import math

import pytest
from exported_plans import (
    A100,
    C7I,
    DAY,
    NIGHT,
    RANK_CPU,
    SEARCH_CPU,
    SEARCH_MIG,
    SEARCH_T4,
    candidate,
    mixed_fleet,
    offer,
    placed,
    plan,
    workload,
)
from hypothesis import given
from hypothesis import strategies as st

from planner.export.servers import Server, distinct, dns_name, model_names, servers


def by_name(found: tuple[Server, ...]) -> dict[str, Server]:
    return {server.name: server for server in found}


def test_one_server_for_each_pattern_over_all_periods() -> None:
    found = servers(mixed_fleet())
    assert [(server.name, dict(server.counts)) for server in found] == [
        ("aws-c7i-4xlarge-us-east-1", {DAY: 3, NIGHT: 1}),
        ("aws-p4d-24xlarge-us-east-1a-1g-5gb", {DAY: 7, NIGHT: 7}),
        ("gcp-g2-standard-8-us-central1-spot", {DAY: 2, NIGHT: 0}),
        ("azure-standard-nc64as-t4-v3-eastus", {DAY: 1, NIGHT: 0}),
    ]
    shared = found[0]
    assert [(s.model, s.replicas, s.gpus) for s in shared.served] == [("search", 3, ()), ("rank", 1, ())]
    assert [dict(s.rates_rps) for s in shared.served] == [{DAY: 180, NIGHT: 45}, {DAY: 40, NIGHT: 10}]


def test_a_mig_slice_is_a_server_of_its_own() -> None:
    server = by_name(servers(mixed_fleet()))["aws-p4d-24xlarge-us-east-1a-1g-5gb"]
    assert (server.mig, server.zone, server.per_instance, server.on_instance) == (
        "1g.5gb",
        "us-east-1a",
        7,
        7,
    )
    (served,) = server.served
    assert (served.replicas, served.gpus) == (1, (0,))


def test_gpus_of_an_instance_are_dealt_out_once() -> None:
    server = by_name(servers(mixed_fleet()))["azure-standard-nc64as-t4-v3-eastus"]
    assert [served.gpus for served in server.served] == [(0, 1, 2), (3,)]
    assert server.gpus == 4
    assert server.served[0].instances == 6, "two instances on each of three GPUs"


def test_whatever_runs_on_a_gpu_gets_one() -> None:
    """Imported profiles are of backends that the planner may never have heard of."""
    foreign = candidate("search", "fp16", "vllm", "A100-40GB-SXM")
    runs = {foreign.id: (2, 100.0)}
    (server,) = servers(plan([workload("search")], [foreign], [A100], [placed(A100, 1, runs)]))
    assert (server.served[0].gpus, server.gpus) == ((0, 1), 2)


def test_two_configurations_of_one_workload_are_two_servers() -> None:
    other = candidate("search", "fp32", "onnxruntime", "sapphire-rapids", threads=4)
    runs = {SEARCH_CPU.id: (2, 60.0), RANK_CPU.id: (1, 5.0), other.id: (1, 20.0)}
    report = plan(
        [workload("search"), workload("rank")], [SEARCH_CPU, RANK_CPU, other], [C7I], [placed(C7I, 4, runs)]
    )
    first, second = servers(report)
    assert [s.candidate.variant for s in first.served] == ["int8", "fp32"]
    assert [s.model for s in second.served] == ["search"]
    assert (first.name, second.name) == ("aws-c7i-4xlarge-us-east-1", "aws-c7i-4xlarge-us-east-1-2")
    assert (first.counts, second.counts, first.on_instance) == ((("", 4),), (("", 4),), 2)


def test_different_slices_of_one_instance() -> None:
    large = candidate("rank", "fp16", "tensorrt", "A100-40GB-SXM/3g.20gb")
    report = plan(
        [workload("search"), workload("rank")],
        [SEARCH_MIG, large],
        [A100],
        [placed(A100, 2, {SEARCH_MIG.id: (4, 100.0), large.id: (1, 50.0)})],
    )
    small, big = servers(report)
    assert (small.most, small.per_instance, big.most, big.per_instance) == (8, 4, 2, 1)
    assert small.on_instance == big.on_instance == 5


def test_a_region_is_no_zone() -> None:
    """Without known zones the plan calls the whole region one."""
    report = plan(
        [workload("search", redundancy="zone")],
        [SEARCH_CPU],
        [C7I],
        [placed(C7I, 2, {SEARCH_CPU.id: (1, 1.0)}, zone="aws/us-east-1")],
    )
    (server,) = servers(report)
    assert (server.zone, server.redundant) == ("", True)


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.floats(0.1, 5000, allow_nan=False)), min_size=1, max_size=6
    ).filter(lambda periods: any(count for count, _ in periods))
)
def test_no_period_gets_fewer_servers_than_planned(periods: list[tuple[int, float]]) -> None:
    """The autoscaler starts ``ceil(rate / target)`` servers, between the fewest and the most."""
    names = [f"p{index}" for index in range(len(periods))]
    placements = [
        placed(C7I, count, {SEARCH_CPU.id: (1, rate)}, name)
        for name, (count, rate) in zip(names, periods, strict=True)
        if count
    ]
    (server,) = servers(plan([workload("search")], [SEARCH_CPU], [C7I], placements, tuple(names)))
    (served,) = server.served
    target = server.rate_to_scale_at(served)
    for count, rate in periods:
        wanted = math.ceil(count * rate / target * (1 - 1e-12))
        assert count <= min(max(wanted, server.least, 1), server.most)


def test_what_varies_little_is_scaled_by_the_busiest_period() -> None:
    """A single server at night gets little; that must not keep the day's count from falling."""
    (server, *_) = servers(mixed_fleet())
    assert [server.rate_to_scale_at(served) for served in server.served] == [180, 40]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("aws-Standard_NC4as_T4_v3-us", "aws-standard-nc4as-t4-v3-us"),
        ("1x_A100-80GB_SECURE", "m-1x-a100-80gb-secure"),
        ("x" * 80, "x" * 50),
    ],
)
def test_names_fit_dns(text: str, name: str) -> None:
    assert dns_name(text) == name


def test_names_are_distinct() -> None:
    assert distinct(["a", "b", "a", "a-2", "a"]) == ["a", "b", "a-2", "a-2-2", "a-3"]
    report = plan([workload("a b"), workload("a/b"), workload("ü")], [], [], [])
    assert list(model_names(report).values()) == ["a-b", "a-b-2", "model"]


def test_google_machines_with_gpus_of_ones_choice() -> None:
    n1 = offer("gcp", "n1-standard-4+1xT4", "us-central1", "T4")
    report = plan([workload("search")], [SEARCH_T4], [n1], [placed(n1, 1, {SEARCH_T4.id: (1, 9.0)})])
    (server,) = servers(report)
    assert server.name == "gcp-n1-standard-4-1xt4-us-central1"
