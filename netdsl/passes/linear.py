"""Convolutions, transposed convolutions and dense layers with constant weights, seen alike.

Each computes `y[o] = sum over i and taps of weight[o, i, tap] * x[i, at the tap] + bias[o]`. A factor for each output
channel scales rows of the weight, one for each input channel its columns; what a constant added to the input adds to
the output is the sum of the row, where no padding takes taps away.

Layouts: conv `[O, I/g, *k]`, conv_transpose `[I, O/g, *k]`, dense `[O, I]`; channels of group j are consecutive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netdsl.cost import node_cost
from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense
from netdsl.ops.transposed import ConvTranspose
from netdsl.passes.algebra import Algebra, ints, static
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class Linear:
    """A node of the three kinds whose weight and bias are constants."""

    node: Node

    @property
    def op(self) -> Conv | ConvTranspose | Dense:
        op = self.node.op
        assert isinstance(op, Conv | ConvTranspose | Dense)
        return op

    @property
    def x(self) -> Value:
        return self.node.inputs[0]

    @property
    def weight(self) -> Value:
        return self.node.inputs[1]

    @property
    def bias(self) -> Value | None:
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None

    @property
    def groups(self) -> int:
        return 1 if isinstance(self.op, Dense) else self.op.groups

    @property
    def axis(self) -> int:
        """The axis of channels in the input and the output."""
        return self.x.rank - 1 if isinstance(self.op, Dense) else 1

    @property
    def channels(self) -> int:
        """Output channels."""
        return static(self.node.output.shape[self.axis])

    @property
    def input_channels(self) -> int:
        return static(self.x.shape[self.axis])

    @property
    def kernel(self) -> tuple[int, ...]:
        return ints(self.weight.shape[2:])

    @property
    def macs(self) -> Dim:
        return node_cost(self.node).macs

    @property
    def every_tap_counts(self) -> bool:
        """Whether every output sees its whole kernel on real input: no padding. Never so for transposed convolution."""
        op = self.op
        if isinstance(op, Dense):
            return True
        return isinstance(op, Conv) and op.padding != "same" and not any(p for pair in op.padding for p in pair)

    def scaled_rows(self, alg: Algebra, weight: Value, scale: Value) -> Value:
        """`weight` with each output channel multiplied; `scale` is `[O]` or `[1]`."""
        if isinstance(self.op, ConvTranspose):
            return self._grouped(alg, weight, scale, 2)
        return alg.mul(weight, alg.reshape(scale, (*ints(scale.shape), *[1] * (weight.rank - 1))))

    def scaled_columns(self, alg: Algebra, weight: Value, scale: Value) -> Value:
        """`weight` with each input channel multiplied; `scale` is `[I]` or `[1]`."""
        if isinstance(self.op, ConvTranspose):
            return alg.mul(weight, alg.reshape(scale, (*ints(scale.shape), *[1] * (weight.rank - 1))))
        return self._grouped(alg, weight, scale, 2)

    def _grouped(self, alg: Algebra, weight: Value, scale: Value, axis: int) -> Value:
        """The weight as `[g, …/g, …/g, *k]`, its `axis` and the groups scaled."""
        shape, g = ints(weight.shape), self.groups
        view = (g, shape[0] // g, *shape[1:])
        size = static(scale.shape[0])
        factors = [1] * len(view)
        if size > 1:
            factors[0], factors[axis] = g, view[axis]
        if g == 1:
            return alg.mul(weight, alg.reshape(scale, factors[1:]))
        return alg.reshape(alg.mul(alg.reshape(weight, view), alg.reshape(scale, factors)), shape)

    def row_sums(self, alg: Algebra, weight: Value, shift: Value) -> Value:
        """`[O]`: what a constant `shift`, `[I]` or `[1]`, on the input adds to the output. Only if every tap counts."""
        return alg.sum(self.scaled_columns(alg, weight, shift), range(1, weight.rank))

    def emit(self, rw: Rewriter, x: Value, weight: Value, bias: Value | None, op: Primitive | None = None) -> Value:
        """The node with other operands, and another operator if one is given."""
        operands: Sequence[Value] = (x, weight) if bias is None else (x, weight, bias)
        return rw.emit(op or self.op, *operands, path=self.node.path, place=self.node.place)

    def algebra(self, rw: Rewriter, name: str) -> Algebra:
        """For arithmetic that makes this layer's weight or bias."""
        return Algebra(rw, f"{self.node.path}.{name}", self.node.place)


def linear_of(rw: Rewriter, node: Node | None) -> Linear | None:
    """The node as a Linear, if it is one with constant weight and bias."""
    if node is None or not isinstance(node.op, Conv | ConvTranspose | Dense):
        return None
    return (
        Linear(node) if all(rw.is_constant(v) for v in node.inputs[1:]) and not rw.is_constant(node.inputs[0]) else None
    )
