"""Why a plan is what it is, or why there is none: what other choices and other limits would give.

Costs are in USD per hour. An ``amount`` is what the plan is chosen by, in the objective's unit, where that is
not the cost; None where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

BY_DEVICE, BY_VARIANT = "device", "variant"
"""What an ``Alternative`` restricts a workload to."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """The least change of one limit, all else as it is, with which there is a plan, and the cost of that."""

    limit: str
    becomes: str
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Conflict:
    """Limits that no fleet meets together, while any of them left out would do.

    ``smallest``: no conflict has fewer limits; else the time was over before that was known.
    ``relaxations``: the cheapest first, then those that serve less; a limit of which nothing helps by itself
    has none. None: they were not looked for.
    """

    limits: tuple[str, ...]
    smallest: bool
    relaxations: tuple[Relaxation, ...] | None


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a plan; not ``proven``: of the best one found in time."""

    usd_per_hour: float
    amount: float | None
    proven: bool


@dataclass(frozen=True, slots=True)
class Alternative:
    """What the best plan costs that serves a workload by one kind of device, or one variant.

    ``some``: at least one instance does; ``alone``: all of its requests are served so. None where there is no
    such plan. ``used``: the plan itself does. ``at_least``: it was not measured in full, and with what it
    could do at best plans cost that much. ``reason``: what ruled it out; empty where the plan uses it.
    """

    workload: str
    by: str
    name: str
    used: bool
    some: Cost | None
    alone: Cost | None
    at_least: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Binding:
    """What a limit costs: ``saves`` without it, ``step_saves`` where it is ``step`` wider.

    Both are in the objective's unit, 0 where the limit does not bind. ``step`` is empty where there is
    nothing between the limit and none.
    """

    limit: str
    saves: float
    step: str
    step_saves: float | None
    proven: bool


@dataclass(frozen=True, slots=True)
class Point:
    """The best plan at one value of what a curve is over; ``usd_per_hour`` None: none, for the ``reason``.

    ``fleet`` says what the plan is, in a few words.
    """

    value: float
    usd_per_hour: float | None
    amount: float | None
    proven: bool
    fleet: str
    reason: str


@dataclass(frozen=True, slots=True)
class Curve:
    """The cost over the SLO's latency (``slo``, ms), the rate (``rate``, requests/s) or the accuracy floor
    (``floor``), each point solved. ``asked`` is the plan's own value; ``workload`` is empty where the rates
    of all change together. ``note``: what the points rest on."""

    over: str
    unit: str
    workload: str
    asked: float
    points: tuple[Point, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a plan is what it is. ``usd_per_hour``, ``amount`` and ``proven`` are the plan's own."""

    objective: str
    usd_per_hour: float
    amount: float | None
    bound_usd_per_hour: float
    proven: bool
    kept: bool
    runner_up: str
    alternatives: tuple[Alternative, ...]
    limits: tuple[Binding, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]
