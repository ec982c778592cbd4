"""Checks what every graph promises; passes are run through it in tests and under `NETDSL_VERIFY=1`."""

from __future__ import annotations

from collections.abc import Mapping

from netdsl.ir.build import infer_types
from netdsl.ir.dims import Expr
from netdsl.ir.graph import Graph, Node, Value, counts_named
from netdsl.ir.opdef import OpError, Primitive


class VerifyError(Exception):
    """A graph that breaks a promise: a fault of the compiler, not of the program. Names the node."""


def verify(graph: Graph, primitives: Mapping[str, type[Primitive]] | None = None) -> None:
    """Raises VerifyError unless names are unique, nodes stand after what they read, types are those that the operators
    infer, counts are found before they are named, every operator is in the table (`primitives`, where given) and
    outputs exist."""
    names: set[str] = set()
    known: set[Value] = set()
    for value in (*graph.inputs, *(p.value for p in graph.parameters)):
        _define(value, names, known, "an input or parameter")
    counts = {name for v in graph.inputs for d in v.shape if isinstance(d, Expr) for name in d.counts}
    for node in graph.nodes:
        _check_operator(node, primitives)
        _check_counts(node, counts)
        for value in node.inputs:
            if value not in known:
                raise VerifyError(f"{node!r} reads %{value.name}, which nothing before it makes")
        _check_types(node)
        for value in node.outputs:
            _define(value, names, known, repr(node))
    _check_outputs(graph, known)


def _define(value: Value, names: set[str], known: set[Value], where: str) -> None:
    if value.name in names:
        raise VerifyError(f"the name %{value.name} is taken twice, by {where} too")
    names.add(value.name)
    known.add(value)


def _check_operator(node: Node, primitives: Mapping[str, type[Primitive]] | None) -> None:
    if not isinstance(node.op, Primitive):
        raise VerifyError(f"{node!r}: {node.op!r} is no primitive")
    if primitives is not None and primitives.get(node.op.name) is not type(node.op):
        raise VerifyError(f"{node!r}: no operator of the table is called {node.op.name}")


def _check_types(node: Node) -> None:
    try:
        types = infer_types(node.op, node.inputs)
    except OpError as error:
        raise VerifyError(f"{node!r} does not type: {error.message}") from error
    if types != tuple(v.type for v in node.outputs):
        found = ", ".join(str(v.type) for v in node.outputs)
        raise VerifyError(f"{node!r} says {found}, but its operator infers {', '.join(map(str, types))}")


def _check_counts(node: Node, known: set[str]) -> None:
    """A count is found by one node, before any other names it."""
    if unknown := counts_named(node) - known:
        raise VerifyError(f"{node!r} names {min(unknown)}, which nothing before it finds")
    for name in node.op.counts:
        if name in known:
            raise VerifyError(f"{node!r} finds {name}, which is found before it")
        known.add(name)


def _check_outputs(graph: Graph, known: set[Value]) -> None:
    seen: set[str] = set()
    for output in graph.outputs:
        if output.value not in known:
            raise VerifyError(f"output {output.name} is %{output.value.name}, which nothing makes")
        if output.name in seen:
            raise VerifyError(f"two outputs are called {output.name}")
        seen.add(output.name)
