"""Writes ONNX files with one weight in memory at a time.

The model without weights is serialised by onnx itself; the graph's initializers (`GraphProto.initializer`, field 5) are
appended as they are made, their `raw_data` (field 9) straight from the array. Lengths are known from the types alone.
A file of more than 2 GB, protobuf's limit, keeps its weights beside it (ONNX's external data).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
from onnx import ModelProto, TensorProto

from netdsl.files import atomic_write, atomic_writes
from netdsl.ir.types import NDArrayAny
from netdsl.onnx.emit import ONNX_TYPES
from netdsl.onnx.lower import Lowered
from netdsl.onnx.tensors import Tensor, arrays
from netdsl.weights import ConstantEvaluator

MAX_FILE = 2**31 - 1  # bytes of a protobuf message
INLINE = 1024  # bytes up to which a tensor stays in the model: shapes and axes are read when the model is loaded
PAGE = 4096  # alignment of external tensors, so that runtimes can map them into memory

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # field numbers of ModelProto, GraphProto and TensorProto


@dataclass(frozen=True)
class _Entry:
    """An initializer in the file: `head` is all of its TensorProto but the raw data, which is here if `inline`."""

    tensor: Tensor
    head: bytes
    inline: bool
    offset: int = 0

    @cached_property
    def length(self) -> int:
        """Bytes of the TensorProto."""
        return len(self.head) + (len(_field(_RAW_DATA, self.tensor.bytes)) + self.tensor.bytes if self.inline else 0)


def write_lowered(lowered: Lowered, evaluator: ConstantEvaluator, path: Path, external: bool | None) -> None:
    """Writes a model; `external` None: weights beside it if it would be too large. Raises OSError."""
    inline = [_Entry(t, _head(t), True) for t in lowered.tensors]
    whole, graph = _frame(lowered.model)
    if external is None:
        external = len(whole) + len(graph) + sum(e.length + 16 for e in inline) > MAX_FILE
    if not external:
        with atomic_write(path) as stream:
            _write(stream, None, whole, graph, inline, evaluator)
        return
    data = path.with_name(path.name + ".data")
    entries = _placed(lowered.tensors, data.name)
    with atomic_writes([data, path]) as (beside, stream):
        _write(stream, beside, whole, graph, entries, evaluator)


def in_memory(lowered: Lowered, evaluator: ConstantEvaluator) -> ModelProto:
    """The whole model. Raises ValueError above 2 GB."""
    size = lowered.model.ByteSize() + sum(t.bytes for t in lowered.tensors)
    if size > MAX_FILE:
        raise ValueError(
            f"a model of {size / 1e9:.1f} GB does not fit into one protobuf message; save it to a file instead"
        )
    model = ModelProto()
    model.CopyFrom(lowered.model)
    for tensor, array in arrays(lowered.tensors, evaluator):
        proto = model.graph.initializer.add()
        proto.ParseFromString(_head(tensor))
        proto.raw_data = _checked(tensor, array).tobytes()
    return model


def _placed(tensors: Sequence[Tensor], location: str) -> list[_Entry]:
    """Where each tensor lies in the data file."""
    entries, end = [], 0
    for tensor in tensors:
        if tensor.bytes <= INLINE:
            entries.append(_Entry(tensor, _head(tensor), True))
            continue
        alignment = PAGE if tensor.bytes >= PAGE else 64
        offset = -(-end // alignment) * alignment
        end = offset + tensor.bytes
        entries.append(_Entry(tensor, _head(tensor, (location, offset)), False, offset))
    return entries


def _head(tensor: Tensor, place: tuple[str, int] | None = None) -> bytes:
    proto = TensorProto(name=tensor.name, dims=tensor.shape, data_type=ONNX_TYPES[tensor.dtype])
    if place is not None:
        proto.data_location = TensorProto.EXTERNAL
        location, offset = place
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(tensor.bytes))):
            proto.external_data.add(key=key, value=value)
    head: bytes = proto.SerializeToString(deterministic=True)
    return head


def _frame(model: ModelProto) -> tuple[bytes, bytes]:
    """The model without its graph, and the graph."""
    whole = ModelProto(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
    )
    return whole.SerializeToString(deterministic=True), model.graph.SerializeToString(deterministic=True)


def _write(
    stream: IO[bytes],
    beside: IO[bytes] | None,
    whole: bytes,
    graph: bytes,
    entries: Sequence[_Entry],
    evaluator: ConstantEvaluator,
) -> None:
    size = len(graph) + sum(len(_field(_INITIALIZER, e.length)) + e.length for e in entries)
    stream.write(whole + _field(_GRAPH, size) + graph)
    made = arrays([e.tensor for e in entries], evaluator)
    for entry, array in zip(entries, _bytes(made), strict=True):
        stream.write(_field(_INITIALIZER, entry.length) + entry.head)
        if entry.inline:
            stream.write(_field(_RAW_DATA, entry.tensor.bytes))
            stream.write(array)
        elif beside is not None:
            beside.write(b"\0" * (entry.offset - beside.tell()))
            beside.write(array)


def _bytes(made: Iterator[tuple[Tensor, NDArrayAny]]) -> Iterator[memoryview]:
    for tensor, array in made:
        yield _checked(tensor, array).reshape(-1).view(np.uint8).data


def _checked(tensor: Tensor, array: NDArrayAny) -> NDArrayAny:
    """The array, contiguous; a wrong type would shift everything behind it."""
    if array.dtype != tensor.dtype.numpy or array.shape != tensor.shape:
        raise ValueError(f"{tensor.name} is {array.dtype}{list(array.shape)}, not {tensor.dtype}{list(tensor.shape)}")
    return np.ascontiguousarray(array)


def _field(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited protobuf field."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
