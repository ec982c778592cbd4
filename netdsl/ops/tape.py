"""Gradients of operators that are a formula of other operators: the formula is written once, and differentiated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny
from netdsl.ops import gradient_tools as g

Formula = Callable[..., Value | Sequence[Value]]


class _Tape:
    """A GradientContext that remembers the nodes which depend on the operands."""

    def __init__(self, cx: GradientContext, node: Node) -> None:
        self._cx = cx
        self._node = node
        self._known = {v for v in node.inputs if cx.wants(v)}
        self.nodes: list[Node] = []

    def wants(self, value: Value) -> bool:
        return value in self._known

    def emit_all(self, op: Primitive, *inputs: Value) -> tuple[Value, ...]:
        outputs = self._cx.emit_all(op, *inputs)
        if any(v in self._known for v in inputs):
            self._known.update(v for v in outputs if v.dtype.is_float)
            self.nodes.append(Node(op, inputs, outputs, self._node.path, self._node.place))
        return outputs

    def emit(self, op: Primitive, *inputs: Value) -> Value:
        (value,) = self.emit_all(op, *inputs)
        return value

    def constant(self, value: NDArrayAny | float | int | bool, dtype: DType) -> Value:
        return self._cx.constant(value, dtype)

    def dimension(self, dim: Dim, dtype: DType) -> Value:
        return self._cx.dimension(dim, dtype)


def formula_gradient(cx: GradientContext, node: Node, formula: Formula, *grads: Value | None) -> Sequence[Value | None]:
    """The gradients for the inputs of a node whose outputs are `formula(cx, *inputs)`, from those for the outputs. The
    formula is emitted again."""
    tape = _Tape(cx, node)
    made = formula(tape, *node.inputs)
    outputs = (made,) if isinstance(made, Value) else made
    found: dict[Value, Value] = {v: d for v, d in zip(outputs, grads, strict=True) if d is not None}
    nodes = tuple(tape.nodes)
    for inner in reversed(nodes):
        arrived = [found.pop(v, None) for v in inner.outputs]
        if all(d is None for d in arrived):
            continue
        for value, grad in zip(inner.inputs, inner.op.gradient(tape, inner, *arrived), strict=True):
            if grad is not None and tape.wants(value):
                found[value] = g.add(cx, found[value], grad) if value in found else grad
    return [found.pop(v, None) for v in node.inputs]  # a value that is read twice has one gradient, the sum
