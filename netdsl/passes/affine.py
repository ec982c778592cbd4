"""Nodes that compute `y[c] = scale[c] * x[c] + shift[c]` with constants for each channel (or one for all).

Batch normalisation with running statistics is one, `scale = weight / sqrt(var + epsilon)`, `shift = bias - mean *
scale`; adding, subtracting, multiplying or dividing by a constant that varies along no other axis is another.
"""

from __future__ import annotations

from dataclasses import dataclass

from netdsl.ir.graph import Node, Value
from netdsl.ops.arithmetic import Add, Div, Mul, Sub
from netdsl.ops.batch_norm import BatchNorm
from netdsl.passes.algebra import Algebra
from netdsl.passes.rewrite import Rewriter

ARITHMETIC = (Add, Sub, Mul, Div)


@dataclass(frozen=True)
class Affine:
    """`x` and the node; `constant` is the other operand of arithmetic, None for batch normalisation."""

    node: Node
    x: Value
    constant: Value | None = None

    @property
    def shifts(self) -> bool:
        """Whether anything is added, rather than only multiplied."""
        return isinstance(self.node.op, BatchNorm | Add | Sub)

    def algebra(self, rw: Rewriter) -> Algebra:
        """For arithmetic that makes the scale and the shift."""
        return Algebra(rw, f"{self.node.path}.scale", self.node.place)

    def emit(self, alg: Algebra) -> tuple[Value | None, Value | None]:
        """(scale, shift), `[C]` or `[1]`, in a wide element type; None for one that does nothing."""
        if self.constant is None:
            return self._batch_norm(alg)
        vector = alg.wide(alg.vector(self.constant))
        match self.node.op:
            case Mul():
                return vector, None
            case Div():
                return alg.div(alg.number(1, vector.dtype), vector), None
            case Add():
                return None, vector
            case _ if self.node.inputs[0] is self.constant:
                return alg.vector(alg.number(-1, vector.dtype)), vector
            case _:
                return None, alg.sub(alg.number(0, vector.dtype), vector)

    def _batch_norm(self, alg: Algebra) -> tuple[Value, Value]:
        op = self.node.op
        assert isinstance(op, BatchNorm)
        weight, bias, mean, variance = (alg.wide(v) for v in self.node.inputs[1:])
        scale = alg.mul(weight, alg.rsqrt(alg.add(variance, alg.number(op.epsilon, variance.dtype))))
        return scale, alg.sub(bias, alg.mul(mean, scale))


def affine_of(rw: Rewriter, node: Node | None, axis: int) -> Affine | None:
    """The node as an Affine whose constants vary along `axis` alone."""
    if node is None:
        return None
    if isinstance(node.op, BatchNorm):
        constant = all(rw.is_constant(v) for v in node.inputs[1:]) and not rw.is_constant(node.inputs[0])
        return Affine(node, node.inputs[0]) if axis == 1 and constant else None
    if not isinstance(node.op, ARITHMETIC) or not node.output.dtype.is_float:
        return None
    a, b = node.inputs
    if rw.is_constant(b) and not rw.is_constant(a):
        x, constant_operand = a, b
    elif rw.is_constant(a) and not rw.is_constant(b) and not isinstance(node.op, Div):
        x, constant_operand = b, a
    else:
        return None
    return Affine(node, x, constant_operand) if _per_channel(x, constant_operand, node.output, axis) else None


def _per_channel(x: Value, constant: Value, y: Value, axis: int) -> bool:
    if x.shape != y.shape or constant.rank > x.rank:
        return False
    lead = x.rank - constant.rank
    return all(d == 1 or i + lead == axis for i, d in enumerate(constant.shape))
