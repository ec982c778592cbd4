"""Messages between netdsl and the engine's process: a header in JSON, then the bytes of the arrays that it lists.

Both ends run this module, each in its own environment, so it needs the standard library and NumPy alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from netdsl.ir.types import NDArrayAny

_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 1 << 30  # bytes; more is no header but something that was printed into the pipe
_DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}


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


def send(stream: BinaryIO, message: Message) -> None:
    """Raises Closed where nobody reads any more."""
    arrays = {name: np.asarray(array, order="C") for name, array in message.arrays.items()}
    listed = [[name, array.dtype.name, list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"about": message.about, "arrays": listed}).encode()
    try:
        stream.write(_LENGTH.pack(len(header)) + header)
        for array in arrays.values():
            if array.size:
                stream.write(array.reshape(-1).view(np.uint8).data)
        stream.flush()
    except (OSError, ValueError):  # ValueError: the stream was closed at this end
        raise Closed from None


def receive(stream: BinaryIO) -> Message:
    """Raises Closed at the end of the stream."""
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > _LARGEST_HEADER:
        raise Closed
    try:
        header = json.loads(bytes(_exactly(stream, length)))
        arrays = {name: _array(stream, dtype, shape) for name, dtype, shape in header["arrays"]}
        return Message(header["about"], arrays)
    except (ValueError, KeyError, TypeError):
        raise Closed from None


def _array(stream: BinaryIO, dtype: str, shape: list[int]) -> NDArrayAny:
    array: NDArrayAny = np.empty(shape, _DTYPES.get(dtype) or np.dtype(dtype))
    if array.size:
        _fill(stream, memoryview(array.reshape(-1).view(np.uint8).data))
    return array


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
