"""Selection by tensors of positions, and literals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import ANY, AXIS, DTYPE, POSITIVE, TENSOR, Param, describe
from netdsl.ir.dims import Dim, product
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    Operator,
    OpError,
    Primitive,
    ShapeError,
    normal_axis,
)
from netdsl.ir.reach import POINTWISE, WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.constant import Cast
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.shape import emit_reshape

#: Rows up to which their sums are a product with ones and zeros, where ScatterND cannot be trusted; above, elements are
#: added one by one
ONE_HOT = 256


def as_positions(cx: LayerContext, op: str, argument: str, value: Value) -> Value:
    """An integer tensor as int32 or int64. Raises ShapeError for another element type."""
    if not value.dtype.is_integer:
        raise ShapeError(
            f"{op} needs integer {argument}, found {value.type}",
            argument=argument,
            help=f"convert them: cast({argument}, int64)",
        )
    return value if value.dtype in (DType.int32, DType.int64) else cx.emit(Cast(DType.int64), value)


@dataclass(frozen=True)
class Gather(Primitive):
    """The entries of an axis at given positions, which may count from the end: `x[:, indices]` for `axis=1`.

    The axes of `indices` take the place of `axis`.
    """

    axis: int = 0

    name: ClassVar[str] = "gather"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Gather"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("indices", TENSOR), Param("axis", AXIS, 0))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, indices: Value, axis: int) -> Value:
        op = cls(normal_axis("gather", axis, x.rank))
        return cx.emit(op, x, as_positions(cx, "gather", "indices", indices))

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        if self.axis >= x.rank or indices.dtype not in (DType.int32, DType.int64):
            raise ShapeError(f"gather: {indices} does not select from axis {self.axis} of {x}")
        return x.with_shape((*x.shape[: self.axis], *indices.shape, *x.shape[self.axis + 1 :]))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return POINTWISE if self.axis < 2 and inputs[1].rank == 1 else WHOLE

    def evaluate(self, x: NDArrayAny, indices: NDArrayAny) -> NDArrayAny:
        positions: Any = indices
        return np.asarray(np.take(x, positions, axis=self.axis))

    def lower(self, cx: Emitter, node: Node, x: str, indices: str) -> str:
        return cx.emit("Gather", x, indices, axis=self.axis)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, indices = node.inputs
        return cx.emit(AddRows(self.axis, x.shape[self.axis]), indices, dy), None


@dataclass(frozen=True)
class AddRows(Primitive):
    """Zeros with each entry of `dy` added at the position along `axis` that `indices` gives: the gradient of
    `gather`. Counts an addition per entry."""

    axis: int
    size: Dim

    name: ClassVar[str] = "add_rows"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX ScatterND, ScatterElements, OneHot"

    def infer(self, indices: TensorType, dy: TensorType) -> TensorType:
        end = self.axis + indices.rank
        if dy.shape[self.axis : end] != indices.shape:
            raise ShapeError(f"add_rows: {indices} does not fit {dy} at axis {self.axis}")
        return dy.with_shape((*dy.shape[: self.axis], self.size, *dy.shape[end:]))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=inputs[1].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, indices: NDArrayAny, dy: NDArrayAny) -> NDArrayAny:
        places: Any = indices
        size: Any = self.size
        shape = (*dy.shape[: self.axis], size, *dy.shape[self.axis + indices.ndim :])
        y = np.zeros(shape, wide(dy).dtype)
        np.add.at(y, (*[slice(None)] * self.axis, places), wide(dy))
        return like(y, dy)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, indices: str, dy: str) -> str:
        places, grad = (v.type for v in node.inputs)
        end = self.axis + places.rank
        first = [*range(self.axis, end), *range(self.axis), *range(end, grad.rank)]
        moved = [grad.shape[a] for a in first]
        rest = moved[places.rank :]
        if self.axis:
            dy = cx.emit("Transpose", dy, perm=first)
        if places.dtype is not DType.int64:
            indices = cx.emit("Cast", indices, to=cx.onnx_type(DType.int64))
        rows, width = product(places.shape), product(rest)
        at = emit_reshape(cx, indices, places.shape, (rows, 1))
        sums = self._sums(cx, at, emit_reshape(cx, dy, moved, (rows, width)), (rows, width), grad.dtype)
        y = emit_reshape(cx, sums, (self.size, width), (self.size, *rest))
        back = [*range(1, self.axis + 1), 0, *range(self.axis + 1, len(rest) + 1)]
        return cx.emit("Transpose", y, perm=back) if self.axis else y

    def _sums(self, cx: Emitter, at: str, dy: str, shape: tuple[Dim, Dim], dtype: DType) -> str:
        """`[size, width]` of `at` `[rows, 1]` and `dy` `[rows, width]`."""
        rows, width = shape
        if not cx.target.adds_in_order and isinstance(self.size, int) and self.size <= ONE_HOT:
            values = cx.array(np.array([0, 1], np.float32))
            picked = cx.emit("OneHot", emit_reshape(cx, at, (rows, 1), (rows,)), cx.ints([self.size]), values, axis=0)
            if dtype is not DType.float32:
                picked = cx.emit("Cast", picked, to=cx.onnx_type(dtype))
            return cx.emit("MatMul", picked, dy)
        zeros = cx.emit("Expand", cx.scalar(0, dtype), cx.shape([self.size, width]))
        if cx.target.adds_in_order:
            return cx.emit("ScatterND", zeros, at, dy, reduction="add")
        places = cx.emit("Expand", at, cx.shape([rows, width]))
        return cx.emit("ScatterElements", zeros, places, dy, axis=0, reduction="add")

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        indices, grad = node.inputs
        return None, cx.emit(Gather(self.axis), dy, indices) if cx.wants(grad) else None


@dataclass(frozen=True)
class OneHot(Primitive):
    """A last axis of `classes` zeros with a one at each id. An id from -classes to -1 counts from the end; any other
    gives zeros alone."""

    classes: int
    dtype: DType = DType.float32

    name: ClassVar[str] = "one_hot"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX OneHot"
    differentiable: ClassVar[bool] = False
    signature: ClassVar[tuple[Param, ...]] = (
        Param("ids", TENSOR),
        Param("classes", POSITIVE),
        Param("dtype", DTYPE, DType.float32),
    )

    @classmethod
    def call(cls, cx: LayerContext, ids: Value, classes: int, dtype: DType) -> Value:
        return cx.emit(cls(classes, dtype), as_positions(cx, "one_hot", "ids", ids))

    def infer(self, ids: TensorType) -> TensorType:
        return TensorType(self.dtype, (*ids.shape, self.classes))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, ids: NDArrayAny) -> NDArrayAny:
        numbers: Any = ids
        positions = np.where(numbers < 0, numbers + self.classes, numbers)
        return np.asarray(positions[..., None] == np.arange(self.classes)).astype(self.dtype.numpy)

    def lower(self, cx: Emitter, node: Node, ids: str) -> str:
        if node.inputs[0].dtype is DType.int32:
            ids = cx.emit("Cast", ids, to=cx.onnx_type(DType.int64))
        direct = self.dtype is DType.float32
        values = cx.array(np.array([0, 1], np.float32 if direct else np.int64))
        y = cx.emit("OneHot", ids, cx.ints([self.classes]), values, axis=-1)
        return y if direct or self.dtype is DType.int64 else cx.emit("Cast", y, to=cx.onnx_type(self.dtype))


class Literal(Operator):
    """A constant tensor from a number or nested lists of numbers of equal lengths."""

    name: ClassVar[str] = "tensor"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Constant"
    signature: ClassVar[tuple[Param, ...]] = (Param("list", ANY), Param("dtype", DTYPE, DType.float32))

    @classmethod
    def call(cls, cx: LayerContext, list: Any, dtype: DType) -> Value:
        shape = _list_shape(list)
        leaves: Any = []
        _collect(list, shape, dtype, leaves)
        return cx.constant(np.array(leaves, dtype.numpy).reshape(shape), dtype)


def _list_shape(value: Any) -> tuple[int, ...]:
    """The lengths along the first entries, which all others must have too."""
    shape = []
    while isinstance(value, list | tuple):
        shape.append(len(value))
        if not value:
            raise OpError("tensor: an empty list has no elements", argument="list")
        value = value[0]
    return tuple(shape)


def _collect(value: Any, shape: tuple[int, ...], dtype: DType, leaves: list[Any]) -> None:
    """Appends the numbers of nested lists in order. Raises OpError unless they are of one shape and of the type."""
    if shape:
        if not isinstance(value, list | tuple) or len(value) != shape[0]:
            raise OpError(
                "tensor: every list at one level needs the same length; "
                f"expected a list of {shape[0]}, found {describe(value)}",
                argument="list",
            )
        for item in value:
            _collect(item, shape[1:], dtype, leaves)
        return
    if not _fits(value, dtype):
        raise OpError(f"tensor: {describe(value)} is no {dtype}", argument="list", help=_literal_help(value, dtype))
    leaves.append(value)


def _literal_help(value: Any, dtype: DType) -> str:
    return (
        "name the element type: tensor([…], dtype=float32)"
        if isinstance(value, float) and not dtype.is_float
        else "give numbers"
    )


def _fits(value: Any, dtype: DType) -> bool:
    if dtype is DType.bool:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if dtype.is_float:
        return isinstance(value, float) or abs(value) < 2**1000
    limits = np.iinfo(dtype.numpy)  # type: ignore[type-var]  # an integer type
    return isinstance(value, int) and limits.min <= value <= limits.max
