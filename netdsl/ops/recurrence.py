"""The part of recurrent layers that runs position by position.

What comes in is projected for all positions before, and weights' gradients are summed over all positions behind, each
in one matrix product. A cell has a primitive for its steps and one for those of the gradient, from the last step to the
first; both are an ONNX Scan over `[time, batch, …]`. A step also makes what its gradient reads: the state that it began
with, and the slopes of its gates, while all that they are made of is at hand. So a step of the gradient is one matrix
product and a few products of elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.dims import Dim
from netdsl.ir.graph import Value
from netdsl.ir.opdef import GradientContext, Primitive, ShapeError, same_dtype
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.dense import MatMul


@dataclass(frozen=True)
class Steps(Primitive):
    """What steps share. `reverse`: from the last position to the first; results stand where their inputs do."""

    reverse: bool = False

    family: ClassVar[str] = "internal"

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def positions(self, count: int) -> range:
        """The positions in the order of the steps."""
        return range(count - 1, -1, -1) if self.reverse else range(count)


def sequence_of(op: str, weight: TensorType, sequence: TensorType, *states: TensorType) -> TensorType:
    """`[time, batch, units]` for a `weight` `[gates * units, units]`. Raises ShapeError unless all are of one element
    type and the states are `[batch, units]`."""
    dtype = same_dtype(op, weight, sequence, *states)
    found = TensorType(dtype, (*sequence.shape[:2], weight.shape[1]))
    for state in states:
        if state.shape != found.shape[1:]:
            raise ShapeError(f"{op}: a state of {state} does not fit {sequence} and {weight}")
    return found


def units_of(weight: Value) -> int:
    """Of a recurrent weight; weights' sizes are integers."""
    units = weight.shape[1]
    assert isinstance(units, int)
    return units


def weight_gradient(cx: GradientContext, gates: Value, states: Value) -> Value:
    """`[gates * units, units]`: the sum over all positions of the products of the gates' gradients and the states."""
    left, right = (_rows(cx, x) for x in (gates, states))
    return cx.emit(MatMul(), g.transpose(cx, left, (1, 0)), right)


def _rows(cx: GradientContext, x: Value) -> Value:
    time, batch, size = x.shape
    return g.reshape(cx, x, (time * batch, size))


def zeros(cx: GradientContext, like: Value, shape: Sequence[Dim]) -> Value:
    """Zeros in the element type of a value."""
    return g.expand_to(cx, cx.constant(0, like.dtype), shape)


def arrived(cx: GradientContext, made: Sequence[Value], grads: Sequence[Value | None]) -> list[Value]:
    """The gradients of what steps made: those that have arrived, and zeros."""
    return [zeros(cx, v, v.shape) if d is None else d for v, d in zip(made, grads, strict=True)]
