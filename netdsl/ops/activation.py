"""Activations made of straight lines; the curved ones are in `smooth`.

Cost convention of every operator that is neither a convolution nor a matrix product: each addition, subtraction,
multiplication and division of the documented formula counts one operation per output element, and so does each
elementary function (exp, log, sqrt, tanh, erf, sin, cos, pow), rounding and absolute value. `maximum`, `minimum`
and the limits of relu and clip count one each, as in the usual tables; other comparisons and choices count nothing.
A sigmoid is 4 (negate, exp, add, divide). Reductions count per input element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, FLOAT, INITIALIZER, TENSOR, ArgumentError, Kind, Param, is_int
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    OpError,
    Primitive,
    ShapeError,
    require_float,
    require_rank,
    same_dtype,
)
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.elementwise import (
    ALL_TYPES,
    BFLOAT16_WIDENED,
    NUMBERS,
    Elementwise,
    Numeric,
    check_number,
    computed_in,
    require_type,
)
from netdsl.ops.precision import like, wide
from netdsl.ops.unary import Abs

FAMILY = "activation"


class OptionalNumber(Kind):
    """An integer or a float, kept as it is, or none."""

    def convert(self, value: Any) -> int | float | None:
        if value is None or is_int(value) or (isinstance(value, float) and value == value):
            return value  # type: ignore[no-any-return]  # checked by the condition
        raise ArgumentError("a number or none")


@dataclass(frozen=True)
class Identity(Elementwise):
    """Does nothing: the tensor itself, of any element type. For a block's `activation=identity`."""

    name: ClassVar[str] = "identity"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Identity"
    onnx: ClassVar[str] = "Identity"
    takes: ClassVar[frozenset[DType]] = ALL_TYPES
    widen: ClassVar[Mapping[DType, DType]] = {}

    @classmethod
    def call(cls, cx: LayerContext, x: Value) -> Value:
        return x

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return x

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return dy


@dataclass(frozen=True)
class Relu(Elementwise):
    """Rectified linear unit, `max(x, 0)`."""

    name: ClassVar[str] = "relu"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Nair & Hinton 2010; ONNX Relu"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.maximum(x, 0)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype in (DType.uint8, DType.int64):
            return cx.emit("Max", x, cx.scalar(0, dtype))
        return cx.emit("Relu", x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.rectified(cx, y, dy)


@dataclass(frozen=True)
class Relu6(Elementwise):
    """Relu with an upper limit, `min(max(x, 0), 6)`."""

    name: ClassVar[str] = "relu6"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Howard et al. 2017 (arXiv:1704.04861); ONNX Clip"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    flops_per_element: ClassVar[int] = 2

    def function(self, x: Numeric) -> Numeric:
        return np.minimum(np.maximum(x, 0), 6)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        return cx.emit("Clip", x, cx.scalar(0, dtype), cx.scalar(6, dtype))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.rectified(cx, y, dy, 6)


@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """Relu that lets a share of the negative side through: `x` where x >= 0, else `alpha * x`."""

    alpha: float = 0.01

    name: ClassVar[str] = "leaky_relu"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Maas et al. 2013; ONNX LeakyRelu"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("alpha", FLOAT, 0.01, doc="slope of the negative side"),
    )
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.where(x < 0, self.alpha * x, x)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype is DType.float64:
            return _leaky(cx, dtype, x, cx.scalar(self.alpha, dtype))
        return cx.emit("LeakyRelu", x, alpha=self.alpha)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        at = y if self.alpha > 0 else x  # the output has the input's sign
        return g.where(cx, g.compare(cx, ">", at, 0), dy, g.mul(cx, dy, self.alpha))


def _leaky(cx: Emitter, dtype: DType, x: str, slope: str) -> str:
    return cx.emit("Where", cx.emit("Less", x, cx.scalar(0, dtype)), cx.emit("Mul", x, slope), x)


@dataclass(frozen=True)
class PRelu(Primitive):
    """Leaky relu with a learned slope: `weight` `[1]`, or `[C]` (axis 1) with `channelwise=true`; 0.25 at first."""

    name: ClassVar[str] = "prelu"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "He et al. 2015 (arXiv:1502.01852); ONNX PRelu"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("channelwise", BOOL, False, doc="one slope per channel instead of one for all"),
        Param("weight_init", INITIALIZER, None),
    )
    flops_per_element: ClassVar[int] = 1

    @classmethod
    def call(cls, cx: LayerContext, x: Value, channelwise: bool, weight_init: Initializer | None) -> Value:
        require_float(cls.name, x.type)
        if channelwise:
            require_rank(cls.name, x.type, 2)
        slopes = x.shape[1] if channelwise else 1
        weight = cx.parameter("weight", (slopes,), weight_init or Initializer("constant", (0.25,)), dtype=x.dtype)
        return cx.emit(cls(), x, weight)

    def infer(self, x: TensorType, weight: TensorType) -> TensorType:
        same_dtype(self.name, x, weight)
        require_float(self.name, x)
        if weight.rank != 1 or (weight.shape[0] != 1 and (x.rank < 2 or weight.shape[0] != x.shape[1])):
            raise ShapeError(f"prelu: weight {weight} does not fit {x}; it has one slope, or one per channel (axis 1)")
        return x

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny) -> NDArrayAny:
        x32, slope = wide(x), wide(weight)
        slope = slope.reshape(()) if slope.size == 1 else slope.reshape(-1, *[1] * (x.ndim - 2))
        with np.errstate(all="ignore"):
            return like(np.where(x32 < 0, slope * x32, x32), x)

    def lower(self, cx: Emitter, node: Node, x: str, weight: str) -> str:
        dtype, rank = node.inputs[0].dtype, node.inputs[0].rank
        if node.inputs[1].shape[0] == 1 and rank == 0:
            weight = cx.emit("Squeeze", weight, cx.ints([0]))
        elif node.inputs[1].shape[0] != 1 and rank > 2:
            weight = cx.emit("Unsqueeze", weight, cx.ints(range(1, rank - 1)))
        return computed_in(cx, BFLOAT16_WIDENED.get(dtype, dtype), dtype, self._form, x, weight)

    @staticmethod
    def _form(cx: Emitter, dtype: DType, x: str, weight: str) -> str:
        return _leaky(cx, dtype, x, weight) if dtype is DType.float64 else cx.emit("PRelu", x, weight)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, weight = node.inputs
        dx = dw = None
        if cx.wants(x):
            across = (x.rank - 2) if weight.shape[0] != 1 else 0
            slopes = g.unsqueeze(cx, weight, range(1, across + 1)) if x.rank else g.reshape(cx, weight, ())
            dx = g.where(cx, g.compare(cx, ">", x, 0), dy, g.mul(cx, dy, slopes))
        if cx.wants(weight):
            below = g.where(cx, g.compare(cx, "<", x, 0), x, 0)
            others = [i for i in range(x.rank) if i != 1 or weight.shape[0] == 1]
            dw = g.reshape(cx, g.total(cx, g.mul(cx, dy, below), others), weight.shape)
        return dx, dw


OPTIONAL_NUMBER = OptionalNumber("number or none")


@dataclass(frozen=True)
class Clip(Elementwise):
    """Limits values: `min(max(x, min), max)`. One of the limits may be left out; where min > max the result is max
    (PyTorch's clamp)."""

    min: int | float | None = None
    max: int | float | None = None

    name: ClassVar[str] = "clip"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Clip"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("min", OPTIONAL_NUMBER, None),
        Param("max", OPTIONAL_NUMBER, None),
    )

    @classmethod
    def call(cls, cx: LayerContext, x: Value, min: int | float | None, max: int | float | None) -> Value:
        if min is None and max is None:
            raise OpError(
                "clip needs a lower or an upper limit", argument="min", help="clip(x, min=0) or clip(x, -1, 1)"
            )
        return cx.emit(cls(min, max), x)

    def infer(self, x: TensorType) -> TensorType:
        require_type(self.name, x, self.takes)
        for limit in (self.min, self.max):
            if limit is not None:
                check_number(self.name, limit, x.dtype)
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=((self.min is not None) + (self.max is not None)) * outputs[0].size)

    def function(self, x: Numeric) -> Numeric:
        y = x if self.min is None else np.maximum(x, self.min)
        return y if self.max is None else np.minimum(y, self.max)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        limits = [
            "" if v is None else cx.scalar(check_number(self.name, v, dtype), dtype) for v in (self.min, self.max)
        ]
        return cx.emit("Clip", x, *limits)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, dy, g.mask(cx, "==", x, y))


@dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """Sigmoid of straight lines, `min(max(alpha * x + beta, 0), 1)`."""

    alpha: float = 1 / 6
    beta: float = 0.5

    name: ClassVar[str] = "hard_sigmoid"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Howard et al. 2019 (arXiv:1905.02244); ONNX HardSigmoid"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("alpha", FLOAT, 1 / 6),
        Param("beta", FLOAT, 0.5),
    )
    flops_per_element: ClassVar[int] = 4

    def function(self, x: Numeric) -> Numeric:
        return np.minimum(np.maximum(self.alpha * x + self.beta, 0), 1)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype is not DType.float64:
            return cx.emit("HardSigmoid", x, alpha=self.alpha, beta=self.beta)
        line = cx.emit("Add", cx.emit("Mul", x, cx.scalar(self.alpha, dtype)), cx.scalar(self.beta, dtype))
        return cx.emit("Clip", line, cx.scalar(0.0, dtype), cx.scalar(1.0, dtype))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.rectified(cx, y, g.mul(cx, dy, self.alpha), 1)


@dataclass(frozen=True)
class HardSwish(Elementwise):
    """Silu of straight lines, `x * min(max(x / 6 + 1/2, 0), 1)`."""

    name: ClassVar[str] = "hard_swish"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Howard et al. 2019 (arXiv:1905.02244); ONNX HardSwish"
    flops_per_element: ClassVar[int] = 5

    def function(self, x: Numeric) -> Numeric:
        return x * np.minimum(np.maximum(x / 6 + 0.5, 0), 1)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype is not DType.float64:
            return cx.emit("HardSwish", x)
        line = cx.emit("Add", cx.emit("Div", x, cx.scalar(6.0, dtype)), cx.scalar(0.5, dtype))
        return cx.emit("Mul", x, cx.emit("Clip", line, cx.scalar(0.0, dtype), cx.scalar(1.0, dtype)))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        line = g.add(cx, g.mul(cx, x, 1 / 3), 0.5)
        bent = g.compare(cx, "<", cx.emit(Abs(), x), 3)
        return g.mul(cx, dy, g.where(cx, bent, line, g.mask(cx, ">", x, 0)))
