"""The training form of a graph: batch norm by batch statistics, dropout by random masks, buffers with their next
values.

Nodes without a form of their own are kept; every one keeps its path and place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netdsl.autodiff.extend import Extension
from netdsl.ir.graph import Node, Value
from netdsl.ir.types import TensorType
from netdsl.ops.random import UniformRandom


@dataclass(frozen=True)
class TrainingForm:
    """The values that stand for the graph's own, and the buffers' values after the step."""

    values: Mapping[Value, Value]
    updates: Mapping[Value, Value]


class _Context:
    """The `TrainingContext` of one conversion."""

    def __init__(self, extension: Extension, seed: Value, trained: frozenset[Value]) -> None:
        self._extension = extension
        self._seed = seed
        self._trained = trained
        self._streams = 0
        self.updates: dict[Value, Value] = {}
        self.emit = extension.emit
        self.emit_all = extension.emit_all
        self.constant = extension.constant
        self.dimension = extension.dimension

    def wants(self, value: Value) -> bool:
        """Whether a parameter is trained in this step."""
        return value in self._trained

    def update(self, buffer: Value, value: Value) -> None:
        """The buffer's next value; a layer that is used twice updates it twice, the second from the first."""
        self.updates[buffer] = value

    def current(self, buffer: Value) -> Value:
        return self.updates.get(buffer, buffer)

    def random(self, type: TensorType) -> Value:
        self._streams += 1
        return self._extension.emit(UniformRandom(type.shape, self._streams), self._seed)


def to_training(
    extension: Extension,
    nodes: Sequence[Node],
    seed: Value,
    trained: frozenset[Value],
    keep: frozenset[str] = frozenset(),
) -> TrainingForm:
    """Appends the training form of `nodes` to the extension; operators that `keep` names stay as they are."""
    cx = _Context(extension, seed, trained)
    values: dict[Value, Value] = {}
    for node in nodes:
        inputs = tuple(values.get(v, v) for v in node.inputs)
        moved = Node(node.op, inputs, node.outputs, node.path, node.place)
        extension.at(node.path, node.place)
        outputs = node.op.training(cx, moved) if node.op.name not in keep else None
        if outputs is None:
            extension.keep(moved)
        else:
            values.update(zip(node.outputs, outputs, strict=True))
    return TrainingForm(values, cx.updates)
