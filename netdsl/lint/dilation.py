"""Dilated convolutions in a row whose dilations have a common factor: each output sees a grid with holes.

Along each spatial axis the positions that a stack of convolutions reaches are sums of multiples of the dilations. With
`g` the common factor of the dilations above 1, they lie on every `g`-th position, each widened by the convolutions
without dilation in the same stack: to `w = 1 + Σ (kernel - 1)`. There are holes where `w < g` (the rule of hybrid
dilated convolution, Wang et al. 2018, for stacks of any kernels). A stack ends where the resolution changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd

from netdsl.diagnostics import Diagnostic
from netdsl.ir.graph import Node, Value
from netdsl.lint.rule import Rule, note_at
from netdsl.lint.subject import Subject, span_of
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense
from netdsl.ops.pool import Pool
from netdsl.ops.transposed import ConvTranspose

GRIDDING = Rule(
    name="dilation-gridding",
    title="Dilation gridding",
    what="Two or more dilated convolutions follow each other at one resolution, their dilations have a common factor, "
    "and no convolution without dilation in the stack is wide enough to fill the holes.",
    why="With dilations 2, 2, 2 every output sees only each second position, however large its receptive field: "
    "neighbours are computed from separate inputs, and the result shows a grid "
    "([Wang et al. 2018](https://arxiv.org/abs/1702.08502); "
    "[Yu et al. 2017](https://arxiv.org/abs/1705.09914)).",
    mend="Let the dilations grow without a common factor, 1, 2, 5 say, or from 1 by doubling as in "
    "[Yu & Koltun 2015](https://arxiv.org/abs/1511.07122), so that each layer fills the holes of the next.",
    example="""\
network Net {
    input features: float32[N, 16, 64, 64]

    x = features -> conv(16, 3, padding=2, dilation=2) -> relu
    output y = x -> conv(16, 3, padding=2, dilation=2)
}
""",
    mended="""\
network Net {
    input features: float32[N, 16, 64, 64]

    x = features -> conv(16, 3, padding=1) -> relu
    output y = x -> conv(16, 3, padding=2, dilation=2)
}
""",
)


@dataclass(frozen=True, slots=True)
class _Stack:
    """One axis of a stack: `factor` of the dilations above 1 (0: none yet), `width` of what the others fill, the
    dilated convolutions in a row."""

    factor: int = 0
    width: int = 1
    count: int = 0
    first: Node | None = None
    last: Node | None = None

    def through(self, node: Node, kernel: int, dilation: int) -> _Stack:
        if kernel == 1:
            return self
        if dilation == 1:
            return replace(self, width=self.width + kernel - 1)
        return _Stack(gcd(self.factor, dilation), self.width, self.count + 1, self.first or node, node)

    def joined(self, other: _Stack) -> _Stack:
        """What a sum or a concatenation sees: no less than either."""
        longer = self if self.count >= other.count else other
        return replace(longer, factor=gcd(self.factor, other.factor), width=max(self.width, other.width))

    @property
    def has_holes(self) -> bool:
        return self.count > 1 and self.width < self.factor


_Stacks = tuple[_Stack, ...]


def check(subject: Subject) -> Iterator[Diagnostic]:
    if not any(isinstance(node.op, Conv) and max(node.op.dilation) > 1 for node in subject.graph.nodes):
        return
    stacks: dict[Value, _Stacks] = {}
    ended: list[_Stacks] = [()]
    for node in subject.graph.nodes:
        before = [stacks[v] for v in node.inputs if v in stacks]
        after = _after(node, before)
        if after is None:
            ended += before
        else:
            stacks.update((value, after) for value in node.outputs if value.rank - 2 == len(after))
    ended += [stacks[value] for value in subject.graph.output_values if value in stacks]
    found = {stack.last: stack for axes in ended for stack in axes if stack.has_holes}
    for last, stack in found.items():
        assert last is not None and stack.first is not None
        span = span_of(last)
        if span is not None:
            yield GRIDDING.warn(
                f"dilation gridding: {stack.count} dilated convolutions in a row see only every "
                f"{_ordinal(stack.factor)} position, since their dilations are multiples of {stack.factor}",
                span,
                notes=note_at("the first of them", span_of(stack.first), span),
                help="let dilations grow without a common factor: 1, 2, 5",
            )


def _after(node: Node, before: Sequence[_Stacks]) -> _Stacks | None:
    """The stack of a node's outputs; None where one ends: the resolution changes, or positions mix."""
    rank = node.outputs[0].rank - 2
    if isinstance(node.op, Conv) and all(step == 1 for step in node.op.stride):
        stacks = before[0] if before else (_Stack(),) * rank
        kernel = [int(size) for size in node.inputs[1].shape[2:] if isinstance(size, int)]
        return tuple(s.through(node, k, d) for s, k, d in zip(stacks, kernel, node.op.dilation, strict=True))
    if isinstance(node.op, Conv | ConvTranspose | Pool | Dense) or not before or not _keeps_positions(node):
        return None
    joined = before[0]
    for other in before[1:]:
        if len(other) != len(joined):
            return None
        joined = tuple(a.joined(b) for a, b in zip(joined, other, strict=True))
    return joined if len(joined) == rank else None


def _keeps_positions(node: Node) -> bool:
    if node.op.family == "normalisation":  # statistics of the whole say nothing about one position
        return True
    reach = node.op.reach([v.type for v in node.inputs], [v.type for v in node.outputs])
    return not reach.whole and not reach.axes


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")
