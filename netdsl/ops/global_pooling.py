"""Pooling to a given size: global and adaptive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import PER_AXIS, TENSOR, Param
from netdsl.ir.dims import Dim, ceil_div, exact_div, product, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, LayerContext, Primitive, ShapeError, require_float
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.along import AddAlong
from netdsl.ops.axis_matrix import AxisMatrix, transposed_along
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.selection import ArgMax
from netdsl.ops.spatial import axes_of, spatial_rank


@dataclass(frozen=True)
class GlobalPool(Primitive):
    """What global pools share: every spatial axis becomes 1."""

    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR),)

    def infer(self, x: TensorType) -> TensorType:
        require_float(self.name, x)
        spatial_rank(self.name, x)
        return x.with_shape((*x.shape[:2], *[1] * (x.rank - 2)))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """An addition or comparison per element."""
        return Cost(other=inputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE


@dataclass(frozen=True)
class GlobalAvgPool(GlobalPool):
    """The mean of each channel over all positions; the axes stay, as `[N, C, 1, 1]`."""

    name: ClassVar[str] = "global_avg_pool"
    family: ClassVar[str] = "pooling"
    reference: ClassVar[str] = "Lin et al. 2013 (arXiv:1312.4400); ONNX GlobalAveragePool"

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return like(np.mean(wide(x), axis=tuple(range(2, x.ndim)), keepdims=True), x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("GlobalAveragePool", x)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        (x,) = node.inputs
        return (g.expand_to(cx, g.divided(cx, dy, product(x.shape[2:])), x.shape),)


@dataclass(frozen=True)
class GlobalMaxPool(GlobalPool):
    """The largest value of each channel over all positions; the axes stay, as `[N, C, 1, 1]`."""

    name: ClassVar[str] = "global_max_pool"
    family: ClassVar[str] = "pooling"
    reference: ClassVar[str] = "ONNX GlobalMaxPool"

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return like(np.max(wide(x), axis=tuple(range(2, x.ndim)), keepdims=True), x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("GlobalMaxPool", x)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        """Of equal elements the first takes all, as in PyTorch."""
        (x,) = node.inputs
        rows = g.reshape(cx, x, (*x.shape[:2], product(x.shape[2:])))
        first = cx.emit(ArgMax(2, True), rows)
        grads = g.reshape(cx, dy, (*x.shape[:2], 1))
        return (g.reshape(cx, cx.emit(AddAlong(2), g.zeros_like(cx, rows), first, grads), x.shape),)


@dataclass(frozen=True)
class AdaptiveAvgPool(Primitive):
    """The means of a grid of bins, whatever the input's size: bin `i` of `size` covers the positions
    `floor(i*in/size)` to `ceil((i + 1)*in/size)`, so that bins overlap where `size` does not divide the input."""

    size: tuple[int, ...]

    name: ClassVar[str] = "adaptive_avg_pool"
    family: ClassVar[str] = "pooling"
    reference: ClassVar[str] = "PyTorch AdaptiveAvgPool2d; ONNX AveragePool, MatMul"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("size", PER_AXIS))

    @classmethod
    def call(cls, cx: LayerContext, x: Value, size: int | tuple[int, ...]) -> Value:
        sizes = axes_of("adaptive_avg_pool", size, spatial_rank("adaptive_avg_pool", x.type), "size")
        if all(s == 1 for s in sizes):
            return cx.emit(GlobalAvgPool(), x)
        return cx.emit(cls(sizes), x)

    def infer(self, x: TensorType) -> TensorType:
        require_float("adaptive_avg_pool", x)
        spatial_rank("adaptive_avg_pool", x)
        for axis, (dim, size) in enumerate(zip(x.shape[2:], self.size, strict=True)):
            if size > 1 and not isinstance(dim, int) and exact_div(dim, size) is None:
                raise ShapeError(
                    f"adaptive_avg_pool: the bins of axis {axis + 2} of {x} depend on {to_text(dim)}, "
                    f"which {size} is not known to divide",
                    argument="size",
                    help=f"declare the input as a multiple of {size}, such as {size}*h, "
                    "or give the symbol a value with --set",
                )
        return x.with_shape((*x.shape[:2], *self.size))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """The additions of each bin and one division."""
        return Cost(
            other=outputs[0].size * product(ceil_div(d, s) for d, s in zip(inputs[0].shape[2:], self.size, strict=True))
        )

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        y: Any = wide(x)
        for axis, size in enumerate(self.size, start=2):
            y = np.moveaxis(np.moveaxis(y, axis, -1) @ averaging(x.shape[axis], size).astype(y.dtype), -1, axis)
        return like(y, x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        input = node.inputs[0].type
        steps = [exact_div(d, s) for d, s in zip(input.shape[2:], self.size, strict=True)]
        known = [s for s in steps if isinstance(s, int)]
        if len(known) == len(steps):
            return cx.emit("AveragePool", x, kernel_shape=known, strides=known)
        for axis, size in enumerate(self.size, start=2):
            x = _emit_axis(cx, input.dtype, x, input.shape[axis], size, axis, input.rank)
        return x

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        (x,) = node.inputs
        for axis, size in enumerate(self.size, start=2):
            dim = x.shape[axis]
            if dim == size:
                continue
            step = exact_div(dim, size)
            if step is None:
                dy = transposed_along(cx, dy, axis, cx.emit(AdaptiveAvgMatrix(dim, x.dtype, size)))
                continue
            before, after = dy.shape[: axis + 1], dy.shape[axis + 1 :]
            share = g.unsqueeze(cx, g.divided(cx, dy, step), [axis + 1])
            dy = g.reshape(cx, g.expand_to(cx, share, (*before, step, *after)), (*before[:-1], dim, *after))
        return (dy,)


@dataclass(frozen=True)
class AdaptiveAvgMatrix(AxisMatrix):
    """What `adaptive_avg_pool` multiplies one spatial axis with, `[out, in]`."""

    size: int

    name: ClassVar[str] = "adaptive_avg_matrix"
    reference: ClassVar[str] = "PyTorch AdaptiveAvgPool1d"

    @property
    def operator(self) -> Primitive:
        return AdaptiveAvgPool((self.size,))


def _emit_axis(cx: Emitter, dtype: DType, x: str, dim: Dim, size: int, axis: int, rank: int) -> str:
    """The bins of one axis: a reduction where they are all of it, else a product with a matrix of means."""
    if dim == size:
        return x
    if size == 1:
        if cx.opset < 18:
            return cx.emit("ReduceMean", x, axes=[axis], keepdims=1)
        return cx.emit("ReduceMean", x, cx.ints([axis]), keepdims=1)
    perm = [*range(axis), *range(axis + 1, rank), axis]
    last = x if axis == rank - 1 else cx.emit("Transpose", x, perm=perm)
    if isinstance(dim, int):
        y = cx.emit("MatMul", last, cx.array(averaging(dim, size).astype(dtype.numpy)))
    else:
        y = _emit_equal_bins(cx, last, dim, size, rank)
    return y if axis == rank - 1 else cx.emit("Transpose", y, perm=[perm.index(i) for i in range(rank)])


def _emit_equal_bins(cx: Emitter, x: str, dim: Dim, size: int, rank: int) -> str:
    """The last axis, of a symbolic multiple of `size`, cut into equal bins."""
    cut = cx.emit("Reshape", x, cx.ints([*[0] * (rank - 1), size, -1]))
    if cx.opset < 18:
        return cx.emit("ReduceMean", cut, axes=[rank], keepdims=0)
    return cx.emit("ReduceMean", cut, cx.ints([rank]), keepdims=0)


def averaging(dim: int, size: int) -> NDArrayAny:
    """The matrix `[dim, size]` in float64 whose column `i` takes the mean of bin `i`."""
    matrix = np.zeros((dim, size))
    for i in range(size):
        begin, end = i * dim // size, -(-(i + 1) * dim // size)
        matrix[begin:end, i] = 1 / (end - begin)
    return matrix
