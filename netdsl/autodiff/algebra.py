"""Arithmetic on graph values with plain numbers, for code that emits long formulas."""

from __future__ import annotations

from typing import Protocol

from netdsl.ir.graph import Value
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import DType
from netdsl.ops.arithmetic import Add, Div, Mul, Pow, Sub
from netdsl.ops.selection import Where
from netdsl.ops.unary import Sqrt

Term = Value | float


class Emits(Protocol):
    """What arithmetic needs of a graph in the making."""

    def emit(self, op: Primitive, *inputs: Value) -> Value: ...

    def constant(self, value: float, dtype: DType) -> Value: ...


class Algebra:
    """`a.add(x, 1.0)`: one operand at least is a value; a number takes its element type. Terms that change nothing
    (`x + 0`, `x * 1`) emit nothing."""

    def __init__(self, cx: Emits) -> None:
        self._cx = cx

    def _value(self, term: Term, like: Term) -> Value:
        if isinstance(term, Value):
            return term
        assert isinstance(like, Value)
        return self._cx.constant(term, like.dtype)

    def add(self, a: Term, b: Term) -> Value:
        if isinstance(a, Value) and b == 0.0:
            return a
        return self._cx.emit(Add(), self._value(a, b), self._value(b, a))

    def sub(self, a: Term, b: Term) -> Value:
        return self._cx.emit(Sub(), self._value(a, b), self._value(b, a))

    def mul(self, a: Term, b: Term) -> Value:
        if isinstance(a, Value) and b == 1.0:
            return a
        return self._cx.emit(Mul(), self._value(a, b), self._value(b, a))

    def div(self, a: Term, b: Term) -> Value:
        return self._cx.emit(Div(), self._value(a, b), self._value(b, a))

    def pow(self, a: Term, b: Term) -> Value:
        return self._cx.emit(Pow(), self._value(a, b), self._value(b, a))

    def sqrt(self, x: Value) -> Value:
        return self._cx.emit(Sqrt(), x)

    def where(self, condition: Value, a: Value, b: Term) -> Value:
        return self._cx.emit(Where(), condition, a, self._value(b, a))

    def mix(self, old: Value, new: Value, keep: float) -> Value:
        """`keep * old + (1 - keep) * new`: a moving average."""
        return self.add(self.mul(old, keep), self.mul(new, 1.0 - keep))
