"""Calibration and evaluation data: a file, a function, or random numbers, checked against the model."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.domain.model import BoundInput
from planner.errors import DataError
from planner.quality.callables import call, find, is_callable_name, nearest

Array = NDArray[Any]

LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Dataset:
    """``inputs`` maps each input's name to its samples, first axis = sample, in the model's dtype.

    A sample is the input without its batch axis. Where the model has no batch axis it is the whole input,
    or, when the array has as many axes as the input, a row of its first, fixed axis. ``synthetic``: made
    up, so it says nothing about accuracy. ``digest`` covers inputs and labels.
    """

    inputs: Mapping[str, Array]
    labels: Array | None
    samples: int
    digest: str
    synthetic: bool

    def batch(self, indices: Iterable[int], inputs: tuple[BoundInput, ...]) -> dict[str, Array]:
        """One feed for the model, of the samples at ``indices``; those past the end begin anew.

        An input without a batch axis takes the first of the samples, or, where samples are rows of it, as
        many as it has rows, the last repeated.
        """
        chosen = np.fromiter(indices, np.int64) % self.samples
        return {t.name: _feed(t, self.inputs[t.name], chosen) for t in inputs}


def load_data(
    source: str,
    base: Path,
    inputs: tuple[BoundInput, ...],
    need_labels: bool = False,
) -> Dataset:
    """Data from ``source``; raises DataError, in one line, for everything that can be wrong with them.

    ``source`` is an ``.npz`` file (relative to ``base``) or ``module:function`` (found in ``base`` first,
    called without arguments). Either yields an array for each input of the model, by its name, and
    ``labels`` where there are any.
    """
    if source.endswith(".npz"):
        arrays: Mapping[str, Array] = _read_npz(base / source)
    elif is_callable_name(source):
        arrays = _call(source, base)
    else:
        raise DataError(f"data {source!r}: expected an .npz file or module:function")
    return _checked(source, arrays, inputs, need_labels)


def random_data(
    inputs: tuple[BoundInput, ...], samples: int, seed: int, int_ranges: Mapping[str, tuple[int, int]]
) -> Dataset:
    """Made-up data without labels; see ``random_inputs``."""
    arrays = random_inputs(inputs, samples, seed, int_ranges)
    return Dataset(arrays, None, samples, _digest(arrays, None), synthetic=True)


def random_inputs(
    inputs: tuple[BoundInput, ...], samples: int, seed: int, int_ranges: Mapping[str, tuple[int, int]]
) -> dict[str, Array]:
    """Standard normal floats; integers from ``int_ranges[name]`` (``[low, high)``), else 0 and 1."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for tensor in inputs:
        shape = (samples, *_sample_shape(tensor))
        if np.dtype(tensor.dtype).kind in "iub":
            values: Array = rng.integers(*int_ranges.get(tensor.name, (0, 2)), size=shape)
        else:
            values = rng.standard_normal(shape)
        arrays[tensor.name] = values.astype(tensor.dtype)
    return arrays


def overlap(calibration: Dataset, evaluation: Dataset) -> int:
    """How many evaluation samples also occur in the calibration data (labels apart)."""
    seen = set(_row_digests(calibration))
    return sum(row in seen for row in _row_digests(evaluation))


def _row_digests(data: Dataset) -> Iterator[bytes]:
    arrays = [np.ascontiguousarray(data.inputs[name]) for name in sorted(data.inputs)]
    for index in range(data.samples):
        sha = hashlib.sha256()
        for array in arrays:
            sha.update(array[index].tobytes())
        yield sha.digest()


def _read_npz(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: cut short or not an .npz file; write it again with numpy.savez")
    with np.load(path, allow_pickle=False) as archive:
        return {name: _read_array(path, archive, name) for name in archive.files}


def _read_array(path: Path, archive: Any, name: str) -> Array:
    try:
        return np.asarray(archive[name])
    except Exception as error:  # of zipfile, zlib and numpy's own format reader
        if isinstance(error, ValueError) and "allow_pickle" in str(error):
            raise DataError(
                f"{path}: {name} holds pickled objects, never unpickled; save plain numbers of one shape"
            ) from error
        raise DataError(f"{path}: array {name} is damaged; write the file again") from error


def _call(source: str, base: Path) -> Mapping[str, Array]:
    _, function = find("data", source, base)
    arrays = call("data", source, function)
    if not isinstance(arrays, Mapping):
        raise DataError(
            f"data {source}: must return a mapping from input name to array, got {type(arrays).__name__}"
        )
    converted: dict[str, Array] = {}
    for name, values in arrays.items():
        try:
            converted[str(name)] = np.asarray(values)
        except ValueError as error:  # rows of unequal length
            raise DataError(f"data {source}: {name} is not an array of one shape") from error
    return converted


def _checked(
    source: str, arrays: Mapping[str, Array], inputs: tuple[BoundInput, ...], need_labels: bool
) -> Dataset:
    for tensor in inputs:
        if tensor.name not in arrays:
            raise DataError(f"data {source}: no array for input {tensor.name}{nearest(tensor.name, arrays)}")
    sizes = {t.name: len(arrays[t.name]) for t in inputs if arrays[t.name].ndim}
    if not sizes:
        raise DataError(f"data {source}: holds single values; the first axis of an array is the sample")
    samples = next(iter(sizes.values()))
    if samples == 0:
        raise DataError(f"data {source}: no samples")
    for name, size in sizes.items():
        if size != samples:
            raise DataError(f"data {source}: {name} has {size} samples, {next(iter(sizes))} has {samples}")
    fitted = {t.name: _fitted(source, t, arrays[t.name], samples) for t in inputs}
    labels = _labels(source, arrays.get(LABELS), samples, need_labels)
    return Dataset(fitted, labels, samples, _digest(fitted, labels), synthetic=False)


def _labels(source: str, labels: Array | None, samples: int, needed: bool) -> Array | None:
    if labels is None:
        if needed:
            raise DataError(
                f"data {source}: no array {LABELS}, which the metric needs; add it, or use agreement"
            )
        return None
    if labels.ndim == 0 or len(labels) != samples:
        count = len(labels) if labels.ndim else 1
        raise DataError(f"data {source}: {count} labels for {samples} samples")
    if labels.dtype.kind not in "iufb":
        raise DataError(f"data {source}: labels must be numbers, got {labels.dtype}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError(f"data {source}: labels hold NaN or infinity")
    return labels


def _fitted(source: str, tensor: BoundInput, array: Array, samples: int) -> Array:
    """The array in the input's dtype and with a sample's shape, or DataError."""
    if array.ndim == 0 and tensor.shape == ():
        array = np.full(samples, array)
    wanted = [_sample_shape(tensor)]
    if tensor.batch_axis is None and tensor.shape:
        wanted.append(tensor.shape[1:])
    if array.shape[1:] not in wanted or array.ndim == 0:
        shapes = " or ".join(str([samples, *shape]) for shape in wanted)
        raise DataError(f"data {source}: {tensor.name} has shape {list(array.shape)}, expected {shapes}")
    return _cast(source, tensor, array)


def _cast(source: str, tensor: BoundInput, array: Array) -> Array:
    target = np.dtype(tensor.dtype)
    where = f"data {source}: {tensor.name}"
    kinds = ("iub", "iub") if target.kind in "iub" else ("f", "f")
    if array.dtype.kind not in kinds[0]:
        if array.dtype.kind == "O":
            raise DataError(f"{where} holds objects, expected {target}")
        raise DataError(f"{where} has dtype {array.dtype}, the model takes {target}; convert it")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        first = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"{where} holds NaN or infinity (first in sample {first})")
    if array.dtype == target:
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(target)
    exact = target.kind == "f" or np.array_equal(cast, array)
    if not exact or (target.kind == "f" and not np.isfinite(cast).all()):
        raise DataError(f"{where} has values that do not fit {target} ({array.min()} to {array.max()})")
    return cast


def _feed(tensor: BoundInput, array: Array, chosen: Array) -> Array:
    if tensor.batch_axis is not None:
        return np.ascontiguousarray(np.moveaxis(array[chosen], 0, tensor.batch_axis))
    if array.ndim > len(tensor.shape):
        return np.asarray(array[chosen[0]])
    return np.ascontiguousarray(array[chosen[np.minimum(np.arange(tensor.shape[0]), len(chosen) - 1)]])


def _sample_shape(tensor: BoundInput) -> tuple[int, ...]:
    return tuple(size for axis, size in enumerate(tensor.shape) if axis != tensor.batch_axis)


def _digest(inputs: Mapping[str, Array], labels: Array | None) -> str:
    sha = hashlib.sha256()
    named = sorted(inputs.items()) + ([] if labels is None else [(LABELS, labels)])
    for name, array in named:
        sha.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
