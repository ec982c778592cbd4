"""Runs a graph by the operators' NumPy rules: the definition that ONNX is compared with, not made for speed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from netdsl.ir.dims import symbol
from netdsl.ir.graph import Graph, Node, Value
from netdsl.ir.types import NDArrayAny
from netdsl.runtime.bind import bind
from netdsl.weights import ConstantEvaluator, WeightStore, widened


def interpret(
    graph: Graph, inputs: Mapping[str, NDArrayAny], store: WeightStore, *, wide: bool = False
) -> dict[str, NDArrayAny]:
    """The outputs by name. Arrays are dropped after their last use. Raises ValueError where an input does not fit.

    `wide` computes in float64 what the graph computes in narrower floats, folded weights included, and leaves the
    outputs so: what the network says but for rounding. A cast in the graph still rounds.
    """
    env = bind({v.name: v.type for v in graph.inputs}, inputs)
    evaluator = ConstantEvaluator(graph, store, wide=wide)
    nodes = [n for n in graph.nodes if not all(v in graph.constants for v in n.outputs)]
    reads = _reads(graph, nodes)
    leave = widened if wide else _as_it_is
    live: dict[Value, NDArrayAny] = {v: leave(inputs[v.name]) for v in graph.inputs}

    def take(value: Value) -> NDArrayAny:
        array = live[value] if value in live else evaluator.array(value)
        reads[value] -= 1
        if reads[value]:
            live[value] = array
        else:
            live.pop(value, None)
        return array

    for node in nodes:
        operands = {v: take(v) for v in dict.fromkeys(node.inputs)}
        for value, array in zip(node.outputs, run_node(node, operands, env), strict=True):
            if reads.get(value):
                live[value] = leave(array)
    return {o.name: take(o.value) for o in graph.outputs}


def run_node(node: Node, operands: Mapping[Value, NDArrayAny], env: dict[str, int]) -> tuple[NDArrayAny, ...]:
    """The arrays of a node's outputs. The counts that the node finds are added to the symbols' values, `env`."""
    with np.errstate(all="ignore"):
        results = node.op.bind(env).evaluate(*(operands[v] for v in node.inputs))
    arrays = results if isinstance(results, tuple) else (results,)
    for name in node.op.counts:
        found = zip(node.outputs, arrays, strict=True)
        env[name] = next(
            size for v, a in found for dim, size in zip(v.shape, a.shape, strict=True) if dim == symbol(name)
        )
    return arrays


def _as_it_is(array: NDArrayAny) -> NDArrayAny:
    return array


def _reads(graph: Graph, nodes: list[Node]) -> dict[Value, int]:
    """How many nodes and outputs read each value."""
    reads: dict[Value, int] = {}
    for node in nodes:
        for value in dict.fromkeys(node.inputs):
            reads[value] = reads.get(value, 0) + 1
    for output in graph.outputs:
        reads[output.value] = reads.get(output.value, 0) + 1
    return reads
