"""Arithmetic on weights, written as nodes of the graph: `weight * scale` becomes a node that is evaluated once.

Sixteen-bit weights are widened to float32 for the arithmetic and narrowed at its end, so that nothing is rounded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netdsl.ir.dims import product
from netdsl.ir.graph import Value
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import DType
from netdsl.ops.arithmetic import Add, Div, Mul, Sub
from netdsl.ops.constant import Cast, Constant
from netdsl.ops.dense import MatMul
from netdsl.ops.joining import Concat, Split
from netdsl.ops.reduction import Sum
from netdsl.ops.shape import Expand, Reshape, Transpose
from netdsl.ops.unary import Rsqrt
from netdsl.passes.rewrite import Rewriter
from netdsl.source import Place

_NARROW = (DType.float16, DType.bfloat16)


@dataclass(frozen=True)
class Algebra:
    """Emits weight arithmetic under one path: the name of the weight that is being made."""

    rw: Rewriter
    path: str
    place: Place | None

    def emit(self, op: Primitive, *inputs: Value) -> Value:
        return self.rw.emit(op, *inputs, path=self.path, place=self.place)

    def wide(self, value: Value) -> Value:
        return self.emit(Cast(DType.float32), value) if value.dtype in _NARROW else value

    def narrow(self, value: Value, dtype: DType) -> Value:
        return value if value.dtype is dtype else self.emit(Cast(dtype), value)

    def number(self, value: float, dtype: DType) -> Value:
        """A scalar."""
        return self.emit(Constant.of(value, dtype))

    def add(self, a: Value, b: Value) -> Value:
        return self.emit(Add(), a, b)

    def sub(self, a: Value, b: Value) -> Value:
        return self.emit(Sub(), a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self.emit(Mul(), a, b)

    def div(self, a: Value, b: Value) -> Value:
        return self.emit(Div(), a, b)

    def rsqrt(self, a: Value) -> Value:
        return self.emit(Rsqrt(), a)

    def matmul(self, a: Value, b: Value) -> Value:
        return self.emit(MatMul(), a, b)

    def sum(self, a: Value, axes: Sequence[int]) -> Value:
        return self.emit(Sum(tuple(axes)), a)

    def reshape(self, a: Value, shape: Sequence[int]) -> Value:
        return a if a.shape == tuple(shape) else self.emit(Reshape(tuple(shape)), a)

    def transpose(self, a: Value, axes: Sequence[int]) -> Value:
        return a if list(axes) == list(range(a.rank)) else self.emit(Transpose(tuple(axes)), a)

    def expand(self, a: Value, shape: Sequence[int]) -> Value:
        return a if a.shape == tuple(shape) else self.emit(Expand(tuple(shape)), a)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        return values[0] if len(values) == 1 else self.emit(Concat(axis), *values)

    def split(self, value: Value, sizes: Sequence[int], axis: int = 0) -> tuple[Value, ...]:
        if len(sizes) == 1:
            return (value,)
        return self.rw.emit_all(Split(tuple(sizes), axis), value, path=self.path, place=self.place)

    def vector(self, value: Value) -> Value:
        """All elements along one axis."""
        return self.reshape(value, (static(product(value.shape)),))


def static(dim: object) -> int:
    """A dimension of a weight, which is an integer."""
    assert isinstance(dim, int)
    return dim


def ints(shape: Sequence[object]) -> tuple[int, ...]:
    """The shape of a weight."""
    return tuple(static(d) for d in shape)
