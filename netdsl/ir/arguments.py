"""Signatures: the parameters of operators, and the kinds of values that they take.

A kind checks one plain value and gives it its canonical form. Values are Python's own (int, float, bool, str, None,
list, tuple), dimensions, element types, initializers and graph values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from netdsl.ir.dims import Dim, Expr, to_text
from netdsl.ir.graph import Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.types import DType


class ArgumentError(Exception):
    """A value that a kind does not take: what was expected, and what to write instead."""

    def __init__(self, expected: str, help: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.help = help


REQUIRED: Any = object()


@dataclass(frozen=True)
class Kind:
    """`convert` returns the canonical value or raises ArgumentError; `text` names the kind in documentation."""

    text: str
    is_tensor = False
    variadic = False

    def convert(self, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class Param:
    """A parameter of a signature. `default` REQUIRED: there is none; a str default may name another parameter
    (`stride=kernel`) when `default_from` is set."""

    name: str
    kind: Kind
    default: Any = REQUIRED
    default_from: str | None = None
    doc: str = ""

    @property
    def required(self) -> bool:
        return self.default is REQUIRED and self.default_from is None


def describe(value: Any) -> str:
    """How an error names a value: `the string "a"`, `a list of 3`, `a tensor float32[N, 64]`."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case int():
            return str(value) if abs(value) < 10**30 else "a very large integer"
        case float():
            return f"the float {value!r}"
        case str():
            return f'the string "{value}"' if len(value) < 60 else "a long string"
        case Expr():
            return f"the symbolic dimension {to_text(value)}"
        case Value():
            return f"a tensor {value.type}"
        case DType():
            return f"the element type {value}"
        case Initializer():
            return f"the initializer {value}"
        case list():
            return f"a list of {len(value)}"
        case tuple():
            return f"a tuple of {len(value)}"
        case _:
            return str(value)


class Tensor(Kind):
    is_tensor = True

    def convert(self, value: Any) -> Value:
        if isinstance(value, Value):
            return value
        raise ArgumentError("a tensor")


class Operand(Kind):
    """A tensor, or a plain number or dimension that takes the other operand's element type."""

    is_tensor = True

    def convert(self, value: Any) -> Value | int | float | bool | Expr:
        if isinstance(value, Value | int | float | Expr):
            return value
        raise ArgumentError("a tensor or a number")


class Tensors(Kind):
    """Any number of tensors by position, or one list of them. Converts to a tuple."""

    is_tensor = True
    variadic = True

    def convert(self, value: Any) -> tuple[Value, ...]:
        if isinstance(value, Value):
            return (value,)
        if isinstance(value, list | tuple) and value and all(isinstance(v, Value) for v in value):
            return tuple(value)
        raise ArgumentError("tensors, or one list of tensors")


class Operands(Tensors):
    """Like `Tensors`, but numbers may stand among them."""

    def convert(self, value: Any) -> tuple[Any, ...]:
        items = tuple(value) if isinstance(value, list | tuple) else (value,)
        if items and all(isinstance(v, Value | int | float | Expr) for v in items):
            return items
        raise ArgumentError("tensors or numbers, or one list of them")


def is_int(value: Any) -> bool:
    """An integer proper: no boolean, no float."""
    return isinstance(value, int) and not isinstance(value, bool)


def _float_help(value: Any) -> str:
    return "integers only: divide with // instead of /" if isinstance(value, float) else ""


def _symbol_help(value: Expr) -> str:
    if value.counts:
        return f"{min(value.counts)} depends on the data: it is known only when the model runs"
    return "a symbol has no value at compile time; give it one with --set"


@dataclass(frozen=True)
class Int(Kind):
    text: str = "integer"
    low: int | None = None
    high: int | None = None
    optional: bool = False

    def convert(self, value: Any) -> int | None:
        if self.optional and value is None:
            return None
        if is_int(value) and (self.low is None or value >= self.low) and (self.high is None or value <= self.high):
            return int(value)
        raise ArgumentError(self.expected, _symbol_help(value) if isinstance(value, Expr) else _float_help(value))

    @property
    def expected(self) -> str:
        if self.low == 1 and self.high is None:
            return "a positive integer"
        if self.low == 0 and self.high is None:
            return "an integer of 0 or more"
        if self.low is None and self.high is None:
            return "an integer"
        if self.low is not None and self.high is not None:
            return f"an integer from {self.low} to {self.high}"
        return f"an integer of {self.low} or more" if self.high is None else f"an integer of {self.high} or less"


@dataclass(frozen=True)
class Float(Kind):
    text: str = "float"
    low: float | None = None
    high: float | None = None
    below: float | None = None  #: exclusive upper limit
    above: float | None = None  #: exclusive lower limit
    optional: bool = False

    def convert(self, value: Any) -> float | None:
        if self.optional and value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and self._inside(value):
            return float(value)
        raise ArgumentError(self.expected)

    def _inside(self, value: float) -> bool:
        return (
            value == value
            and abs(value) < 1e308  # also keeps float() of a huge integer from overflowing
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
            and (self.above is None or value > self.above)
        )

    @property
    def expected(self) -> str:
        limits = [
            f"{word} {limit:g}"
            for word, limit in (
                ("at least", self.low),
                ("above", self.above),
                ("at most", self.high),
                ("below", self.below),
            )
            if limit is not None
        ]
        return " ".join(["a number", " and ".join(limits)]).strip()


class Bool(Kind):
    def convert(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise ArgumentError("true or false")


@dataclass(frozen=True)
class Choice(Kind):
    text: str = "string"
    choices: tuple[str, ...] = ()

    def convert(self, value: Any) -> str:
        if isinstance(value, str) and value in self.choices:
            return value
        raise ArgumentError("one of " + ", ".join(f'"{c}"' for c in self.choices))


@dataclass(frozen=True)
class PerAxis(Kind):
    """An integer for every spatial axis, or one per axis as a tuple or list. Converts to an int or a tuple of ints."""

    text: str = "integer or one per axis"
    low: int = 1

    def convert(self, value: Any) -> int | tuple[int, ...]:
        if is_int(value) and value >= self.low:
            return int(value)
        if isinstance(value, list | tuple) and value and all(is_int(v) and v >= self.low for v in value):
            return tuple(int(v) for v in value)
        one = "a positive integer" if self.low == 1 else f"an integer of {self.low} or more"
        raise ArgumentError(f"{one}, or one per spatial axis", _float_help(value))


Pads = tuple[tuple[int, int], ...]
PaddingValue = int | tuple[int | tuple[int, int], ...] | Literal["same", "valid"]


class Padding(Kind):
    """An integer, one per axis, a (begin, end) pair per axis, "same" or "valid"."""

    def convert(self, value: Any) -> PaddingValue:
        if value == "same" or value == "valid":
            return value  # type: ignore[no-any-return]
        if is_int(value) and value >= 0:
            return int(value)
        if isinstance(value, list | tuple) and value and all(self._item(v) for v in value):
            return tuple(tuple(v) if isinstance(v, list | tuple) else v for v in value)
        expected = '0 or more, one per spatial axis, a (begin, end) pair per axis, "same" or "valid"'
        raise ArgumentError(expected, _float_help(value))

    @staticmethod
    def _item(v: Any) -> bool:
        if isinstance(v, list | tuple):
            return len(v) == 2 and all(is_int(p) and p >= 0 for p in v)
        return is_int(v) and v >= 0


class Axes(Kind):
    """none (all axes), an axis, or several. Converts to None or a tuple of ints (not yet normalised)."""

    def convert(self, value: Any) -> tuple[int, ...] | None:
        if value is None:
            return None
        if is_int(value):
            return (value,)
        if isinstance(value, list | tuple) and all(is_int(v) for v in value):
            return tuple(value)
        raise ArgumentError("an axis, a list of axes, or none")


class Dimension(Kind):
    """A dimension: an integer or a symbolic one."""

    def convert(self, value: Any) -> Dim:
        if is_int(value) or isinstance(value, Expr):
            return value  # type: ignore[no-any-return]
        raise ArgumentError("an integer or a dimension", _float_help(value))


class Shape(Kind):
    """A list or tuple of dimensions."""

    def convert(self, value: Any) -> tuple[Dim, ...]:
        if is_int(value) or isinstance(value, Expr):
            return (value,)
        if isinstance(value, list | tuple) and all(is_int(v) or isinstance(v, Expr) for v in value):
            return tuple(value)
        bad = next((v for v in value if isinstance(v, float)), None) if isinstance(value, list | tuple) else value
        raise ArgumentError("a list of dimensions", _float_help(bad))


class ElementType(Kind):
    def convert(self, value: Any) -> DType:
        if isinstance(value, DType):
            return value
        raise ArgumentError("an element type such as float32")


class InitializerKind(Kind):
    """An initializer, or none for the layer's own default."""

    def convert(self, value: Any) -> Initializer | None:
        if value is None or isinstance(value, Initializer):
            return value
        raise ArgumentError("an initializer such as he_normal or normal(0, 0.02)")


class Fractions(Kind):
    """A positive number for every axis, or one per axis, as exact fractions: 0.5 is 1/2 and 1/3 is one third. none:
    absent."""

    def convert(self, value: Any) -> Fraction | tuple[Fraction, ...] | None:
        if value is None:
            return None
        if self._ok(value):
            return self._exact(value)
        if isinstance(value, list | tuple) and value and all(self._ok(v) for v in value):
            return tuple(self._exact(v) for v in value)
        raise ArgumentError("a positive number, or one per spatial axis")

    @staticmethod
    def _ok(v: Any) -> bool:
        return isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < 2**31

    @staticmethod
    def _exact(v: int | float) -> Fraction:
        simple = Fraction(v).limit_denominator(1000)
        return simple if float(simple) == float(v) else Fraction(repr(v))


class Sizes(Kind):
    """A number of equal parts, or a list of sizes."""

    def convert(self, value: Any) -> int | tuple[Dim, ...]:
        if is_int(value) and value >= 1:
            return int(value)
        if isinstance(value, list | tuple) and value and all(is_int(v) or isinstance(v, Expr) for v in value):
            return tuple(value)
        raise ArgumentError("a number of equal parts, or a list of sizes")


class Anything(Kind):
    """Left to the operator itself."""


TENSOR = Tensor("tensor")
OPERAND = Operand("tensor or number")
TENSORS = Tensors("tensors")
OPERANDS = Operands("tensors or numbers")
INT = Int()
POSITIVE = Int("positive integer", low=1)
NATURAL = Int("integer of 0 or more", low=0)
FLOAT = Float()
RATE = Float("number from 0 to below 1", low=0, below=1)
EPSILON = Float("number above 0", above=0)
BOOL = Bool("true or false")
PER_AXIS = PerAxis()
PER_AXIS_0 = PerAxis("integer or one per axis", low=0)
PADDING = Padding('integer, pairs, "same" or "valid"')
AXIS = Int("axis")
AXES = Axes("axis, axes or none")
DIM = Dimension("dimension")
SHAPE = Shape("list of dimensions")
DTYPE = ElementType("element type")
INITIALIZER = InitializerKind("initializer")
FRACTIONS = Fractions("number or one per axis")
SIZES = Sizes("number of parts or list of sizes")
ANY = Anything("value")


#: How layers with `weight` and `bias` take their initializers; None: the layer's own.
INITIALIZERS = (Param("weight_init", INITIALIZER, None), Param("bias_init", INITIALIZER, None))


def choice(*choices: str) -> Choice:
    return Choice("one of " + ", ".join(f'"{c}"' for c in choices), choices)


def per_axis(op: str, value: int | Sequence[int], rank: int, argument: str) -> tuple[int, ...]:
    """One integer per spatial axis. Raises ValueError with the sentence for the user if the count is wrong."""
    if isinstance(value, int):
        return (value,) * rank
    if len(value) != rank:
        axes = "axis" if rank == 1 else "axes"
        raise ValueError(f"{op}: '{argument}' has {len(value)} values for {rank} spatial {axes}")
    return tuple(value)
