"""Takes means before a pointwise convolution instead of behind it.

    avg_pool(W x + b)         =  W avg_pool(x) + b
    global_avg_pool(W x + b)  =  W global_avg_pool(x) + b

Both are linear and look at different axes; a mean leaves the constant b as it is. Padding that counts as zeros would
not: with it only layers without a bias are moved. The convolution then runs where the pooling leaves fewer positions:
a quarter of the MACs in DenseNet's transitions, one position in a network that ends with a 1x1 convolution and a
global pooling. Only where nothing else reads the convolution's output, and where the MACs fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from netdsl.ir.dims import decide, to_text
from netdsl.ir.graph import Node
from netdsl.ir.opdef import Primitive
from netdsl.ops.convolution import Conv
from netdsl.ops.global_pooling import GlobalAvgPool
from netdsl.ops.pooling import AvgPool
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.linear import Linear, linear_of
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class PoolFirst(Peephole[Linear]):
    name: ClassVar[str] = "pool-first"
    after: ClassVar[tuple[str, ...]] = ("fold-batch-norm", "fold-scale")
    targets: ClassVar[tuple[type[Primitive], ...]] = (AvgPool, GlobalAvgPool)

    def match(self, rw: Rewriter, node: Node) -> Linear | Refused | None:
        layer = linear_of(rw, rw.producer(node.inputs[0]))
        if layer is None or not isinstance(layer.op, Conv) or not _is_pointwise(layer, layer.op):
            return None
        fewer = decide("<", node.output.type.size, node.inputs[0].type.size)
        if fewer is False:
            return None
        reason = _refusal(rw, layer, node)
        if fewer is None and not reason:
            sizes = [to_text(v.type.size) for v in (node.inputs[0], node.output)]
            reason = f"it is not proved to make less of {sizes[0]} elements: {sizes[1]}"
        return Refused(reason) if reason else layer

    def rewrite(self, rw: Rewriter, node: Node, parts: Linear) -> Done:
        pooled = rw.emit(node.op, parts.x, path=node.path, place=node.place)
        return Done([parts.emit(rw, pooled, parts.weight, parts.bias)], f"done before conv {parts.node.path}")


def _is_pointwise(layer: Linear, op: Conv) -> bool:
    """One tap for each position; "same" pads nothing then."""
    unpadded = op.padding == "same" or not any(p for pair in op.padding for p in pair)
    return prod(layer.kernel) == 1 and set(op.stride) == {1} and unpadded


def _refusal(rw: Rewriter, layer: Linear, node: Node) -> str:
    op = node.op
    if not rw.single_use(node.inputs[0]):
        return f"the output of {layer.node.path} is used elsewhere"
    if isinstance(op, AvgPool) and op.count_include_pad and layer.bias is not None:
        padded = op.padding == "same" or any(p for pair in op.padding for p in pair)
        return f"its padding counts as zeros, to which {layer.node.path} would add its bias" if padded else ""
    return ""
