"""Simplifies slices of slices and of joins.

    x[a:b:s][c:d:t]         =  x[a + c*s : a + (d - 1)*s + 1 : s*t]     along each axis, for positive steps
    concat(x, y)[a:b]       =  x[a:b]                                   where the slice lies inside one operand

Only where nothing else reads what lies between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.dims import Dim, decide
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.indexing import Slice
from netdsl.ops.joining import Concat
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.compose_activations import inner
from netdsl.passes.rewrite import Rewriter

_Cut = tuple[Dim, Dim, int]  # start, end, step


@dataclass(frozen=True)
class Slices(Peephole[tuple[Slice, Value]]):
    name: ClassVar[str] = "slices"
    targets: ClassVar[tuple[type[Primitive], ...]] = (Slice,)

    def match(self, rw: Rewriter, node: Node) -> tuple[Slice, Value] | Refused | None:
        before = inner(rw, node.inputs[0])
        if before is None or min(_cuts(node.op).values(), key=_step, default=(0, 0, 1))[2] < 1:
            return None
        if isinstance(before.op, Slice):
            found = _merged(_cuts(before.op), _cuts(node.op)), before.inputs[0]
        elif isinstance(before.op, Concat):
            found = _inside(before, before.op.axis, _cuts(node.op))
        else:
            return None
        if found[0] is None or found[0].infer(found[1].type) != node.output.type:
            return None
        return found[0], found[1]

    def rewrite(self, rw: Rewriter, node: Node, parts: tuple[Slice, Value]) -> Done:
        op, x = parts
        before = rw.producer(node.inputs[0])
        assert before is not None
        value = rw.emit(op, x, path=node.path, place=node.place)
        return Done([value], f"taken from what {before.op.name} {before.path} is made of")


def _cuts(op: Primitive) -> dict[int, _Cut]:
    assert isinstance(op, Slice)
    return {a: (s, e, t) for s, e, a, t in zip(op.starts, op.ends, op.axes, op.steps, strict=True)}


def _step(cut: _Cut) -> int:
    return cut[2]


def _slice(cuts: dict[int, _Cut]) -> Slice:
    axes = tuple(sorted(cuts))
    starts, ends, steps = zip(*(cuts[a] for a in axes), strict=True)
    return Slice(starts, ends, axes, steps)


def _merged(first: dict[int, _Cut], second: dict[int, _Cut]) -> Slice | None:
    if any(cut[2] < 1 for cut in first.values()):
        return None
    cuts = dict(first)
    for axis, (start, end, step) in second.items():
        if axis in first:
            begin, _, stride = first[axis]
            cuts[axis] = begin + start * stride, begin + (end - 1) * stride + 1, stride * step
        else:
            cuts[axis] = start, end, step
    return _slice(cuts)


def _inside(join: Node, axis: int, cuts: dict[int, _Cut]) -> tuple[Slice | None, Value]:
    """The slice of the one operand of a join that it lies in."""
    if axis in cuts:
        start, end, step = cuts[axis]
        offset: Dim = 0
        for value in join.inputs:
            size = value.shape[axis]
            if decide("<=", offset, start) is True and decide("<=", end, offset + size) is True:
                return _slice({**cuts, axis: (start - offset, end - offset, step)}), value
            offset = offset + size
    return None, join.inputs[0]
