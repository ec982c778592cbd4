"""Comparisons of tensors: bool tensors, through which no gradient passes. They cost nothing (see `activation`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.opdef import Emitter, ShapeError
from netdsl.ir.types import DType, TensorType
from netdsl.ops.elementwise import ALL_TYPES, Binary, Numeric

FAMILY = "comparison"


@dataclass(frozen=True)
class Comparison(Binary):
    """Two operands that broadcast, one of which may be a number; the result is bool."""

    family: ClassVar[str] = FAMILY
    result: ClassVar[DType | None] = DType.bool
    differentiable: ClassVar[bool] = False

    def check(self, x: TensorType) -> None:
        if x.dtype not in self.takes:
            raise ShapeError(f"{self.name}: bool values have no order, found {x}", help="convert them: cast(x, int32)")


@dataclass(frozen=True)
class Equal(Comparison):
    """`a == b`, also of bool tensors."""

    name: ClassVar[str] = "equal"
    reference: ClassVar[str] = "ONNX Equal"
    onnx: ClassVar[str] = "Equal"
    takes: ClassVar[frozenset[DType]] = ALL_TYPES
    commutative: ClassVar[bool] = True

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.equal(a, b)


@dataclass(frozen=True)
class NotEqual(Comparison):
    """`a != b`, also of bool tensors."""

    name: ClassVar[str] = "not_equal"
    reference: ClassVar[str] = "ONNX Not of Equal"
    takes: ClassVar[frozenset[DType]] = ALL_TYPES
    commutative: ClassVar[bool] = True

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.not_equal(a, b)

    def form(self, cx: Emitter, dtype: DType, a: str, b: str) -> str:
        return cx.emit("Not", cx.emit("Equal", a, b))


@dataclass(frozen=True)
class Less(Comparison):
    """`a < b`."""

    name: ClassVar[str] = "less"
    reference: ClassVar[str] = "ONNX Less"
    onnx: ClassVar[str] = "Less"

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.less(a, b)


@dataclass(frozen=True)
class LessEqual(Comparison):
    """`a <= b`."""

    name: ClassVar[str] = "less_equal"
    reference: ClassVar[str] = "ONNX LessOrEqual"
    onnx: ClassVar[str] = "LessOrEqual"

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.less_equal(a, b)


@dataclass(frozen=True)
class Greater(Comparison):
    """`a > b`."""

    name: ClassVar[str] = "greater"
    reference: ClassVar[str] = "ONNX Greater"
    onnx: ClassVar[str] = "Greater"

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.greater(a, b)


@dataclass(frozen=True)
class GreaterEqual(Comparison):
    """`a >= b`."""

    name: ClassVar[str] = "greater_equal"
    reference: ClassVar[str] = "ONNX GreaterOrEqual"
    onnx: ClassVar[str] = "GreaterOrEqual"

    def function(self, a: Numeric, b: Numeric) -> Numeric:
        return np.greater_equal(a, b)
