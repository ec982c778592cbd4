"""Shapes of the same elements: reshape and its special cases, transpose, expand and tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import AXES, INT, SHAPE, TENSOR, Param
from netdsl.ir.dims import Dim, Expr, bounds, decide, exact_div, is_size, product, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, GradientContext, LayerContext, OpError, Primitive, ShapeError, normal_axis
from netdsl.ir.reach import POINTWISE, WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType, shape_text
from netdsl.ops import gradient_tools as g
from netdsl.ops.precision import runs_in_float32


class _Moved(Primitive):
    """An operator that moves elements about: positions survive where the spatial axes do."""

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        x, y = inputs[0], outputs[0]
        return POINTWISE if x.rank == y.rank and x.shape[2:] == y.shape[2:] else WHOLE


def emit_reshape(cx: Emitter, name: str, before: Sequence[Dim], after: Sequence[Dim]) -> str:
    """ONNX Reshape from one shape to another of as many elements.

    A symbolic size is written as 0 where it is the input's own at that position, the last other one as -1, so that
    sizes are computed from `Shape` only where two of them remain.
    """
    if any(isinstance(d, int) and d == 0 for d in after):
        return cx.emit("Reshape", name, cx.shape(after), allowzero=1)
    target: list[int] = []
    for i, dim in enumerate(after):
        copied = i < len(before) and before[i] == dim
        target.append(dim if isinstance(dim, int) else 0 if copied else -1)
    # What is left for -1 is not known where a copied size, a count, is 0.
    empty = any(isinstance(d, Expr) and d.counts for d in after)
    if target.count(-1) > 1 or (empty and 0 in target and -1 in target):
        return cx.emit("Reshape", name, cx.shape(after), allowzero=1 if empty else None)
    return cx.emit("Reshape", name, cx.ints(target))


@dataclass(frozen=True)
class Reshape(_Moved):
    """The same elements, row by row, in another shape. One size may be -1: it is what remains."""

    shape: tuple[Dim, ...]

    name: ClassVar[str] = "reshape"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Reshape"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("shape", SHAPE, doc="sizes, one of them may be -1"),
    )

    @classmethod
    def call(cls, cx: LayerContext, x: Value, shape: tuple[Dim, ...]) -> Value:
        return cx.emit(cls(_resolved(x.type, shape)), x)

    def infer(self, x: TensorType) -> TensorType:
        if decide("==", product(self.shape), x.size) is not True:
            raise _size_mismatch(x, self.shape)
        return x.with_shape(self.shape)

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        sizes: Any = self.shape
        return x.reshape(sizes)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return emit_reshape(cx, x, node.inputs[0].shape, self.shape)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (g.reshape(cx, dy, node.inputs[0].shape),)


def _resolved(x: TensorType, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """`shape` with the -1 replaced."""
    open_axes = [i for i, d in enumerate(shape) if isinstance(d, int) and d == -1]
    if len(open_axes) > 1:
        raise OpError("reshape: only one size may be -1", argument="shape")
    for dim in shape:
        low = bounds(dim)[0]
        if dim != -1 and (low is None or low < 0):
            raise OpError(f"reshape: a size of {to_text(dim)} is not possible", argument="shape")
    if not open_axes:
        return shape
    known = product(d for d in shape if d != -1)
    rest = None if known == 0 else exact_div(x.size, known)
    if rest is None:
        raise ShapeError(
            f"reshape: the {to_text(x.size)} elements of {x} do not divide by {to_text(known)}, "
            f"the product of the sizes in {shape_text(shape)}",
            argument="shape",
        )
    return (*shape[: open_axes[0]], rest, *shape[open_axes[0] + 1 :])


def _size_mismatch(x: TensorType, shape: tuple[Dim, ...]) -> ShapeError:
    return ShapeError(
        f"reshape: {x} has {to_text(x.size)} elements, {shape_text(shape)} has {to_text(product(shape))}",
        argument="shape",
        help="one size may be -1: it is computed from the others",
    )


@dataclass(frozen=True)
class Flatten(_Moved):
    """Joins the axes `start` to `end`, both included, into one: `[N, C, H, W]` becomes `[N, C*H*W]`."""

    start: int = 1
    end: int = -1

    name: ClassVar[str] = "flatten"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Flatten, Reshape"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("start", INT, 1), Param("end", INT, -1))

    def infer(self, x: TensorType) -> TensorType:
        start = normal_axis("flatten", self.start, x.rank, "start")
        end = normal_axis("flatten", self.end, x.rank, "end")
        if start > end:
            raise OpError(
                f"flatten: the first axis {self.start} lies behind the last axis {self.end}", argument="start"
            )
        return x.with_shape((*x.shape[:start], product(x.shape[start : end + 1]), *x.shape[end + 1 :]))

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        start, end = self.start % x.ndim, self.end % x.ndim
        size = int(np.prod(x.shape[start : end + 1], dtype=np.int64))
        return x.reshape(*x.shape[:start], size, *x.shape[end + 1 :])

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        rank = node.inputs[0].rank
        if self.start % rank == 1 and self.end % rank == rank - 1:
            return cx.emit("Flatten", x, axis=1)
        return emit_reshape(cx, x, node.inputs[0].shape, node.output.shape)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (g.reshape(cx, dy, node.inputs[0].shape),)


@dataclass(frozen=True)
class Transpose(_Moved):
    """Reorders the axes: axis `i` of the result is axis `axes[i]` of `x`. Without `axes`, their order is reversed."""

    axes: tuple[int, ...]

    name: ClassVar[str] = "transpose"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Transpose"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("axes", AXES, None))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, axes: tuple[int, ...] | None) -> Value:
        order = (
            tuple(reversed(range(x.rank)))
            if axes is None
            else tuple(normal_axis("transpose", a, x.rank, "axes") for a in axes)
        )
        return cx.emit(cls(order), x)

    def infer(self, x: TensorType) -> TensorType:
        if sorted(self.axes) != list(range(x.rank)):
            raise OpError(
                f"transpose: {list(self.axes)} does not name each of the {x.rank} axes of {x} once", argument="axes"
            )
        return x.with_shape([x.shape[a] for a in self.axes])

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return POINTWISE if self.axes[2:] == tuple(range(2, len(self.axes))) else WHOLE

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return x.transpose(self.axes)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Transpose", x, perm=list(self.axes))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (g.transpose(cx, dy, [self.axes.index(a) for a in range(len(self.axes))]),)


@dataclass(frozen=True)
class Squeeze(_Moved):
    """Removes axes of size 1: those given, or every axis that is 1."""

    axes: tuple[int, ...]

    name: ClassVar[str] = "squeeze"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Squeeze"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("axes", AXES, None))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, axes: tuple[int, ...] | None) -> Value:
        if axes is None:
            return cx.emit(cls(tuple(i for i, d in enumerate(x.shape) if d == 1)), x)
        return cx.emit(cls(tuple(sorted({normal_axis("squeeze", a, x.rank, "axes") for a in axes}))), x)

    def infer(self, x: TensorType) -> TensorType:
        for axis in self.axes:
            if x.shape[axis] != 1:
                raise ShapeError(f"squeeze: axis {axis} of {x} has {to_text(x.shape[axis])}, not 1", argument="axes")
        return x.with_shape([d for i, d in enumerate(x.shape) if i not in self.axes])

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return np.squeeze(x, self.axes)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Squeeze", x, cx.ints(self.axes)) if self.axes else cx.emit("Identity", x)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (g.unsqueeze(cx, dy, self.axes),)


@dataclass(frozen=True)
class Unsqueeze(_Moved):
    """Adds axes of size 1, at the given positions of the result."""

    axes: tuple[int, ...]

    name: ClassVar[str] = "unsqueeze"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Unsqueeze"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("axes", AXES))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, axes: tuple[int, ...] | None) -> Value:
        if axes is None:
            raise OpError("unsqueeze: none is no axis; give the positions of the new axes", argument="axes")
        rank = x.rank + len(axes)
        order = tuple(sorted(normal_axis("unsqueeze", a, rank, "axes") for a in axes))
        if len(set(order)) < len(axes):
            raise OpError(f"unsqueeze: an axis stands twice in {list(axes)}", argument="axes")
        return cx.emit(cls(order), x)

    def infer(self, x: TensorType) -> TensorType:
        rest = iter(x.shape)
        return x.with_shape([1 if i in self.axes else next(rest) for i in range(x.rank + len(self.axes))])

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return np.expand_dims(x, self.axes)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Unsqueeze", x, cx.ints(self.axes))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (cx.emit(Squeeze(self.axes), dy),)


@dataclass(frozen=True)
class Expand(_Moved):
    """Repeats axes of size 1 up to a shape, as broadcasting does; -1 keeps an axis, new axes come in front."""

    shape: tuple[Dim, ...]

    name: ClassVar[str] = "expand"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Expand"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("shape", SHAPE))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, shape: tuple[Dim, ...]) -> Value:
        if len(shape) < x.rank:
            raise ShapeError(f"expand: {shape_text(shape)} has fewer axes than {x.type}", argument="shape")
        new = len(shape) - x.rank
        if any(d == -1 for d in shape[:new]):
            raise OpError("expand: -1 keeps an axis of the input; a new axis needs a size", argument="shape")
        return cx.emit(
            cls((*shape[:new], *(o if d == -1 else d for d, o in zip(shape[new:], x.shape, strict=True)))), x
        )

    def infer(self, x: TensorType) -> TensorType:
        new = len(self.shape) - x.rank
        for i, (old, size) in enumerate(zip(x.shape, self.shape[new:], strict=True)):
            if old != 1 and decide("==", old, size) is not True:
                raise ShapeError(
                    f"expand: axis {i} of {x} has {to_text(old)} and cannot become {to_text(size)}; "
                    "only axes of size 1 expand",
                    argument="shape",
                )
        for size in self.shape:
            if not is_size(size):
                raise OpError(f"expand: a size of {to_text(size)} is not possible", argument="shape")
        return x.with_shape(self.shape)

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        sizes: Any = self.shape
        return np.broadcast_to(x, sizes).copy()

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        # ONNX broadcasts both ways: a 1 keeps the input's size, so that no symbol needs to be computed for it.
        before = node.inputs[0].shape
        new = len(self.shape) - len(before)
        kept = [1 if i >= new and before[i - new] == d else d for i, d in enumerate(self.shape)]
        return cx.emit("Expand", x, cx.shape(kept))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (g.sum_to(cx, dy, node.inputs[0].type),)


@dataclass(frozen=True)
class Tile(Primitive):
    """Repeats the whole tensor along each axis: `repeats` has one number per axis, those of the last axes if fewer."""

    repeats: tuple[Dim, ...]

    name: ClassVar[str] = "tile"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Tile"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("repeats", SHAPE, doc="one number per axis"))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, repeats: tuple[Dim, ...]) -> Value:
        if len(repeats) > x.rank:
            raise OpError(
                f"tile: {len(repeats)} repeats for a tensor of rank {x.rank}",
                argument="repeats",
                help="add axes first: unsqueeze(x, axes)",
            )
        return cx.emit(cls((1,) * (x.rank - len(repeats)) + repeats), x)

    def infer(self, x: TensorType) -> TensorType:
        for repeat in self.repeats:
            if not is_size(repeat):
                raise OpError(f"tile: {to_text(repeat)} repeats are not possible", argument="repeats")
        return x.with_shape([d * r for d, r in zip(x.shape, self.repeats, strict=True)])

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return POINTWISE if all(r == 1 for r in self.repeats[2:]) else WHOLE

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        repeats: Any = self.repeats
        return np.tile(x, repeats)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Tile", x, cx.shape(self.repeats))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        (x,) = node.inputs
        copied = [i for i, r in enumerate(self.repeats) if r != 1]
        sizes: list[Dim] = []
        places = []
        for axis, dim in enumerate(x.shape):
            if axis in copied:
                places.append(len(sizes))
                sizes.append(self.repeats[axis])
            sizes.append(dim)
        return (g.total(cx, g.reshape(cx, dy, sizes), places),)
