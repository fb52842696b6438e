"""Tasks for the devices of a cluster, with a scripted cluster: who measures what, and what a loss costs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from planner.backends import backend
from planner.domain.profile import Configuration, Environment
from planner.domain.progress import Step
from planner.errors import BackendError, StoreError
from planner.profiling.bench import Job
from planner.profiling.campaign import Campaign
from planner.profiling.cluster import Kind, Node, Slot
from planner.profiling.dispatch import Answer, Lost, Order, measure_group, profile_on
from planner.profiling.replicas import Measurement
from planner.store import ProfileStore, profile_from_json

MS = 1_000_000
A, B = Kind("a", "cpu", 2), Kind("b", "cpu", 2)
BATCHES = (1, 2, 4)


def slot(name: str, kind: Kind) -> Slot:
    environment = Environment(f"CPU of {name}", "genoa", (), 2, 8 << 30, "Linux", ())
    return Slot(Node(name, f"10.0.0.{name}", {}), kind, environment, 2.0)


def jobs(kind: Kind, folder: Path, *variants: str) -> list[Job]:
    found = []
    for variant in variants:
        engine = folder / f"{variant}.onnx"
        engine.write_bytes(variant.encode())
        (folder / "feed.npz").write_bytes(b"feed")
        for batch in BATCHES:
            c = Configuration("m" * 64, variant, variant, kind.device, "onnxruntime", batch, 1, 2, ())
            found.append(Job(c, engine, folder / "feed.npz"))
    return found


class Machine:
    """10 ms for each request of a batch."""

    def __init__(self, jobs: Sequence[Job], fails: bool) -> None:
        self._jobs, self._fails = jobs, fails

    def rest(self) -> None:
        pass

    def measure(self, samples: int, timeout_s: float, feed: int = 0) -> Measurement:
        if self._fails:
            raise BackendError("the replica's process has died")
        return Measurement((self._jobs[feed].configuration.batch_size * 10 * MS,) * samples, 1000, None)


class Scripted:
    """Runs orders at once, the oldest first; ``loses(order, node)`` tells what is lost, and how."""

    def __init__(self, loses: Callable[[Order, str], Lost | None] = lambda order, node: None) -> None:
        self.loses = loses
        self.sent: list[tuple[str, str]] = []
        self.most_at_once: dict[str, int] = {}
        self._open: dict[Hashable, tuple[Order, Sequence[Job], Slot]] = {}
        self.broken: set[str] = set()

    def send(self, order: Order, jobs: Sequence[Job], slot: Slot) -> Hashable:
        ticket = len(self.sent)
        self.sent.append((order.configurations[0].variant, slot.node.id))
        self._open[ticket] = (order, jobs, slot)
        at_once = sum(other.node.id == slot.node.id for _, _, other in self._open.values())
        self.most_at_once[slot.node.id] = max(at_once, self.most_at_once.get(slot.node.id, 0))
        return ticket

    def next(self, tickets: Collection[Hashable]) -> tuple[Hashable, Answer | Lost]:
        ticket = min(tickets)  # type: ignore[type-var]
        order, jobs, slot = self._open.pop(ticket)
        lost = self.loses(order, slot.node.id)
        if lost is not None:
            return ticket, lost

        @contextmanager
        def start(jobs: Sequence[Job]) -> Iterator[Machine]:
            yield Machine(jobs, jobs[0].configuration.variant in self.broken)

        feeds = [job.feed.read_bytes() for job in jobs]
        return ticket, measure_group(order, {order.engine: b"engine"}, *feeds, start=start)


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path / "profiles")


def run(
    cluster: Scripted,
    slots: Sequence[Slot],
    wanted: dict[Kind, list[Job]],
    store: ProfileStore,
    budget_ms: int = 1000,
    steps: list[Step] | None = None,
) -> Campaign:
    heard = [] if steps is None else steps
    return profile_on(cluster, slots, wanted, store, 90, budget_ms * MS, heard.append)


def measured(campaign: Campaign) -> set[tuple[str, str, int]]:
    return {
        (p.configuration.device, p.configuration.variant, p.configuration.batch_size)
        for p in campaign.profiles
    }


def everything(*variants: str, devices: str = "ab") -> set[tuple[str, str, int]]:
    return {(d, v, b) for d in devices for v in variants for b in BATCHES}


def test_every_kind_measures_everything_one_task_at_a_time(tmp_path: Path, store: ProfileStore) -> None:
    cluster, steps = Scripted(), list[Step]()
    wanted = {kind: jobs(kind, tmp_path, "fp32", "int8", "fp16") for kind in (A, B)}
    campaign = run(cluster, [slot("1", A), slot("2", B), slot("3", B)], wanted, store, steps=steps)
    assert measured(campaign) == everything("fp32", "int8", "fp16")
    assert (campaign.measured, campaign.reused, campaign.rejections, campaign.notes) == (18, 0, (), ())
    assert set(cluster.most_at_once.values()) == {1}
    assert sorted(name for name, _ in cluster.sent) == sorted(["fp32", "int8", "fp16"] * 2)
    assert (steps[-1].done, steps[-1].total) == (6, 6)
    assert "on a at 10.0.0.1" in steps[0].detail
    assert "on b at 10.0.0.3" in steps[0].detail
    for profile in campaign.profiles:
        assert profile.environment.libraries == backend("onnxruntime").libraries()
        assert store.find(profile.configuration, profile.environment) == profile


def test_a_second_run_measures_nothing_whichever_node_of_the_kind_had_measured(
    tmp_path: Path, store: ProfileStore
) -> None:
    slots = [slot("1", A), slot("2", A)]
    wanted = {A: jobs(A, tmp_path, "fp32", "int8")}
    first = run(Scripted(), slots, wanted, store)
    again = Scripted()
    second = run(again, slots[::-1], wanted, store)
    assert again.sent == []
    assert (second.measured, second.reused) == (0, 6)
    assert set(second.profiles) == set(first.profiles)


def test_what_is_lost_with_a_node_is_repeated_on_another(tmp_path: Path, store: ProfileStore) -> None:
    cluster = Scripted(lambda order, node: Lost("the node died", gone=True) if node == "1" else None)
    wanted = {A: jobs(A, tmp_path, "fp32", "int8", "fp16")}
    campaign = run(cluster, [slot("1", A), slot("2", A)], wanted, store)
    assert measured(campaign) == everything("fp32", "int8", "fp16", devices="a")
    assert campaign.rejections == ()
    (note,) = campaign.notes
    assert "fp32" in note
    assert "10.0.0.1 (the node died), repeated" in note
    assert [node for _, node in cluster.sent].count("1") == 1, "nothing more is sent there"


def test_without_another_node_it_becomes_a_rejection_with_the_reason(
    tmp_path: Path, store: ProfileStore
) -> None:
    cluster = Scripted(
        lambda order, node: (
            Lost("the node died", gone=True) if order.configurations[0].variant == "int8" else None
        )
    )
    wanted = {kind: jobs(kind, tmp_path, "fp32", "int8", "fp16") for kind in (A, B)}
    campaign = run(cluster, [slot("1", A), slot("2", B), slot("3", B)], wanted, store)
    reasons = {r.subject: r.reason for r in campaign.rejections}
    assert any("int8" in subject and subject.endswith("on a") for subject in reasons)
    assert any("fp16" in subject and subject.endswith("on a") for subject in reasons), "never sent, yet told"
    lost = next(
        reason for subject, reason in reasons.items() if "int8" in subject and subject.endswith("on a")
    )
    assert "lost with node 10.0.0.1 (the node died), and no other node of the kind" in lost
    assert measured(campaign) >= {("a", "fp32", 1), ("b", "fp32", 4)}
    later = run(Scripted(), [slot("1", A), slot("2", B), slot("3", B)], wanted, store)
    assert measured(later) == everything("fp32", "int8", "fp16"), "what is missing is all that is measured"
    assert later.reused == len(campaign.profiles)


def test_a_task_that_only_crashed_leaves_its_node_to_the_others(tmp_path: Path, store: ProfileStore) -> None:
    def crash(order: Order, node: str) -> Lost | None:
        return Lost("worker crashed", gone=False) if order.configurations[0].variant == "int8" else None

    cluster = Scripted(crash)
    campaign = run(cluster, [slot("1", A), slot("2", A)], {A: jobs(A, tmp_path, "int8", "fp32")}, store)
    assert measured(campaign) == everything("fp32", devices="a")
    assert sorted(node for name, node in cluster.sent if name == "int8") == ["1", "2"], "once on each"
    (rejection,) = campaign.rejections
    assert "worker crashed" in rejection.reason


def test_what_fails_on_a_node_is_a_rejection_and_not_repeated(tmp_path: Path, store: ProfileStore) -> None:
    cluster = Scripted()
    cluster.broken = {"int8"}
    campaign = run(cluster, [slot("1", A), slot("2", A)], {A: jobs(A, tmp_path, "int8", "fp32")}, store)
    assert [name for name, _ in cluster.sent].count("int8") == 1
    assert measured(campaign) == everything("fp32", devices="a")
    (rejection,) = campaign.rejections
    assert rejection.reason == "the replica's process has died"


def test_what_is_over_the_budget_is_probed_once_and_no_more(tmp_path: Path, store: ProfileStore) -> None:
    wanted = {A: jobs(A, tmp_path, "fp32")}
    campaign = run(Scripted(), [slot("1", A)], wanted, store, budget_ms=25)
    assert {batch for _, _, batch in measured(campaign)} == {1, 2}
    (rejection,) = campaign.rejections
    assert "batch 4" in rejection.subject
    assert "over the SLO: the median is 40" in rejection.reason
    again = Scripted()
    second = run(again, [slot("1", A)], wanted, store, budget_ms=25)
    assert again.sent == []
    assert second.rejections == campaign.rejections


def test_what_is_no_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="what node x sent: not a profile"):
        profile_from_json('{"schema": 2}', "what node x sent")
