"""Every recipe on four real models: accuracy, size, operations, and latency next to fp32, in one run.

    python benchmarks/variants.py                 # the table of docs/variants.md, made anew; about an hour
    python benchmarks/variants.py magika digits   # some models, printed only

Accuracy is the planner's own measurement, with its intervals, on data that no recipe has seen. Latency is
that of ONNX Runtime on this CPU, one thread, one request at a time; all variants of a model take turns, so
that whatever else the machine does hits them alike. ``magnitude-30`` is the usual way to prune, for
comparison: the channels with the smallest weights go, and nothing makes up for them.
"""

from __future__ import annotations

import math
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from real_models import HERE, MODELS, real_model

from planner.backends import backend
from planner.domain.progress import Step
from planner.domain.quality import Quality
from planner.domain.variant import Variant
from planner.pipeline.inputs import Entry, Prepared, prepare
from planner.pipeline.steps import EVALUATION_BATCH, judge
from planner.profiling.environment import usable_cores
from planner.quality import assess, predict_all
from planner.spec import read_spec
from planner.variants import Context, recipe
from planner.variants.context import single_feeds
from planner.variants.observe import observed
from planner.variants.prune import calibration_of
from planner.variants.pruning import prune

RECIPES = (
    "fp32",
    "fp16",
    "bf16",
    "int8",
    "int8-dynamic",
    "int8-tensorrt",
    "fp8",
    "int4",
    "int4-tensorrt",
    "sparse-2:4",
    "prune-30",
    "lowrank-30",
    "prune-30+int8",
)
MAGNITUDE = "magnitude-30"
BACKEND = "onnxruntime"
ROUNDS = 60
SECONDS_A_ROUND = 0.1
PAGE = HERE.parent / "docs" / "variants.md"
BEGIN, END = "<!-- table: benchmarks/variants.py -->\n", "<!-- end of table -->\n"


@dataclass(frozen=True, slots=True)
class Row:
    """``operations``: multiply-accumulates of one sample; ``in_int8``: their share in 8 bits, where told.
    ``ratio``: fp32's latency over this one's, with its interval; None where this CPU does not run it."""

    recipe: str
    quality: Quality | None
    size_bytes: int
    operations: int | None
    in_int8: float | None
    ratio: tuple[float, float, float] | None
    rejected: str = ""


def table(name: str) -> tuple[list[Row], str]:
    """The rows of one model, and a line about it."""
    spec = read_spec(real_model(name) / "plan.yaml").only
    prepared = prepare(replace(spec, recipes=RECIPES))
    judged = judge(prepared, lambda step: _show(name, step))
    entry = prepared.main
    rejected = {
        r.subject: r.reason
        for r in judged.rejections
        if r.subject not in {v.name for v, _ in judged.variants}
    }
    fp32 = judged.variants[0][0]
    with tempfile.TemporaryDirectory() as folder:
        extra = _magnitude(prepared, entry, fp32, Path(folder))
        files = {v.recipe: v.path for v, _ in judged.variants if BACKEND in recipe(v.recipe).backends}
        files |= {MAGNITUDE: extra.path} if extra else {}
        _show(name, Step("latency", f"{len(files)} variants", 0, 1))
        ratios, fp32_ms = latencies(files, _feed(entry))
        rows = []
        for variant, quality in judged.variants:
            fewer = any(part in variant.recipe for part in ("prune", "lowrank"))
            file = variant.path if fewer else fp32.path
            count = operations(file, entry)
            share = _share(variant.notes, operations(file, entry, recurrent=False), count)
            rows.append(
                Row(variant.recipe, quality, variant.size_bytes, count, share, ratios.get(variant.recipe))
            )
        if extra:
            count = operations(extra.path, entry)
            rows.append(
                Row(MAGNITUDE, extra.quality, extra.path.stat().st_size, count, None, ratios[MAGNITUDE])
            )
    order = [*RECIPES[: RECIPES.index("prune-30") + 1], MAGNITUDE, *RECIPES[RECIPES.index("prune-30") + 1 :]]
    rows += [Row(r, None, 0, None, None, None, rejected[r]) for r in rejected]
    rows.sort(key=lambda row: order.index(row.recipe))
    about = (
        f"**{name}**: {prepared.metric.name} on {judged.variants[0][1].samples} samples; fp32 takes "
        f"{fp32_ms:.2f} ms for {_short(rows[0].operations or 0)} multiply-accumulates"
    )
    return rows, about


@dataclass(frozen=True, slots=True)
class Extra:
    path: Path
    quality: Quality


def _magnitude(prepared: Prepared, entry: Entry, fp32: Variant, folder: Path) -> Extra | None:
    """Pruned by the norm of weights, with no reconstruction. None where nothing can be pruned."""
    samples = calibration_of(Context(entry.inputs, entry.calibration.inputs))
    made = prune(onnx.load(fp32.path), 0.3, samples, importance="magnitude", reconstruct=False)
    if not made.removed:
        return None
    path = folder / "model.onnx"
    onnx.save(made.model, path)
    outputs = []
    for file in (path, fp32.path):
        with backend(BACKEND).load(file, usable_cores()) as session:
            outputs.append(predict_all(session.infer, entry.evaluation, entry.inputs, EVALUATION_BATCH))
    return Extra(path, assess(prepared.metric, outputs[0], outputs[1], entry.evaluation.labels))


def latencies(
    files: Mapping[str, Path], feed: Mapping[str, np.ndarray]
) -> tuple[dict[str, tuple[float, float, float]], float]:
    """For each file, fp32's median latency over its own, with a 95 % interval; and fp32's in ms.

    Every round times each file for as long as fp32 needs for a tenth of a second, in an order of its own. The
    ratio is that of the rounds' medians; its interval is a bootstrap over rounds.
    """
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in files}
    with ExitStack() as stack:
        sessions = {n: stack.enter_context(backend(BACKEND).load(p, 1)) for n, p in files.items()}
        for session in sessions.values():
            for _ in range(5):
                session.infer(feed)
        begin = time.perf_counter()
        sessions["fp32"].infer(feed)
        each = max(5, math.ceil(SECONDS_A_ROUND / len(files) / (time.perf_counter() - begin)))
        for _ in range(ROUNDS):
            for name in rng.permutation(list(files)):
                infer, spent = sessions[name].infer, []
                for _ in range(each):
                    begin = time.perf_counter()
                    infer(feed)
                    spent.append(time.perf_counter() - begin)
                times[name].append(float(np.median(spent)))
    rounds = {name: np.array(spent) for name, spent in times.items()}
    drawn = rng.integers(0, ROUNDS, (2000, ROUNDS))
    ratios = {}
    for name, spent in rounds.items():
        resampled = np.median(rounds["fp32"][drawn], axis=1) / np.median(spent[drawn], axis=1)
        low, high = np.percentile(resampled, [2.5, 97.5])
        ratios[name] = (float(np.median(rounds["fp32"]) / np.median(spent)), float(low), float(high))
    return ratios, float(np.median(rounds["fp32"])) * 1e3


def _feed(entry: Entry) -> dict[str, np.ndarray]:
    """One request."""
    return next(single_feeds(entry.inputs, {n: a[:64] for n, a in entry.evaluation.inputs.items()}))


def operations(path: Path, entry: Entry, recurrent: bool = True) -> int:
    """Multiply-accumulates of one sample in convolutions, products and recurrent layers, in any precision.

    Not ``recurrent``: without recurrent layers, which the planner leaves in float.
    """
    proto = onnx.load(path)
    weights = {i.name: tuple(i.dims) for i in proto.graph.initializer}
    nodes = [n for n in proto.graph.node if n.op_type in _COUNT]
    wanted = {t for n in nodes for t in (*n.input[:3], *n.output[:1]) if t and t not in weights}
    with tempfile.TemporaryDirectory() as folder:
        (values,) = observed(proto, sorted(wanted), [_feed(entry)], Path(folder))
    shapes = weights | {t: v.shape for t, v in values.items()}
    return sum(
        _COUNT[n.op_type]([shapes.get(t, ()) for t in n.input], shapes[n.output[0]])
        for n in nodes
        if recurrent or n.op_type not in ("LSTM", "GRU")
    )


def _of_conv(inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    return math.prod(output) * math.prod(inputs[1][1:])


def _of_product(inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    return math.prod(output) * inputs[0][-1]


def _of_recurrent(inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    """X [steps, batch, inputs]; W [directions, gates * hidden, inputs], and R the same for hidden values."""
    steps, batch, _ = inputs[0]
    return steps * batch * (math.prod(inputs[1]) + math.prod(inputs[2]))


_COUNT = {
    "Conv": _of_conv,
    "MatMul": _of_product,
    "Gemm": _of_product,
    "LSTM": _of_recurrent,
    "GRU": _of_recurrent,
}


def _share(notes: Sequence[str], quantizable: int, whole: int) -> float | None:
    """Share of all multiply-accumulates in int8; the note gives that of convolutions and products."""
    for note in notes:
        if match := re.search(r"(\d+)% of the multiply-accumulates", note):
            return int(match[1]) / 100 * quantizable / whole
    return None


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    yield "| recipe | accuracy, % (95 % interval) | drop, points | MB | operations | in 8 bits | x fp32 |"
    yield "|---|---|---|---:|---:|---:|---:|"
    for row in rows:
        if row.quality is None:
            yield f"| `{row.recipe}` | rejected: {row.rejected} | | | | | |"
            continue
        q = row.quality
        ratio = "" if row.ratio is None else f"{row.ratio[0]:.2f} ({row.ratio[1]:.2f} to {row.ratio[2]:.2f})"
        drop = f"{100 * q.drop:.2f} ({100 * q.drop_low:.2f} to {100 * q.drop_high:.2f})"
        share = "" if row.in_int8 is None else f"{row.in_int8:.0%}"
        count = "" if row.operations is None else _short(row.operations)
        value = f"{100 * q.value:.2f} ({100 * q.low:.2f} to {100 * q.high:.2f})"
        if row.recipe == "fp32":
            drop = ""
        size = f"{row.size_bytes / 1e6:.1f}"
        yield f"| {' | '.join((f'`{row.recipe}`', value, drop, size, count, share, ratio))} |"


def _short(count: float) -> str:
    return f"{count / 1e6:.1f} M" if count < 1e9 else f"{count / 1e9:.2f} G"


def _show(name: str, step: Step) -> None:
    print(
        f"\r\033[K{name}: {step.stage} {step.detail} {step.done}/{step.total}",
        end="",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    asked = sys.argv[1:] or list(MODELS)
    text = []
    for name in asked:
        rows, about = table(name)
        print("\r\033[K", end="", file=sys.stderr)
        text += ["", about, "", *markdown(rows)]
        print("\n".join(text[-len(rows) - 5 :]), flush=True)
    if not sys.argv[1:]:
        libraries = " and ".join(f"{n} {v}" for n, v in backend(BACKEND).libraries())
        where = f"Made on {time.strftime('%Y-%m-%d')}: {_cpu()}, {usable_cores()} cores, {libraries}."
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(before + BEGIN + "\n".join([where, *text]) + "\n" + END + after)


def _cpu() -> str:
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]  # type: ignore[index]
    except (OSError, TypeError):
        return platform.machine()


if __name__ == "__main__":
    main()
