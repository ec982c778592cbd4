"""Simplifies joining and splitting along one axis.

concat(a, concat(b, c))      = concat(a, b, c)     where nothing else reads the inner one
concat(split(x)) in order    = x
split(concat(a, b)) at a, b  = a, b
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.joining import Concat, Split
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class Joins(Peephole[Sequence[Value] | Node]):
    name: ClassVar[str] = "joins"
    targets: ClassVar[tuple[type[Primitive], ...]] = (Concat, Split)

    def match(self, rw: Rewriter, node: Node) -> Sequence[Value] | Node | Refused | None:
        if isinstance(node.op, Split):
            return _parts(rw, node, node.op)
        assert isinstance(node.op, Concat)
        whole = _whole(rw, node, node.op)
        if whole is not None:
            return [whole]
        return node if any(_inner(rw, node.op, v) for v in node.inputs) else None

    def rewrite(self, rw: Rewriter, node: Node, parts: Sequence[Value] | Node) -> Done:
        if not isinstance(parts, Node):
            pair = "concat and split" if isinstance(node.op, Split) else "split and concat"
            return Done(parts, f"removed {pair}, which undo each other")
        flat: list[Value] = []
        for value in node.inputs:
            inner = _inner(rw, node.op, value)
            flat.extend(inner.inputs if inner else [value])
        return Done([rw.emit(node.op, *flat, path=node.path, place=node.place)], "merged the concat inside it")


def _inner(rw: Rewriter, op: Primitive, value: Value) -> Node | None:
    """The concat along the same axis that makes a value which nothing else reads."""
    maker = rw.producer(value)
    return maker if maker is not None and maker.op == op and rw.single_use(value) else None


def _whole(rw: Rewriter, node: Node, op: Concat) -> Value | None:
    """The value that a split along the same axis cut into exactly these operands."""
    maker = rw.producer(node.inputs[0])
    if maker is None or not isinstance(maker.op, Split) or maker.op.axis != op.axis:
        return None
    return maker.inputs[0] if maker.outputs == node.inputs else None


def _parts(rw: Rewriter, node: Node, op: Split) -> Sequence[Value] | None:
    """The operands of the concat that a split cuts apart again."""
    maker = rw.producer(node.inputs[0])
    if maker is None or not isinstance(maker.op, Concat) or maker.op.axis != op.axis:
        return None
    return maker.inputs if tuple(v.shape[op.axis] for v in maker.inputs) == op.sizes else None
