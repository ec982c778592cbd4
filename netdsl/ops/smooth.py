"""Smooth activations, made of exp, tanh and erf, and softmax. Costs: see `activation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import AXIS, FLOAT, TENSOR, Param, choice
from netdsl.ir.graph import Value
from netdsl.ir.opdef import Emitter, GradientContext, LayerContext, normal_axis, require_float
from netdsl.ir.reach import POINTWISE, WHOLE, Reach
from netdsl.ir.types import DType, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.activation import FAMILY
from netdsl.ops.arithmetic import Minimum
from netdsl.ops.elementwise import Elementwise, Numeric
from netdsl.ops.gelu_gradient import GeluGradient
from netdsl.ops.unary import Abs, Erf, Exp

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@dataclass(frozen=True)
class Elu(Elementwise):
    """Exponential linear unit: `x` where x > 0, else `alpha * (exp(x) - 1)`."""

    alpha: float = 1.0

    name: ClassVar[str] = "elu"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Clevert et al. 2015 (arXiv:1511.07289); ONNX Elu"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("alpha", FLOAT, 1.0))
    flops_per_element: ClassVar[int] = 3

    def function(self, x: Numeric) -> Numeric:
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype is not DType.float64:
            return cx.emit("Elu", x, alpha=self.alpha)
        zero = cx.scalar(0.0, dtype)
        below = cx.emit("Sub", cx.emit("Exp", cx.emit("Min", x, zero)), cx.scalar(1.0, dtype))
        return cx.emit("Where", cx.emit("Greater", x, zero), x, cx.emit("Mul", below, cx.scalar(self.alpha, dtype)))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        if self.alpha == 1:  # the slope is exp(x) = y + 1 below 0
            return g.mul(cx, dy, g.add(cx, cx.emit(Minimum(), y, cx.constant(0, y.dtype)), 1))
        below = g.mul(cx, dy, g.add(cx, y, self.alpha))
        return g.where(cx, g.compare(cx, ">", y if self.alpha > 0 else x, 0), dy, below)


@dataclass(frozen=True)
class Selu(Elementwise):
    """Scaled elu, `1.0507 * elu(x, 1.6733)`: keeps mean 0 and variance 1 through dense layers."""

    name: ClassVar[str] = "selu"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Klambauer et al. 2017 (arXiv:1706.02515); ONNX Selu"
    flops_per_element: ClassVar[int] = 4

    def function(self, x: Numeric) -> Numeric:
        return SELU_SCALE * Elu(SELU_ALPHA).function(x)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype is not DType.float64:
            return cx.emit("Selu", x, alpha=SELU_ALPHA, gamma=SELU_SCALE)
        return cx.emit("Mul", Elu(SELU_ALPHA).form(cx, dtype, x), cx.scalar(SELU_SCALE, dtype))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        slope = g.where(cx, g.compare(cx, ">", y, 0), SELU_SCALE, g.add(cx, y, SELU_SCALE * SELU_ALPHA))
        return g.mul(cx, dy, slope)


@dataclass(frozen=True)
class Tanh(Elementwise):
    """Hyperbolic tangent."""

    name: ClassVar[str] = "tanh"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Tanh"
    onnx: ClassVar[str] = "Tanh"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.tanh(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, dy, g.sub(cx, 1, g.mul(cx, y, y)))


@dataclass(frozen=True)
class Softplus(Elementwise):
    """A smooth relu, `log(1 + exp(x))`."""

    name: ClassVar[str] = "softplus"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Dugas et al. 2000; ONNX Softplus"
    flops_per_element: ClassVar[int] = 3

    def function(self, x: Numeric) -> Numeric:
        return np.logaddexp(x, 0)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype is not DType.float64:
            return cx.emit("Softplus", x)
        small = cx.emit("Exp", cx.emit("Neg", cx.emit("Abs", x)))  # never overflows
        log = cx.emit("Log", cx.emit("Add", small, cx.scalar(1.0, dtype)))
        return cx.emit("Add", cx.emit("Max", x, cx.scalar(0.0, dtype)), log)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, dy, cx.emit(Sigmoid(), x))


@dataclass(frozen=True)
class Softsign(Elementwise):
    """`x / (1 + |x|)`."""

    name: ClassVar[str] = "softsign"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Glorot & Bengio 2010; ONNX Softsign"
    flops_per_element: ClassVar[int] = 3

    def function(self, x: Numeric) -> Numeric:
        return x / (1 + np.abs(x))

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype is not DType.float64:
            return cx.emit("Softsign", x)
        return cx.emit("Div", x, cx.emit("Add", cx.emit("Abs", x), cx.scalar(1.0, dtype)))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        below = g.add(cx, cx.emit(Abs(), x), 1)
        return g.div(cx, dy, g.mul(cx, below, below))


def sigmoid(x: Numeric) -> Numeric:
    """`1 / (1 + exp(-x))` without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """Logistic function, `1 / (1 + exp(-x))`."""

    name: ClassVar[str] = "sigmoid"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Sigmoid"
    onnx: ClassVar[str] = "Sigmoid"
    flops_per_element: ClassVar[int] = 4

    def function(self, x: Numeric) -> Numeric:
        return sigmoid(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, dy, g.mul(cx, y, g.sub(cx, 1, y)))


@dataclass(frozen=True)
class Silu(Elementwise):
    """`x * sigmoid(x)`, also called swish."""

    name: ClassVar[str] = "silu"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Ramachandran et al. 2017 (arXiv:1710.05941); ONNX Mul of Sigmoid"
    flops_per_element: ClassVar[int] = 5

    def function(self, x: Numeric) -> Numeric:
        return x * sigmoid(x)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        return cx.emit("Mul", x, cx.emit("Sigmoid", x))  # opset 24 has Swish, ONNX Runtime 1.31 no kernel for it

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        s = cx.emit(Sigmoid(), x)
        return g.mul(cx, dy, g.add(cx, s, g.mul(cx, y, g.sub(cx, 1, s))))


@dataclass(frozen=True)
class Mish(Elementwise):
    """`x * tanh(softplus(x))`."""

    name: ClassVar[str] = "mish"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Misra 2019 (arXiv:1908.08681); ONNX Mish"
    flops_per_element: ClassVar[int] = 5

    def function(self, x: Numeric) -> Numeric:
        return x * np.tanh(np.logaddexp(x, 0))

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if cx.opset >= 18 and dtype is not DType.float64:
            return cx.emit("Mish", x)
        return cx.emit("Mul", x, cx.emit("Tanh", Softplus().form(cx, dtype, x)))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        t = cx.emit(Tanh(), cx.emit(Softplus(), x))
        bend = g.mul(cx, g.mul(cx, x, cx.emit(Sigmoid(), x)), g.sub(cx, 1, g.mul(cx, t, t)))
        return g.mul(cx, dy, g.add(cx, t, bend))


@dataclass(frozen=True)
class Gelu(Elementwise):
    """Gaussian error linear unit, `x/2 * (1 + erf(x / sqrt(2)))`; with `approximate="tanh"`
    `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x**3)))`. Counts 5 and 9 operations."""

    approximate: str = "none"

    name: ClassVar[str] = "gelu"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Hendrycks & Gimpel 2016 (arXiv:1606.08415); ONNX Gelu"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("approximate", choice("none", "tanh"), "none"))

    @property
    def flops_per_element(self) -> int:  # type: ignore[override]  # the formula depends on the field
        return 9 if self.approximate == "tanh" else 5

    def function(self, x: Numeric) -> Numeric:
        if self.approximate == "tanh":
            return 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
        return 0.5 * x * (1 + Erf().function(x * sqrt(0.5)))

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if cx.opset >= 20 and dtype is not DType.float64:
            return cx.emit("Gelu", x, approximate=self.approximate)
        half = cx.emit("Mul", x, cx.scalar(0.5, dtype))
        bend = self._tanh(cx, dtype, x) if self.approximate == "tanh" else self._erf(cx, dtype, x)
        return cx.emit("Mul", half, cx.emit("Add", bend, cx.scalar(1.0, dtype)))

    @staticmethod
    def _tanh(cx: Emitter, dtype: DType, x: str) -> str:
        cube = cx.emit("Mul", cx.emit("Mul", x, x), x)
        inner = cx.emit("Add", x, cx.emit("Mul", cube, cx.scalar(0.044715, dtype)))
        return cx.emit("Tanh", cx.emit("Mul", inner, cx.scalar(sqrt(2 / pi), dtype)))

    @staticmethod
    def _erf(cx: Emitter, dtype: DType, x: str) -> str:
        return Erf().typed(cx, dtype, cx.emit("Mul", x, cx.scalar(sqrt(0.5), dtype)))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, dy, self._tanh_slope(cx, x)) if self.approximate == "tanh" else cx.emit(GeluGradient(), x, dy)

    @staticmethod
    def _tanh_slope(cx: GradientContext, x: Value) -> Value:
        square, root = g.mul(cx, x, x), sqrt(2 / pi)
        inner = g.mul(cx, x, g.add(cx, g.mul(cx, square, 0.044715 * root), root))
        t = cx.emit(Tanh(), inner)
        half = g.mul(cx, g.add(cx, t, 1), 0.5)
        steep = g.mul(cx, x, g.add(cx, g.mul(cx, square, 3 * 0.044715 * root / 2), root / 2))
        return g.add(cx, half, g.mul(cx, steep, g.sub(cx, 1, g.mul(cx, t, t))))


@dataclass(frozen=True)
class Softmax(Elementwise):
    """`exp(x) / sum(exp(x))` along an axis: positive, with sum 1."""

    axis: int = -1

    name: ClassVar[str] = "softmax"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Softmax"
    onnx: ClassVar[str] = "Softmax"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("axis", AXIS, -1))
    flops_per_element: ClassVar[int] = 4

    @classmethod
    def call(cls, cx: LayerContext, x: Value, axis: int) -> Value:
        require_float(cls.name, x.type)
        return cx.emit(cls(normal_axis(cls.name, axis, x.rank)), x)

    def infer(self, x: TensorType) -> TensorType:
        require_float(self.name, x)
        normal_axis(self.name, self.axis, x.rank)
        return x

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE if self.axis % inputs[0].rank >= 2 else POINTWISE

    def function(self, x: Numeric) -> Numeric:
        powers = np.exp(x - np.max(x, axis=self.axis, keepdims=True))
        return powers / np.sum(powers, axis=self.axis, keepdims=True)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        return cx.emit(self.onnx, x, axis=self.axis)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        flow = g.mul(cx, dy, y)
        return g.sub(cx, flow, g.mul(cx, y, g.total(cx, flow, [self.axis % x.rank], keep=True)))


@dataclass(frozen=True)
class LogSoftmax(Softmax):
    """`x - log(sum(exp(x)))` along an axis: the logarithm of softmax, without its underflow."""

    name: ClassVar[str] = "log_softmax"
    reference: ClassVar[str] = "ONNX LogSoftmax"
    onnx: ClassVar[str] = "LogSoftmax"

    def function(self, x: Numeric) -> Numeric:
        shifted = x - np.max(x, axis=self.axis, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), axis=self.axis, keepdims=True))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        drift = g.total(cx, dy, [self.axis % x.rank], keep=True)
        return g.sub(cx, dy, g.mul(cx, cx.emit(Exp(), y), drift))
