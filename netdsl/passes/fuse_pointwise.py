"""Merges two linear layers with nothing between them into one, where one of them looks at single positions.

    W2 (W1 x + b1) + b2  =  (W2 W1) x + (W2 b1 + b2)

- KxK (any stride s1, padding, dilation) -> 1x1 of stride s2: a KxK of stride s1*s2; exact, biases too.
- 1x1 of stride s1 -> 1x1 of stride s2, 1x1 -> KxK: the second one's geometry. With a bias b1, only if the second one
  does not pad: padding is zero, not b1. A strided 1x1 in front of a larger kernel becomes a dilation, without padding.
- dense -> dense.

All ungrouped, and only where the MACs fall: a wide 1x1 -> narrow 1x1 -> KxK is usually cheaper than what it merges to.
A grouped or depthwise layer in front of a pointwise one is never merged: the merged kernel is dense.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from netdsl.ir.dims import Dim, decide, product, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense
from netdsl.passes.algebra import ints
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.linear import Linear, linear_of
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class Pair:
    """Two layers and the operator that stands for both."""

    first: Linear
    second: Linear
    op: Conv | Dense


@dataclass(frozen=True)
class FusePointwise(Peephole[Pair]):
    name: ClassVar[str] = "fuse-pointwise"
    after: ClassVar[tuple[str, ...]] = ("fold-batch-norm", "fold-scale")
    targets: ClassVar[tuple[type[Primitive], ...]] = (Conv, Dense)

    def match(self, rw: Rewriter, node: Node) -> Pair | Refused | None:
        second = linear_of(rw, node)
        first = linear_of(rw, rw.producer(node.inputs[0])) if second else None
        if first is None or second is None or type(first.op) is not type(second.op):
            return None
        found = _merged(first, second)
        if not isinstance(found, Conv | Dense):
            return found
        reason = _refusal(rw, first, second)
        return Refused(reason) if reason else Pair(first, second, found)

    def rewrite(self, rw: Rewriter, node: Node, parts: Pair) -> Done:
        first, second = parts.first, parts.second
        weight = _product(rw, first, second)
        bias = _bias(rw, first, second)
        value = second.emit(rw, first.x, weight, bias, parts.op)
        return Done([value], f"merged {first.node.path} into it")


def _merged(first: Linear, second: Linear) -> Conv | Dense | Refused | None:
    """The operator that stands for both; None where neither looks at single positions."""
    a, b = first.op, second.op
    if isinstance(a, Dense) or isinstance(b, Dense):
        return Dense()
    assert isinstance(a, Conv) and isinstance(b, Conv)
    pointwise = _is_pointwise(first), _is_pointwise(second)
    if not any(pointwise):
        return None
    if a.groups > 1 or b.groups > 1:
        return Refused(
            f"{first.node.path} or it is grouped, and the merged kernel would be dense: {_costs(first, second)}"
        )
    strides = tuple(s * t for s, t in zip(a.stride, b.stride, strict=True))
    if pointwise[1] and (a.padding != "same" or set(b.stride) == {1}):
        return Conv(strides, a.padding, a.dilation)
    if not pointwise[0]:
        return Refused('padding "same" of a symbolic size lies in front of a stride')
    if first.bias is not None and not second.every_tap_counts:
        return Refused(f"the bias of {first.node.path} lies in front of zero padding")
    if set(a.stride) == {1}:
        return Conv(b.stride, b.padding, b.dilation)
    if not second.every_tap_counts:
        return Refused(f"{first.node.path} has a stride, and zero padding lies behind it")
    return Conv(strides, b.padding, tuple(s * d for s, d in zip(a.stride, b.dilation, strict=True)))


def _is_pointwise(linear: Linear) -> bool:
    op = linear.op
    assert isinstance(op, Conv)
    return prod(linear.kernel) == 1 and (op.padding == "same" or not any(p for pair in op.padding for p in pair))


def _refusal(rw: Rewriter, first: Linear, second: Linear) -> str:
    if not rw.single_use(second.x):
        return f"the output of {first.node.path} is used elsewhere"
    if rw.runs(first.weight) > 1 or rw.runs(second.weight) > 1:
        return f"the weight of {first.node.path} or its own is shared with other uses"
    cheaper = _cheaper(first, second)
    if cheaper is None:
        return f"merging with {first.node.path} is not proved to lower the cost: {_costs(first, second)}"
    return "" if cheaper else f"merging with {first.node.path} would not lower the cost: {_costs(first, second)}"


def _cheaper(first: Linear, second: Linear) -> bool | None:
    """Whether the merged layer needs fewer MACs. For symbolic sizes the MACs of one position are compared first."""
    one, two = (prod(ints(layer.weight.shape)) for layer in (first, second))
    merged = second.channels * first.input_channels * prod(first.kernel) * prod(second.kernel)
    if merged <= two:
        return True
    fewer = decide("<=", _positions(second), _positions(first))
    if fewer and merged < one + two:
        return True
    before, after = _macs(first, second)
    return decide("<", after, before)


def _positions(layer: Linear) -> Dim:
    shape = layer.node.output.shape
    return product(d for i, d in enumerate(shape) if i != layer.axis)


def _macs(first: Linear, second: Linear) -> tuple[Dim, Dim]:
    """MACs of the two, and of one dense kernel in their place."""
    before = first.macs + second.macs
    taps = prod(first.kernel) * prod(second.kernel) * first.input_channels
    return before, second.node.output.type.size * taps


def _costs(first: Linear, second: Linear) -> str:
    before, after = _macs(first, second)
    return f"{to_text(after)} MACs instead of {to_text(before)}"


def _product(rw: Rewriter, first: Linear, second: Linear) -> Value:
    """W2 W1, in the layout of the layers."""
    alg, dtype = second.algebra(rw, "weight"), second.weight.dtype
    inner, outer = alg.wide(first.weight), alg.wide(second.weight)
    (middle, inputs), outputs = ints(inner.shape[:2]), second.channels
    if isinstance(first.op, Dense):
        return alg.narrow(alg.matmul(outer, inner), dtype)
    if prod(second.kernel) == 1:
        rows = alg.matmul(
            alg.reshape(outer, (outputs, middle)), alg.reshape(inner, (middle, inputs * prod(first.kernel)))
        )
        return alg.narrow(alg.reshape(rows, (outputs, inputs, *first.kernel)), dtype)
    axes = range(outer.rank)
    taps_first = alg.transpose(outer, (*axes[2:], 0, 1))
    merged = alg.matmul(taps_first, alg.reshape(inner, (middle, inputs)))
    back = (outer.rank - 2, outer.rank - 1, *axes[: outer.rank - 2])
    return alg.narrow(alg.transpose(merged, back), dtype)


def _bias(rw: Rewriter, first: Linear, second: Linear) -> Value | None:
    """W2 b1 + b2."""
    if first.bias is None:
        return second.bias
    alg, dtype = second.algebra(rw, "bias"), second.weight.dtype
    through = second.row_sums(alg, alg.wide(second.weight), alg.wide(first.bias))
    return alg.narrow(through if second.bias is None else alg.add(alg.wide(second.bias), through), dtype)
