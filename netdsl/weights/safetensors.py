"""The safetensors format: 8 bytes with the header's length, a JSON header, the arrays' bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np

from netdsl.files import atomic_write
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.weights.checkpoint import Checkpoint, Entry, damaged
from netdsl.weights.sizes import static_shape

MAX_HEADER = 100_000_000  # bytes; the limit of the format's own library
ALIGNMENT = 8

_CODES = {
    "F64": DType.float64,
    "F32": DType.float32,
    "F16": DType.float16,
    "BF16": DType.bfloat16,
    "I64": DType.int64,
    "I32": DType.int32,
    "I8": DType.int8,
    "U8": DType.uint8,
    "BOOL": DType.bool,
}
_CODE_OF = {dtype: code for code, dtype in _CODES.items()}


class SafetensorsCheckpoint(Checkpoint):
    """A `.safetensors` file. Raises DiagnosticError for one that is damaged or cut short."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as stream:
            self._start, header = _header(path, stream)
            size = stream.seek(0, 2)
        self._ranges: dict[str, tuple[int, int]] = {}
        self._entries: dict[str, Entry] = {}
        self.metadata: Mapping[str, str] = header.pop("__metadata__", None) or {}
        for name, fields in header.items():
            self._entries[name], self._ranges[name] = _entry(path, name, fields, size - self._start)

    @property
    def entries(self) -> Mapping[str, Entry]:
        return MappingProxyType(self._entries)

    def place(self, name: str) -> tuple[int, int]:
        """Where an array's bytes begin and end in the file."""
        begin, end = self._ranges[name]
        return self._start + begin, self._start + end

    def read(self, name: str) -> NDArrayAny:
        entry, (begin, end) = self._entries[name], self._ranges[name]
        if entry.dtype is None:
            damaged(self.path, f"{name} has the element type {entry.text}, which netdsl does not have")
        data = np.empty(end - begin, np.uint8)
        with self.path.open("rb") as stream:
            stream.seek(self._start + begin)
            if stream.readinto(data.data) != data.size:
                damaged(self.path, f"the file ends within {name}")
        return data.view(entry.dtype.numpy).reshape(entry.shape)


def _header(path: Path, stream: IO[bytes]) -> tuple[int, dict[str, Any]]:
    """Where the arrays begin, and the header."""
    size = int.from_bytes(stream.read(8).ljust(8, b"\0"), "little")
    if size < 2 or size > MAX_HEADER:
        damaged(path, "it is no safetensors file, or it is cut short")
    text = stream.read(size)
    if len(text) < size:
        damaged(path, "the file ends within its header")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        damaged(path, "its header is no JSON")
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__") or {}, dict):
        damaged(path, "its header is no table of arrays")
    return 8 + size, header


def _entry(path: Path, name: str, fields: Any, size: int) -> tuple[Entry, tuple[int, int]]:
    """What the header says of one array, checked against the number of bytes that the file holds."""
    try:
        code, shape = str(fields["dtype"]), tuple(fields["shape"])
        begin, end = fields["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        damaged(path, f"its header is wrong for {name}")
    if not whole or begin > end:
        damaged(path, f"its header is wrong for {name}")
    if end > size:
        damaged(path, f"{name} lies behind the end of the file, which is cut short")
    dtype = _CODES.get(code)
    if dtype is not None and end - begin != prod(shape) * dtype.size:
        damaged(path, f"{name} should have {prod(shape) * dtype.size} bytes, found {end - begin}")
    return Entry(dtype, shape, code), (begin, end)


def save_safetensors(
    path: Path,
    types: Mapping[str, TensorType],
    array: Callable[[str], NDArrayAny],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays of the given types, of integer shapes, asking `array(name)` for one at a time.

    An old file stays whole until the new one is complete. Raises OSError.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, type in types.items():
        shape = static_shape(type)
        size = prod(shape) * type.dtype.size
        header[name] = {"dtype": _CODE_OF[type.dtype], "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with atomic_write(path) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        _write_arrays(stream, types, array)


def _write_arrays(stream: IO[bytes], types: Mapping[str, TensorType], array: Callable[[str], NDArrayAny]) -> None:
    for name, type in types.items():
        data = array(name)
        if data.dtype != type.dtype.numpy or data.shape != type.shape:
            raise ValueError(f"{name} should be {type}, found {data.dtype}{list(data.shape)}")
        stream.write(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data)
