"""Recomputation: activations that the backward part computes a second time instead of keeping them.

Chen et al. 2016 (arXiv:1604.06174), "Training deep nets with sublinear memory cost". A gradient rule that reads a
dropped value reads a copy, which is made from kept values by copies of the forward nodes. The copies wait for the
gradient that arrives at that point of the backward sweep (`ops.ordering.After`), since a runtime that finds the same
nodes twice would else merge them, or run the second ones early: both would keep what was to be dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from math import isqrt
from typing import Literal

from netdsl.autodiff.extend import Extension
from netdsl.cost import node_cost
from netdsl.diagnostics import DiagnosticError, error, nearest
from netdsl.ir.dims import Dim, Expr, evaluate
from netdsl.ir.graph import Node, Value
from netdsl.ops.ordering import After

Choice = tuple[str, ...] | Literal["auto"]

CHEAP = frozenset({"activation", "arithmetic", "comparison", "normalisation", "regularisation", "selection", "shape"})
CHEAP_INTERNAL = frozenset({"batch_norm_training", "layer_norm_training", "uniform_random"})
CLOSURE = 12  # nodes that "auto" computes again, at most, to get one value back
USUAL_SIZE = 32  # stands for a symbol where sizes are compared
SMALL = 256  # what is this many times smaller than the largest activation is not worth a second computation


class Recomputation:
    """The copies that the backward part of one step reads instead of `dropped` values."""

    def __init__(self, extension: Extension, nodes: Sequence[Node], dropped: Iterable[Value]) -> None:
        self._extension = extension
        self._dropped = frozenset(dropped)
        self._makers = {v: node for node in nodes for v in node.outputs}
        self._copies: dict[Value, Value] = {}
        self._late: dict[tuple[Value, Value], Value] = {}
        self._waiting: dict[Value, Value] = {}  # kept values, by what the copies read in their place

    def stand_in(self, node: Node, signal: Value) -> Node:
        """The node as its gradient rule shall see it, once `signal`, a gradient, has arrived."""
        if not any(v in self._dropped for v in (*node.inputs, *node.outputs)):
            return node
        path, place = self._extension.path, self._extension.place
        for value in (*node.inputs, *node.outputs):
            if value in self._dropped:
                self._compute(value, signal)
        self._extension.at(path, place)
        seen = self._waiting | self._copies  # a kept input too, lest a runtime keeps what the rule makes of it
        inputs, outputs = (tuple(seen.get(v, v) for v in values) for values in (node.inputs, node.outputs))
        return Node(node.op, inputs, outputs, node.path, node.place)

    def _compute(self, value: Value, signal: Value) -> None:
        """Copies the nodes that make a value, those that it needs first."""
        pending = [self._makers[value]]
        while pending:
            node = pending[-1]
            waiting = [self._makers[v] for v in node.inputs if v in self._dropped and v not in self._copies]
            if node.outputs[0] in self._copies:
                pending.pop()
            elif waiting:
                pending += waiting
            else:
                self._copy(pending.pop(), signal)

    def _copy(self, node: Node, signal: Value) -> None:
        inputs = [self._copies.get(v, v) for v in node.inputs]
        made = [v for v in node.inputs if v in self._makers]
        if inputs and not any(v in self._copies for v in node.inputs):
            first = made[0] if made else node.inputs[0]
            inputs = [self._after(v, signal) if v is first else v for v in inputs]
        self._extension.at(f"{node.path}.recompute", node.place)
        self._copies.update(zip(node.outputs, self._extension.emit_all(node.op, *inputs), strict=True))

    def _after(self, value: Value, signal: Value) -> Value:
        key = value, signal
        if key not in self._late:
            self._extension.at(f"{value.name}.kept", None)
            self._late[key] = self._waiting[value] = self._extension.emit(After(), value, signal)
        return self._late[key]


def dropped_values(nodes: Sequence[Node], choice: Choice) -> frozenset[Value]:
    """What the forward nodes make and the backward part computes again.

    "auto": what is cheap to compute from kept values, such as activations and normalisations; what convolutions and
    matrix products make is kept. Patterns (fnmatch over layers' paths): all that the matching layers make, but for
    about the square root of their number, spread evenly, and what other layers read. Raises DiagnosticError for a
    pattern that matches no layer.
    """
    if choice == "auto":
        return _cheap(nodes)
    return _segments(nodes, choice) if choice else frozenset()


def _cheap(nodes: Sequence[Node]) -> frozenset[Value]:
    sizes = {v: _size(v) for node in nodes for v in node.outputs}
    largest = max(sizes.values(), default=0)
    closures: dict[Value, frozenset[Node]] = {}
    for node in nodes:
        if not _is_cheap(node) or SMALL * max(sizes[v] for v in node.outputs) < largest:
            continue
        closure = frozenset([node]).union(*(closures[v] for v in node.inputs if v in closures))
        if len(closure) <= CLOSURE:
            closures.update(dict.fromkeys(node.outputs, closure))
    return frozenset(closures)


def _is_cheap(node: Node) -> bool:
    if node.op.family not in CHEAP and node.op.name not in CHEAP_INTERNAL:
        return False
    return bool(node.inputs) and node_cost(node).macs == 0


def _segments(nodes: Sequence[Node], patterns: Sequence[str]) -> frozenset[Value]:
    for pattern in patterns:
        if not any(fnmatchcase(node.path, pattern) for node in nodes):
            near = nearest(pattern, sorted({node.path for node in nodes}))
            message = f'recompute: the pattern "{pattern}" matches no layer'
            raise DiagnosticError([error("unmatched-pattern", message, help=f'did you mean "{near}"?' if near else ())])
    chosen = {n for n in nodes if n.inputs and any(fnmatchcase(n.path, p) for p in patterns)}
    dropped = {v for n in nodes if n in chosen for v in n.outputs}
    dropped.difference_update(v for n in nodes if n not in chosen for v in n.inputs)
    return frozenset(dropped - _checkpoints(nodes, chosen, dropped))


def _checkpoints(nodes: Sequence[Node], chosen: set[Node], dropped: set[Value]) -> set[Value]:
    """Values to keep after all: those alive at points that part the chosen nodes into about as many segments as a
    segment has layers with weights, where possible at points that a single value crosses. A segment at the end of the
    network is kept as a whole: its gradients come first, when nothing has been dropped yet."""
    last = {v: at for at, n in enumerate(nodes) for v in n.inputs}
    heavy = sum(1 for n in chosen if node_cost(n).macs != 0)
    at_end = nodes[-1] in chosen
    limit = sum(map(_size, dropped)) // max(isqrt(heavy), 2 if at_end else 1)
    kept, alive, segment, held = set[Value](), set[Value](), set[Value](), 0
    for at, node in enumerate(nodes):
        made = {v for v in node.outputs if v in dropped}
        held += sum(map(_size, made))
        segment |= made
        alive = {v for v in alive | made if last.get(v, -1) > at}
        if held >= limit and (len(alive) == 1 or held >= 2 * limit):
            kept |= alive
            segment, held = set(), 0
    return kept | segment if at_end else kept


def _size(value: Value) -> int:
    """Bytes, each symbol taken as a usual size."""
    return usual_size(value.type.bytes)


def usual_size(dim: Dim) -> int:
    """A dimension, each symbol taken as a usual size."""
    return evaluate(dim, dict.fromkeys(dim.symbols, USUAL_SIZE) if isinstance(dim, Expr) else {})
