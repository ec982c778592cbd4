"""Arithmetic on tensors: what `+ - * / // % **` mean, and the joins `add multiply maximum minimum`. Costs: see
`activation`.

All broadcast as NumPy does. Element types never mix; a plain number takes the tensor's type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import OPERANDS, Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, GradientContext, LayerContext, Operator, OpError, ShapeError
from netdsl.ir.types import DType, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.comparison import Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual
from netdsl.ops.elementwise import FLOATS, SMALL_WIDENED, Binary, Numeric, Operand, check_number, operands
from netdsl.ops.unary import Log, Neg

FAMILY = "arithmetic"


def chain(cx: LayerContext, op: type[Binary], label: str, inputs: Sequence[Operand]) -> Value:
    """`op` over all operands from left to right. Raises OpError unless there is a tensor among them."""
    first, *rest = operands(cx, label, inputs)
    for other in rest:
        first = cx.emit(op(), first, other)
    return first


@dataclass(frozen=True)
class Join(Binary):
    """A binary primitive that a program calls with any number of operands; several make a chain, from left to right."""

    family: ClassVar[str] = FAMILY
    signature: ClassVar[tuple[Param, ...]] = (Param("inputs", OPERANDS),)
    commutative: ClassVar[bool] = True
    flops_per_element: ClassVar[int] = 1

    @classmethod
    def call(cls, cx: LayerContext, inputs: Sequence[Operand]) -> Value:  # type: ignore[override]  # variadic
        return chain(cx, cls, cls.name, inputs)


@dataclass(frozen=True)
class Add(Join):
    """Sum of tensors and numbers: `add(a, b, …)`, `a + b`."""

    name: ClassVar[str] = "add"
    reference: ClassVar[str] = "ONNX Add"
    onnx: ClassVar[str] = "Add"

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.add(a, b)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        return dy, dy


@dataclass(frozen=True)
class Mul(Binary):
    """Product of two operands, `a * b`."""

    name: ClassVar[str] = "mul"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Mul"
    onnx: ClassVar[str] = "Mul"
    commutative: ClassVar[bool] = True
    flops_per_element: ClassVar[int] = 1

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.multiply(a, b)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        a, b = node.inputs
        return g.mul(cx, dy, b) if wants[0] else None, g.mul(cx, dy, a) if wants[1] else None


class Multiply(Operator):
    """Product of tensors and numbers: `multiply(a, b, …)`; in graphs a chain of `mul`, as from `a * b`."""

    name: ClassVar[str] = "multiply"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Mul"
    signature: ClassVar[tuple[Param, ...]] = (Param("inputs", OPERANDS),)

    @classmethod
    def call(cls, cx: LayerContext, inputs: Sequence[Operand]) -> Value:
        return chain(cx, Mul, cls.name, inputs)


@dataclass(frozen=True)
class Maximum(Join):
    """The largest of tensors and numbers, element by element."""

    name: ClassVar[str] = "maximum"
    reference: ClassVar[str] = "ONNX Max"
    onnx: ClassVar[str] = "Max"

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.maximum(a, b)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        return _shares(cx, ">", node, dy, wants)


@dataclass(frozen=True)
class Minimum(Join):
    """The smallest of tensors and numbers, element by element."""

    name: ClassVar[str] = "minimum"
    reference: ClassVar[str] = "ONNX Min"
    onnx: ClassVar[str] = "Min"

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.minimum(a, b)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        return _shares(cx, "<", node, dy, wants)


@dataclass(frozen=True)
class Sub(Binary):
    """Difference, `a - b`."""

    name: ClassVar[str] = "sub"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Sub"
    onnx: ClassVar[str] = "Sub"
    flops_per_element: ClassVar[int] = 1

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.subtract(a, b)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        return dy, g.neg(cx, dy) if wants[1] else None


@dataclass(frozen=True)
class Div(Binary):
    """Quotient of floats, `a / b`. Integers are refused: `//` is their quotient."""

    name: ClassVar[str] = "div"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Div"
    onnx: ClassVar[str] = "Div"
    flops_per_element: ClassVar[int] = 1

    def check(self, x: TensorType) -> None:
        if x.dtype not in FLOATS:
            raise ShapeError(
                f"div: / needs float tensors, found {x}",
                help="cast(x, float32) / y, or x // y for the quotient rounded down",
            )

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.divide(a, b)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        da = g.div(cx, dy, node.inputs[1])
        return da, g.neg(cx, g.mul(cx, da, node.output)) if wants[1] else None


class _Floored(Binary):
    """Refuses a plain 0 as an integer's divisor, on which ONNX runtimes stop the process."""

    @classmethod
    def call(cls, cx: LayerContext, a: Operand, b: Operand) -> Value:
        if isinstance(a, Value) and a.dtype.is_integer and not isinstance(b, Value) and b == 0:
            raise OpError(f"{cls.name}: division of {a.type} by zero", argument="b")
        return super().call(cx, a, b)

    @staticmethod
    def _opposed(cx: Emitter, dtype: DType, rest: str, b: str) -> str:
        """Whether a remainder's sign is not the divisor's (never so for a remainder of 0)."""
        return cx.emit("Less", cx.emit("Mul", rest, cx.emit("Sign", b)), cx.scalar(0, dtype))


@dataclass(frozen=True)
class Mod(_Floored):
    """Remainder with the divisor's sign, `a % b` as in Python: `a - b * floor(a / b)`, exact."""

    name: ClassVar[str] = "mod"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Python %; ONNX Mod"
    flops_per_element: ClassVar[int] = 4

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.remainder(a, b)

    def form(self, cx: Emitter, dtype: DType, a: str, b: str) -> str:
        if dtype.is_integer:
            return cx.emit("Mod", a, b, fmod=0)
        rest = cx.emit("Mod", a, b, fmod=1)  # C's remainder: it has the dividend's sign
        return cx.emit("Where", self._opposed(cx, dtype, rest, b), cx.emit("Add", rest, b), rest)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        a, b = node.inputs
        return dy, g.neg(cx, g.mul(cx, dy, cx.emit(FloorDiv(), a, b))) if wants[1] else None


@dataclass(frozen=True)
class FloorDiv(_Floored):
    """Quotient rounded down, `a // b` as in Python: floats stay floats, and `a == b * (a // b) + a % b`."""

    name: ClassVar[str] = "floor_div"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Python //; ONNX Div and Mod"
    flops_per_element: ClassVar[int] = 2

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.floor_divide(a, b)

    def form(self, cx: Emitter, dtype: DType, a: str, b: str) -> str:
        if dtype is DType.uint8:
            return cx.emit("Div", a, b)
        if dtype.is_integer:
            quotient = cx.emit("Div", a, b)  # rounded towards zero
            rest = cx.emit("Sub", a, cx.emit("Mul", quotient, b))
            return self._lowered(cx, dtype, quotient, rest, b)
        # a / b itself may be rounded up to an integer; a without its remainder is a multiple of b.
        rest = cx.emit("Mod", a, b, fmod=1)
        quotient = cx.emit("Round", cx.emit("Div", cx.emit("Sub", a, rest), b))
        floored = self._lowered(cx, dtype, quotient, rest, b)
        return cx.emit("Where", cx.emit("Equal", b, cx.scalar(0, dtype)), cx.emit("Div", a, b), floored)

    def _lowered(self, cx: Emitter, dtype: DType, quotient: str, rest: str, b: str) -> str:
        """One less where the quotient was rounded up."""
        return cx.emit("Sub", quotient, cx.emit("Cast", self._opposed(cx, dtype, rest, b), to=cx.onnx_type(dtype)))

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        a, b = node.inputs
        return g.zeros_like(cx, a) if wants[0] else None, g.zeros_like(cx, b) if wants[1] else None


@dataclass(frozen=True)
class Pow(Binary):
    """Power, `a ** b`, in the operands' element type; integers to a negative number are refused."""

    name: ClassVar[str] = "pow"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "ONNX Pow"
    onnx: ClassVar[str] = "Pow"
    widen: ClassVar[Mapping[DType, DType]] = SMALL_WIDENED
    flops_per_element: ClassVar[int] = 1

    @classmethod
    def call(cls, cx: LayerContext, a: Operand, b: Operand) -> Value:
        if isinstance(a, Value) and a.dtype.is_integer and isinstance(b, int | float):
            check_number(cls.name, b, a.dtype)
            if b < 0:
                raise OpError(
                    f"pow: {a.type} to the negative power {b} is no integer",
                    argument="b",
                    help="convert it first: cast(x, float32)",
                )
        return super().call(cx, a, b)

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.power(a, b)

    def backward(
        self, cx: GradientContext, node: Node, dy: Value, wants: tuple[bool, bool]
    ) -> tuple[Value | None, Value | None]:
        a, b = node.inputs
        da = db = None
        if wants[0]:
            lower = g.sub(cx, b, g.mask(cx, "!=", b, 0))  # stays 0 for a constant, whose slope is 0 at a = 0 too
            da = g.mul(cx, dy, g.mul(cx, b, cx.emit(Pow(), a, lower)))
        if wants[1]:
            logarithm = cx.emit(Log(), g.where(cx, g.compare(cx, "==", a, 0), 1, a))
            db = g.mul(cx, dy, g.mul(cx, node.output, logarithm))
        return da, db


def _shares(
    cx: GradientContext, symbol: str, node: Node, dy: Value, wants: tuple[bool, bool]
) -> tuple[Value | None, Value | None]:
    """The chosen operand takes the gradient; equal ones take half each, as in PyTorch."""
    a, b = node.inputs
    ahead, level = g.mask(cx, symbol, a, b), g.mask(cx, "==", a, b)
    da = g.mul(cx, dy, g.add(cx, ahead, g.mul(cx, level, 0.5)))
    return da, g.sub(cx, dy, da) if wants[1] else None


INFIX: Mapping[str, type[Binary]] = MappingProxyType(
    {
        "+": Add,
        "-": Sub,
        "*": Mul,
        "/": Div,
        "//": FloorDiv,
        "%": Mod,
        "**": Pow,
        "==": Equal,
        "!=": NotEqual,
        "<": Less,
        "<=": LessEqual,
        ">": Greater,
        ">=": GreaterEqual,
    }
)


def binary(cx: LayerContext, symbol: str, left: Operand, right: Operand) -> Value:
    """`left symbol right` for one of the symbols of `INFIX`; one operand at least is a tensor. Raises OpError."""
    op = INFIX[symbol]
    return op.call(cx, (left, right)) if issubclass(op, Join) else op.call(cx, left, right)


def negate(cx: LayerContext, x: Value) -> Value:
    """`-x`. Raises ShapeError for bool."""
    return cx.emit(Neg(), x)
