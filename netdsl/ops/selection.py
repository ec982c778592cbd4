"""Choosing among elements: where, argmax, argmin, top_k. They cost nothing (see `activation`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import AXIS, BOOL, OPERAND, POSITIVE, TENSOR, Param
from netdsl.ir.dims import decide, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import (
    Emitter,
    GradientContext,
    LayerContext,
    OpError,
    Primitive,
    ShapeError,
    normal_axis,
    same_dtype,
)
from netdsl.ir.reach import POINTWISE, WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.along import AddAlong
from netdsl.ops.broadcast import broadcast
from netdsl.ops.elementwise import (
    BFLOAT16_WIDENED,
    NUMBERS,
    Numeric,
    Operand,
    as_tensor,
    operands,
    require_type,
)
from netdsl.ops.precision import wide


@dataclass(frozen=True)
class Where(Primitive):
    """`a` where `condition` (bool) is true, else `b`; all three broadcast. Numbers take the other operand's element
    type; two numbers make a float32, int64 or bool tensor."""

    name: ClassVar[str] = "where"
    family: ClassVar[str] = "selection"
    reference: ClassVar[str] = "ONNX Where"
    signature: ClassVar[tuple[Param, ...]] = (Param("condition", TENSOR), Param("a", OPERAND), Param("b", OPERAND))

    @classmethod
    def call(cls, cx: LayerContext, condition: Value, a: Operand, b: Operand) -> Value:
        cls._check_condition(condition.type)
        if isinstance(a, Value) or isinstance(b, Value):
            left, right = operands(cx, cls.name, (a, b))
        else:
            dtype = _common_type(a, b)
            left, right = as_tensor(cx, cls.name, a, dtype), as_tensor(cx, cls.name, b, dtype)
        return cx.emit(cls(), condition, left, right)

    @classmethod
    def _check_condition(cls, condition: TensorType) -> None:
        if condition.dtype is not DType.bool:
            raise ShapeError(
                f"where needs a bool condition, found {condition}", argument="condition", help="compare it: x != 0"
            )

    def infer(self, condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
        self._check_condition(condition)
        return TensorType(same_dtype(self.name, a, b), broadcast(self.name, condition, a, b))

    def evaluate(self, condition: NDArrayAny, a: NDArrayAny, b: NDArrayAny) -> NDArrayAny:
        return np.where(condition, a, b)

    def lower(self, cx: Emitter, node: Node, condition: str, a: str, b: str) -> str:
        dtype = node.inputs[1].dtype
        if dtype is DType.bool:  # ONNX Runtime's Where has no bool
            chosen, other = cx.emit("And", condition, a), cx.emit("And", cx.emit("Not", condition), b)
            return cx.emit("Or", chosen, other)
        to = BFLOAT16_WIDENED.get(dtype, dtype)
        if to is dtype:
            return cx.emit("Where", condition, a, b)
        a, b = (cx.emit("Cast", v, to=cx.onnx_type(to)) for v in (a, b))
        return cx.emit("Cast", cx.emit("Where", condition, a, b), to=cx.onnx_type(dtype))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        condition, a, b = node.inputs
        chosen = g.mul(cx, dy, g.cast(cx, condition, dy.dtype))
        da = g.sum_to(cx, chosen, a.type) if cx.wants(a) else None
        return None, da, g.sum_to(cx, g.sub(cx, dy, chosen), b.type) if cx.wants(b) else None


def _common_type(a: Operand, b: Operand) -> DType:
    if isinstance(a, bool) and isinstance(b, bool):
        return DType.bool
    return DType.float32 if isinstance(a, float) or isinstance(b, float) else DType.int64


@dataclass(frozen=True)
class ArgExtremum(Primitive):
    """Index (int64) of an extreme element along an axis, the first of equal ones."""

    axis: int = -1
    keep: bool = False

    onnx: ClassVar[str]
    family: ClassVar[str] = "reduction"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("axis", AXIS, -1), Param("keep", BOOL, False))
    differentiable: ClassVar[bool] = False

    @classmethod
    def call(cls, cx: LayerContext, x: Value, axis: int, keep: bool) -> Value:
        return cx.emit(cls(normal_axis(cls.name, axis, x.rank), keep), x)

    def infer(self, x: TensorType) -> TensorType:
        require_type(self.name, x, NUMBERS)
        axis = normal_axis(self.name, self.axis, x.rank)
        return TensorType(DType.int64, (*x.shape[:axis], *((1,) if self.keep else ()), *x.shape[axis + 1 :]))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE if self.axis % inputs[0].rank >= 2 else POINTWISE

    def function(self, x: Numeric) -> Numeric:
        """The NumPy rule."""
        raise TypeError(f"{self.name} has no NumPy rule")

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return np.asarray(self.function(wide(x)), np.int64)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        if node.inputs[0].dtype is DType.bfloat16:
            x = cx.emit("Cast", x, to=cx.onnx_type(DType.float32))
        return cx.emit(self.onnx, x, axis=self.axis, keepdims=int(self.keep))


@dataclass(frozen=True)
class ArgMax(ArgExtremum):
    """Index (int64) of the largest element along an axis, the first of equal ones."""

    name: ClassVar[str] = "argmax"
    reference: ClassVar[str] = "ONNX ArgMax"
    onnx: ClassVar[str] = "ArgMax"

    def function(self, x: Numeric) -> Numeric:
        return np.argmax(x, axis=self.axis, keepdims=self.keep)


@dataclass(frozen=True)
class ArgMin(ArgExtremum):
    """Index (int64) of the smallest element along an axis, the first of equal ones."""

    name: ClassVar[str] = "argmin"
    reference: ClassVar[str] = "ONNX ArgMin"
    onnx: ClassVar[str] = "ArgMin"

    def function(self, x: Numeric) -> Numeric:
        return np.argmin(x, axis=self.axis, keepdims=self.keep)


@dataclass(frozen=True)
class TopK(Primitive):
    """The `k` largest elements along an axis, largest first, and their indices (int64); of equal ones the first."""

    k: int
    axis: int = -1

    name: ClassVar[str] = "top_k"
    family: ClassVar[str] = "reduction"
    reference: ClassVar[str] = "ONNX TopK"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("k", POSITIVE), Param("axis", AXIS, -1))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, k: int, axis: int) -> tuple[Value, ...]:
        return cx.emit_all(cls(k, normal_axis(cls.name, axis, x.rank)), x)

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        require_type(self.name, x, NUMBERS)
        axis = normal_axis(self.name, self.axis, x.rank)
        if decide(">", self.k, x.shape[axis]):
            raise OpError(
                f"top_k: k={self.k} is more than the {to_text(x.shape[axis])} elements of axis {axis} of {x}",
                argument="k",
            )
        shape = (*x.shape[:axis], self.k, *x.shape[axis + 1 :])
        return x.with_shape(shape), TensorType(DType.int64, shape)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE if self.axis % inputs[0].rank >= 2 else POINTWISE

    def evaluate(self, x: NDArrayAny) -> tuple[NDArrayAny, NDArrayAny]:
        # Sorting the mirrored array upwards and mirroring back puts the first of equal elements first.
        mirrored = np.argsort(np.flip(wide(x), self.axis), axis=self.axis, kind="stable")
        order = x.shape[self.axis] - 1 - np.flip(mirrored, self.axis)
        indices = np.take(order, range(self.k), axis=self.axis).astype(np.int64)
        return np.take_along_axis(x, indices, self.axis), indices

    def lower(self, cx: Emitter, node: Node, x: str) -> tuple[str, ...]:
        bfloat16 = node.inputs[0].dtype is DType.bfloat16
        if bfloat16:
            x = cx.emit("Cast", x, to=cx.onnx_type(DType.float32))
        values, indices = cx.emit_all("TopK", 2, x, cx.ints([self.k]), axis=self.axis)
        return (cx.emit("Cast", values, to=cx.onnx_type(DType.bfloat16)) if bfloat16 else values), indices

    def gradient(self, cx: GradientContext, node: Node, dy: Value, _: None) -> Sequence[Value | None]:
        (x,) = node.inputs
        return (cx.emit(AddAlong(self.axis), g.zeros_like(cx, x), node.outputs[1], dy),)
