"""The gradient of the Gaussian error linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, sqrt
from typing import ClassVar

import numpy as np

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, GradientContext
from netdsl.ir.types import DType
from netdsl.ops import gradient_tools as g
from netdsl.ops.activation import HardSigmoid
from netdsl.ops.elementwise import Numeric
from netdsl.ops.slope_gradient import SlopeGradient
from netdsl.ops.unary import Erf, Exp

_SCALE = -0.5 * log(2 * pi)  # the density's factor, which stands in the exponent


@dataclass(frozen=True)
class GeluGradient(SlopeGradient):
    """`dy * (P(x) + x * p(x))`, of tensors of one shape, with the normal distribution's cumulative function `P` and its
    density `p`: the gradient of `gelu`, from its operand and its result's gradient."""

    name: ClassVar[str] = "gelu_gradient"
    reference: ClassVar[str] = "ONNX Erf, HardSigmoid, Exp, Mul, Scan"
    flops_per_element: ClassVar[int] = 9

    def function(self, x: Numeric, dy: Numeric) -> Numeric:
        below = 0.5 * (1 + Erf().function(x * sqrt(0.5)))
        return dy * (below + x * np.exp(_SCALE - 0.5 * x * x))

    def form(self, cx: Emitter, dtype: DType, x: str, dy: str) -> str:
        """As few operators as may be: a hard sigmoid of what lies between -1 and 1 is a line."""
        part = cx.emit("Mul", x, cx.scalar(sqrt(0.5), dtype))
        below = HardSigmoid(0.5, 0.5).form(cx, dtype, Erf().typed(cx, dtype, part))
        density = cx.emit("Exp", cx.emit("Sub", cx.scalar(_SCALE, dtype), cx.emit("Mul", part, part)))
        return cx.emit("Mul", cx.emit("Add", below, cx.emit("Mul", x, density)), dy)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        """The slope's own slope is `(2 - x**2) * p(x)`."""
        x, inner = node.inputs
        bend = None
        if wants[0]:
            square = g.mul(cx, x, x)
            density = cx.emit(Exp(), g.add(cx, g.mul(cx, square, -0.5), _SCALE))
            bend = g.mul(cx, g.mul(cx, dy, inner), g.mul(cx, g.sub(cx, 2, square), density))
        return bend, cx.emit(self, x, dy) if wants[1] else None
