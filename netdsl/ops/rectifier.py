"""The gradient of rectifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, GradientContext
from netdsl.ir.types import DType
from netdsl.ops.elementwise import Numeric
from netdsl.ops.slope_gradient import SlopeGradient


@dataclass(frozen=True)
class RectifierGradient(SlopeGradient):
    """`dy` times 1 where `0 < y`, and `y < limit` if there is one, else times 0: the gradient of a rectifier, from its
    result `y` and that result's gradient, of one shape."""

    limit: int | None = None

    name: ClassVar[str] = "rectifier_gradient"
    reference: ClassVar[str] = "ONNX HardSigmoid, Greater, Less, Cast, Mul, Scan"
    flops_per_element: ClassVar[int] = 1

    def function(self, y: Numeric, dy: Numeric) -> Numeric:
        return dy * ((y > 0) if self.limit is None else (y > 0) & (y < self.limit))

    def form(self, cx: Emitter, dtype: DType, y: str, dy: str) -> str:
        return cx.emit("Mul", dy, self._mask(cx, dtype, y))

    def _mask(self, cx: Emitter, dtype: DType, y: str) -> str:
        """1 inside the limits, else 0."""
        if dtype is DType.float32 and cx.target.device == "cpu":
            # One pass over a tensor for each limit: the slope takes even the least normal number beyond 1.
            above = cx.emit("HardSigmoid", y, alpha=2.0**127, beta=0.0)
            return above if self.limit is None else cx.emit("Mul", above, _below(cx, y, self.limit))
        found = cx.emit("Greater", y, cx.scalar(0, dtype))
        if self.limit is not None:
            found = cx.emit("And", found, cx.emit("Less", y, cx.scalar(self.limit, dtype)))
        return cx.emit("Cast", found, to=cx.onnx_type(dtype))

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        """The mask has no slope."""
        return None, cx.emit(self, node.inputs[0], dy) if wants[1] else None


def _below(cx: Emitter, y: str, limit: int) -> str:
    """1 where `y < limit`, else 0. The slope takes the number next to the limit to 1, and is a power of 2, so that
    nothing near the limit is rounded."""
    edge = np.float32(limit)
    slope = 1 / float(edge - np.nextafter(edge, np.float32(0)))
    return cx.emit("HardSigmoid", y, alpha=-slope, beta=slope * limit)
