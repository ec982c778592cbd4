"""Mixed precision: the weights stay float32, and most arithmetic on activations runs in a 16-bit type.

As PyTorch's autocast does: convolutions, matrix products and recurrent layers take the narrow type; losses, softmax,
reductions, powers and logarithms take float32, and what they make stays float32; normalisations compute in float32 and
hand the narrow type on; all else follows its operands, float32 winning where they differ. Weights, constants and
scalars have no say: they take the type of the others. (Micikevicius et al. 2017, arXiv:1710.03740.)

Casts are nodes, so gradients arrive in float32 at the weights, and equal casts are made once.
"""

from __future__ import annotations

from dataclasses import replace

from netdsl.autodiff.extend import Extension
from netdsl.ir.build import make_node
from netdsl.ir.graph import Graph, Node, Output, Value
from netdsl.ir.types import DType
from netdsl.ops.constant import Cast

NARROW = frozenset({"convolution", "dense", "recurrent"})  # families
NORMALISATION = frozenset({"normalisation"})
#: Where 16 bits lose too much: sums of many terms, and functions that stretch their argument.
WIDE = frozenset(
    {
        *("softmax", "log_softmax", "softmax_nll", "onnx", "add_rows", "embedding"),
        *("exp", "log", "pow", "rsqrt", "erf", "softplus"),
        *("mean", "sum", "prod", "variance", "norm", "cumsum"),
    }
)


def to_mixed(graph: Graph, dtype: DType) -> Graph:
    """The graph with its activations in `dtype`, float16 or bfloat16; itself for float32. Inputs, parameters and
    outputs keep their types. Raises ValueError for another type."""
    if dtype is DType.float32:
        return graph
    if dtype not in (DType.float16, DType.bfloat16):
        raise ValueError(f"precision is {dtype}; it may be float32, float16 or bfloat16")
    mixed = _Mixed(graph, dtype)
    for node in graph.nodes:
        mixed.convert(node)
    outputs = tuple(Output(o.name, mixed.typed(mixed.now(o.value), o.value.dtype)) for o in graph.outputs)
    return replace(graph, nodes=tuple(mixed.extension.nodes), outputs=outputs)


class _Mixed:
    """One conversion: what stands for each value of the graph, and the casts made so far."""

    def __init__(self, graph: Graph, dtype: DType) -> None:
        self.extension = Extension(graph)
        self._graph = graph
        self._dtype = dtype
        self._floats = (DType.float32, dtype)
        self._new: dict[Value, Value] = {}
        self._casts: dict[tuple[Value, DType], Value] = {}

    def now(self, value: Value) -> Value:
        return self._new.get(value, value)

    def typed(self, value: Value, dtype: DType) -> Value:
        """A value of float32 or the narrow type in one of them; any other value as it is."""
        if value.dtype is dtype or value.dtype not in self._floats or dtype not in self._floats:
            return value
        key = value, dtype
        if key not in self._casts:
            self._casts[key] = self.extension.emit(Cast(dtype), value)
        return self._casts[key]

    def convert(self, node: Node) -> None:
        self.extension.at(node.path, node.place)
        operands = [self.now(v) for v in node.inputs]
        dtype = self._type(node, operands)
        inputs = tuple(self.typed(v, dtype) for v in operands)
        if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
            self.extension.keep(node)
            made = node.outputs
        else:
            new = make_node(node.op, inputs, self.extension.names, node.path, node.place)
            self.extension.keep(new)
            made = new.outputs
        if node.op.family in NORMALISATION and operands[0].dtype is self._dtype:
            made = tuple(self.typed(v, self._dtype) for v in made)
        self._new.update(zip(node.outputs, made, strict=True))

    def _type(self, node: Node, operands: list[Value]) -> DType:
        """What the node computes in."""
        if isinstance(node.op, Cast) or node.op.family in NORMALISATION or node.op.name in WIDE:
            return DType.float32 if not isinstance(node.op, Cast) else operands[0].dtype
        if node.op.family in NARROW:
            return self._dtype
        pairs = zip(node.inputs, operands, strict=True)
        deciding = {v.dtype for old, v in pairs if v.rank and old not in self._graph.constants}
        return self._dtype if self._dtype in deciding and DType.float32 not in deciding else DType.float32
