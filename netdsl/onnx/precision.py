"""Graphs in 16-bit floats: float32 weights and activations become float16 or bfloat16, inputs and outputs stay.

Integers, booleans and float64 are left alone. Weights that are read as they are become 16-bit parameters; folded
weights are computed as before and rounded once at the end. ONNX Runtime's CPU kernels know few operators in bfloat16
and not all in float16: such a model is meant for a GPU or another device (operators' ONNX forms widen where they must).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

from netdsl.ir.build import NameSpace, infer_types
from netdsl.ir.graph import Graph, Node, Output, Parameter, Value
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import Array, DType
from netdsl.ops.constant import Cast, Constant

NARROW = (DType.float16, DType.bfloat16)


def to_precision(graph: Graph, dtype: DType) -> Graph:
    """The graph with its float32 arithmetic in `dtype`, float16 or bfloat16; `graph` itself for float32. Raises
    ValueError for another type."""
    if dtype is DType.float32:
        return graph
    if dtype not in NARROW:
        raise ValueError(f"precision is {dtype}; it may be float32, {' or '.join(map(str, NARROW))}")
    return _Narrowing(graph, dtype).run()


class _Narrowing:
    def __init__(self, graph: Graph, dtype: DType) -> None:
        self._graph = graph
        self._dtype = dtype
        self._names = NameSpace(v.name for v in _values(graph))
        self._nodes: list[Node] = []
        self._new: dict[Value, Value] = {}
        self._parameters: list[Parameter] = []

    def run(self) -> Graph:
        self._convert_parameters()
        for value in self._graph.inputs:
            if value.dtype is DType.float32:
                self._new[value] = self._cast(value, self._dtype, value.name)
        for node in self._graph.nodes:
            if all(v in self._graph.constants for v in node.outputs):
                self._nodes.append(node)
            else:
                self._convert(node)
        outputs = tuple(Output(o.name, self._restored(o)) for o in self._graph.outputs)
        return replace(self._graph, nodes=tuple(self._nodes), outputs=outputs, parameters=tuple(self._parameters))

    def _convert_parameters(self) -> None:
        """A parameter that weight arithmetic reads too stays wide; its narrow form is a value of its own."""
        computed = {v for n in self._graph.nodes if n.outputs[0] in self._graph.constants for v in n.inputs}
        for parameter in self._graph.parameters:
            value = parameter.value
            if value.dtype is DType.float32 and value not in computed and value not in self._graph.output_values:
                narrow = Value(value.name, value.type.with_dtype(self._dtype))
                self._new[value] = narrow
                parameter = replace(parameter, value=narrow)
            self._parameters.append(parameter)

    def _convert(self, node: Node) -> None:
        if not node.op.retyped:
            self._keep(node)
            return
        inputs = tuple(self._operand(v) for v in node.inputs)
        op = self._converted(node.op)
        types = infer_types(op, inputs)
        outputs = tuple(Value(v.name, t) for v, t in zip(node.outputs, types, strict=True))
        self._new.update(zip(node.outputs, outputs, strict=True))
        self._nodes.append(replace(node, op=op, inputs=inputs, outputs=outputs))

    def _keep(self, node: Node) -> None:
        """A node in its own types, between casts."""
        inputs = []
        for value in node.inputs:
            now = self._new.get(value, value)
            inputs.append(now if now.dtype is value.dtype else self._cast(now, value.dtype, value.name))
        self._nodes.append(replace(node, inputs=tuple(inputs)))
        for value in node.outputs:
            if value.dtype is DType.float32:
                self._new[value] = self._cast(value, self._dtype, value.name)

    def _operand(self, value: Value) -> Value:
        found = self._new.get(value)
        if found is None:
            narrow = value.dtype is DType.float32 and value in self._graph.constants
            found = self._new[value] = self._narrow_constant(value) if narrow else value
        return found

    def _narrow_constant(self, value: Value) -> Value:
        node = self._graph.producers.get(value)
        if node is not None and isinstance(node.op, Constant):
            narrow = Constant(Array(node.op.value.data.astype(self._dtype.numpy)))
            made = Value(self._names.take(value.name), value.type.with_dtype(self._dtype))
            self._nodes.append(replace(node, op=narrow, outputs=(made,)))
            return made
        return self._cast(value, self._dtype, value.name)

    def _converted(self, op: Primitive) -> Primitive:
        """Attributes that say float32 (of cast, one_hot, …) say the narrow type."""
        changes = {f.name: self._dtype for f in fields(op) if getattr(op, f.name) is DType.float32}
        if isinstance(op, Constant):
            return op
        return replace(op, **changes) if changes else op

    def _restored(self, output: Output) -> Value:
        if output.value in self._graph.inputs or output.value in self._graph.constants:
            return output.value
        value = self._new.get(output.value, output.value)
        if output.value.dtype is DType.float32 and value.dtype is self._dtype:
            return self._cast(value, DType.float32, output.name)
        return value

    def _cast(self, value: Value, dtype: DType, path: str) -> Value:
        made = Value(self._names.take(path), value.type.with_dtype(dtype))
        self._nodes.append(Node(Cast(dtype), (value,), (made,), path))
        return made


def _values(graph: Graph) -> Iterable[Value]:
    yield from graph.inputs
    yield from (p.value for p in graph.parameters)
    for node in graph.nodes:
        yield from node.outputs
