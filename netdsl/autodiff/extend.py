"""A graph that grows: new nodes after, or instead of, those of an existing graph."""

from __future__ import annotations

from netdsl.ir.build import NameSpace, make_node
from netdsl.ir.dims import Dim
from netdsl.ir.graph import Graph, Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import DType, NDArrayAny
from netdsl.ops.constant import Constant, emit_dimension
from netdsl.source import Place


class Extension:
    """Emits nodes under a current path and place. Its `nodes` begin empty: the caller appends those that it keeps."""

    def __init__(self, graph: Graph) -> None:
        values = [*graph.inputs, *(p.value for p in graph.parameters), *(v for n in graph.nodes for v in n.outputs)]
        self.names = NameSpace(v.name for v in values)
        self.nodes: list[Node] = []
        self.path = graph.name
        self.place: Place | None = None

    def at(self, path: str, place: Place | None) -> None:
        """Where the next nodes belong: they carry this path and place."""
        self.path, self.place = path, place

    def keep(self, node: Node) -> None:
        self.nodes.append(node)

    def emit_all(self, op: Primitive, *inputs: Value) -> tuple[Value, ...]:
        node = make_node(op, inputs, self.names, self.path, self.place)
        self.nodes.append(node)
        return node.outputs

    def emit(self, op: Primitive, *inputs: Value) -> Value:
        (value,) = self.emit_all(op, *inputs)
        return value

    def constant(self, value: NDArrayAny | float | int | bool, dtype: DType) -> Value:
        return self.emit(Constant.of(value, dtype))

    def dimension(self, dim: Dim, dtype: DType) -> Value:
        return emit_dimension(self, dim, dtype)
