"""Dynamic loss scaling for float16 (Micikevicius et al. 2017, arXiv:1710.03740; constants of PyTorch's GradScaler).

The loss's gradient starts at the scale instead of 1, so that small gradients do not vanish in float16. A step whose
gradients are not all finite changes nothing but the scale, which halves; after 2,000 good steps in a row it doubles.
It stays within limits, so that neither a run of NaNs nor a long run without overflow leaves a scale of 0 or infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netdsl.autodiff.algebra import Algebra
from netdsl.autodiff.extend import Extension
from netdsl.ir.graph import Value
from netdsl.ir.initializer import ZEROS, Initializer
from netdsl.ir.types import DType, TensorType
from netdsl.ops.arithmetic import Maximum, Minimum
from netdsl.ops.comparison import GreaterEqual, Less
from netdsl.ops.constant import Cast
from netdsl.ops.reduction import Sum
from netdsl.ops.unary import Abs

INITIAL_SCALE = 65536.0
GROWTH_INTERVAL = 2000.0
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-24, 2.0**64
LARGEST = 3.0e38  # what is not below it is infinite or not a number

Hold = Callable[[str, TensorType, Initializer], Value]


class LossScale:
    """The scale and the count of good steps, as state of the step."""

    def __init__(self, hold: Hold, extension: Extension) -> None:
        scalar = TensorType(DType.float32, ())
        self._extension, self._a = extension, Algebra(extension)
        self.scale = hold("loss_scale", scalar, Initializer("constant", (INITIAL_SCALE,)))
        self.good = hold("loss_scale/good_steps", scalar, ZEROS)

    def seed(self, dtype: DType) -> Value:
        """The gradient that the loss starts with."""
        return self.scale if dtype is DType.float32 else self._extension.emit(Cast(dtype), self.scale)

    def unscale(self, gradients: Mapping[str, Value]) -> dict[str, Value]:
        inverse = self._a.div(1.0, self.scale)
        return {name: self._a.mul(g, inverse) for name, g in gradients.items()}

    def finite(self, gradients: Mapping[str, Value]) -> Value:
        """Whether every gradient is finite: infinities and NaNs survive a sum of squares."""
        total: Value | None = None
        for gradient in gradients.values():
            square = self._extension.emit(Sum(tuple(range(gradient.rank))), self._a.mul(gradient, gradient))
            total = square if total is None else self._a.add(total, square)
        assert total is not None
        return self._extension.emit(Less(), total, self._extension.constant(LARGEST, total.dtype))

    def kept_where_finite(self, new: Value, old: Value) -> Value:
        """A buffer's next value, element by element: a moving average that met an infinity would keep it for good."""
        size = self._extension.emit(Abs(), new)
        return self._a.where(self._extension.emit(Less(), size, self._extension.constant(LARGEST, new.dtype)), new, old)

    def following(self, finite: Value) -> dict[str, Value]:
        """The scale's state after the step."""
        a, e = self._a, self._extension
        count = a.add(self.good, 1.0)
        due = e.emit(GreaterEqual(), count, e.constant(GROWTH_INTERVAL, DType.float32))
        doubled = e.emit(Minimum(), a.mul(self.scale, 2.0), e.constant(LARGEST_SCALE, DType.float32))
        halved = e.emit(Maximum(), a.mul(self.scale, 0.5), e.constant(SMALLEST_SCALE, DType.float32))
        return {
            "loss_scale": a.where(finite, a.where(due, doubled, self.scale), halved),
            "loss_scale/good_steps": a.where(finite, a.where(due, a.mul(count, 0.0), count), 0.0),
        }
