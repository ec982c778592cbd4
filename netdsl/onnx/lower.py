"""A graph as ONNX nodes, inputs, outputs and the list of its constants: everything but the weights' values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import signature

from onnx import GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto

from netdsl.ir.build import NameSpace
from netdsl.ir.dims import Expr, to_text
from netdsl.ir.graph import Graph, Node, Value
from netdsl.ir.opdef import Target
from netdsl.ir.types import TensorType
from netdsl.onnx.emit import CPU, ONNX_TYPES, NodeEmitter
from netdsl.onnx.tensors import Tensor
from netdsl.ops.constant import Constant
from netdsl.version import __version__
from netdsl.weights.mapping import FOLDED

#: the oldest IR version that ONNX pairs with each opset, so that the oldest runtimes that know the opset read the file
IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13}


@dataclass(frozen=True)
class Lowered:
    """`model` lacks initializers; `tensors` says what they are."""

    model: ModelProto
    tensors: tuple[Tensor, ...]


def lower_graph(graph: Graph, opset: int, target: Target = CPU) -> Lowered:
    """Lowers a graph for an opset from 17 to 26, in the forms that suit a target.

    Raises ValueError for another opset, DiagnosticError for a symbol whose value no input determines.
    """
    if opset not in IR_VERSIONS:
        raise ValueError(f"opset {opset} is not supported; it may be {min(IR_VERSIONS)} to {max(IR_VERSIONS)}")
    lowering = _Lowering(graph, opset, target)
    for node in graph.nodes:
        if not lowering.is_constant(node):
            lowering.node(node)
    return lowering.finish()


class _Lowering:
    def __init__(self, graph: Graph, opset: int, target: Target) -> None:
        self._graph = graph
        self._names = NameSpace()
        self._of: dict[Value, str] = {v: self._names.take(v.name) for v in graph.inputs}
        self._emitter = NodeEmitter(opset, self._names, dict(self._of), target)
        self._outputs = self._output_names()
        self._infos: list[ValueInfoProto] = []

    def _output_names(self) -> dict[Value, str]:
        """The values that are called what the model's outputs are called. Inputs and constants keep their own names."""
        found: dict[Value, str] = {}
        for output in self._graph.outputs:
            self._names.take(output.name)
            if output.value not in self._of and output.value not in self._graph.constants:
                found.setdefault(output.value, output.name)
        return found

    def is_constant(self, node: Node) -> bool:
        return all(v in self._graph.constants for v in node.outputs)

    def node(self, node: Node) -> None:
        inputs = [self._of.get(v) or self._operand(node, i) for i, v in enumerate(node.inputs)]
        wanted = [self._outputs.get(v) or self._names.take(v.name) for v in node.outputs]
        names = self._emitter.lower(node, inputs, wanted)
        for value, name, hoped in zip(node.outputs, names, wanted, strict=True):
            self._of[value] = name
            if name == hoped and value not in self._outputs:
                self._infos.append(value_info(name, value.type))

    def _operand(self, node: Node, index: int) -> str:
        """A constant that a node is the first to read."""
        value = node.inputs[index]
        made = self._graph.producers.get(value)
        label = value.name if made is None else f"{node.path}.{_operand_name(type(node.op).evaluate, index)}{FOLDED}"
        name = self._of[value] = self._constant(value, label)
        return name

    def _constant(self, value: Value, label: str) -> str:
        """A constant of the graph: small ones that the program wrote are shared by their contents."""
        node = self._graph.producers.get(value)
        if node is not None and isinstance(node.op, Constant):
            return self._emitter.pool.array(node.op.value.data, value.name)
        return self._emitter.pool.value(value, self._names.take(label))

    def finish(self) -> Lowered:
        for output in self._graph.outputs:
            name = self._of.get(output.value) or self._constant(output.value, output.value.name)
            if name != output.name:
                self._emitter.identity(name, output.name)
        body = GraphProto(
            name=self._graph.name,
            node=self._emitter.nodes,
            input=[value_info(self._of[v], v.type) for v in self._graph.inputs],
            output=[value_info(o.name, o.value.type) for o in self._graph.outputs],
            value_info=self._infos,
        )
        return Lowered(_model(body, self._emitter.opset), self._emitter.pool.used)


@cache
def _operand_name(rule: Callable[..., object], index: int) -> str:
    """What an operator's NumPy rule calls an operand: `weight`, `bias`."""
    parameters = [p for p in signature(rule).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    return parameters[index].name if index < len(parameters) else f"operand_{index}"


def _model(graph: GraphProto, opset: int) -> ModelProto:
    return ModelProto(
        ir_version=IR_VERSIONS[opset],
        opset_import=[OperatorSetIdProto(domain="", version=opset), *_domains(graph)],
        producer_name="netdsl",
        producer_version=__version__,
        graph=graph,
    )


def _domains(graph: GraphProto) -> list[OperatorSetIdProto]:
    """What a runtime must know besides ONNX's own operators."""
    others = sorted({node.domain for node in graph.node} - {""})
    return [OperatorSetIdProto(domain=domain, version=1) for domain in others]


def value_info(name: str, type: TensorType) -> ValueInfoProto:
    """A value's type; symbolic dimensions are `dim_param`s, expressions as text (`16*h`)."""
    info = ValueInfoProto(name=name)
    tensor = info.type.tensor_type
    tensor.elem_type = ONNX_TYPES[type.dtype]
    tensor.shape.SetInParent()
    for dim in type.shape:
        if isinstance(dim, Expr):
            tensor.shape.dim.add(dim_param=to_text(dim))
        else:
            tensor.shape.dim.add(dim_value=dim)
    return info
