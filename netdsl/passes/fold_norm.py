"""Folds what scales and shifts each channel into the normalisation before it.

    scale * (weight * n + bias) + shift  =  (scale * weight) * n + (scale * bias + shift)

for every norm with a weight and a bias along one axis: batch, instance and group norm (channels), layer norm (its
axis), and for a factor alone RMS norm. Refused where the norm's output or its weights have other readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.batch_norm import BatchNorm
from netdsl.ops.group_norm import GroupNorm, InstanceNorm
from netdsl.ops.normalisation import LayerNorm, RmsNorm
from netdsl.passes.affine import ARITHMETIC, Affine, affine_of
from netdsl.passes.algebra import Algebra, static
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.rewrite import Rewriter

_CHANNELS = (BatchNorm, GroupNorm, InstanceNorm)


@dataclass(frozen=True)
class FoldNorm(Peephole[tuple[Node, Affine]]):
    name: ClassVar[str] = "fold-norm"
    after: ClassVar[tuple[str, ...]] = ("fold-batch-norm", "fold-scale")
    targets: ClassVar[tuple[type[Primitive], ...]] = (BatchNorm, *ARITHMETIC)

    def match(self, rw: Rewriter, node: Node) -> tuple[Node, Affine] | Refused | None:
        for value in node.inputs:
            norm = rw.producer(value)
            axis = None if norm is None else _axis(rw, norm)
            if norm is None or axis is None:
                continue
            affine = affine_of(rw, node, axis)
            if affine is None or affine.x is not value or (affine.shifts and isinstance(norm.op, RmsNorm)):
                continue
            if not rw.single_use(value):
                return Refused(f"the output of {norm.path} is used elsewhere")
            if any(rw.runs(v) > 1 for v in norm.inputs[1:3]):
                return Refused(f"the weights of {norm.path} are shared with other uses")
            return norm, affine
        return None

    def rewrite(self, rw: Rewriter, node: Node, parts: tuple[Node, Affine]) -> Done:
        norm, affine = parts
        scale, shift = affine.emit(affine.algebra(rw))
        size = static(norm.output.shape[_axis(rw, norm) or 0])
        x, *rest = norm.inputs
        weight, bias = _weight(rw, norm, size, scale), _bias(rw, norm, size, scale, shift)
        own = [weight] if bias is None else [weight, bias]
        value = rw.emit(norm.op, x, *own, *rest[len(own) :], path=norm.path, place=norm.place)
        return Done([value], f"folded {node.op.name} into {norm.op.name} {norm.path}")


def _axis(rw: Rewriter, node: Node) -> int | None:
    """The axis along which a norm's constant weights vary."""
    if not isinstance(node.op, (*_CHANNELS, LayerNorm, RmsNorm)):
        return None
    if any(not rw.is_constant(v) for v in node.inputs[1:]) or rw.is_constant(node.inputs[0]):
        return None
    if isinstance(node.op, _CHANNELS):
        return 1 if isinstance(node.output.shape[1], int) else None
    if isinstance(node.op, LayerNorm | RmsNorm) and len(node.op.axes) == 1:
        return node.op.axes[0]
    return None


def _weight(rw: Rewriter, norm: Node, size: int, scale: Value | None) -> Value:
    alg, dtype = Algebra(rw, f"{norm.path}.weight", norm.place), norm.output.dtype
    old = norm.inputs[1] if len(norm.inputs) > 1 else None
    if scale is None:
        return old or alg.expand(alg.number(1, dtype), (size,))
    made = scale if old is None else alg.mul(alg.wide(old), scale)
    return alg.narrow(alg.expand(made, (size,)), dtype)


def _bias(rw: Rewriter, norm: Node, size: int, scale: Value | None, shift: Value | None) -> Value | None:
    """`scale * bias + shift`; None for RMS norm, which has none."""
    if isinstance(norm.op, RmsNorm):
        return None
    alg, dtype = Algebra(rw, f"{norm.path}.bias", norm.place), norm.output.dtype
    old = norm.inputs[2] if len(norm.inputs) > 2 else None
    made = None if old is None else alg.wide(old)
    if made is not None and scale is not None:
        made = alg.mul(made, scale)
    if shift is not None:
        made = shift if made is None else alg.add(made, shift)
    if made is None:
        return alg.expand(alg.number(0, dtype), (size,))
    return alg.narrow(alg.expand(made, (size,)), dtype)
