"""Folds a scale of channels in front of a convolution's gradients into the weight.

With a diagonal matrix `D` of the scale, and the convolution's gradients linear in that of its result:

    input_gradient(D dy, W)  =  input_gradient(dy, D W)
    weight_gradient(x, D dy) =  D weight_gradient(x, dy)

The scale, which batch norm's gradient ends in, then multiplies a weight instead of a batch of activations. It is done
where convolution gradients are all that reads the scaled tensor, and holds but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.arithmetic import Mul
from netdsl.ops.convolution_gradient import ConvInputGradient, ConvWeightGradient
from netdsl.ops.shape import Reshape
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class Scaled:
    """The gradient before it is scaled, and the scale, `[C, 1, …]` of one axis less."""

    inner: Value
    scale: Value


@dataclass(frozen=True)
class FoldGradientScale(Peephole[Scaled]):
    name: ClassVar[str] = "fold-gradient-scale"
    targets: ClassVar[tuple[type[Primitive], ...]] = (ConvInputGradient, ConvWeightGradient)

    def match(self, rw: Rewriter, node: Node) -> Scaled | Refused | None:
        dy = _gradient(node)
        maker = rw.producer(dy)
        if maker is None or not isinstance(maker.op, Mul):
            return None
        for inner, scale in (maker.inputs, maker.inputs[::-1]):
            channels = (dy.shape[1], *[1] * (dy.rank - 2))
            if inner.type == dy.type and scale.shape == channels:
                return Scaled(inner, scale) if _read_by_gradients_alone(rw, dy) else _REFUSED
        return None

    def rewrite(self, rw: Rewriter, node: Node, parts: Scaled) -> Done:
        def emit(op: Primitive, *inputs: Value) -> Value:
            return rw.emit(op, *inputs, path=node.path, place=node.place)

        channels = parts.scale.shape[0]
        scale = emit(Reshape((channels, *[1] * (parts.inner.rank - 1))), parts.scale)
        if isinstance(node.op, ConvInputGradient):
            result = emit(node.op, parts.inner, emit(Mul(), node.inputs[1], scale))
        else:
            result = emit(Mul(), emit(node.op, node.inputs[0], parts.inner), scale)
        return Done([result], "scale folded into the weight")


_REFUSED = Refused("something else reads the scaled gradient too")


def _gradient(node: Node) -> Value:
    """The operand that is the gradient of the convolution's result."""
    return node.inputs[0] if isinstance(node.op, ConvInputGradient) else node.inputs[1]


def _read_by_gradients_alone(rw: Rewriter, dy: Value) -> bool:
    users = rw.graph.users.get(dy, ())
    return dy not in rw.graph.output_values and all(
        isinstance(user.op, ConvInputGradient | ConvWeightGradient) and _gradient(user) is dy for user in users
    )
