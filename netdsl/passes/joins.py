"""Simplifies joining and splitting along one axis.

concat(a, concat(b, c))           = concat(a, b, c)     where nothing else reads the inner one
concat(a, split(x) in order, b)   = concat(a, x, b);    x itself if nothing else is joined
split(concat(a, b, c)) at a+b, c  = concat(a, b), c     where the cuts fall on the seams, or inside operands
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.joining import Concat, Split
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.rewrite import Rewriter

MAX_SEGMENTS = 64  #: of a concat and a split that are compared


@dataclass(frozen=True)
class Segment:
    """Neighbouring operands of a concat and the neighbouring parts of a split that hold the same elements; one of the
    two is a single one."""

    values: tuple[Value, ...]
    sizes: tuple[Dim, ...]


_Parts = list[Value] | list[Segment]


@dataclass(frozen=True)
class Joins(Peephole[_Parts]):
    name: ClassVar[str] = "joins"
    targets: ClassVar[tuple[type[Primitive], ...]] = (Concat, Split)

    def match(self, rw: Rewriter, node: Node) -> _Parts | Refused | None:
        if isinstance(node.op, Split):
            return _segments(rw, node, node.op)
        assert isinstance(node.op, Concat)
        operands = _whole(rw, node.op, _flat(rw, node))
        return operands if len(operands) != len(node.inputs) or operands != list(node.inputs) else None

    def rewrite(self, rw: Rewriter, node: Node, parts: _Parts) -> Done:
        if isinstance(node.op, Split):
            made = [v for s in parts if isinstance(s, Segment) for v in _cut(rw, node, s)]
            return Done(made, "took apart what a concat had joined")
        values = [v for v in parts if isinstance(v, Value)]
        if len(values) == 1:
            return Done(values, "removed split and concat, which undo each other")
        what = "merged the concat inside it" if len(values) >= len(node.inputs) else "joins what a split had cut"
        return Done([rw.emit(node.op, *values, path=node.path, place=node.place)], what)


def _flat(rw: Rewriter, node: Node) -> list[Value]:
    """The operands of a concat, with those of concats that nothing else reads in their place."""
    flat: list[Value] = []
    for value in node.inputs:
        maker = rw.producer(value)
        inside = maker is not None and maker.op == node.op and rw.single_use(value)
        flat.extend(maker.inputs if maker is not None and inside else [value])
    return flat


def _whole(rw: Rewriter, op: Concat, values: list[Value]) -> list[Value]:
    """Operands with what a split cut in the place of all its parts in order."""
    result: list[Value] = []
    at = 0
    while at < len(values):
        maker = rw.producer(values[at])
        if maker is not None and isinstance(maker.op, Split) and maker.op.axis == op.axis:
            count = len(maker.outputs)
            if values[at] is maker.outputs[0] and tuple(values[at : at + count]) == maker.outputs:
                result.append(maker.inputs[0])
                at += count
                continue
        result.append(values[at])
        at += 1
    return result


def _segments(rw: Rewriter, node: Node, op: Split) -> list[Segment] | None:
    """What a split of a concat comes down to; None where cuts and seams do not meet, or more nodes would run."""
    maker = rw.producer(node.inputs[0])
    if maker is None or not isinstance(maker.op, Concat) or maker.op.axis != op.axis:
        return None
    segments: list[Segment] = []
    values, sizes = maker.inputs, op.sizes
    while values and sizes:
        segment = _next(values, sizes, op.axis)
        if segment is None or len(segments) > MAX_SEGMENTS:
            return None
        segments.append(segment)
        values, sizes = values[len(segment.values) :], sizes[len(segment.sizes) :]
    nodes = sum(len(s.values) + len(s.sizes) > 2 for s in segments)
    return segments if nodes <= 1 + rw.single_use(node.inputs[0]) else None


def _next(values: Sequence[Value], sizes: Sequence[Dim], axis: int) -> Segment | None:
    """The first operand with the parts that it holds, or the first part with the operands that it is made of."""
    if count := _filled((v.shape[axis] for v in values), sizes[0]):
        return Segment(tuple(values[:count]), (sizes[0],))
    if count := _filled(sizes, values[0].shape[axis]):
        return Segment((values[0],), tuple(sizes[:count]))
    return None


def _filled(sizes: Iterable[Dim], whole: Dim) -> int:
    """How many sizes add up to the whole; 0 if none do."""
    total: Dim = 0
    for count, size in enumerate(sizes, 1):
        total = total + size
        if total == whole:
            return count
        if isinstance(total, int) and isinstance(whole, int) and total > whole:
            return 0
    return 0


def _cut(rw: Rewriter, node: Node, segment: Segment) -> Sequence[Value]:
    assert isinstance(node.op, Split)
    axis = node.op.axis
    if len(segment.values) > 1:
        return [rw.emit(Concat(axis), *segment.values, path=node.path, place=node.place)]
    if len(segment.sizes) > 1:
        return rw.emit_all(Split(segment.sizes, axis), segment.values[0], path=node.path, place=node.place)
    return segment.values
