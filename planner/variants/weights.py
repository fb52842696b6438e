"""Weights one at a time: what only rewrites weights needs little more memory than the largest of them.

A *skeleton* is a model read without its external data, but for tensors so small that shape inference may
want their values. What is not external already, protobuf has loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, numpy_helper

from planner.variants.graph import graphs_in, needs_external_data, nodes_in, write

Array = NDArray[Any]

# Shapes, axes and bounds are smaller, weights worth removing from a message are larger.
_SMALL_BYTES = 1 << 12
# Page size: what lies on a page of its own can be mapped instead of read.
_ALIGNMENT = 1 << 12
_CHUNK_BYTES = 1 << 20
# Several values in a byte.
_PACKED = tuple(
    getattr(TensorProto, name)
    for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2")
    if hasattr(TensorProto, name)
)


def skeleton(path: Path) -> onnx.ModelProto:
    proto = onnx.load(path, load_external_data=False)
    for tensor in tensors_in(proto):
        if is_external(tensor) and _extent(tensor)[2] <= _SMALL_BYTES:
            external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
    return proto


def value(tensor: onnx.TensorProto, folder: Path) -> Array:
    """The tensor's values; ``tensor`` itself stays as it is, external where it was."""
    if not is_external(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    location, offset, _ = _extent(tensor)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if tensor.data_type in _PACKED:
        copy = TensorProto()
        copy.CopyFrom(tensor)
        return np.asarray(numpy_helper.to_array(copy, str(folder)))
    count = int(np.prod(tensor.dims, dtype=np.int64))
    return np.fromfile(folder / location, dtype, count, offset=offset).reshape(tuple(tensor.dims))


def external_bytes(proto: onnx.ModelProto, wider_than: int = 0) -> int:
    """How much of the model lies in external files, in types of more bytes than ``wider_than``."""

    def width(tensor: onnx.TensorProto) -> int:
        return int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)

    return sum(_extent(t)[2] for t in tensors_in(proto) if is_external(t) and width(t) > wider_than)


def is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def tensors_in(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Initializers and tensors held by attributes, of inner graphs and functions too; no sparse ones."""
    for graph in graphs_in(proto.graph):
        yield from graph.initializer
    for node in nodes_in(proto):
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t


class Sink:
    """Writes a skeleton and its weights to ``target``: external (``<file>.weights``) where ``external``."""

    def __init__(self, target: Path, external: bool) -> None:
        self._target, self._external = target, external
        self._location = target.name + ".weights"
        self._file = target.with_name(self._location)
        self._file.unlink(missing_ok=True)

    def tensor(self, name: str, array: Array) -> onnx.TensorProto:
        """``array`` as an initializer, its values written out at once where they go beside the model."""
        array = np.ascontiguousarray(array)
        element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        if not self._external or array.nbytes <= _SMALL_BYTES:
            return numpy_helper.from_array(array, name)
        if element in _PACKED:
            content = numpy_helper.from_array(array, name).raw_data
        else:
            content = array.reshape(-1).view(np.uint8).data
        with self._open() as file:
            offset = file.tell()
            file.write(content)
        reference = TensorProto(name=name, data_type=element, dims=array.shape)
        self._refer(reference, offset, len(content))
        return reference

    def save(self, proto: onnx.ModelProto, source: Path, folder: Path | None = None) -> None:
        """Copies what is still external elsewhere and writes the model, with the interface of ``source``.

        ``folder``: where that is, by default where ``source`` is.
        """
        for tensor in tensors_in(proto):
            if is_external(tensor) and _extent(tensor)[0] != self._location:
                self._copy(tensor, folder or source.parent)
        write(proto, self._target, source)

    def _copy(self, tensor: onnx.TensorProto, folder: Path) -> None:
        location, start, length = _extent(tensor)
        with (folder / location).open("rb") as original, self._open() as file:
            original.seek(start)
            offset = file.tell()
            _copy_bytes(original, file, length)
        self._refer(tensor, offset, length)

    def _open(self) -> Any:
        file = self._file.open("ab")
        file.write(bytes(-file.tell() % _ALIGNMENT))
        return file

    def _refer(self, tensor: onnx.TensorProto, offset: int, length: int) -> None:
        del tensor.external_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        for key, entry in (("location", self._location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(entry))


def sink_like(proto: onnx.ModelProto, target: Path) -> Sink:
    """External data where the model read has some, one file where it has none."""
    return Sink(target, has_external(proto))


def has_external(proto: onnx.ModelProto) -> bool:
    return any(is_external(t) for t in tensors_in(proto))


def deliver(proto: onnx.ModelProto, folder: Path, target: Path, source: Path) -> None:
    """Writes ``proto``, whose external weights lie in ``folder``, to ``target`` as made of ``source``.

    With external data where ``source`` has some, or where it must; else one file. ``proto`` is used up.
    """
    original = onnx.load(source, load_external_data=False)
    if has_external(original) or needs_external_data(proto):
        Sink(target, external=True).save(proto, source, folder)
    else:
        onnx.load_external_data_for_model(proto, str(folder))
        write(proto, target, source)


def _extent(tensor: onnx.TensorProto) -> tuple[str, int, int]:
    """Location, offset and length; without a length it is that of the values."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    items = int(np.prod(tensor.dims, dtype=np.int64))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    length = entries.get("length") or items * dtype.itemsize
    return entries.get("location", ""), int(entries.get("offset") or 0), int(length)


def _copy_bytes(original: Any, file: Any, length: int) -> None:
    while length > 0:
        chunk = original.read(min(length, _CHUNK_BYTES))
        if not chunk:
            raise EOFError("external data end before their tensor does")
        file.write(chunk)
        length -= len(chunk)


def without_weights(
    proto: onnx.ModelProto, change: Callable[[onnx.ModelProto], onnx.ModelProto]
) -> onnx.ModelProto:
    """``change`` applied to the graph with its large initializers as inputs; then they are back.

    ONNX's own tools pass a model through one protobuf message, which must stay below 2 GiB.
    """
    graph = proto.graph
    large = [i for i in graph.initializer if is_external(i) or i.ByteSize() > _SMALL_BYTES]
    names = {i.name for i in large}
    given = {value.name for value in graph.input}
    bare = onnx.ModelProto()
    bare.CopyFrom(_emptied(proto, names))
    bare.graph.input.extend(
        onnx.helper.make_tensor_value_info(i.name, i.data_type, list(i.dims))
        for i in large
        if i.name not in given
    )
    changed = change(bare)
    inputs = [v for v in changed.graph.input if v.name in given or v.name not in names]
    del changed.graph.input[:]
    changed.graph.input.extend(inputs)
    changed.graph.initializer.extend(large)
    return changed


def _emptied(proto: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """A shallow rebuild of ``proto`` lacking the initializers ``names``, so that they are not copied."""
    graph = proto.graph
    rebuilt = onnx.helper.make_graph(
        list(graph.node),
        graph.name,
        list(graph.input),
        list(graph.output),
        [i for i in graph.initializer if i.name not in names],
        value_info=list(graph.value_info),
        sparse_initializer=list(graph.sparse_initializer),
    )
    made = onnx.helper.make_model(rebuilt, opset_imports=list(proto.opset_import))
    made.ir_version = proto.ir_version
    made.functions.extend(proto.functions)
    return made
