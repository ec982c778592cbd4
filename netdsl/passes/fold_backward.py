"""Folds what scales and shifts each channel into the linear layer behind it.

    W (scale * x + shift) + b  =  (scale * W) x + (b + W shift)

A factor scales columns of the weight and is exact everywhere. A shift is exact only where every tap of the kernel
lies on real input: zero padding is added behind the shift, so that at the border `W shift` lacks the taps that lie
outside; then it is refused. So are inputs with a second user (the node would have to stay) and shared weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node
from netdsl.ir.opdef import Primitive
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense
from netdsl.passes.affine import Affine, affine_of
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.linear import Linear, linear_of
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class FoldBackward(Peephole[tuple[Affine, Linear]]):
    name: ClassVar[str] = "fold-into-next"
    after: ClassVar[tuple[str, ...]] = ("fold-batch-norm", "fold-scale")
    targets: ClassVar[tuple[type[Primitive], ...]] = (Conv, Dense)

    def match(self, rw: Rewriter, node: Node) -> tuple[Affine, Linear] | Refused | None:
        linear = linear_of(rw, node)
        if linear is None:
            return None
        affine = affine_of(rw, rw.producer(linear.x), linear.axis)
        if affine is None:
            return None
        if not rw.single_use(linear.x):
            return Refused(f"the output of {affine.node.path} has a second user, so that {affine.node.op.name} stays")
        if affine.shifts and not linear.every_tap_counts:
            return Refused(f"zero padding lies between the shift of {affine.node.path} and the kernel")
        if rw.runs(linear.weight) > 1:
            return Refused(f"the weight of {node.path} is shared with other uses")
        return affine, linear

    def rewrite(self, rw: Rewriter, node: Node, parts: tuple[Affine, Linear]) -> Done:
        affine, linear = parts
        scale, shift = affine.emit(affine.algebra(rw))
        alg, dtype = linear.algebra(rw, "weight"), linear.weight.dtype
        weight, bias = alg.wide(linear.weight), linear.bias
        if shift is not None:
            more = linear.algebra(rw, "bias")
            added = linear.row_sums(more, weight, shift)
            bias = more.narrow(added if bias is None else more.add(more.wide(bias), added), dtype)
        if scale is not None:
            weight = linear.scaled_columns(alg, weight, scale)
        value = linear.emit(rw, affine.x, alg.narrow(weight, dtype), bias)
        return Done([value], f"folded {affine.node.op.name} {affine.node.path} into it")
