"""Constants and dimensions' run-time values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from netdsl.ir.arguments import DTYPE, TENSOR, Param
from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, GradientContext, Primitive
from netdsl.ir.types import Array, DType, NDArrayAny, TensorType, dtype_of


@dataclass(frozen=True)
class Constant(Primitive):
    """A constant tensor."""

    value: Array

    name: ClassVar[str] = "constant_tensor"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX Constant"
    differentiable: ClassVar[bool] = False

    @classmethod
    def of(cls, value: NDArrayAny | float | int | bool, dtype: DType) -> Constant:
        """A number or an array, converted to the element type."""
        return cls(Array(np.asarray(value).astype(dtype.numpy)))

    def infer(self) -> TensorType:
        return TensorType(dtype_of(self.value.data), self.value.data.shape)

    def evaluate(self) -> NDArrayAny:
        return self.value.data

    def lower(self, cx: Emitter, node: Node) -> str:
        return cx.array(self.value.data)


@dataclass(frozen=True)
class DimensionValue(Primitive):
    """A symbolic dimension's value when the model runs, as an int64 scalar."""

    dim: Dim

    name: ClassVar[str] = "dimension"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX Shape"
    foldable: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False

    def infer(self) -> TensorType:
        return TensorType(DType.int64, ())

    def evaluate(self) -> NDArrayAny:
        return np.asarray(self.dim, np.int64)

    def lower(self, cx: Emitter, node: Node) -> str:
        return cx.emit("Squeeze", cx.shape([self.dim]))


@dataclass(frozen=True)
class Cast(Primitive):
    """Converts to another element type, as NumPy's `astype` does (floats are cut towards zero)."""

    dtype: DType

    name: ClassVar[str] = "cast"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Cast"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("dtype", DTYPE))

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(self.dtype)

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return x.astype(self.dtype.numpy)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Cast", x, to=cx.onnx_type(self.dtype))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (cx.emit(Cast(node.inputs[0].dtype), dy),)


class NodeEmitting(Protocol):
    """The part of every context that makes constants and nodes."""

    def emit(self, op: Primitive, *inputs: Value) -> Value: ...

    def constant(self, value: NDArrayAny | float | int | bool, dtype: DType) -> Value: ...


def emit_dimension(cx: NodeEmitting, dim: Dim, dtype: DType) -> Value:
    """A dimension as a scalar: a constant, or its value when the model runs."""
    if isinstance(dim, int):
        return cx.constant(dim, dtype)
    value = cx.emit(DimensionValue(dim))
    return value if dtype is DType.int64 else cx.emit(Cast(dtype), value)
