"""Shapes and sizes of constants, which hold no symbols."""

from __future__ import annotations

from netdsl.ir.graph import Value
from netdsl.ir.types import TensorType


def static_shape(type: TensorType) -> tuple[int, ...]:
    """The shape as integers. Raises ValueError where a symbol is left."""
    shape = tuple(d for d in type.shape if isinstance(d, int))
    if len(shape) != type.rank:
        raise ValueError(f"{type} has a symbolic shape")
    return shape


def byte_count(value: Value) -> int:
    """The bytes of a constant's array."""
    size = value.type.bytes
    if not isinstance(size, int):
        raise ValueError(f"{value!r} has a symbolic shape")
    return size
