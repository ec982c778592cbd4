"""Removes nodes that hand their input on unchanged.

`identity`, x*1, x/1, x+0, x-0, x**1; reshapes, casts, transposes, tiles, pools of one pixel and the like that change
neither shape nor elements; `concat` and `split` of one part; `relu` of what is never negative; pairs that undo or
repeat each other: transpose of transpose, reshape of reshape, relu of relu.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.activation import Identity, Relu, Relu6
from netdsl.ops.arithmetic import Add, Div, Mul, Pow, Sub
from netdsl.ops.constant import Cast, Constant
from netdsl.ops.global_pooling import AdaptiveAvgPool, GlobalAvgPool, GlobalMaxPool
from netdsl.ops.indexing import Slice
from netdsl.ops.joining import Concat, Split
from netdsl.ops.padding import Pad
from netdsl.ops.pooling import AvgPool, MaxPool
from netdsl.ops.resize import Resize
from netdsl.ops.shape import Expand, Flatten, Reshape, Squeeze, Tile, Transpose, Unsqueeze
from netdsl.ops.smooth import Sigmoid
from netdsl.ops.unary import Abs, Exp
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.rewrite import Rewriter

_SAME_ELEMENTS = (Reshape, Flatten, Squeeze, Unsqueeze)
_SAME_IF_SHAPE_IS = (*_SAME_ELEMENTS, Expand, Tile, Pad, GlobalAvgPool, GlobalMaxPool, AdaptiveAvgPool)
_NEUTRAL: dict[type[Primitive], tuple[float, tuple[int, ...]]] = {
    Mul: (1, (0, 1)),
    Add: (0, (0, 1)),
    Sub: (0, (1,)),
    Div: (1, (1,)),
    Pow: (1, (1,)),
}
_NEVER_NEGATIVE = (Relu, Relu6, Sigmoid, Abs, Exp)
_KEEPS_SIGN = (MaxPool, AvgPool, GlobalAvgPool, GlobalMaxPool, *_SAME_ELEMENTS, Transpose)
_MAX_LOOK = 8  # nodes that are looked through for a sign


@dataclass(frozen=True)
class RemoveIdentities(Peephole[Value]):
    name: ClassVar[str] = "identities"
    targets: ClassVar[tuple[type[Primitive], ...]] = (
        Identity,
        Cast,
        Concat,
        Split,
        Transpose,
        MaxPool,
        AvgPool,
        Relu,
        Slice,
        Resize,
        *_NEUTRAL,
        *_SAME_IF_SHAPE_IS,
    )

    def match(self, rw: Rewriter, node: Node) -> Value | Refused | None:
        match node.op:
            case Identity() | Concat() | Split():
                return node.inputs[0] if len(node.inputs) == len(node.outputs) == 1 and _same_type(node) else None
            case Cast() if node.inputs[0].dtype is node.output.dtype:
                return node.inputs[0]
            case Transpose(axes=axes) if axes == tuple(range(len(axes))):
                return node.inputs[0]
            case MaxPool() | AvgPool() as pool if prod(pool.kernel) == prod(pool.stride) == 1 and _same_type(node):
                return node.inputs[0]
            case Slice(steps=steps) if min(steps, default=1) > 0 and _same_type(node):
                return node.inputs[0]
            case Resize(scale=scale) if all(n == d for n, d in scale) and _same_type(node):
                return node.inputs[0]
            case Relu() if never_negative(rw, node.inputs[0]):
                return node.inputs[0]
            case op if isinstance(op, _SAME_IF_SHAPE_IS) and _same_type(node):
                return node.inputs[0]
            case op if type(op) in _NEUTRAL:
                return _neutral(rw, node)
            case _:
                return None

    def rewrite(self, rw: Rewriter, node: Node, parts: Value) -> Done:
        return Done([parts], f"removed {node.op.name}, which changes nothing")


def _same_type(node: Node) -> bool:
    return node.inputs[0].type == node.outputs[0].type


def _neutral(rw: Rewriter, node: Node) -> Value | None:
    """The operand that the other one leaves as it is."""
    number, places = _NEUTRAL[type(node.op)]
    for place in places:
        maker = rw.producer(node.inputs[place])
        if maker is None or not isinstance(maker.op, Constant) or not bool((maker.op.value.data == number).all()):
            continue
        other = node.inputs[1 - place]
        if other.type == node.output.type:
            return other
    return None


def never_negative(rw: Rewriter, value: Value) -> bool:
    """Whether a value is known to be 0 or more."""
    for _ in range(_MAX_LOOK):
        maker = rw.producer(value)
        if maker is None:
            return False
        if isinstance(maker.op, _NEVER_NEGATIVE):
            return True
        if not isinstance(maker.op, _KEEPS_SIGN):
            return False
        value = maker.inputs[0]
    return False


@dataclass(frozen=True)
class MergePairs(Peephole[Node]):
    """Of two reshapes (or flattens, squeezes, unsqueezes) the last one counts; two transposes are one."""

    name: ClassVar[str] = "pairs"
    targets: ClassVar[tuple[type[Primitive], ...]] = (Transpose, *_SAME_ELEMENTS)

    def match(self, rw: Rewriter, node: Node) -> Node | Refused | None:
        first = rw.producer(node.inputs[0])
        if first is None:
            return None
        kinds = (Transpose,) if isinstance(node.op, Transpose) else _SAME_ELEMENTS
        if not isinstance(first.op, kinds):
            return None
        return first if rw.single_use(node.inputs[0]) or self._undone(first, node) else None

    @staticmethod
    def _undone(first: Node, node: Node) -> bool:
        """Whether the second undoes the first, so that the value in front serves, whoever else reads the one
        between."""
        if isinstance(node.op, Transpose) and isinstance(first.op, Transpose):
            return [first.op.axes[a] for a in node.op.axes] == list(range(len(node.op.axes)))
        return first.inputs[0].type == node.output.type

    def rewrite(self, rw: Rewriter, node: Node, parts: Node) -> Done:
        if self._undone(parts, node):
            return Done([parts.inputs[0]], f"removed {node.op.name}, which undoes {parts.op.name} {parts.path}")
        op: Primitive = Reshape(node.output.shape)
        if isinstance(node.op, Transpose) and isinstance(parts.op, Transpose):
            op = Transpose(tuple(parts.op.axes[a] for a in node.op.axes))
        value = rw.emit(op, parts.inputs[0], path=node.path, place=node.place)
        return Done([value], f"merged with {parts.op.name} {parts.path}")
