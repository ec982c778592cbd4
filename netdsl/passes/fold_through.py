"""Folds what scales and shifts each channel through averages and joins into the layers in front of them.

    scale * avg(x) + shift           =  avg(scale * x + shift)
    scale * concat(x, y) + shift     =  concat(scale1 * x + shift1, scale2 * y + shift2)

An average is exact where its weights add up to 1: without padding, or where padding does not count. Done only where a
convolution stands behind every branch and nothing else reads what lies between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.batch_norm import BatchNorm
from netdsl.ops.global_pooling import AdaptiveAvgPool, GlobalAvgPool
from netdsl.ops.joining import Concat
from netdsl.ops.pooling import AvgPool
from netdsl.passes.affine import ARITHMETIC, Affine, affine_of
from netdsl.passes.algebra import static
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.fold_forward import scaled
from netdsl.passes.linear import Linear, linear_of
from netdsl.passes.rewrite import Rewriter

_MAX_DEPTH = 4  # joins and pools that are looked through


@dataclass(frozen=True)
class FoldThrough(Peephole[Affine]):
    name: ClassVar[str] = "fold-through"
    after: ClassVar[tuple[str, ...]] = ("fold-batch-norm", "fold-scale")
    targets: ClassVar[tuple[type[Primitive], ...]] = (BatchNorm, *ARITHMETIC)

    def match(self, rw: Rewriter, node: Node) -> Affine | Refused | None:
        affine = affine_of(rw, node, 1)
        if affine is None or affine.x.rank < 3:
            return None
        maker = rw.producer(affine.x)
        if maker is None or not isinstance(maker.op, _Between):
            return None
        return affine if _foldable(rw, affine.x, _MAX_DEPTH) else None

    def rewrite(self, rw: Rewriter, node: Node, parts: Affine) -> Done:
        alg = parts.algebra(rw)
        scale, shift = parts.emit(alg)
        value = _folded(rw, parts, parts.x, scale, shift)
        maker = rw.producer(parts.x)
        assert maker is not None
        return Done([value], f"folded {node.op.name} into the layers in front of {maker.op.name} {maker.path}")


_Between = Concat | AvgPool | GlobalAvgPool | AdaptiveAvgPool


def _foldable(rw: Rewriter, value: Value, depth: int) -> bool:
    maker = rw.producer(value)
    if maker is None or not rw.single_use(value):
        return False
    if (linear := linear_of(rw, maker)) is not None:
        return linear.axis == 1 and rw.runs(linear.weight) <= 1
    return depth > 0 and _transparent(maker) and all(_foldable(rw, v, depth - 1) for v in maker.inputs)


def _transparent(node: Node) -> bool:
    match node.op:
        case Concat(axis=axis):
            return axis == 1
        case AvgPool() as pool:
            padded = pool.padding == "same" or any(map(any, pool.padding))
            return not (padded and pool.count_include_pad)
        case GlobalAvgPool() | AdaptiveAvgPool():
            return True
        case _:
            return False


def _folded(rw: Rewriter, affine: Affine, value: Value, scale: Value | None, shift: Value | None) -> Value:
    """`value` scaled and shifted, by layers scaled and shifted."""
    maker = rw.producer(value)
    assert maker is not None
    linear: Linear | None = linear_of(rw, maker)
    if linear is not None:
        return scaled(rw, linear, scale, shift)
    sizes = [static(v.shape[1]) for v in maker.inputs]
    scales, shifts = (_parts(rw, affine, v, sizes) for v in (scale, shift))
    operands = zip(maker.inputs, scales, shifts, strict=True)
    made = [_folded(rw, affine, v, s, t) for v, s, t in operands]
    return rw.emit(maker.op, *made, path=maker.path, place=maker.place)


def _parts(rw: Rewriter, affine: Affine, vector: Value | None, sizes: list[int]) -> list[Value | None]:
    """The vector cut to the operands of a join; one number serves them all."""
    if vector is None or len(sizes) == 1 or vector.shape == (1,):
        return [vector] * len(sizes)
    return list(affine.algebra(rw).split(vector, sizes))
