"""Static int8 for ONNX Runtime's CPU kernels: ranges fixed by calibration, in QDQ form."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from planner.errors import VariantError
from planner.variants.calibration import METHODS, Calibration, Range, calibrate
from planner.variants.choice import choose, described
from planner.variants.context import Array, Context, single_feeds
from planner.variants.correction import mean_shifts
from planner.variants.fallback import Criterion, Outcome, search, share
from planner.variants.graph import write
from planner.variants.integers import IntegerWriter
from planner.variants.placement import place
from planner.variants.preparation import prepare
from planner.variants.reference import Reference, split
from planner.variants.session import quiet
from planner.variants.weights import skeleton

_CPU_INFO = Path("/proc/cpuinfo")
# A correction that gains less than this is not worth the difference.
_GAIN = 0.98


class Int8:
    """Activations uint8 with a zero point, weights int8 per output channel: the pair with the fastest
    kernels (U8S8). Where to quantize: ``placement``; ranges: ``calibration`` and ``choice``; biases:
    ``correction``; what stays float for the sake of accuracy: ``fallback``.
    """

    name = "int8"
    needs_calibration = True
    backends = frozenset(["onnxruntime", "openvino"])
    min_compute_capability = None
    evaluate_unoptimized = False

    def apply(self, source: Path, target: Path, context: Context) -> tuple[str, ...]:
        if not context.calibration:
            raise VariantError(f"{self.name}: needs calibration samples; name them in the spec")
        narrow = saturates()
        with TemporaryDirectory(dir=target.parent) as folder, quiet():
            scratch = Path(folder)
            notes = prepare(source, scratch / "float.onnx", external=True)
            best, more = _search(scratch / "float.onnx", source, narrow, context)
            write(onnx.load(best), target, source)
        notes += more
        return (*notes, "weights in 7 bits: this CPU has no VNNI and would saturate") if narrow else notes


@dataclass(frozen=True, slots=True)
class _Found:
    """A search from one method's ranges: what it left float, and how it may be written again."""

    outcome: Outcome
    ranges: Mapping[str, Range]
    shifts: Mapping[str, Array] | None
    notes: tuple[str, ...]

    def rank(self, layers: Mapping[str, int]) -> tuple[bool, int, float]:
        """Less is better: to hold the accuracy, then to leave little float, then to cost little."""
        outcome = self.outcome
        return outcome.cost > outcome.tolerated, sum(layers[n] for n in outcome.kept_float), outcome.cost


def _search(prepared: Path, source: Path, narrow: bool, context: Context) -> tuple[Path, tuple[str, ...]]:
    """The best candidate, written beside ``prepared``, and notes on how it was found.

    Ranges and corrections that suit a layer that falls back need not suit the rest: after such a fall-back
    they are chosen again for the rest, and what falls back with those.
    """
    scratch = prepared.parent
    proto = skeleton(prepared)
    unsupported = frozenset(n.name for n in proto.graph.node if n.op_type == "ConvTranspose")
    placement = place(proto.graph, unsupported)
    if not placement.nodes:
        raise VariantError(_nothing_to_quantize(proto))
    to_calibrate, to_measure = split(context)
    calibration = _calibrated(proto, placement.tensors, to_calibrate, scratch)
    layers = {n: macs for n, macs in calibration.macs.items() if n in placement.nodes}
    all_macs = sum(calibration.macs.values())
    reference = Reference.of(prepared, to_measure)
    criterion = Criterion.of(context, reference.error)
    writer = IntegerWriter(proto, scratch, narrow)

    def write_one(
        kept_float: frozenset[str], ranges: Mapping[str, Range], shifts: Mapping[str, Array] | None = None
    ) -> Path:
        chosen = place(proto.graph, unsupported | kept_float)
        return writer.write(chosen, ranges, scratch / "candidate.onnx", shifts)

    def found_from(kept: frozenset[str], known: Mapping[str, float]) -> _Found:
        method, errors = choose(METHODS, lambda m: write_one(kept, calibration.ranges(m)), reference)
        ranges = calibration.ranges(method)
        notes = [described(method, errors, len(reference.feeds))]
        shifts: Mapping[str, Array] | None = mean_shifts(writer, placement, ranges, reference.feeds, scratch)
        corrected = reference.error(write_one(kept, ranges, shifts))
        if corrected < _GAIN * errors[method]:
            notes.append(f"biases corrected: output error {corrected:.2%} instead of {errors[method]:.2%}")
        else:
            shifts = None
        outcome = search(
            layers,
            all_macs,
            lambda kept_float: write_one(kept_float, ranges, shifts),
            reference.error,
            criterion,
            source,
            known,
        )
        return _Found(outcome, ranges, shifts, (*notes, *outcome.notes(criterion)))

    best = found_from(frozenset(), {})
    if best.outcome.kept_float:
        again = found_from(frozenset(best.outcome.kept_float), best.outcome.sensitivities)
        best = min(again, best, key=lambda found: found.rank(layers))
    kept_float = best.outcome.kept_float
    notes = [
        f"{share(layers, all_macs, kept_float):.0%} of the multiply-accumulates of convolutions "
        "and products in int8",
        *placement.left_float,
    ]
    if unsupported:
        notes.append(f"{len(unsupported)} left float: ConvTranspose has no integer kernel in ONNX Runtime")
    return write_one(frozenset(kept_float), best.ranges, best.shifts), (*notes, *best.notes)


def _calibrated(
    proto: onnx.ModelProto, tensors: tuple[str, ...], context: Context, scratch: Path
) -> Calibration:
    assert context.calibration
    try:
        return calibrate(proto, tensors, single_feeds(context.inputs, context.calibration), scratch)
    except ValueError as error:
        raise VariantError(f"int8: {error}") from None


def _nothing_to_quantize(proto: onnx.ModelProto) -> str:
    operators = sorted({n.op_type for n in proto.graph.node})
    return (
        "int8: nothing to quantize: no Conv, MatMul or Gemm with constant float32 weights "
        f"outside control flow (there are {', '.join(operators) or 'no nodes'})"
    )


def saturates() -> bool:
    """Whether products of uint8 and int8 overflow 16 bits here: x86 before VNNI adds them in pairs.

    Source: ONNX Runtime, "Quantize ONNX models", on U8S8 and reduce_range.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not _CPU_INFO.is_file():
        return False
    flags = _CPU_INFO.read_text(errors="replace")
    return not any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
