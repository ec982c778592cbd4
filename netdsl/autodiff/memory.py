"""What a training step holds in memory, by liveness over its own graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netdsl.autodiff.in_place import in_place_state
from netdsl.autodiff.step import NEXT, StepGraph
from netdsl.cost import for_one_item
from netdsl.ir.dims import evaluate
from netdsl.ir.graph import Graph, Node, Value
from netdsl.ops.ordering import After
from netdsl.ops.shape import Flatten, Reshape, Squeeze, Unsqueeze
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes

VIEWS = (After, Flatten, Reshape, Squeeze, Unsqueeze)


def step_peak_bytes(step: StepGraph) -> int | None:
    """The most bytes that a step for a batch of one item holds at one time, nodes in the graph's order.

    The state (weights, buffers, the optimizer's), a second buffer for what is changed and may not be overwritten, the
    batch, and the results of nodes from the one that makes them through the last that reads them. None where a symbol
    other than the batch's size, or a count, is left in a shape.
    """
    graph = for_one_item(run_passes(step.graph, TRAINING, RewriteLog()))
    if graph.symbols or graph.counters:
        return None
    once = in_place_state(graph, NEXT)
    following = {o.name.removeprefix(NEXT): o.value for o in graph.outputs if o.name.startswith(NEXT)}
    doubled = [value for name, value in following.items() if name not in once]
    return _bytes(graph.inputs) + _bytes(doubled) + _live_peak(graph, frozenset(following.values()))


def _bytes(values: Iterable[Value]) -> int:
    return sum(evaluate(v.type.bytes, {}) for v in values)


def _live_peak(graph: Graph, elsewhere: frozenset[Value]) -> int:
    """The most that nodes' results hold, without the values that have buffers elsewhere. A view has no memory of its
    own, and keeps that of what it looks at."""
    roots: dict[Value, Value] = {}
    for node in graph.nodes:
        if isinstance(node.op, VIEWS):
            roots[node.output] = roots.get(node.inputs[0], node.inputs[0])
    last = _last_reads(graph.nodes, roots)
    last.update({roots.get(o.value, o.value): len(graph.nodes) for o in graph.outputs})
    own = {v for n in graph.nodes for v in n.outputs if v not in roots and v not in elsewhere}
    alive = peak = 0
    for at, node in enumerate(graph.nodes):
        alive += _bytes(v for v in node.outputs if v in own)
        peak = max(peak, alive)
        touched = dict.fromkeys(roots.get(v, v) for v in (*node.inputs, *node.outputs))
        alive -= _bytes(v for v in touched if v in own and last.get(v, at) == at)
    return peak


def _last_reads(nodes: tuple[Node, ...], roots: Mapping[Value, Value]) -> dict[Value, int]:
    return {roots.get(v, v): at for at, node in enumerate(nodes) for v in node.inputs}
