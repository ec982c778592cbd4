"""Merges zero padding into what pads with zeros itself.

    conv(pad(x, p), padding=q)      = conv(x, padding=p + q)
    avg_pool(pad(x, p), padding=q)  = avg_pool(x, padding=p + q), where the padding counts
    pad(pad(x, p), q)               = pad(x, p + q), for equal values
    max_pool(pad(x, p), padding=q)  = max_pool(x, padding=p + q), only if x is never negative

`max_pool` pads with minus infinity, so that zero padding in front of it changes the result wherever x is negative;
merged all the same it is a known error of other optimisers. Pools need a padding smaller than their kernel, and
rounding up (`ceil`) treats padding and input differently: both are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from netdsl.ir.arguments import Pads
from netdsl.ir.graph import Node
from netdsl.ir.opdef import Primitive
from netdsl.ops.convolution import Conv
from netdsl.ops.padding import Pad
from netdsl.ops.pooling import AvgPool, MaxPool
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.identities import never_negative
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class MergePadding(Peephole[tuple[Node, Primitive]]):
    name: ClassVar[str] = "padding"
    targets: ClassVar[tuple[type[Primitive], ...]] = (Conv, AvgPool, MaxPool, Pad)

    def match(self, rw: Rewriter, node: Node) -> tuple[Node, Primitive] | Refused | None:
        pad = rw.producer(node.inputs[0])
        if pad is None or not isinstance(pad.op, Pad) or pad.op.mode != "constant" or not rw.single_use(pad.output):
            return None
        op = node.op
        if isinstance(op, Pad):
            same = op.mode == "constant" and op.value == pad.op.value
            return (pad, replace(op, padding=_sum(op.padding, pad.op.padding))) if same else None
        assert isinstance(op, Conv | AvgPool | MaxPool)
        if pad.op.value != 0 or op.padding == "same":
            return None
        reason = _refusal(rw, pad, pad.op.padding, op)
        if reason:
            return Refused(reason)
        merged = replace(op, padding=_sum(op.padding, pad.op.padding))
        return pad, replace(merged, count_include_pad=True) if isinstance(merged, AvgPool) else merged

    def rewrite(self, rw: Rewriter, node: Node, parts: tuple[Node, Primitive]) -> Done:
        pad, op = parts
        value = rw.emit(op, pad.inputs[0], *node.inputs[1:], path=node.path, place=node.place)
        return Done([value], f"took over the padding of {pad.path}")


def _sum(a: Pads, b: Pads) -> Pads:
    return tuple((p[0] + q[0], p[1] + q[1]) for p, q in zip(a, b, strict=True))


def _refusal(rw: Rewriter, pad: Node, pads: Pads, op: Conv | AvgPool | MaxPool) -> str:
    if isinstance(op, Conv):
        return ""
    assert op.padding != "same"
    if op.ceil:
        return f"it rounds up, where the padding of {pad.path} is not like its own"
    if isinstance(op, AvgPool) and not op.count_include_pad and any(map(any, op.padding)):
        return f"its own padding does not count, that of {pad.path} does"
    if isinstance(op, MaxPool) and not (never_negative(rw, pad.inputs[0]) and set(op.dilation) == {1}):
        return f"max_pool pads with minus infinity, {pad.path} with zeros"
    if any(max(p) >= k for p, k in zip(_sum(op.padding, pads), op.kernel, strict=True)):
        return f"with {pad.path} the padding would not be smaller than the kernel"
    return ""
