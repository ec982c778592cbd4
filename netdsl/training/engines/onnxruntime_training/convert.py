"""A graph in the forms that onnxruntime-training differentiates, where gradients pass; the rest of it as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from netdsl.autodiff.backward import dependents
from netdsl.autodiff.extend import Extension
from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.graph import Graph, Node, Output, Value
from netdsl.ops import gradient_tools as g
from netdsl.training.engines.onnxruntime_training.forms import FORMS, Form, Refused
from netdsl.training.engines.onnxruntime_training.operators import StopGradient
from netdsl.training.engines.onnxruntime_training.recurrent import recurrent, rnn
from netdsl.training.engines.onnxruntime_training.support import NATIVE
from netdsl.training.engines.onnxruntime_training.transposed import conv, conv_transpose

ALL_FORMS: dict[str, Form] = {
    **FORMS,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "gru": recurrent,
    "lstm": recurrent,
    "rnn": rnn,
}


class _Context:
    """The context of the forms: gradients are wanted for what depends on trained parameters."""

    def __init__(self, extension: Extension, wanted: set[Value]) -> None:
        self.emit, self.emit_all = extension.emit, extension.emit_all
        self.constant, self.dimension = extension.constant, extension.dimension
        self.wanted = wanted

    def wants(self, value: Value) -> bool:
        return value in self.wanted


def engine_form(graph: Graph, trained: Collection[str]) -> Graph:
    """`graph` has an output `loss`. Raises DiagnosticError that lists every operator which the engine cannot do, with
    its place."""
    extension = Extension(graph)
    sources = [v for v in graph.inputs if v.name in trained]
    wanted = dependents(graph.nodes, sources)
    path = _ancestors(graph.nodes, [o.value for o in graph.outputs if o.name == "loss"])
    cx = _Context(extension, set(wanted))
    values: dict[Value, Value] = {}
    refused: list[tuple[Node, str]] = []
    for node in graph.nodes:
        inputs = tuple(values.get(v, v) for v in node.inputs)
        moved = Node(node.op, inputs, node.outputs, node.path, node.place)
        extension.at(node.path, node.place)
        if node.op.name == StopGradient.name or not _differentiated(node, wanted, path):
            extension.keep(moved)
            continue
        cx.wanted.update(v for v, old in zip(inputs, node.inputs, strict=True) if old in wanted)
        try:
            made = _made(cx, _apart(cx, moved))
        except Refused as reason:
            refused.append((node, str(reason)))
            continue
        values.update(zip(node.outputs, made, strict=True))
    if refused:
        raise refusal(refused)
    outputs = tuple(Output(o.name, values.get(o.value, o.value)) for o in graph.outputs)
    return Graph(graph.name, graph.inputs, outputs, tuple(extension.nodes), graph.parameters)


def _made(cx: _Context, node: Node) -> tuple[Value, ...]:
    """The values that stand for a node's outputs. Raises Refused."""
    name = node.op.name
    form = ALL_FORMS.get(name)
    if form is not None:
        return form(cx, node)
    if name in NATIVE:
        return cx.emit_all(node.op, *node.inputs)
    raise Refused("")


def _apart(cx: _Context, node: Node) -> Node:
    """Names every operand once: of one that a node reads twice the engine declares two gradients by one name."""
    seen: set[Value] = set()
    inputs = []
    for value in node.inputs:
        if value in seen and value in cx.wanted:
            copy = g.mul(cx, value, 1.0) if node.op.name not in ("mul", "div") else value
            cx.wanted.add(copy)
            value = copy
        seen.add(value)
        inputs.append(value)
    return Node(node.op, tuple(inputs), node.outputs, node.path, node.place)


def _differentiated(node: Node, wanted: set[Value], path: set[Value]) -> bool:
    reads = any(v in wanted for v in node.inputs)
    return reads and any(v in wanted and v in path for v in node.outputs)


def _ancestors(nodes: Sequence[Node], ends: Iterable[Value]) -> set[Value]:
    found = set(ends)
    for node in reversed(nodes):
        if any(v in found for v in node.outputs):
            found.update(node.inputs)
    return found


def refusal(refused: Sequence[tuple[Node, str]]) -> DiagnosticError:
    """One error for each node that the engine cannot train through."""
    return DiagnosticError(
        [
            error(
                "engine-lacks-gradient",
                f"the engine onnxruntime-training cannot train through {node.op.name}{' ' + why if why else ''}, "
                f"at {node.path}",
                node.place.span if node.place else None,
                path=node.place.path if node.place else "",
                help="train with --engine standard, which can; or freeze the layers before it",
            )
            for node, why in refused
        ]
    )
