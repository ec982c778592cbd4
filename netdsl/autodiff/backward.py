"""Reverse-mode differentiation: the nodes that compute a scalar's gradients, after those that compute the scalar.

Each node's rule (`Primitive.gradient`) is called once, in reverse order, with the sum of what its users contributed
(Griewank & Walther 2008, "Evaluating Derivatives", algorithm 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from netdsl.autodiff.extend import Extension
from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import NotDifferentiable
from netdsl.ops.arithmetic import Add

StandIn = Callable[[Node, Value], Node]


class Gradients:
    """The `GradientContext` of one backward sweep."""

    def __init__(self, extension: Extension, nodes: Sequence[Node], sources: Iterable[Value]) -> None:
        self._extension = extension
        self._dependent = dependents(nodes, sources)
        self.emit = extension.emit
        self.emit_all = extension.emit_all
        self.constant = extension.constant
        self.dimension = extension.dimension

    def wants(self, value: Value) -> bool:
        return value in self._dependent

    def stands_for(self, copies: Sequence[Value], values: Sequence[Value]) -> None:
        """Gradients of copies are of use where those of the values are."""
        self._dependent.update(c for c, v in zip(copies, values, strict=True) if v in self._dependent)


def dependents(nodes: Sequence[Node], sources: Iterable[Value]) -> set[Value]:
    """The sources and every float value computed from one of them."""
    found = set(sources)
    for node in nodes:
        if any(v in found for v in node.inputs):
            found.update(v for v in node.outputs if v.dtype.is_float)
    return found


def backward(
    extension: Extension,
    nodes: Sequence[Node],
    seeds: Mapping[Value, Value],
    sources: Sequence[Value],
    stand_in: StandIn | None = None,
) -> dict[Value, Value]:
    """Appends the gradient nodes of `nodes` to the extension.

    `seeds` gives the gradient that each end value starts with (1, or the loss scale, for the loss). Returns the
    gradient of every source that the seeds' values depend on, of the source's own type. `stand_in` gives, for a node
    and a gradient that has arrived there, the node that the rule sees in its place: other values of the same contents.
    Raises DiagnosticError at an operator that has no gradient and stands between the two.
    """
    cx = Gradients(extension, nodes, sources)
    found: dict[Value, Value] = dict(seeds)
    for node in reversed(nodes):
        grads = [found.pop(v, None) if v not in sources else found.get(v) for v in node.outputs]
        if all(g is None for g in grads) or not any(cx.wants(v) for v in node.inputs):
            continue
        extension.at(f"{node.path}.gradient", node.place)
        seen = node if stand_in is None else stand_in(node, next(g for g in grads if g is not None))
        cx.stands_for(seen.inputs, node.inputs)
        for value, grad in zip(node.inputs, _rule(cx, seen, grads), strict=True):
            if grad is not None and cx.wants(value):
                found[value] = extension.emit(Add(), found[value], grad) if value in found else grad
    return {v: found[v] for v in sources if v in found}


def _rule(cx: Gradients, node: Node, grads: Sequence[Value | None]) -> Sequence[Value | None]:
    try:
        return node.op.gradient(cx, node, *grads)
    except NotDifferentiable:
        how = f"but the loss depends on trained parameters through {node.path}"
        raise _no_gradient(node, how, "keep it out of the loss, or freeze the layers before it") from None


def _no_gradient(node: Node, how: str, help: str) -> DiagnosticError:
    place = node.place
    message = f"{node.op.title} has no gradient, {how}"
    span, path = (place.span, place.path) if place else (None, "")
    return DiagnosticError([error("not-differentiable", message, span, path=path, help=help)])


def require_gradient(nodes: Sequence[Node], loss: Value, sources: Iterable[Value]) -> None:
    """For a loss of which no source has a gradient: raises DiagnosticError at the first operator that ends the way from
    a source to the loss, if there is one (its results are integers: which element is the largest, which boxes stay)."""
    dependent, needed = dependents(nodes, sources), {loss}
    ends: Node | None = None
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            if any(v in dependent for v in node.inputs) and dependent.isdisjoint(node.outputs):
                ends = node
    if ends is not None:
        how = f"and the loss depends on trained parameters only through {ends.path}"
        raise _no_gradient(ends, how, "add a term to the loss that depends on what it chooses from")
