"""How a plan shares a workload's traffic out between servers, and what a Service makes of that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from planner.export.servers import Server, models

Rates = list[tuple[Server, float, int]]
"""Server, requests per second of one of them, and their number."""


def by_cluster(servers: Iterable[Server]) -> dict[str, list[Server]]:
    """A provider and region hold one cluster, or more; what follows of the plan holds for one."""
    found: dict[str, list[Server]] = {}
    for server in servers:
        found.setdefault(server.cluster, []).append(server)
    return found


def about_shares(servers: Sequence[Server]) -> Iterable[str]:
    """Where a Service, which gives every pod the same, does not share traffic out as the plan does."""
    for model in models(servers):
        rates = planned_rates(servers, model)
        if len({rate for _, rate, _ in rates}) > 1:
            planned = ", ".join(f"{server.name} {rate:.4g}" for server, rate, _ in rates)
            yield f"{model}: planned requests/s of a pod: {planned}; a Service gives {_equal(rates):.4g}."


def traffic_notes(servers: Sequence[Server]) -> list[str]:
    """How to share traffic out between clusters, and which pods a Service would give more than they stand."""
    clusters = by_cluster(servers)
    notes = [_between_clusters(servers, model) for model in models(servers)] if len(clusters) > 1 else []
    notes += [
        note for inside in clusters.values() for model in models(inside) for note in _over(inside, model)
    ]
    return [note for note in notes if note]


def _between_clusters(servers: Sequence[Server], model: str) -> str:
    rates: dict[str, float] = {}
    for server, rate, count in planned_rates(servers, model):
        rates[server.cluster] = rates.get(server.cluster, 0.0) + rate * count
    total = sum(rates.values())
    if len(rates) < 2 or not total:
        return ""
    shares = ", ".join(f"{rate / total:.1%} to {cluster}" for cluster, rate in rates.items())
    return f"{model}: route {shares} (no Service reaches beyond its cluster)."


def _over(servers: Sequence[Server], model: str) -> Iterable[str]:
    rates = planned_rates(servers, model)
    for server, rate, _ in rates:
        served = next(served for served in server.served if served.model == model)
        # What is planned for it is more only where it was measured with fewer beside it.
        if _equal(rates) > max(served.takes_rps, rate):
            yield (
                f"{model}: a Service gives every pod {_equal(rates):.4g} requests/s, those of {server.name} "
                f"stand {served.takes_rps:.4g}; share it out by weight ({server.cluster}/services.yaml)."
            )


def _equal(rates: Rates) -> float:
    return sum(rate * count for _, rate, count in rates) / max(sum(count for *_, count in rates), 1)


def planned_rates(servers: Sequence[Server], model: str) -> Rates:
    """In the period with the most traffic."""
    found: dict[str, Rates] = {}
    for server in servers:
        counts = dict(server.counts)
        for served in (s for s in server.served if s.model == model):
            for period, rate in served.rates_rps:
                found.setdefault(period, []).append((server, rate, counts[period]))
    return max(found.values(), key=lambda rates: sum(rate * count for _, rate, count in rates), default=[])
