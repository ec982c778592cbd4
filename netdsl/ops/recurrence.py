"""The part of recurrent layers that runs position by position.

What comes in is projected for all positions before, and weights' gradients are summed over all positions behind, each
in one matrix product. A cell has a primitive for its steps, which also makes what the gradient reads, and one for the
gradient's steps, from the last to the first; both are an ONNX Scan over `[time, batch, …]`. What of the gradient is
known before it comes back, the slopes of the gates, is computed for all positions at once: a step is one matrix product
and a few products of elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from netdsl.ir.graph import Value
from netdsl.ir.opdef import Emitter, GradientContext, Primitive, same_dtype
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.dense import MatMul
from netdsl.ops.indexing import Slice
from netdsl.ops.joining import Concat, Split


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


def sequence_of(weight: TensorType, *sequences: TensorType) -> TensorType:
    """`[time, batch, units]` for a `weight` `[gates * units, units]`; all of one element type."""
    dtype = same_dtype("steps", weight, *sequences)
    return TensorType(dtype, (*sequences[0].shape[:2], weight.shape[1]))


def units_of(weight: Value) -> int:
    """Of a recurrent weight; weights' sizes are integers."""
    units = weight.shape[1]
    assert isinstance(units, int)
    return units


def scan(
    cx: Emitter,
    step: Callable[..., Sequence[str]],
    states: Sequence[str],
    sequences: Sequence[str],
    collected: int,
    reverse: bool,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """ONNX Scan over axis 0. `step(*states, *items)` returns the next states and what is collected. Returns the last
    states and the `collected` sequences."""
    way = int(reverse)
    made = cx.emit_all(
        "Scan",
        len(states) + collected,
        *states,
        *sequences,
        body=cx.subgraph(len(states) + len(sequences), step),
        num_scan_inputs=len(sequences),
        scan_input_directions=[way] * len(sequences),
        scan_output_directions=[way] * collected,
    )
    return made[: len(states)], made[len(states) :]


def cut(cx: GradientContext, x: Value, parts: int) -> tuple[Value, ...]:
    """Equal parts along the last axis."""
    size = x.shape[-1] // parts
    return cx.emit_all(Split((size,) * parts, x.rank - 1), x)


def join(cx: GradientContext, *parts: Value) -> Value:
    """Tensors joined along their last axis."""
    return cx.emit(Concat(parts[0].rank - 1), *parts)


def before(cx: GradientContext, values: Value, first: Value, reverse: bool) -> Value:
    """The state that each step began with, from those that they made `[time, batch, units]` and the first."""
    start, time = g.unsqueeze(cx, first, (0,)), values.shape[0]
    if time == 1:
        return start
    kept = (1, time) if reverse else (0, time - 1)
    rest = cx.emit(Slice(kept[:1], kept[1:], (0,), (1,)), values)
    return cx.emit(Concat(0), *((rest, start) if reverse else (start, rest)))


def weight_gradient(cx: GradientContext, gates: Value, states: Value) -> Value:
    """`[gates * units, units]`: the sum over all positions of the products of the gates' gradients and the states."""
    left, right = (_rows(cx, x) for x in (gates, states))
    return cx.emit(MatMul(), g.transpose(cx, left, (1, 0)), right)


def bias_gradient(cx: GradientContext, gates: Value) -> Value:
    return g.total(cx, gates, (0, 1))


def _rows(cx: GradientContext, x: Value) -> Value:
    time, batch, size = x.shape
    return g.reshape(cx, x, (time * batch, size))


def complement(cx: GradientContext, x: Value) -> Value:
    """`1 - x`."""
    return g.sub(cx, 1, x)


def tanh_slope(cx: GradientContext, y: Value) -> Value:
    """The slope of tanh where its value is `y`."""
    return complement(cx, g.mul(cx, y, y))


def sigmoid_slope(cx: GradientContext, y: Value) -> Value:
    """The slope of the logistic function where its value is `y`."""
    return g.mul(cx, y, complement(cx, y))


def zeros(cx: GradientContext, like: Value, shape: Sequence[Any]) -> Value:
    """Zeros in the element type of a value."""
    return g.expand_to(cx, cx.constant(0, like.dtype), shape)
