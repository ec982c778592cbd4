"""Running statistics of a fitting size, for weights that were drawn.

With statistics drawn around 0 and 1, what passes a batch norm is not normalised: over dozens of layers it grows by
orders of magnitude, behind a sigmoid nothing is left of it but 0 and 1, and an exponential turns the rounding of 32
bits into differences of any size. The batch's own statistics would not do either: without its mean a deep network is
chaotic, and the rounding of its first layers grows as much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from netdsl.ir.build import GraphBuilder
from netdsl.ir.graph import Graph, Node, Output, Value
from netdsl.ir.types import NDArrayAny
from netdsl.ops import gradient_tools as g
from netdsl.ops.batch_norm import BatchNorm
from netdsl.ops.layer import Layer
from netdsl.ops.unary import Sqrt
from netdsl.passes.dead_code import DeadCode
from netdsl.passes.log import RewriteLog
from netdsl.weights import WeightStore


def calibrated(graph: Graph, store: WeightStore, run: Callable[[Graph], Mapping[str, NDArrayAny]]) -> WeightStore:
    """The store with the drawn statistics of a graph's batch norms in units of what they normalise; `run` returns a
    graph's outputs by name. Batch norms whose statistics are no buffers of their own keep theirs."""
    statistics = _with_statistics(graph)
    return store.with_values(run(statistics)) if statistics.outputs else store


def _with_statistics(graph: Graph) -> Graph:
    """The graph in which every batch norm has its statistics in units of its operand. The outputs are these, called as
    the buffers are; a layer that is used twice has those of its first use."""
    builder = GraphBuilder(graph.name)
    for value in (*graph.inputs, *(p.value for p in graph.parameters), *(v for n in graph.nodes for v in n.outputs)):
        builder.names.take(value.name)
    found: dict[Value, Value] = {}
    for node in graph.nodes:
        if _has_buffers(graph, node):
            x, weight, bias, *buffers = node.inputs
            for buffer, value in zip(buffers, _statistics(Layer(builder, node.path), x, *buffers), strict=True):
                found.setdefault(buffer, value)
            node = replace(node, inputs=(x, weight, bias, *(found[b] for b in buffers)))
        builder.nodes.append(node)
    outputs = tuple(Output(buffer.name, value) for buffer, value in found.items())
    return DeadCode().run(replace(graph, nodes=tuple(builder.nodes), outputs=outputs), RewriteLog())


def _has_buffers(graph: Graph, node: Node) -> bool:
    return isinstance(node.op, BatchNorm) and all(v in graph.parameter_of for v in node.inputs[3:])


def _statistics(cx: Layer, x: Value, mean: Value, variance: Value) -> tuple[Value, Value]:
    """The drawn statistics in units of the operand: its root mean square over all channels, and the square of that."""
    square = g.mean(cx, g.mul(cx, x, x))
    return g.mul(cx, mean, cx.emit(Sqrt(), square)), g.mul(cx, variance, square)
