"""ONNX's own definitions of its operators, as signatures of the language.

The package onnx is imported when a program first names one of its operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from netdsl.diagnostics import nearest
from netdsl.ir.arguments import TENSORS, ArgumentError, Kind, Param, is_int
from netdsl.ir.graph import Value
from netdsl.ir.opdef import OpError
from netdsl.ir.types import DType, TensorType

FIRST, LAST = 17, 26  #: the opsets that models may be written for

#: operators that make something else each time
RANDOM = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


@dataclass(frozen=True, slots=True)
class Version:
    """An operator as one opset defines it. `inputs` and `outputs` are the least and the largest number; `types` are the
    element types of each input by their names in ONNX (the last entry stands for all further ones)."""

    since: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    types: tuple[frozenset[str], ...]
    attributes: frozenset[str]

    def allows(self, number: int, dtype: DType) -> bool:
        return f"tensor({_NAMES.get(dtype, dtype.value)})" in self.types[min(number, len(self.types) - 1)]


_NAMES = {DType.float32: "float", DType.float64: "double"}


@dataclass(frozen=True, slots=True)
class Definition:
    """An operator by its newest definition. `tied`: for each input a name that inputs of one element type share."""

    name: str
    signature: tuple[Param, ...]
    inputs: tuple[str, ...]
    tied: tuple[str, ...]
    attributes: tuple[str, ...]
    newest: Version
    doc: str


class _Slot(Kind):
    """A tensor, or the numbers of a constant one."""

    is_tensor = True

    def convert(self, value: Any) -> Any:
        if isinstance(value, Value) or _is_numbers(value):
            return value
        raise ArgumentError("a tensor, or a number or list of numbers")


class _OptionalSlot(_Slot):
    """The same, or none."""

    def convert(self, value: Any) -> Any:
        return None if value is None else super().convert(value)


@dataclass(frozen=True)
class _Attribute(Kind):
    """An attribute of one of ONNX's types; `optional`: none leaves it out."""

    type: str = ""
    optional: bool = True

    def convert(self, value: Any) -> Any:
        if value is None and self.optional:
            return None
        expected, test = _ATTRIBUTES[self.type]
        if self.type in ("INTS", "FLOATS", "STRINGS"):
            items = value if isinstance(value, list | tuple) else (value,)
            if all(test(v) for v in items):
                return tuple(items)
        elif test(value):
            return value
        raise ArgumentError(expected)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_numbers(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, list | tuple) and all(map(_is_numbers, value)))


def _is_integer(value: Any) -> bool:
    return is_int(value) or isinstance(value, bool | DType)


#: ONNX's types of attributes: what an error calls them, and a test of one item
_ATTRIBUTES: Mapping[str, tuple[str, Any]] = {
    "INT": ("an integer, or an element type", _is_integer),
    "INTS": ("an integer or a list of integers", _is_integer),
    "FLOAT": ("a number", _is_number),
    "FLOATS": ("a number or a list of numbers", _is_number),
    "STRING": ("a string", lambda v: isinstance(v, str)),
    "STRINGS": ("a string or a list of strings", lambda v: isinstance(v, str)),
    "TENSOR": ("a number or a list of numbers", _is_numbers),
}


@cache
def operator_names() -> tuple[str, ...]:
    """Every operator of ONNX's default domain."""
    from onnx import defs

    return tuple(sorted({s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}))


@cache
def definition(name: str) -> Definition:
    """The newest definition of an operator in opsets 17 to 26. Raises OpError for a name that is none, for one that is
    newer or deprecated, and for operators on graphs."""
    from onnx import defs

    if name not in operator_names():
        close = nearest(name, operator_names())
        raise OpError(f"ONNX has no operator '{name}'", help=f"did you mean 'onnx.{close}'?" if close else ())
    if version(name, LAST) is None:
        newer = min(s.since_version for s in defs.get_all_schemas_with_history() if s.name == name and s.domain == "")
        if newer > LAST:
            raise OpError(f"onnx.{name} is of opset {newer}; netdsl writes models up to opset {LAST}")
        raise OpError(f"onnx.{name} is deprecated", help=_SUCCESSORS.get(name, ()))
    schema = defs.get_schema(name, LAST, "")
    kinds = {key: str(a.type).rpartition(".")[2] for key, a in schema.attributes.items()}
    if name in OPERATORS_ON_GRAPHS:
        raise OpError(f"onnx.{name} runs graphs of its own, which a program cannot give", help=_CONTROL)
    inputs = [_input(p) for p in schema.inputs]
    usable = sorted(k for k, kind in kinds.items() if kind in _ATTRIBUTES)
    attributes = [_attribute(k, kinds[k], schema.attributes[k].required) for k in usable]
    newest = version(name, LAST)
    assert newest is not None
    return Definition(
        name,
        (*inputs, *attributes, _OUTPUTS),
        tuple(p.name for p in inputs),
        tuple(p.type_str for p in schema.inputs),
        tuple(usable),
        newest,
        " ".join((schema.doc or "").split()),
    )


#: operators that run graphs
OPERATORS_ON_GRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_CONTROL = "if, for and repeat run when the program is compiled; where(condition, a, b) chooses between tensors"
_SUCCESSORS = {"Upsample": "onnx.Resize, or resize", "Scatter": "onnx.ScatterElements"}


def _input(parameter: Any) -> Param:
    option = str(parameter.option).rpartition(".")[2]
    if option == "Variadic":
        return Param(parameter.name, TENSORS)
    if option == "Optional":
        return Param(parameter.name, _OptionalSlot("tensor, numbers or none"), None)
    return Param(parameter.name, _Slot("tensor or numbers"))


def _attribute(name: str, type: str, required: bool) -> Param:
    kind = _Attribute(_ATTRIBUTES[type][0].removeprefix("a ").removeprefix("an "), type, not required)
    return Param(name, kind) if required else Param(name, kind, None)


class _Count(Kind):
    def convert(self, value: Any) -> int | None:
        if value is None or (is_int(value) and value >= 1):
            return value  # type: ignore[no-any-return]  # checked by the condition
        raise ArgumentError("a positive integer or none")


_OUTPUTS = Param("outputs", _Count("positive integer or none"), None)


@cache
def version(name: str, opset: int) -> Version | None:
    """An operator as an opset defines it; None where it has no such operator, or a deprecated one."""
    from onnx import defs

    try:
        schema = defs.get_schema(name, opset, "")
    except defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    constraints = {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints}
    types = tuple(constraints.get(p.type_str, frozenset({p.type_str})) for p in schema.inputs)
    return Version(
        schema.since_version,
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        types or (frozenset(),),
        frozenset(schema.attributes),
    )


def misfit(name: str, opset: int, inputs: Sequence[TensorType | None], attributes: Sequence[str]) -> str | None:
    """Why a node cannot be written for an opset, as the end of a sentence; None where it can."""
    found = version(name, opset)
    if found is None:
        return f"opset {opset} has no operator {name}"
    if len(inputs) > found.inputs[1]:
        return f"in opset {opset} it takes {found.inputs[1]} inputs, not {len(inputs)}"
    for attribute in attributes:
        if attribute not in found.attributes:
            return f"in opset {opset} it has no attribute {attribute}"
    for i, type in enumerate(inputs):
        if type is not None and not found.allows(i, type.dtype):
            return f"in opset {opset} input {i + 1} cannot be {type.dtype}"
    return None


def first_fit(name: str, inputs: Sequence[TensorType | None], attributes: Sequence[str], above: int) -> int | None:
    """The first opset above one for which a node can be written."""
    return next((o for o in range(above + 1, LAST + 1) if misfit(name, o, inputs, attributes) is None), None)
