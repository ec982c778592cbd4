"""Operators that treat each element by itself: base classes for one and for two operands, and their element types.

ONNX Runtime's CPU kernels leave gaps (no bfloat16 arithmetic, no float64 for some activations). `widen` of a class
says in which element type such a node computes instead; the rule `form` then writes the ONNX form for a type that
has kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import OPERAND, TENSOR, Param, describe
from netdsl.ir.dims import Expr
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import (
    Emitter,
    GradientContext,
    LayerContext,
    NotDifferentiable,
    OpError,
    Primitive,
    ShapeError,
    require_float,
    same_dtype,
)
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools
from netdsl.ops.broadcast import broadcast
from netdsl.ops.precision import like, wide

Number = int | float | bool
Numeric = Any  #: an array of numbers: NumPy's stubs know no arithmetic on arrays whose type is known at run time
Operand = Value | Number | Expr

FLOATS = frozenset(t for t in DType if t.is_float)
NUMBERS = frozenset(t for t in DType if t is not DType.bool)
ALL_TYPES = frozenset(DType)

BFLOAT16_WIDENED: Mapping[DType, DType] = MappingProxyType({DType.bfloat16: DType.float32})
SMALL_WIDENED: Mapping[DType, DType] = MappingProxyType(
    {DType.bfloat16: DType.float32, DType.int8: DType.int32, DType.uint8: DType.int32}
)


def require_type(op: str, x: TensorType, takes: frozenset[DType]) -> None:
    """Raises ShapeError unless the element type is one of FLOATS, NUMBERS or ALL_TYPES."""
    if takes is FLOATS:
        require_float(op, x)
    elif x.dtype not in takes:
        raise ShapeError(f"{op} needs a tensor of numbers, found {x}", help="convert it first: cast(x, int32)")


def computed_in(
    cx: Emitter, to: DType, dtype: DType, form: Callable[..., str], *inputs: str, result: DType | None = None
) -> str:
    """`form(cx, to, *inputs)` with inputs of type `dtype` converted to `to`, and its result converted to `result`
    (None: back to `dtype`)."""
    if to is dtype:
        return form(cx, dtype, *inputs)
    converted = [cx.emit("Cast", x, to=cx.onnx_type(to)) for x in inputs]
    y = form(cx, to, *converted)
    result = result or dtype
    return y if result is DType.bool else cx.emit("Cast", y, to=cx.onnx_type(result))


@dataclass(frozen=True)
class Elementwise(Primitive):
    """One operand. A subclass gives `function` (NumPy, on float32, float64 or integers) and an ONNX operator or a
    `form`."""

    onnx: ClassVar[str]
    takes: ClassVar[frozenset[DType]] = FLOATS
    widen: ClassVar[Mapping[DType, DType]] = BFLOAT16_WIDENED
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR),)

    def infer(self, x: TensorType) -> TensorType:
        require_type(self.name, x, self.takes)
        return x

    def function(self, x: Numeric) -> Numeric:
        """The NumPy rule."""
        raise TypeError(f"{self.name} has no NumPy rule")

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        with np.errstate(all="ignore"):
            return like(self.function(wide(x)), x)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        """The ONNX form for an element type that needs no widening."""
        return cx.emit(self.onnx, x)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        dtype = node.inputs[0].dtype
        return computed_in(cx, self.widen.get(dtype, dtype), dtype, self.form, x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        """The gradient for `x` from that for the output `y`. Rules read `y` where they can, so that `x` need not be
        kept for them."""
        raise NotDifferentiable

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (self.backward(cx, node.inputs[0], node.output, dy),)


@dataclass(frozen=True)
class Binary(Primitive):
    """Two operands that broadcast; one of them may be a plain number or a dimension, which takes the other's
    element type."""

    onnx: ClassVar[str]
    takes: ClassVar[frozenset[DType]] = NUMBERS
    widen: ClassVar[Mapping[DType, DType]] = BFLOAT16_WIDENED
    result: ClassVar[DType | None] = None  #: the output's element type; None: the operands'
    signature: ClassVar[tuple[Param, ...]] = (Param("a", OPERAND), Param("b", OPERAND))

    @classmethod
    def call(cls, cx: LayerContext, a: Operand, b: Operand) -> Value:
        left, right = operands(cx, cls.name, (a, b))
        return cx.emit(cls(), left, right)

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        dtype = same_dtype(self.name, a, b)
        self.check(a)
        return TensorType(self.result or dtype, broadcast(self.name, a, b))

    def check(self, x: TensorType) -> None:
        """Refuses element types."""
        require_type(self.name, x, self.takes)

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        """The NumPy rule."""
        raise TypeError(f"{self.name} has no NumPy rule")

    def evaluate(self, a: NDArrayAny, b: NDArrayAny) -> NDArrayAny:
        result = self.result.numpy if self.result else a.dtype
        with np.errstate(all="ignore"):
            return np.asarray(self.function(wide(a), wide(b))).astype(result, copy=False)

    def form(self, cx: Emitter, dtype: DType, a: str, b: str) -> str:
        """The ONNX form for an element type that needs no widening."""
        return cx.emit(self.onnx, a, b)

    def lower(self, cx: Emitter, node: Node, a: str, b: str) -> str:
        dtype, (left, right) = node.inputs[0].dtype, (v.type for v in node.inputs)
        a, b = _beside(cx, left, a, right), _beside(cx, right, b, left)
        return computed_in(cx, self.widen.get(dtype, dtype), dtype, self.form, a, b, result=self.result)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        """The gradients for the operands that are wanted, in the output's shape or any that broadcasts to it."""
        raise NotDifferentiable

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        a, b = node.inputs
        grads = self.backward(cx, node, dy, (cx.wants(a), cx.wants(b)))
        return [
            None if g is None else gradient_tools.sum_to(cx, g, v.type) for g, v in zip(grads, node.inputs, strict=True)
        ]


def _beside(cx: Emitter, x: TensorType, name: str, other: TensorType) -> str:
    """A scalar in the other operand's rank, if that ends in an axis of 1: ONNX Runtime's CPU kernels would broadcast it
    element by element, 25 times as slow."""
    if x.rank or not other.rank or other.shape[-1] != 1 or cx.target.device != "cpu":
        return name
    return cx.emit("Reshape", name, cx.ints([1] * other.rank))


def operands(cx: LayerContext, op: str, values: Sequence[Operand]) -> tuple[Value, ...]:
    """Tensors of one element type: numbers and dimensions become scalars of the first tensor's. Raises OpError
    where there is no tensor, or where a number is no value of that type."""
    first = next((v for v in values if isinstance(v, Value)), None)
    if first is None:
        raise OpError(f"{op} needs at least one tensor, found {', '.join(map(describe, values))}")
    for value in values:
        if not isinstance(value, Value | Expr):
            check_number(op, value, first.dtype)
    return tuple(as_tensor(cx, op, v, first.dtype) for v in values)


def as_tensor(cx: LayerContext, op: str, value: Operand, dtype: DType) -> Value:
    """The value itself, or a scalar of the element type. Raises OpError."""
    if isinstance(value, Value):
        return value
    if isinstance(value, Expr):
        if dtype is DType.bool:
            raise OpError(f"{op}: {describe(value)} does not mix with bool", help="convert the tensor: cast(x, int64)")
        return cx.dimension(value, dtype)
    return cx.constant(check_number(op, value, dtype), dtype)


def check_number(op: str, value: Number, dtype: DType) -> Number:
    """The number as a value of the element type. Raises OpError where it is none: 0.5 as an integer, 300 as uint8."""
    if isinstance(value, bool) is not (dtype is DType.bool):
        raise OpError(
            f"{op}: {describe(value)} does not mix with {dtype}", help=f"convert the tensor: cast(x, {_natural(value)})"
        )
    if dtype is DType.bool:
        return value
    if dtype.is_float:
        return _as_float(op, value, dtype)
    if not isfinite(value) or value != int(value):
        raise OpError(f"{op}: {describe(value)} does not mix with {dtype}", help="convert the tensor: cast(x, float32)")
    limits = np.iinfo(dtype.value)
    if not limits.min <= value <= limits.max:
        raise OpError(
            f"{op}: {describe(value)} is no value of {dtype}, which holds {limits.min} to {limits.max}",
            help="convert the tensor: cast(x, int64)",
        )
    return int(value)


def _natural(value: Number) -> DType:
    return DType.bool if isinstance(value, bool) else DType.int64 if isinstance(value, int) else DType.float32


def _as_float(op: str, value: Number, dtype: DType) -> float:
    try:
        number = float(value)
        with np.errstate(over="ignore"):
            fits = not isfinite(number) or bool(np.isfinite(np.asarray(number).astype(dtype.numpy)))
    except OverflowError:
        fits = False
    if not fits:
        raise OpError(f"{op}: {describe(value)} is beyond the largest {dtype}")
    return number
