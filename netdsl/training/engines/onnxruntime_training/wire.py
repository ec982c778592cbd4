"""Messages between netdsl and the engine's process: a header in JSON, then the bytes of the arrays that it lists, each
filled up to a multiple of 64.

A message that a pipe can hold is written in one piece, and its arrays are read in one: each piece may wake the other
process, which takes longer than the copy.

Both ends run this module, each in its own environment, so it needs the standard library and NumPy alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from netdsl.ir.types import NDArrayAny

_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 1 << 30  # bytes; more is no header but something that was printed into the pipe
_DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
_KEPT = 1024  # headers, and bytes of one
WHOLE = 1 << 20  # bytes of a message that is written in one piece
_ALIGNED = 64  # bytes

Listed = tuple[tuple[str, Any, tuple[int, ...]], ...]  # names, element types and shapes of arrays
Placed = tuple[tuple[str, Any, tuple[int, ...], int], ...]  # and where their bytes begin
_HEADERS: dict[Any, bytes] = {}
_MESSAGES: dict[bytes, tuple[Mapping[str, Any], Placed, int]] = {}


class Closed(Exception):
    """The other end is gone, or what came is no message."""


@dataclass(frozen=True)
class Message:
    """`about` is plain data; arrays go beside it, bytes as vectors of uint8."""

    about: Mapping[str, Any]
    arrays: Mapping[str, NDArrayAny] = field(default_factory=dict)

    def blob(self, name: str) -> bytes:
        """An array's bytes."""
        return self.arrays[name].tobytes()


def blob(data: bytes) -> NDArrayAny:
    """Bytes as an array, without a copy."""
    return np.frombuffer(data, np.uint8)


def size(message: Message) -> int:
    """Bytes of a message's arrays, or a few more."""
    return sum(array.nbytes + _ALIGNED for array in message.arrays.values())


def send(stream: BinaryIO, message: Message) -> None:
    """Raises Closed where nobody reads any more."""
    arrays = [np.asarray(array, order="C") for array in message.arrays.values()]
    listed = zip(message.arrays, arrays, strict=True)
    header = _header(message.about, tuple((name, array.dtype, array.shape) for name, array in listed))
    pieces: list[Any] = [header]
    for array in arrays:
        pieces += (array.reshape(-1).view(np.uint8).data, bytes(-array.nbytes % _ALIGNED))
    if sum(map(len, pieces)) <= WHOLE:
        pieces = [b"".join(pieces)]
    try:
        for piece in pieces:
            stream.write(piece)
        stream.flush()
    except (OSError, ValueError):  # ValueError: the stream was closed at this end
        raise Closed from None


def _header(about: Mapping[str, Any], listed: Listed) -> bytes:
    """The header with its length. Those about texts alone are kept: each training step sends the same ones."""
    if not all(type(value) is str for value in about.values()):
        return _encoded(about, listed)
    key = (*about.items(), *listed)
    found = _HEADERS.get(key)
    if found is None:
        _room(_HEADERS)
        found = _HEADERS[key] = _encoded(about, listed)
    return found


def _encoded(about: Mapping[str, Any], listed: Listed) -> bytes:
    arrays = [[name, dtype.name, list(shape)] for name, dtype, shape in listed]
    header = json.dumps({"about": about, "arrays": arrays}).encode()
    return _LENGTH.pack(len(header)) + header


def receive(stream: BinaryIO) -> Message:
    """Raises Closed at the end of the stream."""
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > _LARGEST_HEADER:
        raise Closed
    try:
        about, placed, size = _decoded(bytes(_exactly(stream, length)))
        data = np.empty(size, np.uint8)
        if size:
            _fill(stream, data.data)
        return Message(about, {n: np.ndarray(shape, dtype, data, start) for n, dtype, shape, start in placed})
    except (ValueError, KeyError, TypeError):
        raise Closed from None


def _decoded(header: bytes) -> tuple[Mapping[str, Any], Placed, int]:
    """What a header says, where the arrays' bytes begin, and how many bytes follow."""
    found = _MESSAGES.get(header)
    if found is None:
        read, placed, size = json.loads(header), [], 0
        for name, written, shape in read["arrays"]:
            dtype = _DTYPES.get(written) or np.dtype(written)
            placed.append((name, dtype, tuple(shape), size))
            count = prod(shape) * dtype.itemsize
            size += count + -count % _ALIGNED
        found = read["about"], tuple(placed), size
        if len(header) <= _KEPT:
            _room(_MESSAGES)
            _MESSAGES[header] = found
    return found


def _room(cache: dict[Any, Any]) -> None:
    if len(cache) >= _KEPT:
        cache.clear()


def _exactly(stream: BinaryIO, count: int) -> bytearray:
    data = bytearray(count)
    _fill(stream, memoryview(data))
    return data


def _fill(stream: BinaryIO, view: memoryview) -> None:
    done = 0
    while done < len(view):
        try:
            count = stream.readinto(view[done:])  # type: ignore[attr-defined]  # the buffered streams of pipes have it
        except (OSError, ValueError):
            raise Closed from None
        if not count:
            raise Closed
        done += count
