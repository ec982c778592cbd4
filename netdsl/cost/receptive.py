"""Receptive fields: which input pixels an element of a value can see (Araujo et al. 2019, Distill).

Position `i` of a value's spatial axis sees `size` input pixels from `i * stride + offset` on; a negative offset lies
in the padding. Fields are accumulated exactly, as fractions, through the operators' `reach`. Where branches join, the
field is the smallest that holds those of all of them. Past an operator that sees everything (global pooling, a dense
layer over a flattened image) the field is the whole input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from netdsl.ir.graph import Graph, Node, Value
from netdsl.ir.reach import Axis, Reach


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Per spatial axis: `size` in input pixels (None: the whole of an axis of symbolic size), the `stride` between the
    fields of neighbouring positions (0: all see the same), and `offset`, the left edge of the first position's."""

    size: tuple[int | None, ...]
    stride: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class _Field:
    """One axis. `extent` None: the whole input, whatever its size."""

    extent: Fraction | None = Fraction(1)
    stride: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)

    def through(self, axis: Axis) -> _Field:
        if self.extent is None:
            return self
        return _Field(
            (axis.size - 1) * self.stride + self.extent,
            axis.stride * self.stride,
            axis.offset * self.stride + self.offset,
        )

    def hull(self, other: _Field) -> _Field:
        if self.extent is None or other.extent is None:
            return _WHOLE
        start = min(self.offset, other.offset)
        end = max(self.offset + self.extent, other.offset + other.extent)
        return _Field(end - start, max(self.stride, other.stride), start)


_WHOLE = _Field(None, Fraction(0), Fraction(0))
_Fields = tuple[_Field, ...]


def receptive_fields(graph: Graph) -> Mapping[Value, ReceptiveField]:
    """The fields of all values that depend on an input with spatial axes (rank 3 to 5). Sizes of several inputs of one
    rank that differ: those of the first."""
    sizes: dict[int, tuple[int | None, ...]] = {}
    fields: dict[Value, _Fields] = {}
    for value in graph.inputs:
        if 3 <= value.rank <= 5:
            fields[value] = (_Field(),) * (value.rank - 2)
            sizes.setdefault(value.rank - 2, tuple(d if isinstance(d, int) else None for d in value.shape[2:]))
    for node in graph.nodes:
        incoming = [(v, fields[v]) for v in node.inputs if v in fields]
        if incoming:
            fields.update(dict.fromkeys(node.outputs, _joined(node, incoming)))
    return {value: _public(found, sizes[len(found)]) for value, found in fields.items()}


def _joined(node: Node, incoming: list[tuple[Value, _Fields]]) -> _Fields:
    reach = node.op.reach([v.type for v in node.inputs], [v.type for v in node.outputs])
    count = len(incoming[0][1])
    result: _Fields | None = None
    for value, before in incoming:
        if len(before) != count:
            return (_WHOLE,) * count
        after = _through(reach, value, node.outputs[0], before)
        result = after if result is None else tuple(a.hull(b) for a, b in zip(result, after, strict=True))
    assert result is not None
    return result


def _through(reach: Reach, value: Value, output: Value, before: _Fields) -> _Fields:
    """One operand's field seen from the output. Spatial axes that move or merge (flatten, reshape) are given up: every
    position is then taken to see everything, unless it was one position already."""
    if reach.whole:
        return (_WHOLE,) * len(before)
    if reach.axes and len(reach.axes) == len(before):
        return tuple(f.through(a) for f, a in zip(before, reach.axes, strict=True))
    if value.rank - 2 == len(before) and output.rank != value.rank:
        return (_WHOLE,) * len(before)
    return before


def _public(fields: _Fields, sizes: tuple[int | None, ...]) -> ReceptiveField:
    return ReceptiveField(
        tuple(size if f.extent is None else ceil(f.extent) for f, size in zip(fields, sizes, strict=True)),
        tuple(f.stride for f in fields),
        tuple(f.offset for f in fields),
    )
