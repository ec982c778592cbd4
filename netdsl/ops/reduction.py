"""Reductions over axes, and the cumulative sum. `axes` none means all; `keep` leaves axes of size 1. Costs: see
`activation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import AXES, AXIS, BOOL, NATURAL, TENSOR, Float, Param
from netdsl.ir.dims import product
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    NotDifferentiable,
    OpError,
    Primitive,
    normal_axis,
)
from netdsl.ir.reach import POINTWISE, WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.elementwise import (
    BFLOAT16_WIDENED,
    FLOATS,
    NUMBERS,
    SMALL_WIDENED,
    Numeric,
    computed_in,
    require_type,
)
from netdsl.ops.precision import like, wide
from netdsl.ops.unary import Abs, Sign

FAMILY = "reduction"
PARAMS = (
    Param("x", TENSOR),
    Param("axes", AXES, None, doc="none: all axes"),
    Param("keep", BOOL, False, doc="keep axes of size 1"),
)


def normal_axes(op: str, axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Axes counted from the start, in order; None: all. Raises OpError for none at all, twice the same, or one too
    large."""
    if axes is None:
        return tuple(range(rank))
    if not axes:
        raise OpError(f"{op}: the list of axes is empty", argument="axes", help="axes=none means all axes")
    normal = tuple(sorted(normal_axis(op, a, rank, "axes") for a in axes))
    if len(set(normal)) < len(normal):
        raise OpError(f"{op}: an axis stands twice in {list(axes)}", argument="axes")
    return normal


def onnx_reduce(cx: Emitter, op_type: str, x: str, axes: Sequence[int], keep: bool) -> str:
    """An ONNX Reduce node: the axes became an input in opset 13 for ReduceSum, in 18 for the others. None at all
    (rank 0) means all to ONNX."""
    if not axes:
        return cx.emit(op_type, x, keepdims=int(keep))
    if op_type == "ReduceSum" or cx.opset >= 18:
        return cx.emit(op_type, x, cx.ints(axes), keepdims=int(keep))
    return cx.emit(op_type, x, axes=list(axes), keepdims=int(keep))


@dataclass(frozen=True)
class Reduction(Primitive):
    """Several axes become one number. `axes` are counted from the start."""

    axes: tuple[int, ...]
    keep: bool = False

    onnx: ClassVar[str]
    family: ClassVar[str] = FAMILY
    signature: ClassVar[tuple[Param, ...]] = PARAMS
    takes: ClassVar[frozenset[DType]] = FLOATS
    widen: ClassVar[Mapping[DType, DType]] = BFLOAT16_WIDENED
    flops_per_input: ClassVar[int] = 1
    flops_per_element: ClassVar[int] = 0

    @classmethod
    def call(cls, cx: LayerContext, x: Value, axes: tuple[int, ...] | None, **arguments: Any) -> Value:
        require_type(cls.name, x.type, cls.takes)
        return cx.emit(cls(axes=normal_axes(cls.name, axes, x.rank), **arguments), x)

    def infer(self, x: TensorType) -> TensorType:
        require_type(self.name, x, self.takes)
        axes = normal_axes(self.name, self.axes, x.rank) if self.axes else ()
        if self.keep:
            return x.with_shape([1 if i in axes else d for i, d in enumerate(x.shape)])
        return x.with_shape([d for i, d in enumerate(x.shape) if i not in axes])

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=self.flops_per_input * inputs[0].size + self.flops_per_element * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE if any(a >= 2 for a in self.axes) else POINTWISE

    def function(self, x: Numeric) -> Numeric:
        """The NumPy rule, on float32, float64 or integers."""
        raise TypeError(f"{self.name} has no NumPy rule")

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        with np.errstate(all="ignore"):
            return like(self.function(wide(x)), x)

    def form(self, cx: Emitter, node: Node, dtype: DType, x: str) -> str:
        """The ONNX form for an element type that needs no widening."""
        return onnx_reduce(cx, self.onnx, x, self.axes, self.keep)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        dtype = node.inputs[0].dtype
        return computed_in(cx, self.widen.get(dtype, dtype), dtype, lambda c, t, v: self.form(c, node, t, v), x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        """The gradient for `x`, in its shape or one that broadcasts to it; `y` and `dy` have the reduced axes with
        size 1."""
        raise NotDifferentiable

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        (x,) = node.inputs
        y, dy = (g.kept(cx, v, self.axes, self.keep) for v in (node.output, dy))
        return (g.expand_to(cx, self.backward(cx, x, y, dy), x.shape),)


def _shared(cx: GradientContext, x: Value, y: Value, dy: Value, axes: tuple[int, ...]) -> Value:
    """The gradient of an extreme element; equal ones share it evenly, as those of PyTorch's amax."""
    chosen = g.mask(cx, "==", x, y)
    return g.mul(cx, chosen, g.div(cx, dy, g.total(cx, chosen, axes, keep=True)))


@dataclass(frozen=True)
class Mean(Reduction):
    """Arithmetic mean. Counts an addition per input element and a division per output element."""

    name: ClassVar[str] = "mean"
    reference: ClassVar[str] = "ONNX ReduceMean"
    onnx: ClassVar[str] = "ReduceMean"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.mean(x, axis=self.axes, keepdims=self.keep)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.divided(cx, dy, product(x.shape[a] for a in self.axes))


@dataclass(frozen=True)
class Sum(Reduction):
    """Sum; integers keep their element type."""

    name: ClassVar[str] = "sum"
    reference: ClassVar[str] = "ONNX ReduceSum"
    onnx: ClassVar[str] = "ReduceSum"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    widen: ClassVar[Mapping[DType, DType]] = SMALL_WIDENED

    def function(self, x: Numeric) -> Numeric:
        return np.sum(x, axis=self.axes, keepdims=self.keep, dtype=x.dtype)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return dy


@dataclass(frozen=True)
class Max(Reduction):
    """Largest element."""

    name: ClassVar[str] = "max"
    reference: ClassVar[str] = "ONNX ReduceMax"
    onnx: ClassVar[str] = "ReduceMax"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    flops_per_input: ClassVar[int] = 0

    def function(self, x: Numeric) -> Numeric:
        return np.max(x, axis=self.axes, keepdims=self.keep)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return _shared(cx, x, y, dy, self.axes)


@dataclass(frozen=True)
class Min(Reduction):
    """Smallest element."""

    name: ClassVar[str] = "min"
    reference: ClassVar[str] = "ONNX ReduceMin"
    onnx: ClassVar[str] = "ReduceMin"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    flops_per_input: ClassVar[int] = 0

    def function(self, x: Numeric) -> Numeric:
        return np.min(x, axis=self.axes, keepdims=self.keep)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return _shared(cx, x, y, dy, self.axes)


@dataclass(frozen=True)
class Prod(Reduction):
    """Product; integers keep their element type."""

    name: ClassVar[str] = "prod"
    reference: ClassVar[str] = "ONNX ReduceProd"
    onnx: ClassVar[str] = "ReduceProd"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    widen: ClassVar[Mapping[DType, DType]] = SMALL_WIDENED

    def function(self, x: Numeric) -> Numeric:
        return np.prod(x, axis=self.axes, keepdims=self.keep, dtype=x.dtype)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        # The product of all others: of the elements that are not 0, where no other element is.
        zero = g.compare(cx, "==", x, 0)
        is_zero, rest = g.cast(cx, zero, x.dtype), g.where(cx, zero, 1, x)
        others = g.sub(cx, g.total(cx, is_zero, self.axes, keep=True), is_zero)
        product = g.mul(cx, dy, cx.emit(Prod(self.axes, keep=True), rest))
        return g.mul(cx, g.div(cx, product, rest), g.mask(cx, "==", others, 0))


@dataclass(frozen=True)
class Variance(Reduction):
    """`sum((x - mean(x))**2) / (n - correction)` with n elements each. `correction=1`, PyTorch's default, is the
    unbiased estimate; 0 is the population's variance, which normalisation uses. Counts 4 operations per input
    element."""

    correction: int = 1

    name: ClassVar[str] = "variance"
    reference: ClassVar[str] = "ONNX ReduceMean"
    signature: ClassVar[tuple[Param, ...]] = (
        *PARAMS,
        Param("correction", NATURAL, 1, doc="subtracted from the number of elements"),
    )
    flops_per_input: ClassVar[int] = 4
    flops_per_element: ClassVar[int] = 2

    def function(self, x: Numeric) -> Numeric:
        deviation = x - np.mean(x, axis=self.axes, keepdims=True)
        squares = np.sum(deviation * deviation, axis=self.axes, keepdims=self.keep)
        count = np.asarray(np.prod([x.shape[a] for a in self.axes], dtype=np.int64) - self.correction)
        return squares / count.astype(x.dtype)

    def form(self, cx: Emitter, node: Node, dtype: DType, x: str) -> str:
        deviation = cx.emit("Sub", x, onnx_reduce(cx, "ReduceMean", x, self.axes, True))
        squares = cx.emit("Mul", deviation, deviation)
        if self.correction == 0:
            return onnx_reduce(cx, "ReduceMean", squares, self.axes, self.keep)
        count = product(node.inputs[0].shape[a] for a in self.axes) - self.correction
        total = onnx_reduce(cx, "ReduceSum", squares, self.axes, self.keep)
        if isinstance(count, int):
            return cx.emit("Div", total, cx.scalar(count, dtype))
        number = cx.emit("Squeeze", cx.shape([count]), cx.ints([0]))
        return cx.emit("Div", total, cx.emit("Cast", number, to=cx.onnx_type(dtype)))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        number = product(x.shape[a] for a in self.axes) - self.correction
        scale = g.divided(cx, g.mul(cx, dy, 2), number)
        return g.mul(cx, scale, g.sub(cx, x, g.mean(cx, x, self.axes, keep=True)))


@dataclass(frozen=True)
class Norm(Reduction):
    """`sum(|x|**p)**(1/p)`; p=2 is the Euclidean length. Counts 2 operations per input element, 3 for other p than
    1 and 2."""

    p: float = 2.0

    name: ClassVar[str] = "norm"
    reference: ClassVar[str] = "ONNX ReduceL2, ReduceL1"
    signature: ClassVar[tuple[Param, ...]] = (*PARAMS, Param("p", Float("number above 0", above=0), 2.0))
    flops_per_element: ClassVar[int] = 1

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        root = 0 if self.p == 1 else outputs[0].size
        return Cost(other=(2 if self.p in (1, 2) else 3) * inputs[0].size + root)

    def function(self, x: Numeric) -> Numeric:
        if self.p == 2:
            return np.sqrt(np.sum(x * x, axis=self.axes, keepdims=self.keep))
        return np.sum(np.abs(x) ** self.p, axis=self.axes, keepdims=self.keep) ** (1 / self.p)

    def form(self, cx: Emitter, node: Node, dtype: DType, x: str) -> str:
        if self.p in (1, 2):
            return onnx_reduce(cx, "ReduceL1" if self.p == 1 else "ReduceL2", x, self.axes, self.keep)
        powers = cx.emit("Pow", cx.emit("Abs", x), cx.scalar(self.p, dtype))
        total = onnx_reduce(cx, "ReduceSum", powers, self.axes, self.keep)
        return cx.emit("Pow", total, cx.scalar(1 / self.p, dtype))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        if self.p == 1:
            return g.mul(cx, dy, cx.emit(Sign(), x))
        safe = g.add(cx, y, g.mask(cx, "==", y, 0))  # the gradient at 0 is 0, as in PyTorch
        if self.p == 2:
            return g.mul(cx, g.div(cx, dy, safe), x)
        size = cx.emit(Abs(), x)
        if self.p < 1:
            size = g.add(cx, size, g.mask(cx, "==", x, 0))
        slope = g.mul(cx, cx.emit(Sign(), x), g.power(cx, size, self.p - 1))
        return g.mul(cx, g.div(cx, dy, g.power(cx, safe, self.p - 1)), slope)


@dataclass(frozen=True)
class CumSum(Primitive):
    """Sums of an element and all before it along an axis; the shape stays, integers keep their element type. With
    `reverse`, which gradients use, of it and all after it."""

    axis: int = -1
    reverse: bool = False

    name: ClassVar[str] = "cumsum"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX CumSum"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("axis", AXIS, -1))
    flops_per_element: ClassVar[int] = 1

    @classmethod
    def call(cls, cx: LayerContext, x: Value, axis: int) -> Value:
        return cx.emit(cls(normal_axis(cls.name, axis, x.rank)), x)

    def infer(self, x: TensorType) -> TensorType:
        require_type(self.name, x, NUMBERS)
        normal_axis(self.name, self.axis, x.rank)
        return x

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE if self.axis % inputs[0].rank >= 2 else POINTWISE

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        terms = np.flip(wide(x), self.axis) if self.reverse else wide(x)
        sums = np.cumsum(terms, axis=self.axis, dtype=terms.dtype)
        return like(np.flip(sums, self.axis) if self.reverse else sums, x)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        dtype = node.inputs[0].dtype
        return computed_in(cx, SMALL_WIDENED.get(dtype, dtype), dtype, self._form, x)

    def _form(self, cx: Emitter, dtype: DType, x: str) -> str:
        return cx.emit("CumSum", x, cx.scalar(self.axis, DType.int64), reverse=int(self.reverse))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (cx.emit(CumSum(self.axis, not self.reverse), dy),)
