"""A graph with numbers put for some of its symbols."""

from __future__ import annotations

from collections.abc import Mapping

from netdsl.ir.dims import Expr, substitute
from netdsl.ir.graph import Graph, Node, Output, Parameter, Value
from netdsl.ir.types import TensorType


def for_one_item(graph: Graph) -> Graph:
    """The graph with 1 put for every symbol that leads an input's shape (axis 0): figures are for a batch of one item.

    Other symbols stay, and costs are formulas in them.
    """
    leading = (v.shape[0] for v in graph.inputs if v.shape)
    return with_symbols(graph, {name: 1 for dim in leading if isinstance(dim, Expr) for name in sorted(dim.symbols)})


def with_symbols(graph: Graph, env: Mapping[str, int]) -> Graph:
    """The graph with numbers for symbols, in all types and attributes; itself if it has none of them.

    Raises DimError where a number makes a divisor zero.
    """
    env = {name: env[name] for name in graph.symbols if name in env}
    if not env:
        return graph
    values: dict[Value, Value] = {}

    def convert(value: Value) -> Value:
        found = values.get(value)
        if found is None:
            shape = tuple(substitute(d, env) for d in value.shape)
            found = values[value] = Value(value.name, TensorType(value.dtype, shape))
        return found

    def convert_all(many: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(convert(v) for v in many)

    return Graph(
        graph.name,
        convert_all(graph.inputs),
        tuple(Output(o.name, convert(o.value)) for o in graph.outputs),
        tuple(
            Node(n.op.bind(env), convert_all(n.inputs), convert_all(n.outputs), n.path, n.place) for n in graph.nodes
        ),
        tuple(Parameter(convert(p.value), p.initializer, p.kind, p.trainable, p.place) for p in graph.parameters),
    )
