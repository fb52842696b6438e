"""Static int8 for ONNX Runtime's CPU kernels: ranges fixed by calibration, in QDQ form."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from planner.variants.calibration import METHODS, Range
from planner.variants.choice import choose, described
from planner.variants.context import Array, Context
from planner.variants.correction import mean_shifts
from planner.variants.integers import IntegerWriter
from planner.variants.placement import place
from planner.variants.preparation import prepare
from planner.variants.reference import Reference, split
from planner.variants.session import quiet
from planner.variants.static import Fit, Search, calibrated, nothing_to_quantize
from planner.variants.weights import deliver, skeleton

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
        narrow = saturates()
        with TemporaryDirectory(dir=target.parent) as folder, quiet():
            scratch = Path(folder)
            notes = prepare(source, scratch / "float.onnx", external=True)
            best, more = _search(scratch / "float.onnx", source, narrow, context)
            deliver(skeleton(best), best.parent, target, source)
        notes += more
        return (*notes, "weights in 7 bits: this CPU has no VNNI and would saturate") if narrow else notes


def _search(prepared: Path, source: Path, narrow: bool, context: Context) -> tuple[Path, tuple[str, ...]]:
    """The best candidate, written beside ``prepared``, and notes on how it was found."""
    scratch = prepared.parent
    proto = skeleton(prepared)
    unsupported = frozenset(n.name for n in proto.graph.node if n.op_type == "ConvTranspose")
    placement = place(proto.graph, unsupported)
    if not placement.nodes:
        raise nothing_to_quantize(Int8.name, proto.graph)
    to_calibrate, to_measure = split(context)
    calibration = calibrated(Int8.name, proto, placement.tensors, to_calibrate, scratch)
    layers = {n: macs for n, macs in calibration.macs.items() if n in placement.nodes}
    reference = Reference.of(prepared, to_measure)
    writer = IntegerWriter(proto, scratch, narrow)

    def write_one(
        kept_float: frozenset[str], ranges: Mapping[str, Range], shifts: Mapping[str, Array] | None = None
    ) -> Path:
        chosen = place(proto.graph, unsupported | kept_float)
        return writer.write(chosen, ranges, scratch / "candidate.onnx", shifts)

    def fit(kept_float: frozenset[str]) -> Fit:
        method, errors = choose(METHODS, lambda m: write_one(kept_float, calibration.ranges(m)), reference)
        ranges = calibration.ranges(method)
        notes = [described(method, errors, len(reference.feeds))]
        shifts: Mapping[str, Array] | None = mean_shifts(writer, placement, ranges, reference.feeds, scratch)
        corrected = reference.error(write_one(kept_float, ranges, shifts))
        if corrected < _GAIN * errors[method]:
            notes.append(f"biases corrected: output error {corrected:.2%} instead of {errors[method]:.2%}")
        else:
            shifts = None

        def write(kept_float: frozenset[str]) -> Path:
            return write_one(kept_float, ranges, shifts)

        return Fit(write, write, tuple(notes))

    all_macs = sum(calibration.macs.values())
    best, notes = Search(layers, all_macs, fit, reference, context, source).best("int8")
    notes += placement.left_float
    if unsupported:
        notes += (f"{len(unsupported)} left float: ConvTranspose has no integer kernel in ONNX Runtime",)
    return best, notes


def saturates() -> bool:
    """Whether products of uint8 and int8 overflow 16 bits here: x86 before VNNI adds them in pairs.

    Source: ONNX Runtime, "Quantize ONNX models", on U8S8 and reduce_range.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not _CPU_INFO.is_file():
        return False
    flags = _CPU_INFO.read_text(errors="replace")
    return not any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
