"""Predicted capacities against the highest rates that MLPerf LoadGen's Server scenario accepts.

    python benchmarks/verify.py [--quick] [MODEL ...]      # magika, silero, minilm; an hour

For each model, one thread, ONNX Runtime on this CPU, at a tight SLO (p90 within 3 x the batch-1 latency)
and a loose one (20 x):

predicted   `planner.capacity` of service times that were measured in the very arrangement that serves: the
            engine in a process of its own behind the batcher, pinned to a hardware thread that the load
            generator does not get; the time that a request spends outside of both is taken off the SLO
highest     what LoadGen accepts, its own rules and early stopping kept, by a staircase: the rate goes up by
            4 % after a run that it accepts, down by 4 % after one that it does not; the geometric mean of the
            rates from the first turn on is where it accepts every second run
in service  predicted once more, of the service times that the runs themselves saw: where this is right and
            the first is not, services took another time under load, or at another time, than measured
stopping    predicted once more, at the share of late requests that early stopping really lets pass: of n
            requests so few that chance cannot explain them (99 %)
saturated   what is left where queues are ignored: the largest batch that is in time, over its p90

A staircase and not a bisection: on a machine whose speed wanders by some percent from minute to minute, a
bisection never looks again at a rate that failed at a bad moment. Service times are measured between the
runs, so that a machine that changes meanwhile changes both sides, and whatever was measured while others took
more than a percent of the machine is measured again.

p90 and not p99, and runs of at least 4,000 requests: early stopping lets 355 of them be late at p90, not 400,
and at p99 25, not 40. Of fewer it lets so few that what it accepts is no capacity: of 1,000 requests, at
three times the batch-1 latency, 8 % below it.

``--quick``: half as many requests and runs. Needs at least two hardware threads to itself; models come from
``benchmarks/real_models.py``. Exit code 1 where a ratio of predicted to highest is not within 0.9 to 1.1.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.stats import binom

from planner.capacity import capacity, saturated_rps, service_laws
from planner.domain.workload import Slo
from planner.profiling.apart import apart
from planner.profiling.environment import watched
from planner.verifying.driving import Engines, Run, overhead
from planner.verifying.live import driven, write_rows

HERE = Path(__file__).resolve().parent
DOWNLOADS = HERE / "downloads"
BATCHES = {"magika": (1, 2, 4), "silero": (1,), "minilm": (1, 2, 4)}
SILERO_FRAMES = 31
"""A second at a time."""
ROWS = 64
SAMPLES, BETWEEN = 200, 40
"""Service times of each batch size: before all runs, and after each."""
RUNS, REQUESTS, SECONDS = 6, 4000, 40.0
"""Runs from the first turn on, and the least that one takes."""
STEP = 1.04
FEW = 100
QUIET = 0.01
"""Where others take more of two hardware threads, services take 5 to 13 % longer."""
AGAIN = 20
"""How often something is measured again that others disturbed."""
PERCENTILE = 90.0
TIGHT, LOOSE = 3.0, 20.0
WITHIN = 0.1
MS = 1e6

Result = TypeVar("Result")


@dataclass
class Times:
    """Service times in ns by batch size, and what a request spends outside of batcher and engine."""

    held_ns: dict[int, list[int]]
    wake_ns: list[int]

    def take(self, target: Engines, samples: int) -> None:
        added = undisturbed(lambda: watched(lambda: apart(overhead, target, samples)))
        if not added.pinned:
            sys.exit("two hardware threads are needed: one for the engine, one for the load generator")
        for size, held in added.held_ns.items():
            self.held_ns.setdefault(size, []).extend(held)
        self.wake_ns.extend(added.wake_ns)

    def in_service(self, runs: list[Run]) -> Times:
        """As the runs saw them; of sizes that were hardly served, what was measured besides."""
        held: dict[int, list[int]] = {size: [] for size in self.held_ns}
        for batch in (batch for run in runs for batch in run.batches):
            held[batch.padded_to].append(batch.held_ns)
        return Times({s: ns if len(ns) >= FEW else self.held_ns[s] for s, ns in held.items()}, self.wake_ns)

    def latency_ns(self) -> float:
        """Of a request that is alone, the median."""
        return float(np.median(self.held_ns[1]) + np.median(self.wake_ns))

    def predicted_rps(self, latency_ns: int, percentile: float = PERCENTILE) -> float:
        largest = max(self.held_ns)
        return capacity(self.held_ns, largest, percentile, self._budget_ns(latency_ns)).rate_rps

    def accepted_rps(self, latency_ns: int, seconds: float) -> float:
        """Where LoadGen accepts every second run."""
        rate = self.predicted_rps(latency_ns)
        for _ in range(5):
            rate = self.predicted_rps(latency_ns, passing(round(rate * seconds)))
        return rate

    def saturated_rps(self, latency_ns: int) -> float:
        laws = service_laws(self.held_ns, max(self.held_ns))
        return saturated_rps(laws, 1, PERCENTILE, self._budget_ns(latency_ns))

    def _budget_ns(self, latency_ns: int) -> int:
        return round(latency_ns - float(np.mean(self.wake_ns)))


def undisturbed(measure: Callable[[], tuple[Result, float | None]]) -> Result:
    """The first result that others did not disturb, or the last of many."""
    for _ in range(AGAIN):
        result, foreign = measure()
        if (foreign or 0.0) <= QUIET:
            break
        print(f"    again: others took {foreign:.1%} of the machine", flush=True)
    return result


def passing(requests: int) -> float:
    """The percentile at which early stopping lets half of all runs of so many requests pass.

    Source: MLPerf Inference rules, early stopping: t may be late where P(Binomial(n, 1 - p) <= t) <= 1 %.
    """
    late = 1 - PERCENTILE / 100
    most = int(binom.ppf(0.01, requests, late))
    while most >= 0 and binom.cdf(most, requests, late) > 0.01:
        most -= 1
    return 100 * (1 - max(most + 0.5, 0.1) / requests)


def compare(name: str, runs: int, requests: int) -> bool:
    """Measure and print one model; whether its ratios are within 10 % of 1."""
    folder = DOWNLOADS / name
    if not (folder / "model.onnx").exists():
        subprocess.run([sys.executable, str(HERE / "real_models.py"), name], check=True)
    within = True
    with tempfile.TemporaryDirectory() as temporary, np.load(folder / "evaluation.npz") as data:
        rows = Path(temporary) / "rows.npz"
        sent = {key: data[key][:ROWS] for key in data.files if key != "labels"}
        if name == "silero":
            sent["input"] = sent["input"][:, :SILERO_FRAMES]
        write_rows(rows, sent)
        sizes = BATCHES[name]
        target = Engines(folder / "model.onnx", "onnxruntime", 1, 1, sizes, 0, sizes != (1,), rows)
        first = Times({}, [])
        first.take(target, SAMPLES)
        print(
            f"{name}: batch-1 latency {first.latency_ns() / MS:.3f} ms, of it outside of the engine's "
            f"batch {np.median(first.wake_ns) / MS:.3f} ms; service times "
            + ", ".join(f"{size}: {np.median(ns) / MS:.3f}" for size, ns in sorted(first.held_ns.items())),
            flush=True,
        )
        for word, factor in (("tight", TIGHT), ("loose", LOOSE)):
            within &= at_slo(name, word, round(factor * first.latency_ns()), target, runs, requests)
    return within


def at_slo(name: str, word: str, latency_ns: int, target: Engines, runs: int, requests: int) -> bool:
    times = Times({}, [])
    times.take(target, SAMPLES)
    seeds = iter(range(1, 1 << 30))
    counted: list[Run] = []
    seconds = max(SECONDS * requests / REQUESTS, requests / times.predicted_rps(latency_ns))

    def accepts(rate_rps: float) -> bool:
        def drive() -> tuple[Run, float | None]:
            run = driven(target, Slo(PERCENTILE, latency_ns), rate_rps, seconds, next(seeds))
            return run, run.foreign_load

        run = undisturbed(drive)
        print(
            f"    {rate_rps:8.1f} rps: p{PERCENTILE:g} {run.percentile_ns / MS:8.3f} ms, "
            f"{'valid' if run.valid else 'invalid'}, {len(run.came_ns)} requests, "
            f"mean batch {np.mean([b.inferences for b in run.batches]):.2f}, "
            f"engine held {np.mean([b.held_ns for b in run.batches]) / MS:.3f} ms, "
            f"others {run.foreign_load or 0:.1%}",
            flush=True,
        )
        times.take(target, BETWEEN)
        counted.append(run)
        return run.valid

    highest, error = staircase(accepts, times.accepted_rps(latency_ns, seconds), runs)
    predicted = times.predicted_rps(latency_ns)
    stopping, saturated = times.accepted_rps(latency_ns, seconds), times.saturated_rps(latency_ns)
    served = times.in_service(counted).predicted_rps(latency_ns)
    ratio, of_served, of_stopping, of_saturated = (
        rate / highest for rate in (predicted, served, stopping, saturated)
    )
    print(
        f"  {name:7} {word} (p{PERCENTILE:g} <= {latency_ns / MS:.2f} ms): predicted {predicted:.1f} rps, "
        f"LoadGen's highest {highest:.1f} (+-{error:.1%}), ratio {ratio:.3f}; in service {served:.1f}, "
        f"{of_served:.3f}; stopping {stopping:.1f}, "
        f"{of_stopping:.3f}; saturated {saturated:.1f}, {of_saturated:.2f}; runs of {seconds:.0f} s",
        flush=True,
    )
    return abs(ratio - 1) <= WITHIN


def staircase(accepts: Callable[[float], bool], start_rps: float, runs: int) -> tuple[float, float]:
    """The rate that is accepted every second time, and its standard error as a share; see above.

    Source: Dixon and Mood, A Method for Obtaining and Analyzing Sensitivity Data, JASA 43 (1948).
    """
    rate, before = start_rps, None
    counted: list[float] = []
    while len(counted) < runs:
        accepted = accepts(rate)
        if counted or (before is not None and accepted != before):
            counted.append(rate)
        rate, before = rate * STEP if accepted else rate / STEP, accepted
    logs = np.log([*counted[1:], rate])
    return float(np.exp(logs.mean())), float(logs.std(ddof=1) / np.sqrt(len(logs)))


def main() -> None:
    quick = "--quick" in sys.argv
    names = [name for name in sys.argv[1:] if not name.startswith("--")] or list(BATCHES)
    runs, requests = (RUNS // 2, REQUESTS // 2) if quick else (RUNS, REQUESTS)
    print(
        f"{'QUICK: ' if quick else ''}{runs} runs for each SLO, of {requests} requests at least", flush=True
    )
    within = [compare(name, runs, requests) for name in names]
    print(f"All ratios within {1 - WITHIN:.1f} to {1 + WITHIN:.1f}: {'yes' if all(within) else 'NO'}")
    sys.exit(0 if all(within) else 1)


if __name__ == "__main__":
    main()
