"""The graph: values, nodes, parameters. Immutable; a pass makes a new one.

Weight arithmetic is part of the graph: a folded weight is the output of nodes whose inputs are parameters and constants
alone (`weight * scale`). Such nodes are *constant* (see `Graph.constants`): they are evaluated once, in float64, when
the weights are written, cost nothing when the model runs, and are printed and verified like all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from netdsl.ir.dims import Dim, Expr
from netdsl.ir.initializer import Initializer
from netdsl.ir.types import DType, TensorType
from netdsl.source import Place

if TYPE_CHECKING:
    from netdsl.ir.opdef import Primitive


class Value:
    """A tensor in a graph. Two values are the same only if they are the same object; names are unique in a graph."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: TensorType) -> None:
        self.name = name
        self.type = type

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operator applied to values. `path` is the layer's name in the program, `place` where it stands there."""

    op: Primitive
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    path: str
    place: Place | None = None

    @property
    def output(self) -> Value:
        """The only output; an error in the caller's logic if there are several."""
        (value,) = self.outputs
        return value

    def __repr__(self) -> str:
        outputs = ", ".join(f"%{v.name}" for v in self.outputs)
        return f"{outputs} = {self.op!r}({', '.join(f'%{v.name}' for v in self.inputs)})"


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A weight: what a checkpoint holds under the value's name.

    `kind` is "parameter" (trained unless `trainable` is false, as under `frozen`) or "buffer" (running statistics).
    """

    value: Value
    initializer: Initializer
    kind: Literal["parameter", "buffer"] = "parameter"
    trainable: bool = True
    place: Place | None = None

    @property
    def name(self) -> str:
        return self.value.name


@dataclass(frozen=True, slots=True)
class Output:
    """A named result of the graph."""

    name: str
    value: Value


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in an order in which they can run. Inputs' types bind the symbols."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Output, ...]
    nodes: tuple[Node, ...]
    parameters: tuple[Parameter, ...]

    @cached_property
    def producers(self) -> Mapping[Value, Node]:
        """The node that makes each value (inputs and parameters have none)."""
        return {v: node for node in self.nodes for v in node.outputs}

    @cached_property
    def users(self) -> Mapping[Value, Sequence[Node]]:
        """The nodes that read each value, in order, once per node; a value that none reads is absent."""
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                users.setdefault(value, []).append(node)
        return users

    @cached_property
    def parameter_of(self) -> Mapping[Value, Parameter]:
        return {p.value: p for p in self.parameters}

    @cached_property
    def output_values(self) -> frozenset[Value]:
        return frozenset(o.value for o in self.outputs)

    @cached_property
    def constants(self) -> frozenset[Value]:
        """Parameters and every value computed from parameters and constants alone, no symbol among them."""
        found = {p.value for p in self.parameters}
        for node in self.nodes:
            if node.op.foldable and all(v in found for v in node.inputs) and not is_symbolic(node):
                found.update(node.outputs)
        return frozenset(found)

    @cached_property
    def counters(self) -> Mapping[str, Value]:
        """For each count the first output of the node that finds it."""
        return {name: node.outputs[0] for node in self.nodes for name in node.op.counts}

    def needs(self, node: Node) -> tuple[Value, ...]:
        """What is known before a node runs: its operands, and what finds the counts in its types and attributes."""
        if not self.counters:
            return node.inputs
        return (*node.inputs, *(self.counters[name] for name in counts_named(node) if name in self.counters))

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbols in the inputs' shapes, in order of appearance."""
        names: dict[str, None] = {}
        for value in self.inputs:
            for dim in value.shape:
                if isinstance(dim, Expr):
                    names.update(dict.fromkeys(sorted(dim.symbols)))
        return tuple(names)

    def uses(self, value: Value) -> int:
        """How many nodes and outputs read a value."""
        return len(self.users.get(value, ())) + sum(o.value is value for o in self.outputs)

    def only_user(self, value: Value) -> Node | None:
        """The one node that reads a value, or None if others, or an output, do too."""
        users = self.users.get(value, ())
        return users[0] if len(users) == 1 and value not in self.output_values else None


def counts_named(node: Node) -> frozenset[str]:
    """The counts in a node's types and attributes, but those that it finds itself."""
    dims = [d for v in node.outputs for d in v.shape if isinstance(d, Expr)]
    dims += [d for f in fields(node.op) for d in _expressions(getattr(node.op, f.name))]
    return frozenset().union(*(d.counts for d in dims)).difference(node.op.counts)


def _expressions(attribute: object) -> Iterator[Expr]:
    if isinstance(attribute, Expr):
        yield attribute
    elif isinstance(attribute, tuple):
        for item in attribute:
            yield from _expressions(item)


def is_symbolic(node: Node) -> bool:
    """Whether what a node makes depends on a symbol: `expand(weight, [N, 3])`."""
    return not all(v.type.is_static for v in node.outputs) or any(
        next(_expressions(getattr(node.op, f.name)), None) is not None for f in fields(node.op)
    )
