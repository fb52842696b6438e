"""Conversions between the units that code holds (ns, bytes, USD/h) and those that people read."""

from __future__ import annotations

import re

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
HOURS_PER_MONTH = 730
WATTS_PER_KILOWATT = 1000
SECONDS_PER_HOUR = 3600
GIB = 1024**3

_DURATION = re.compile(r"^\s*([0-9]*\.?[0-9]+)\s*(ns|us|µs|ms|s)\s*$")
_NS_PER = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": NS_PER_MS, "s": NS_PER_S}


def parse_duration_ns(text: str) -> int:
    """``"20ms"`` to nanoseconds. Units: ns, us, ms, s. Raises ValueError on anything else."""
    match = _DURATION.match(text)
    if not match:
        raise ValueError(f"expected a duration with its unit, such as 20ms or 1.5s, got {text!r}")
    return round(float(match.group(1)) * _NS_PER[match.group(2)])


def parse_share(value: str | float | int) -> float:
    """``"10%"`` or ``0.1`` to 0.1. Raises ValueError on anything else."""
    if isinstance(value, str):
        text = value.strip()
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    return float(value)


def usd_per_million_requests(usd_per_hour: float, rate_rps: float) -> float:
    """What a million requests cost when ``rate_rps`` are served for ``usd_per_hour``."""
    return usd_per_hour / (rate_rps * SECONDS_PER_HOUR) * 1e6


def format_ms(ns: float) -> str:
    return f"{ns / NS_PER_MS:.3g} ms"


def format_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def format_usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4g}"


def format_change(value: float, base: float) -> str:
    """How much more or less than ``base`` it is, as a share; of a base of 0 there is none."""
    share = value / base - 1 if base else 0.0
    return f"{share:+.1%}" if abs(share) >= 0.0005 else "the same"


def format_seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
