"""Where a graph's weights lie: in the model itself, or, the large ones, in files of a folder.

In files they are mapped while they are looked at and written as soon as they are made, so that a model may
be larger than what memory holds several times over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo

from planner.variants.pruning.shapes import Array
from planner.variants.weights import Sink, is_external, value

_FILE = "changed"


class Store:
    """Reads tensors and makes new ones; ``folder`` has the external ones and takes what is made."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._sink = Sink(folder / _FILE, external=True) if folder else None

    def tensor(self, name: str, array: Array) -> TensorProto:
        return self._sink.tensor(name, array) if self._sink else numpy_helper.from_array(array, name)

    def read(self, tensor: TensorProto) -> Array:
        """The tensor's values, read-only where they are mapped; mapped no longer than they are held."""
        if not is_external(tensor):
            return np.asarray(numpy_helper.to_array(tensor))
        assert self.folder is not None
        entry = ExternalDataInfo(tensor)
        dtype, shape = helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)
        if entry.length != prod(shape) * dtype.itemsize:  # several values in a byte
            return value(tensor, self.folder)
        return np.asarray(np.memmap(self.folder / entry.location, dtype, "r", entry.offset or 0, shape))


class Constants(Mapping[str, Array]):
    """The initializers of a graph by name; external ones are read when they are asked for."""

    def __init__(self, tensors: Iterable[TensorProto], store: Store) -> None:
        self._store = store
        self._held: dict[str, TensorProto | Array] = {}
        for tensor in tensors:
            self.put(tensor)

    def put(self, tensor: TensorProto) -> None:
        self._held[tensor.name] = tensor if is_external(tensor) else self._store.read(tensor)

    def __getitem__(self, name: str) -> Array:
        held = self._held[name]
        return self._store.read(held) if isinstance(held, TensorProto) else held

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)
