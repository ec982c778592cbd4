"""Joining and splitting along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import AXIS, SIZES, TENSOR, TENSORS, Param
from netdsl.ir.dims import Dim, bounds, decide, exact_div, to_text
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
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.indexing import Slice


@dataclass(frozen=True)
class Concat(Primitive):
    """Joins tensors along an axis; all other axes must be equal for all values of the symbols."""

    axis: int = 1

    name: ClassVar[str] = "concat"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Concat"
    signature: ClassVar[tuple[Param, ...]] = (Param("tensors", TENSORS), Param("axis", AXIS, 1))

    @classmethod
    def call(cls, cx: LayerContext, tensors: tuple[Value, ...], axis: int) -> Value:
        op = cls(normal_axis("concat", axis, tensors[0].rank))
        op.infer(*(t.type for t in tensors))
        return tensors[0] if len(tensors) == 1 else cx.emit(op, *tensors)

    def infer(self, *inputs: TensorType) -> TensorType:
        same_dtype("concat", *inputs)
        first = inputs[0]
        total: Dim = 0
        for i, other in enumerate(inputs):
            if other.rank != first.rank:
                raise ShapeError(
                    f"concat: {first} of rank {first.rank} and {other} of rank {other.rank} cannot be joined"
                )
            for axis in range(first.rank):
                if axis != self.axis and decide("==", first.shape[axis], other.shape[axis]) is not True:
                    raise self._unequal(first, other, i, axis)
            total += other.shape[self.axis]
        return first.with_shape((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]))

    def _unequal(self, first: TensorType, other: TensorType, index: int, axis: int) -> ShapeError:
        a, b = first.shape[axis], other.shape[axis]
        never = decide("==", a, b) is False
        fact = "differ" if never else "are not provably equal"
        message = (
            f"concat along axis {self.axis}: {first} and {other} (number {index + 1}) {fact} in axis {axis}: "
            f"{to_text(a)} and {to_text(b)}"
        )
        if never:
            return ShapeError(message, help="crop, pad or resize one of them, or join along another axis")
        return ShapeError(
            message, help="declare sizes that divide evenly, such as 32*h instead of H, or crop one of them"
        )

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return POINTWISE if self.axis < 2 else WHOLE

    def evaluate(self, *inputs: NDArrayAny) -> NDArrayAny:
        return np.concatenate(inputs, axis=self.axis)

    def lower(self, cx: Emitter, node: Node, *inputs: str) -> str:
        return cx.emit("Concat", *inputs, axis=self.axis)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        sizes = tuple(v.shape[self.axis] for v in node.inputs)
        if all(cx.wants(v) for v in node.inputs):
            return cx.emit_all(Split(sizes, self.axis), dy)
        grads: list[Value | None] = []
        start: Dim = 0
        for value, size in zip(node.inputs, sizes, strict=True):
            part = Slice((start,), (start + size,), (self.axis,), (1,))
            grads.append(cx.emit(part, dy) if cx.wants(value) else None)
            start += size
        return grads


@dataclass(frozen=True)
class Split(Primitive):
    """Cuts a tensor along an axis, into equal parts or into parts of given sizes: the inverse of `concat`."""

    sizes: tuple[Dim, ...]
    axis: int = 1

    name: ClassVar[str] = "split"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Split"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("parts", SIZES), Param("axis", AXIS, 1))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, parts: int | tuple[Dim, ...], axis: int) -> tuple[Value, ...]:
        axis = normal_axis("split", axis, x.rank)
        sizes = _equal_sizes(x.type, parts, axis) if isinstance(parts, int) else parts
        return cx.emit_all(cls(sizes, axis), x)

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        total: Dim = 0
        for size in self.sizes:
            low = bounds(size)[0]
            if low is None or low < 1:
                raise OpError(f"split: a part of {to_text(size)} is not positive", argument="parts")
            total += size
        if decide("==", total, x.shape[self.axis]) is not True:
            raise ShapeError(
                f"split: the parts add up to {to_text(total)}, "
                f"axis {self.axis} of {x} has {to_text(x.shape[self.axis])}",
                argument="parts",
            )
        before, after = x.shape[: self.axis], x.shape[self.axis + 1 :]
        return tuple(x.with_shape((*before, size, *after)) for size in self.sizes)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return POINTWISE if self.axis < 2 else WHOLE

    def evaluate(self, x: NDArrayAny) -> tuple[NDArrayAny, ...]:
        ends = np.cumsum([0, *self.sizes])
        return tuple(np.take(x, range(a, b), axis=self.axis) for a, b in pairwise(ends))

    def lower(self, cx: Emitter, node: Node, x: str) -> tuple[str, ...]:
        if len(self.sizes) == 1:
            return (cx.emit("Identity", x),)
        count = len(self.sizes)
        if all(size == self.sizes[0] for size in self.sizes):
            parts = {"num_outputs": count} if cx.opset >= 18 else {}
            return cx.emit_all("Split", count, x, axis=self.axis, **parts)
        return cx.emit_all("Split", count, x, cx.shape(self.sizes), axis=self.axis)

    def gradient(self, cx: GradientContext, node: Node, *grads: Value | None) -> Sequence[Value | None]:
        parts = [g.zeros_like(cx, v) if dy is None else dy for v, dy in zip(node.outputs, grads, strict=True)]
        return (parts[0] if len(parts) == 1 else cx.emit(Concat(self.axis), *parts),)


def _equal_sizes(x: TensorType, parts: int, axis: int) -> tuple[Dim, ...]:
    if parts > 10_000:
        raise OpError(f"split: {parts} parts are more than the limit of 10000", argument="parts")
    size = exact_div(x.shape[axis], parts)
    if size is None:
        raise ShapeError(
            f"split: axis {axis} of {x} has {to_text(x.shape[axis])}, which {parts} does not divide",
            argument="parts",
            help="give the sizes instead: split(x, [a, b])",
        )
    return (size,) * parts
