"""Folds what scales and shifts each channel into the linear layer before it.

    scale * (W x + b) + shift  =  (scale * W) x + (scale * b + shift)

Exact for convolutions of any geometry, transposed ones and dense layers: rows of the weight belong to output
channels, and padding adds nothing to a row's sum. `FoldBatchNorm` folds normalisations with running statistics,
`FoldScale` additions and products with constants. Refused where the layer's output has a second user (a second layer
would cost more than what is folded) and where the weight is shared with uses that would need another one (the file
would grow).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.batch_norm import BatchNorm
from netdsl.passes.affine import ARITHMETIC, Affine, affine_of
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.linear import Linear, linear_of
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class _FoldForward(Peephole[tuple[Linear, Affine]]):
    def match(self, rw: Rewriter, node: Node) -> tuple[Linear, Affine] | Refused | None:
        for value in node.inputs:
            linear = linear_of(rw, rw.producer(value))
            if linear is None:
                continue
            affine = affine_of(rw, node, linear.axis)
            if affine is None or affine.x is not value:
                continue
            reason = refusal(rw, linear, affine)
            return Refused(reason) if reason else (linear, affine)
        return None

    def rewrite(self, rw: Rewriter, node: Node, parts: tuple[Linear, Affine]) -> Done:
        linear, affine = parts
        scale, shift = affine.emit(affine.algebra(rw))
        value = scaled(rw, linear, scale, shift)
        return Done([value], f"folded {node.op.name} into {linear.op.name} {linear.node.path}")


@dataclass(frozen=True)
class FoldBatchNorm(_FoldForward):
    name: ClassVar[str] = "fold-batch-norm"
    targets: ClassVar[tuple[type[Primitive], ...]] = (BatchNorm,)


@dataclass(frozen=True)
class FoldScale(_FoldForward):
    name: ClassVar[str] = "fold-scale"
    targets: ClassVar[tuple[type[Primitive], ...]] = ARITHMETIC


def refusal(rw: Rewriter, linear: Linear, affine: Affine) -> str:
    """Why an affine node stays behind its layer; empty if it can be folded."""
    if not rw.single_use(affine.x):
        return f"the output of {linear.node.path} is used elsewhere, and a second {linear.op.name} would cost more"
    growth = shared_growth(rw, linear, affine)
    if growth:
        return f"the weight of {linear.node.path} is shared, and a second one would add {growth} bytes to the file"
    return ""


def shared_growth(rw: Rewriter, linear: Linear, affine: Affine) -> int:
    """Bytes that the file gains if this use of a weight gets one of its own: none if it is the only use, or if every
    use is followed by an equal operation (equal folded weights are merged)."""
    if rw.runs(linear.weight) <= 1:
        return 0
    graph = rw.graph
    wanted = _key(affine.node)
    for user in graph.users.get(linear.weight, ()):
        if any(v in graph.constants for v in user.outputs):
            continue
        follower = graph.only_user(user.output)
        if follower is None or _key(follower) != wanted:
            return int(str(linear.weight.type.bytes))
    return 0


def _key(node: Node) -> tuple[object, ...]:
    """What an affine node does, apart from what it does it to."""
    return node.op, *node.inputs[1:]


def scaled(rw: Rewriter, linear: Linear, scale: Value | None, shift: Value | None) -> Value:
    """The layer with its output multiplied and shifted; both `[O]` or `[1]`, or absent."""
    dtype = linear.weight.dtype
    weight, bias = linear.weight, linear.bias
    if scale is not None:
        alg = linear.algebra(rw, "weight")
        weight = alg.narrow(linear.scaled_rows(alg, alg.wide(weight), scale), dtype)
    alg = linear.algebra(rw, "bias")
    if bias is not None and scale is not None:
        bias = alg.mul(alg.wide(bias), scale)
    if shift is not None:
        bias = alg.expand(shift, (linear.channels,)) if bias is None else alg.add(alg.wide(bias), shift)
    return linear.emit(rw, linear.x, weight, None if bias is None else alg.narrow(bias, dtype))
