"""Operators of ONNX that pass through: `onnx.Name(x, …, attribute=value)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, LayerContext, Operator, OpError, Primitive, ShapeError
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import Array, DType, NDArrayAny, TensorType, dtype_of
from netdsl.ops.onnx_inference import Attributes, Slot, Spec, attribute_value, evaluate_node, infer_types
from netdsl.ops.onnx_schema import RANDOM, Definition, definition, first_fit, misfit

MAX_CONSTANT = 1024  #: elements of an operand whose values the types may depend on


@dataclass(frozen=True)
class OnnxNode(Primitive):
    """An operator of ONNX as it stands: `slots` says for each of its inputs whether it is the next of the node's
    (true), absent (false) or a constant. Its work is not known and not counted."""

    operator: str
    slots: tuple[Slot, ...]
    attributes: Attributes = ()
    outputs: int = 1

    name: ClassVar[str] = "onnx"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX"
    foldable: ClassVar[bool] = False  # it may be random
    differentiable: ClassVar[bool] = False
    counted: ClassVar[bool] = False
    retyped: ClassVar[bool] = False

    @property
    def repeatable(self) -> bool:  # type: ignore[override]  # it depends on the field
        return self.operator not in RANDOM

    @property
    def title(self) -> str:
        return f"onnx.{self.operator}"

    @property
    def _spec(self) -> Spec:
        return Spec(self.operator, self.slots, self.attributes, self.outputs)

    def infer(self, *inputs: TensorType) -> tuple[TensorType, ...]:
        return infer_types(self._spec, inputs)

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost()

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, *inputs: NDArrayAny) -> tuple[NDArrayAny, ...]:
        return evaluate_node(self._spec, inputs)

    def lower(self, cx: Emitter, node: Node, *inputs: str) -> tuple[str, ...]:
        self._check_opset(cx.opset, node)
        names = iter(inputs)
        operands = [cx.array(s.data) if isinstance(s, Array) else next(names) if s else "" for s in self.slots]
        attributes = {name: attribute_value(value) for name, value in self.attributes}
        return cx.emit_all(self.operator, self.outputs, *operands, **attributes)

    def _check_opset(self, opset: int, node: Node) -> None:
        """Raises DiagnosticError where the opset has no such node."""
        types = iter(v.type for v in node.inputs)
        given = [_type_of(s) if isinstance(s, Array) else next(types) if s else None for s in self.slots]
        attributes = [name for name, _ in self.attributes]
        reason = misfit(self.operator, opset, given, attributes)
        if reason is None:
            return
        later = first_fit(self.operator, given, attributes, opset)
        help = f"compile with --opset {later}, which has it" if later else "an older form of it has other inputs"
        place = node.place
        raise DiagnosticError(
            [
                error(
                    "opset",
                    f"{self.title}: {reason}",
                    place.span if place else None,
                    path=place.path if place else "",
                    help=help,
                )
            ]
        )


def _type_of(array: Array) -> TensorType:
    return TensorType(dtype_of(array.data), array.data.shape)


@cache
def onnx_operator(name: str) -> type[Operator]:
    """The operator of the language that passes an ONNX operator through. Raises OpError for a name that is none."""
    found = definition(name)

    class PassThrough(Operator):
        @classmethod
        def call(cls, cx: LayerContext, outputs: int | None, **arguments: Any) -> Value | tuple[Value, ...]:
            return _emit(cx, found, outputs, arguments)

    PassThrough.__doc__ = found.doc
    PassThrough.name = f"onnx.{name}"
    PassThrough.family = "onnx"
    PassThrough.signature = found.signature
    PassThrough.reference = f"ONNX {name}"
    return PassThrough


def _emit(
    cx: LayerContext, found: Definition, outputs: int | None, arguments: dict[str, Any]
) -> Value | tuple[Value, ...]:
    values: list[Value] = []
    slots: list[Slot] = []
    types: dict[str, DType] = {}
    given = [v for name in found.inputs for v in _operands(arguments[name])]
    ties = [t for name, t in zip(found.inputs, found.tied, strict=True) for _ in _operands(arguments[name])]
    for value, tie in zip(given, ties, strict=True):
        if isinstance(value, Value):
            types.setdefault(tie, value.dtype)
    _check_types(found, given)
    for i, (value, tie) in enumerate(zip(given, ties, strict=True)):
        known = cx.constant_value(value) if isinstance(value, Value) else None
        if known is not None and known.size <= MAX_CONSTANT:
            slots.append(Array(known))
        elif value is None or isinstance(value, Value):
            slots.append(value is not None)
            values += [value] if value is not None else []
        else:
            slots.append(_constant(found, i, value, types.get(tie)))
    while slots and slots[-1] is False:
        slots.pop()
    attributes = tuple((a, _canonical(found, a, arguments[a])) for a in found.attributes if arguments[a] is not None)
    count = _output_count(found, outputs, dict(attributes), slots)
    made = cx.emit_all(OnnxNode(found.name, tuple(slots), attributes, count), *values)
    return made[0] if count == 1 else made


def _check_types(found: Definition, given: Sequence[Any]) -> None:
    for i, value in enumerate(given):
        if isinstance(value, Value) and not found.newest.allows(i, value.dtype):
            name = found.inputs[min(i, len(found.inputs) - 1)]
            takes = " or ".join(str(t) for t in DType if found.newest.allows(i, t))
            raise ShapeError(
                f"onnx.{found.name}: {name} cannot be {value.type}; it may be {takes}",
                argument=name,
                help=f"convert it first: cast(x, {takes.split(' ')[0]})" if takes else (),
            )


def _operands(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) and all(isinstance(v, Value) for v in value) and value else (value,)


def _constant(found: Definition, number: int, value: Any, tied: DType | None) -> Array:
    """A number or list as a constant of the type of the operands it goes with, else of the first that ONNX takes."""
    array, argument = _array(found, value), found.inputs[number]
    natural = DType.bool if array.dtype == np.bool_ else DType.float32 if array.dtype.kind == "f" else DType.int64
    wanted = tied or next(
        (t for t in (natural, DType.float32, DType.int64, DType.int32) if found.newest.allows(number, t)), natural
    )
    if array.dtype.kind == "f" and not wanted.is_float:
        raise OpError(f"onnx.{found.name}: {argument} is {wanted}, and the numbers are floats", argument=argument)
    made = array.astype(wanted.numpy)
    if wanted.is_integer and (made != array).any():
        raise OpError(f"onnx.{found.name}: {argument} is {wanted}, which does not hold the numbers", argument=argument)
    return Array(made)


def _array(found: Definition, value: Any) -> NDArrayAny:
    try:
        array: NDArrayAny = np.array(value, np.int64 if isinstance(value, list | tuple) and not value else None)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "bif":
        raise OpError(f"onnx.{found.name}: the lists of a constant need the same length, and integers of 64 bits")
    return array


def _canonical(found: Definition, name: str, value: Any) -> Any:
    """An attribute as a node keeps it."""
    kind = next(p.kind for p in found.signature if p.name == name)
    if getattr(kind, "type", "") == "TENSOR":
        array = _array(found, value)
        return Array(array.astype(np.float32) if array.dtype.kind == "f" else array)
    return int(value) if isinstance(value, bool) else value


def _output_count(found: Definition, outputs: int | None, attributes: dict[str, Any], slots: Sequence[Slot]) -> int:
    low, high = found.newest.outputs
    if outputs is None:
        sizes = slots[1].data.size if found.name == "Split" and len(slots) > 1 and isinstance(slots[1], Array) else 0
        return int(attributes.get("num_outputs", 0) or sizes or low or 1)
    if not low <= outputs <= high:
        limits = f"{low} to {high}" if low != high else f"{low}"
        message = f"onnx.{found.name} has {limits} outputs, not {outputs}"
        raise OpError(message, argument="outputs")
    return outputs
