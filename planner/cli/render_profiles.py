"""What people read of ``planner profiles``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape

from planner.cli.output import columns, console, write_json
from planner.domain.order_statistics import percentile_interval
from planner.domain.profile import Environment, Profile
from planner.errors import SupportError
from planner.store import CONFIDENCE, Change, Compared, Merged, ProfileStore, Pruned
from planner.units import NS_PER_MS, format_bytes, format_ms

SHOWN = (50.0, 90.0, 95.0, 99.0)
_ID, _ENV = 6, 6
"""Digits of ids in a table; beginnings are enough where an id is asked for."""
_COLUMNS = (
    "id",
    "model",
    "variant",
    "device",
    "backend",
    "batch",
    "inst.",
    "samples",
    "mean",
    "p99",
    "env",
)
_COLOURS = {"faster": "green", "slower": "red", "not known": "yellow"}
_RIGHT = ("batch", "inst.", "samples", "mean", "p99", "value", "median", "profiles")


def references(found: Iterable[tuple[str, list[Profile]]]) -> None:
    table = columns("reference", "profiles", "models", "devices", right=_RIGHT)
    for name, profiles_of in found:
        configurations = [profile.configuration for profile in profiles_of]
        table.add_row(
            name,
            str(len(profiles_of)),
            ", ".join(dict.fromkeys(c.model for c in configurations)),
            ", ".join(dict.fromkeys(c.device for c in configurations)),
        )
    console().print(table)


def references_json(found: Iterable[tuple[str, list[Profile]]]) -> None:
    write_json(
        [
            {"reference": name, "profiles": [_profile_json(p) for p in profiles_of]}
            for name, profiles_of in found
        ]
    )


def profiles(found: list[Profile], problems: list[str]) -> None:
    out = console()
    table = columns(*_COLUMNS, right=_RIGHT)
    # Eleven columns: a gap of one fits them into the width.
    table.collapse_padding = True
    for one in sorted(found, key=_order):
        c = one.configuration
        table.add_row(
            _id(one)[:_ID],
            c.model or c.model_sha256[:_ID],
            c.variant,
            c.device,
            c.backend,
            str(c.batch_size),
            str(c.replicas),
            "imported" if one.samples is None else str(one.samples),
            _shown(_mean_ns(one)),
            _shown(_percentile_ns(one, 99)),
            one.environment.id[:_ENV],
        )
    out.print(table)
    for environment in dict.fromkeys(one.environment for one in found):
        out.print(f"env {environment.id[:_ENV]}: {escape(_described(environment))}")
    factors = {one.calibration for one in found} - {1.0}
    for factor in sorted(factors):
        ids = ", ".join(_id(one)[:_ID] for one in sorted(found, key=_order) if one.calibration == factor)
        out.print(f"calibrated: plans take {factor:.3f} times the times of {ids}")
    for problem in problems:
        out.print(f"[red]unreadable[/]: {escape(problem)}")
    out.print(f"{len(found)} profiles")


def profiles_json(found: list[Profile], problems: list[str]) -> None:
    write_json({"profiles": [_profile_json(p) for p in found], "unreadable": problems})


def profile(found: Profile) -> None:
    out = console()
    c = found.configuration
    model = c.model or f"model {c.model_sha256[:_ID]}"
    out.print(f"[bold]{escape(c.describe())}[/] of {escape(model)} on {escape(c.device)}")
    out.print(f"{c.replicas} instance(s) side by side; taken {found.taken_at or 'at a time unknown'}")
    if found.memory_bytes:
        out.print(f"memory {format_bytes(found.memory_bytes)}")
    out.print(f"environment {found.environment.id}: {escape(_described(found.environment))}")
    for line in _conditions(found):
        out.print(line)
    if found.calibration != 1.0:
        out.print(
            f"[yellow]calibrated[/]: plans take times {found.calibration:.3f} times as long, as they were in "
            "service (planner verify); below are the samples as they were taken"
        )
    if found.source:
        out.print(f"[yellow]imported[/] from {escape(found.source)}")
    table = columns("statistic", "value", f"{CONFIDENCE:.0%} interval, distribution-free", right=_RIGHT)
    table.add_row("mean", _shown(_mean_ns(found)), "")
    for level in SHOWN:
        table.add_row(f"p{level:g}", _shown(_percentile_ns(found, level)), _interval(found, level))
    out.print(table)
    if found.published:
        last = found.published.last_percentile
        out.print(f"Number of samples unknown; of what lies beyond p{last:g} nothing is known.")
        if found.published.throughput_rps:
            out.print(f"Throughput as published: {found.published.throughput_rps:g} per second.")
    else:
        out.print(f"{found.samples} samples.")


def profile_json(found: Profile) -> None:
    intervals = {f"p{level:g}": _ends(found, level) for level in SHOWN}
    write_json(
        _profile_json(found)
        | {
            "confidence": CONFIDENCE,
            "intervals_ms": {
                name: None if ends is None else [ends[0] / NS_PER_MS, ends[1] / NS_PER_MS]
                for name, ends in intervals.items()
            },
            "samples_ns": list(found.samples_ns),
        }
    )


def compared(found: Compared) -> None:
    out = console()
    table = columns("configuration", "device", "median", "p99", right=_RIGHT)
    for comparison in found.comparisons:
        table.add_row(
            f"{comparison.configuration.model} {comparison.configuration.describe()}".strip(),
            comparison.configuration.device + (" *" if comparison.differences else ""),
            *(_change(change) for change in comparison.changes),
        )
    out.print(table)
    out.print(
        f"Ratios, second to first, with {CONFIDENCE:.0%} intervals by order statistics, each for itself: of "
        "twenty configurations that did not change, one may well seem to."
    )
    for text in dict.fromkeys("; ".join(c.differences) for c in found.comparisons if c.differences):
        out.print(f"[yellow]* Different environments[/]: {escape(text)}")
    if found.only_before or found.only_after:
        out.print(f"Only in the first: {found.only_before}; only in the second: {found.only_after}.")


def compared_json(found: Compared) -> None:
    write_json(
        {
            "confidence": CONFIDENCE,
            "comparisons": [
                {
                    "configuration": _configuration_json(comparison.before),
                    "environment_differences": list(comparison.differences),
                    "changes": [
                        {
                            "percentile": change.percentile,
                            "verdict": change.verdict,
                            "ratio": change.ratio,
                            "low": change.low,
                            "high": change.high,
                        }
                        for change in comparison.changes
                    ],
                }
                for comparison in found.comparisons
            ],
            "only_before": found.only_before,
            "only_after": found.only_after,
        }
    )


def imported(found: tuple[Profile, ...], store: Path) -> None:
    out = console()
    for source in dict.fromkeys(one.source for one in found):
        out.print(f"source: {escape(source)}")
    out.print(f"Imported {len(found)} profiles into {escape(str(store))}.")


def imported_json(found: tuple[Profile, ...], store: Path) -> None:
    write_json({"imported": len(found), "sources": sorted({p.source for p in found}), "store": str(store)})


def merged(found: Merged, engines_taken: int, engines_left: int) -> None:
    out = console()
    for line in found.conflicts:
        out.print(f"[red]conflict[/]: {escape(line)}")
    for line in found.unreadable:
        out.print(f"[red]unreadable[/]: {escape(line)}")
    out.print(
        f"{len(found.added)} added, {len(found.replaced)} replaced by longer ones, {len(found.identical)} "
        f"identical, {len(found.kept)} longer already, {len(found.conflicts)} conflicts, "
        f"{len(found.unreadable)} unreadable"
    )
    if engines_taken:
        out.print(f"{engines_taken} TensorRT engines taken")
    if engines_left:
        out.print(
            f"{engines_left} TensorRT engines left there: an engine is code; "
            "--trust takes those measured on a GPU of the catalog"
        )


def merged_json(found: Merged, engines_taken: int, engines_left: int) -> None:
    write_json(
        {
            "added": [str(path) for path in found.added],
            "replaced": [str(path) for path in found.replaced],
            "identical": [str(path) for path in found.identical],
            "kept": [str(path) for path in found.kept],
            "conflicts": list(found.conflicts),
            "unreadable": list(found.unreadable),
            "engines_taken": engines_taken,
            "engines_left": engines_left,
        }
    )


def pruned(found: Pruned, dry_run: bool) -> None:
    out = console()
    for path, reason in found.deleted:
        out.print(f"{'would delete' if dry_run else 'deleted'} {escape(str(path))}: {escape(reason)}")
    if found.undated:
        out.print(f"{len(found.undated)} profiles stay, for nobody knows when they were taken")
    deleted, left = ("would be deleted", "would be left") if dry_run else ("deleted", "left")
    out.print(f"{len(found.deleted)} {deleted}, {found.left} {left}")


def pruned_json(found: Pruned, dry_run: bool) -> None:
    write_json(
        {
            "dry_run": dry_run,
            "deleted": [{"path": str(path), "reason": reason} for path, reason in found.deleted],
            "undated": [str(path) for path in found.undated],
            "left": found.left,
        }
    )


def _order(one: Profile) -> tuple[str | int, ...]:
    c = one.configuration
    return (
        c.model or c.model_sha256,
        c.device,
        c.backend,
        one.environment.id,
        c.variant,
        c.threads,
        c.batch_size,
        c.replicas,
    )


def _id(one: Profile) -> str:
    return ProfileStore(Path()).id_of(one)


def _described(environment: Environment) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in environment.libraries)
    where = environment.system
    if environment.cpu_model:
        where = f"{environment.cpu_model}, {environment.cores} threads, {where}"
    return f"{where}; {libraries}" if libraries else where


def _conditions(one: Profile) -> Iterator[str]:
    """What the machine told of itself meanwhile, as far as it did."""
    told = one.conditions
    if one.foreign_load is not None:
        yield f"load of other processes up to {one.foreign_load:.0%}"
    if told.drift:
        yield f"[yellow]drift[/]: not settled, the last turn's median is {told.drift:+.0%} from the first's"
    if told.throttled:
        yield f"[yellow]throttled[/]: {escape(', '.join(told.throttled))}"
    energies = [
        f"{joules:.3g} J by {whose}"
        for joules, whose in (
            (one.gpu_joules_per_request, "the GPU"),
            (one.cpu_joules_per_request, "the CPU packages"),
        )
        if joules is not None
    ]
    if energies:
        yield f"energy per request: {', '.join(energies)}"
    if told.gpu_compute_ns is not None:
        yield f"kernels alone, without transfers: {format_ms(told.gpu_compute_ns)} on average"
    ranges = ((told.gpu_clock_mhz, "MHz"), (told.gpu_temperature_c, "°C"), (told.gpu_power_w, "W"))
    seen = [f"{of[0]:.0f} to {of[1]:.0f} {unit}" for of, unit in ranges if of is not None]
    if seen:
        yield f"GPU {', '.join(seen)}"


def _mean_ns(one: Profile) -> float | None:
    """None where it was not published."""
    try:
        return one.mean_ns()
    except SupportError:
        return None


def _percentile_ns(one: Profile, level: float) -> float | None:
    """None where it was not published, or samples are too few."""
    try:
        return one.percentile_ns(level)
    except SupportError:
        return None


def _shown(ns: float | None) -> str:
    return "unknown" if ns is None else format_ms(ns)


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / NS_PER_MS


def _ends(one: Profile, level: float) -> tuple[int, int] | None:
    return None if one.published else percentile_interval(one.samples_ns, level, CONFIDENCE)


def _interval(one: Profile, level: float) -> str:
    ends = _ends(one, level)
    if ends is not None:
        return f"{format_ms(ends[0])} to {format_ms(ends[1])}"
    return "unknown" if one.published else "too few samples"


def _change(change: Change) -> str:
    colour = _COLOURS.get(change.verdict)
    verdict = f"[{colour}]{change.verdict}[/]" if colour else change.verdict
    if change.ratio is None:
        return verdict
    if change.low is None or change.high is None:
        return f"{verdict}, {change.ratio:.3f}"
    return f"{verdict}, {change.ratio:.3f} ({change.low:.3f} to {change.high:.3f})"


def _configuration_json(one: Profile) -> dict[str, Any]:
    c = one.configuration
    return {
        "model": c.model or None,
        "model_sha256": c.model_sha256 or None,
        "variant": c.variant,
        "variant_sha256": c.variant_sha256 or None,
        "device": c.device,
        "backend": c.backend,
        "batch_size": c.batch_size,
        "threads": c.threads,
        "instances": c.replicas,
    }


def _profile_json(one: Profile) -> dict[str, Any]:
    return {
        "id": _id(one),
        "configuration": _configuration_json(one),
        "environment": {
            "id": one.environment.id,
            "cpu_model": one.environment.cpu_model or None,
            "system": one.environment.system,
            "libraries": dict(one.environment.libraries),
        },
        "source": one.source or None,
        "samples": one.samples,
        "mean_ms": _ms(_mean_ns(one)),
        **{f"p{level:g}_ms": _ms(_percentile_ns(one, level)) for level in SHOWN},
        "memory_bytes": one.memory_bytes or None,
        "foreign_load": one.foreign_load,
        "drift": one.conditions.drift,
        "throttled": None if one.conditions.throttled is None else list(one.conditions.throttled),
        "cpu_joules_per_request": one.cpu_joules_per_request,
        "gpu_joules_per_request": one.gpu_joules_per_request,
        "gpu_compute_ms": _ms(one.conditions.gpu_compute_ns),
        "gpu_clock_mhz": one.conditions.gpu_clock_mhz,
        "gpu_temperature_c": one.conditions.gpu_temperature_c,
        "gpu_power_w": one.conditions.gpu_power_w,
        "taken_at": one.taken_at or None,
        "calibration": one.calibration,
    }
