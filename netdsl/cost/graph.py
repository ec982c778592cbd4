"""Costs of a whole graph.

Nodes of constants (weight arithmetic) cost nothing: they are evaluated once, when the weights are written. Every other
node counts at each use, also where a layer is shared; parameters count once.

Memory, in bytes, each value in storage of its own (views such as reshapes are counted as copies):

- `activation_bytes`: all values that nodes compute from the inputs, outputs included, inputs not.
- `weight_bytes`: the constants that running nodes or outputs read, each once: what the model's file holds.
- `peak_bytes`: `weight_bytes` and the most that inputs and activations hold at one time, when nodes run in the
  graph's order: a value lives from the node that makes it (inputs from the start) through the last node that reads it,
  outputs to the end; while a node runs, its operands and its results live.
- `training_peak_bytes`: `weight_bytes`, a gradient for each trainable element, the inputs and all activations kept for
  the backward pass, and a gradient for the largest of them: an estimate for networks without a recipe. With one,
  `autodiff.memory` goes through the step itself, optimizer state and recomputation included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netdsl.cost.node import node_cost
from netdsl.ir.dims import Dim, DimError, decide, dim_max
from netdsl.ir.graph import Graph, Node, Value

MAX_CANDIDATES = 8  # symbolic peaks of which none is proved to be the largest


@dataclass(frozen=True, slots=True)
class GraphCost:
    """Integers, or formulas in the graph's symbols. `parameters` counts elements, frozen ones too; `buffers` running
    statistics; `macs` convolutions and matrix products without bias; `flops` 2 per MAC and every other operation."""

    parameters: Dim
    trainable: Dim
    buffers: Dim
    macs: Dim
    flops: Dim
    activation_bytes: Dim
    peak_bytes: Dim
    training_peak_bytes: Dim
    weight_bytes: Dim


def graph_cost(graph: Graph) -> GraphCost:
    """The costs of a graph; `for_one_item` first, for figures of one item."""
    running = [n for n in graph.nodes if not _is_constant(graph, n)]
    costs = [node_cost(n) for n in running]
    parameters = [p for p in graph.parameters if p.kind == "parameter"]
    trainable = [p.value for p in parameters if p.trainable]
    made = [v for n in running for v in n.outputs]
    weights = _bytes(_weights(graph, running))
    kept = _bytes(made) + _bytes(graph.inputs)
    largest = _largest([v.type.bytes for v in dict.fromkeys((*graph.inputs, *made))])
    return GraphCost(
        parameters=_total(p.value.type.size for p in parameters),
        trainable=_total(v.type.size for v in trainable),
        buffers=_total(p.value.type.size for p in graph.parameters if p.kind == "buffer"),
        macs=_total(c.macs for c in costs),
        flops=_total(c.flops for c in costs),
        activation_bytes=_bytes(made),
        peak_bytes=weights + _live_peak(graph, running),
        training_peak_bytes=weights + _bytes(trainable) + kept + largest,
        weight_bytes=weights,
    )


def _is_constant(graph: Graph, node: Node) -> bool:
    return all(v in graph.constants for v in node.outputs)


def _weights(graph: Graph, running: Iterable[Node]) -> Iterable[Value]:
    read = dict.fromkeys(v for n in running for v in n.inputs)
    read.update(dict.fromkeys(o.value for o in graph.outputs))
    return (v for v in read if v in graph.constants)


def _total(dims: Iterable[Dim]) -> Dim:
    """The sum; integers are added up first, since most are."""
    number, rest = 0, []
    for dim in dims:
        if isinstance(dim, int):
            number += dim
        else:
            rest.append(dim)
    return sum(rest, start=number)


def _bytes(values: Iterable[Value]) -> Dim:
    return _total(v.type.bytes for v in values)


def _live_peak(graph: Graph, running: list[Node]) -> Dim:
    last: dict[Value, int] = {}
    for at, node in enumerate(running):
        last.update(dict.fromkeys(node.inputs, at))
    last.update({o.value: len(running) for o in graph.outputs})
    alive = _bytes(graph.inputs)
    peaks = [alive]
    for at, node in enumerate(running):
        alive += _bytes(node.outputs)
        peaks.append(alive)
        ended = (v for v in dict.fromkeys((*node.inputs, *node.outputs)) if v not in graph.constants)
        alive -= _bytes(v for v in ended if last.get(v, at) == at)
    return _largest(peaks)


def _largest(dims: list[Dim]) -> Dim:
    """The largest. Of formulas that cannot be compared, `max(…)`, over at most MAX_CANDIDATES of them."""
    found: list[Dim] = []
    for dim in dict.fromkeys(dims):
        if any(decide("<=", dim, other) for other in found):
            continue
        found = [other for other in found if not decide("<=", other, dim)]
        if len(found) < MAX_CANDIDATES:
            found.append(dim)
    result = found[0] if found else 0
    for dim in found[1:]:
        try:
            result = dim_max(result, dim)
        except DimError:  # too large a formula: the first candidates stand for it
            break
    return result
