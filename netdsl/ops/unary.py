"""Elementary functions, sign and rounding. Costs: see `activation`. Sign and rounding have gradient 0 (PyTorch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import erf, pi, sqrt
from typing import ClassVar

import numpy as np

from netdsl.ir.graph import Value
from netdsl.ir.opdef import Emitter, GradientContext
from netdsl.ir.types import DType
from netdsl.ops import gradient_tools as g
from netdsl.ops.elementwise import NUMBERS, Elementwise, Numeric, computed_in

FAMILY = "arithmetic"


@dataclass(frozen=True)
class Abs(Elementwise):
    """Absolute value, of floats and integers."""

    name: ClassVar[str] = "abs"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Abs"
    onnx: ClassVar[str] = "Abs"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.abs(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, dy, cx.emit(Sign(), x))


@dataclass(frozen=True)
class Exp(Elementwise):
    """e to the power of x."""

    name: ClassVar[str] = "exp"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Exp"
    onnx: ClassVar[str] = "Exp"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.exp(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, dy, y)


@dataclass(frozen=True)
class Log(Elementwise):
    """Natural logarithm; NaN below 0."""

    name: ClassVar[str] = "log"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Log"
    onnx: ClassVar[str] = "Log"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.log(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.div(cx, dy, x)


@dataclass(frozen=True)
class Sqrt(Elementwise):
    """Square root; NaN below 0."""

    name: ClassVar[str] = "sqrt"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Sqrt"
    onnx: ClassVar[str] = "Sqrt"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.sqrt(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.div(cx, g.mul(cx, dy, 0.5), y)


@dataclass(frozen=True)
class Rsqrt(Elementwise):
    """`1 / sqrt(x)`; infinite at 0, NaN below. Counts 2 operations."""

    name: ClassVar[str] = "rsqrt"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Reciprocal of Sqrt"
    flops_per_element: ClassVar[int] = 2

    def function(self, x: Numeric) -> Numeric:
        return 1 / np.sqrt(x)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        return cx.emit("Reciprocal", cx.emit("Sqrt", x))

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, g.mul(cx, dy, -0.5), g.mul(cx, g.mul(cx, y, y), y))


@dataclass(frozen=True)
class Sin(Elementwise):
    """Sine of an angle in radians."""

    name: ClassVar[str] = "sin"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Sin"
    onnx: ClassVar[str] = "Sin"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.sin(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.mul(cx, dy, cx.emit(Cos(), x))


@dataclass(frozen=True)
class Cos(Elementwise):
    """Cosine of an angle in radians."""

    name: ClassVar[str] = "cos"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Cos"
    onnx: ClassVar[str] = "Cos"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.cos(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.neg(cx, g.mul(cx, dy, cx.emit(Sin(), x)))


@dataclass(frozen=True)
class Erf(Elementwise):
    """Error function. ONNX Runtime has no float64 kernel for it: exported, it is computed in float32 there."""

    name: ClassVar[str] = "erf"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Erf"
    onnx: ClassVar[str] = "Erf"
    widen: ClassVar[Mapping[DType, DType]] = {DType.bfloat16: DType.float32, DType.float64: DType.float32}
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        values = np.fromiter(map(erf, x.ravel().tolist()), np.float64, count=x.size)
        return values.reshape(x.shape).astype(x.dtype)

    def typed(self, cx: Emitter, dtype: DType, x: str) -> str:
        """The ONNX form for a tensor of any float type."""
        return computed_in(cx, self.widen.get(dtype, dtype), dtype, self.form, x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        bell = cx.emit(Exp(), g.neg(cx, g.mul(cx, x, x)))
        return g.mul(cx, g.mul(cx, dy, 2 / sqrt(pi)), bell)


@dataclass(frozen=True)
class Sign(Elementwise):
    """-1, 0 or 1, of floats and integers."""

    name: ClassVar[str] = "sign"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Sign"
    onnx: ClassVar[str] = "Sign"
    takes: ClassVar[frozenset[DType]] = NUMBERS

    def function(self, x: Numeric) -> Numeric:
        return np.sign(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.zeros_like(cx, x)


@dataclass(frozen=True)
class Floor(Elementwise):
    """Rounds down; the element type stays a float."""

    name: ClassVar[str] = "floor"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Floor"
    onnx: ClassVar[str] = "Floor"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.floor(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.zeros_like(cx, x)


@dataclass(frozen=True)
class Ceil(Elementwise):
    """Rounds up; the element type stays a float."""

    name: ClassVar[str] = "ceil"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Ceil"
    onnx: ClassVar[str] = "Ceil"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.ceil(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.zeros_like(cx, x)


@dataclass(frozen=True)
class Round(Elementwise):
    """Rounds to the nearest integer, halves to the even one; the element type stays a float."""

    name: ClassVar[str] = "round"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Round"
    onnx: ClassVar[str] = "Round"
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.rint(x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.zeros_like(cx, x)


@dataclass(frozen=True)
class Neg(Elementwise):
    """`-x`, of floats and integers."""

    name: ClassVar[str] = "neg"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Neg"
    takes: ClassVar[frozenset[DType]] = NUMBERS
    flops_per_element: ClassVar[int] = 1

    def function(self, x: Numeric) -> Numeric:
        return np.negative(x)

    def form(self, cx: Emitter, dtype: DType, x: str) -> str:
        if dtype is DType.uint8:  # ONNX Neg takes signed types alone; NumPy wraps around
            return cx.emit("Sub", cx.scalar(0, dtype), x)
        return cx.emit("Neg", x)

    def backward(self, cx: GradientContext, x: Value, y: Value, dy: Value) -> Value:
        return g.neg(cx, dy)
