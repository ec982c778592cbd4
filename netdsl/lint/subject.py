"""What the rules about graphs read: a network's graph, before any rewrite, and where its tensors come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netdsl.ir.graph import Graph, Node, Value
from netdsl.ops.activation import Identity
from netdsl.ops.constant import Cast
from netdsl.source import Span


@dataclass(frozen=True)
class Subject:
    """`origins` has the place of each input."""

    graph: Graph
    origins: Mapping[Value, Span]

    def producer(self, value: Value) -> Node | None:
        """The node that makes a value, seen through casts and identities; None for inputs and parameters."""
        node = self.graph.producers.get(value)
        while node is not None and isinstance(node.op, Cast | Identity):
            node = self.graph.producers.get(node.inputs[0])
        return node

    def trains(self, value: Value) -> bool:
        """Whether a value is a parameter that training changes: not one under `frozen`."""
        parameter = self.graph.parameter_of.get(value)
        return parameter is not None and parameter.trainable

    def placed(self) -> Iterator[tuple[Node, Span]]:
        """The nodes whose place in a program is known, with that place."""
        for node in self.graph.nodes:
            span = span_of(node)
            if span is not None:
                yield node, span


def span_of(node: Node) -> Span | None:
    """The place of a node's layer: the name of what is called."""
    return node.place.span if node.place else None
