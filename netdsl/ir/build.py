"""Makes nodes: infers their outputs' types and gives their values unique names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from netdsl.ir.dims import Dim, count
from netdsl.ir.graph import Graph, Node, Output, Parameter, Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import DType, TensorType
from netdsl.source import Place


class NameSpace:
    """Unique value names: a taken one becomes the first free of `name#2`, `name#3`, … (`#` is in no layer's path)."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        if name in self._taken:
            number = self._next.get(name, 2)
            while f"{name}#{number}" in self._taken:
                number += 1
            self._next[name] = number + 1
            name = f"{name}#{number}"
        self._taken.add(name)
        return name


def infer_types(op: Primitive, inputs: Iterable[Value]) -> tuple[TensorType, ...]:
    """The types of the outputs of `op` on these inputs. Raises ShapeError."""
    types = op.infer(*(v.type for v in inputs))
    return types if isinstance(types, tuple) else (types,)


def make_node(op: Primitive, inputs: tuple[Value, ...], names: NameSpace, path: str, place: Place | None) -> Node:
    """A node whose outputs are named after its path: `path`, or `path.0`, `path.1`, … if there are several."""
    types = infer_types(op, inputs)
    if len(types) == 1:
        outputs: tuple[Value, ...] = (Value(names.take(path), types[0]),)
    else:
        outputs = tuple(Value(names.take(f"{path}.{i}"), t) for i, t in enumerate(types))
    return Node(op, inputs, outputs, path, place)


class GraphBuilder:
    """Collects inputs, parameters, nodes and outputs into a graph."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names = NameSpace()
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.parameters: list[Parameter] = []
        self.outputs: list[Output] = []
        self._counts: dict[str, int] = {}

    def count(self, name: str) -> Dim:
        """A new count, called after `name`."""
        number = self._counts[name] = self._counts.get(name, 0) + 1
        return count(name if number == 1 else f"{name}_{number}")

    def input(self, name: str, type: TensorType) -> Value:
        value = Value(self.names.take(name), type)
        self.inputs.append(value)
        return value

    def parameter(
        self,
        name: str,
        shape: Iterable[Dim],
        initializer: Initializer,
        *,
        dtype: DType = DType.float32,
        kind: Literal["parameter", "buffer"] = "parameter",
        trainable: bool = True,
        place: Place | None = None,
    ) -> Parameter:
        value = Value(self.names.take(name), TensorType(dtype, tuple(shape)))
        made = Parameter(value, initializer, kind, trainable, place)
        self.parameters.append(made)
        return made

    def node(self, op: Primitive, *inputs: Value, path: str | None = None, place: Place | None = None) -> Node:
        """Appends a node. Raises ShapeError where the operands do not fit."""
        made = make_node(op, inputs, self.names, path or op.name, place)
        self.nodes.append(made)
        return made

    def emit(self, op: Primitive, *inputs: Value, path: str | None = None, place: Place | None = None) -> Value:
        """Appends a node with one output and returns that."""
        return self.node(op, *inputs, path=path, place=place).output

    def output(self, name: str, value: Value) -> None:
        self.outputs.append(Output(name, value))

    def finish(self) -> Graph:
        return Graph(self.name, tuple(self.inputs), tuple(self.outputs), tuple(self.nodes), tuple(self.parameters))
