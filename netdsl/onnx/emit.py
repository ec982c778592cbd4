"""Emits ONNX nodes: the `Emitter` that operators' `lower` rules take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, defs, helper

from netdsl.ir.build import NameSpace
from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Target
from netdsl.ir.types import DType, NDArrayAny
from netdsl.onnx.shapes import Shapes
from netdsl.onnx.tensors import ConstantPool
from netdsl.ops.onnx_schema import RANDOM

ONNX_TYPES = {
    DType.float32: TensorProto.FLOAT,
    DType.float16: TensorProto.FLOAT16,
    DType.bfloat16: TensorProto.BFLOAT16,
    DType.float64: TensorProto.DOUBLE,
    DType.int8: TensorProto.INT8,
    DType.uint8: TensorProto.UINT8,
    DType.int32: TensorProto.INT32,
    DType.int64: TensorProto.INT64,
    DType.bool: TensorProto.BOOL,
}

CPU = Target()
OF = "::"  #: between a domain that is not ONNX's own and an operator of it


@dataclass(frozen=True)
class _Block:
    """The nodes of the model or of a subgraph, and each by what it computes."""

    nodes: list[NodeProto]
    made: dict[object, NodeProto] = field(default_factory=dict)


class NodeEmitter:
    """The nodes of one model. A layer's own node is called by the layer's path; helpers around it, and what they make,
    by the path and their operator: `head/Transpose`."""

    def __init__(self, opset: int, names: NameSpace, inputs: Mapping[Value, str], target: Target = CPU) -> None:
        self.opset = opset
        self.target = target
        self.nodes: list[NodeProto] = []
        self.pool = ConstantPool(names)
        self._names = names
        self._node_names = NameSpace()
        self._shapes = Shapes(self, tuple(inputs), inputs)
        self._path = ""
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._sharing = False
        self._shared: set[str] = set()
        self._whole = self._block = _Block(self.nodes)

    # What operators' rules call ----------------------------------------------------------------------------------

    def emit(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        return self.emit_all(op_type, 1, *inputs, **attributes)[0]

    def emit_all(self, op_type: str, outputs: int, *inputs: str, **attributes: Any) -> tuple[str, ...]:
        attributes = {k: v for k, v in attributes.items() if v is not None}
        label = f"{self._path}/{op_type.rpartition(OF)[2]}"
        if outputs == 1:
            folded = self.pool.derive(op_type, inputs, attributes, label)
            if folded is not None:
                return (folded,)
        node = self._node(op_type, inputs, attributes)
        same = self._block.made.get(_identity(node)) if op_type not in RANDOM else None
        if same is not None and len(same.output) == outputs:
            return tuple(same.output)
        names = [self._names.take(label) for _ in range(outputs)]
        self._append(node, names)
        if self._sharing:
            self._shared.update(names)
        return tuple(names)

    def subgraph(self, inputs: int, build: Callable[..., Sequence[str]]) -> GraphProto:
        names = [self._names.take(f"{self._path}/body") for _ in range(inputs)]
        with self._into(_Block([])) as block:
            outputs: list[str] = []
            for name in build(*names):  # each is made by a node of the subgraph, and has a name of its own
                own = any(name in node.output for node in block.nodes) and name not in outputs
                outputs.append(name if own else self._copy(name))
        return GraphProto(
            name=f"{self._path}/body",
            node=block.nodes,
            input=[ValueInfoProto(name=name) for name in names],
            output=[ValueInfoProto(name=name) for name in outputs],
        )

    def _copy(self, name: str) -> str:
        copy = self._names.take(f"{self._path}/Identity")
        self._append(self._node("Identity", [name], {}), [copy])
        return copy

    def is_constant(self, name: str) -> bool:
        return name in self.pool

    def ints(self, values: Sequence[int]) -> str:
        return self.array(np.asarray(list(values), np.int64))

    def scalar(self, value: float | int | bool, dtype: DType) -> str:
        with np.errstate(over="ignore"):
            return self.array(np.asarray(value).astype(dtype.numpy))

    def array(self, array: NDArrayAny) -> str:
        return self.pool.array(array, f"{self._path}/constant")

    def shape(self, dims: Sequence[Dim]) -> str:
        return self._shapes.vector(dims)

    def onnx_type(self, dtype: DType) -> int:
        return int(ONNX_TYPES[dtype])

    # What the export calls ---------------------------------------------------------------------------------------

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Nodes that belong to no layer, and whose outputs any layer may read: they keep their names."""
        before = self._path, self._metadata, self._sharing
        self._path, self._metadata, self._sharing = SHAPES, (), True
        try:
            with self._into(self._whole):
                yield
        finally:
            self._path, self._metadata, self._sharing = before

    @contextmanager
    def _into(self, block: _Block) -> Iterator[_Block]:
        """New nodes go to a block."""
        before, self._block = self._block, block
        try:
            yield block
        finally:
            self._block = before

    def lower(self, node: Node, inputs: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
        """Emits a graph node. Its outputs get the `wanted` names, except for those that no new node makes (an operand
        passed on, a constant); returns the names that they have."""
        self._path, self._metadata = node.path, tuple(_metadata(node))
        start = len(self.nodes)
        results = node.op.lower(self, node, *inputs)
        made = (results,) if isinstance(results, str) else tuple(results)
        names = self._renamed(made, wanted, self.nodes[start:], node.path)
        self._shapes.found(node, names)
        return names

    def identity(self, name: str, output: str) -> None:
        """A node that gives an operand, or a constant, a second name."""
        self._path, self._metadata = output, ()
        self._append(self._node("Identity", [name], {}), [output])

    def _renamed(
        self, made: Sequence[str], wanted: Sequence[str], own: Sequence[NodeProto], path: str
    ) -> tuple[str, ...]:
        """Puts the wanted names on what the layer's own nodes make; the one that makes the first is called `path`."""
        makers = {name: n for n in own for name in n.output if name not in self._shared}
        names = {a: b for a, b in zip(made, wanted, strict=True) if a in makers}
        for proto in own if names else ():
            _rename(proto, names)
            self._whole.made[_identity(proto)] = proto
        main = makers.get(made[0]) if made else None
        if main is not None:
            main.name = self._node_names.take(path)
        return tuple(names.get(name, name) for name in made)

    def _append(self, node: NodeProto, outputs: Sequence[str]) -> None:
        for name in node.input:
            self.pool.use(name)
        node.name = self._node_names.take(f"{self._path}/{node.op_type}")
        node.output.extend(outputs)
        for key, text in self._metadata:
            node.metadata_props.add(key=key, value=text)
        self._block.made.setdefault(_identity(node), node)
        self._block.nodes.append(node)

    def _node(self, op_type: str, inputs: Sequence[str], attributes: dict[str, Any]) -> NodeProto:
        domain, _, name = op_type.rpartition(OF)
        node = NodeProto(op_type=name, domain=domain or None, input=inputs)
        types = {} if domain else _attribute_types(name, self.opset)
        for key in sorted(attributes):
            node.attribute.append(_attribute(key, attributes[key], types.get(key)))
        return node


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Gives tensors other names, also where subgraphs read them."""
    for names_of in (node.input, node.output):
        for i, name in enumerate(names_of):
            if name in names:
                names_of[i] = names[name]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, names)


def _identity(node: NodeProto) -> object:
    """What two nodes that compute the same have in common."""
    attributes = tuple(a.SerializeToString(deterministic=True) for a in node.attribute)
    return node.domain, node.op_type, tuple(node.input), attributes


SHAPES = "shape"  #: the path of the nodes that compute symbols' values


def _metadata(node: Node) -> list[tuple[str, str]]:
    metadata = [("path", node.path), ("operator", node.op.name)]
    if node.place is not None:
        metadata.insert(0, ("source", str(node.place)))
    return metadata


@cache
def _attribute_types(op_type: str, opset: int) -> dict[str, int]:
    """The attributes of an operator as the opset defines it. Raises onnx's SchemaError for one that is not in it."""
    schema = defs.get_schema(op_type, opset, "")
    if schema.deprecated:
        raise ValueError(f"ONNX {op_type} is deprecated in opset {opset}")
    return {name: _type_code(a.type) for name, a in schema.attributes.items()}


def _type_code(type: Any) -> int:
    return int(type.value)


def _attribute(key: str, value: Any, type: int | None) -> AttributeProto:
    """An attribute of the type that the operator's definition says, so that 1 is a float where one is due; without a
    definition, of the value's own."""
    if type == AttributeProto.FLOAT:
        return AttributeProto(name=key, type=AttributeProto.FLOAT, f=float(value))
    if type == AttributeProto.INT:
        return AttributeProto(name=key, type=AttributeProto.INT, i=int(value))
    if type == AttributeProto.INTS:
        return AttributeProto(name=key, type=AttributeProto.INTS, ints=[int(v) for v in value])
    if type == AttributeProto.FLOATS:
        return AttributeProto(name=key, type=AttributeProto.FLOATS, floats=[float(v) for v in value])
    return helper.make_attribute(key, value)
