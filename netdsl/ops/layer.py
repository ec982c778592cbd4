"""The context in which an operator's `call` runs: parameters and nodes under one layer's path."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from netdsl.diagnostics import nearest
from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import Dim, to_text
from netdsl.ir.graph import Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import OpError, Primitive
from netdsl.ir.types import DType, NDArrayAny
from netdsl.ops.constant import Constant, emit_dimension
from netdsl.source import Place


class Layer:
    """The `LayerContext` of one layer: its nodes and parameters go to a builder under the layer's path."""

    def __init__(self, builder: GraphBuilder, path: str, place: Place | None = None, *, frozen: bool = False) -> None:
        self.builder = builder
        self.path = path
        self.place = place
        self.frozen = frozen

    def parameter(
        self, name: str, shape: Sequence[Dim], initializer: Initializer, *, dtype: DType, buffer: bool = False
    ) -> Value:
        for dim in shape:
            if not isinstance(dim, int):
                raise OpError(
                    f"the parameter {self.path}.{name} would have the symbolic dimension {to_text(dim)};"
                    " parameters need integers",
                    help=() if dim.counts else "give the input's dimension a number, or the symbol one with --set",
                )
        made = self.builder.parameter(
            f"{self.path}.{name}",
            shape,
            initializer,
            dtype=dtype,
            kind="buffer" if buffer else "parameter",
            trainable=not (buffer or self.frozen),
            place=self.place,
        )
        return made.value

    def count(self, name: str) -> Dim:
        return self.builder.count(name)

    def parameters_matching(self, pattern: str) -> tuple[Value, ...]:
        trainable = {p.name: p.value for p in self.builder.parameters if p.trainable and p.kind == "parameter"}
        found = tuple(value for name, value in trainable.items() if fnmatchcase(name, pattern))
        if not found:
            close = nearest(pattern, trainable)
            hint = f"did you mean {close}?" if close else "" if trainable else "there are no trainable parameters"
            raise OpError(f'no trainable parameter matches the pattern "{pattern}"', help=hint or ())
        return found

    def emit(self, op: Primitive, *inputs: Value) -> Value:
        return self.builder.emit(op, *inputs, path=self.path, place=self.place)

    def emit_all(self, op: Primitive, *inputs: Value) -> tuple[Value, ...]:
        return self.builder.node(op, *inputs, path=self.path, place=self.place).outputs

    def constant(self, value: NDArrayAny | float | int | bool, dtype: DType) -> Value:
        return self.builder.emit(Constant.of(value, dtype), path=f"{self.path}.constant", place=self.place)

    def dimension(self, dim: Dim, dtype: DType) -> Value:
        return emit_dimension(self, dim, dtype)

    def constant_value(self, value: Value) -> NDArrayAny | None:
        made = next((n.op for n in reversed(self.builder.nodes) if n.outputs and n.outputs[0] is value), None)
        return made.value.data if isinstance(made, Constant) else None
