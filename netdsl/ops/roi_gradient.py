"""Gradients of roi_align and roi_pool, from what they take of each position of the feature map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.dims import Dim, product
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import dense
from netdsl.ops import gradient_tools as g
from netdsl.ops.along import AddAlong
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.reduction import CumSum, onnx_reduce
from netdsl.ops.roi_sampling import sampling_weights, window_positions
from netdsl.ops.shape import emit_reshape


@dataclass(frozen=True)
class RoiMatrix(Primitive):
    """What each bin of `roi_align` takes of each position along a spatial axis (0: height), `[K, bins, length]`, from
    boxes `[K, 4]`: `y = rows @ x @ columns.T` for each box."""

    axis: int
    bins: int
    length: Dim
    scale: float
    sampling_ratio: int
    aligned: bool

    name: ClassVar[str] = "roi_matrix"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX RoiAlign"
    differentiable: ClassVar[bool] = False

    def infer(self, boxes: TensorType) -> TensorType:
        return boxes.with_shape((boxes.shape[0], self.bins, self.length))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Per sample and position 5 operations; adaptive samples are taken as 2."""
        return Cost(other=outputs[0].size * 5 * (self.sampling_ratio if self.sampling_ratio > 0 else 2))

    def evaluate(self, boxes: NDArrayAny) -> NDArrayAny:
        numbers, length = wide(boxes), self.length
        assert isinstance(length, int)
        ends = numbers[:, 1 - self.axis], numbers[:, 3 - self.axis]
        return like(sampling_weights(*ends, self.bins, length, self.scale, self.sampling_ratio, self.aligned), boxes)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, boxes: str) -> str:
        dtype = node.inputs[0].dtype
        start, extent = self._box(cx, dtype, boxes)  # [K, 1, 1]
        step = cx.emit("Div", extent, cx.scalar(self.bins, dtype))
        samples, count = self._samples(cx, dtype, step)  # [S], and [K, 1, 1] or a scalar
        share = cx.emit("Max", count, cx.scalar(1, dtype))
        inner = cx.emit("Mul", cx.emit("Add", samples, cx.scalar(0.5, dtype)), step)
        bins = cx.array(np.arange(self.bins).reshape(-1, 1).astype(dtype.numpy))
        first = cx.emit("Add", start, cx.emit("Mul", bins, step))  # [K, bins, 1]
        at = cx.emit("Add", first, cx.emit("Div", inner, share))  # [K, bins, S]
        taken = self._taken(cx, dtype, at, cx.emit("Less", samples, count))
        return cx.emit("Div", onnx_reduce(cx, "ReduceSum", taken, (2,), False), share)

    def _taken(self, cx: Emitter, dtype: DType, at: str, counted: str) -> str:
        """What a bilinear sample takes of each position, `[K, bins, S, length]`: 1 less their distance."""
        length = cx.emit("Cast", cx.shape([self.length]), to=cx.onnx_type(dtype))
        outside = cx.emit("Or", cx.emit("Less", at, cx.scalar(-1, dtype)), cx.emit("Greater", at, length))
        inside = cx.emit("And", cx.emit("Not", outside), counted)
        near = cx.emit("Max", at, cx.scalar(0, dtype))
        near = cx.emit("Min", near, cx.emit("Sub", length, cx.scalar(1, dtype)))
        one = cx.scalar(1, DType.int64)
        places = cx.emit("Range", cx.scalar(0, DType.int64), cx.emit("Squeeze", cx.shape([self.length])), one)
        places = cx.emit("Cast", places, to=cx.onnx_type(dtype))
        apart = cx.emit("Abs", cx.emit("Sub", places, cx.emit("Unsqueeze", near, cx.ints([3]))))
        share = cx.emit("Max", cx.emit("Sub", cx.scalar(1, dtype), apart), cx.scalar(0, dtype))
        used = cx.emit("Cast", inside, to=cx.onnx_type(dtype))
        return cx.emit("Mul", share, cx.emit("Unsqueeze", used, cx.ints([3])))

    def _box(self, cx: Emitter, dtype: DType, boxes: str) -> tuple[str, str]:
        """Where the boxes begin, and how long they are, on the feature map."""
        low, high = (
            cx.emit(
                "Unsqueeze",
                cx.emit("Slice", boxes, cx.ints([column]), cx.ints([column + 1]), cx.ints([1])),
                cx.ints([2]),
            )
            for column in (1 - self.axis, 3 - self.axis)
        )
        scale, offset = cx.scalar(self.scale, dtype), cx.scalar(0.5 if self.aligned else 0, dtype)
        start, end = (cx.emit("Sub", cx.emit("Mul", value, scale), offset) for value in (low, high))
        extent = cx.emit("Sub", end, start)
        return start, extent if self.aligned else cx.emit("Max", extent, cx.scalar(1, dtype))

    def _samples(self, cx: Emitter, dtype: DType, step: str) -> tuple[str, str]:
        """The samples' numbers in a bin, as many as the largest box has, and how many count."""
        if self.sampling_ratio > 0:
            return cx.array(np.arange(self.sampling_ratio).astype(dtype.numpy)), cx.scalar(self.sampling_ratio, dtype)
        count = cx.emit("Ceil", step)
        listed = cx.emit("Concat", cx.emit("Reshape", count, cx.ints([-1])), cx.array(np.ones(1, dtype.numpy)), axis=0)
        most = cx.emit("Cast", onnx_reduce(cx, "ReduceMax", listed, (0,), False), to=cx.onnx_type(DType.int64))
        numbers = cx.emit("Range", cx.scalar(0, DType.int64), most, cx.scalar(1, DType.int64))
        return cx.emit("Cast", numbers, to=cx.onnx_type(dtype)), count


def spread_bins(cx: GradientContext, x: Value, indices: Value, dy: Value, rows: Value, columns: Value) -> Value:
    """The gradient of `rows @ x[indices] @ columns.T` for `x`: what the boxes of each picture give, added up by one
    product over boxes and bins."""
    batch, channels, height, width = x.shape
    boxes, bins = rows.shape[:2]
    wide_rows = cx.emit(dense.MatMul(), dy, g.unsqueeze(cx, columns, (1,)))  # [K, C, bins, W]
    flat = g.reshape(cx, g.transpose(cx, wide_rows, (0, 2, 1, 3)), (boxes * bins, channels * width))
    turned = g.transpose(cx, rows, (2, 0, 1))  # [H, K, bins]
    if batch != 1:
        turned = g.mul(cx, turned, _members(cx, batch, indices, rows.dtype))
    sums = cx.emit(dense.MatMul(), g.reshape(cx, turned, (*turned.shape[:-2], boxes * bins)), flat)
    return g.transpose(cx, g.reshape(cx, sums, (batch, height, channels, width)), (0, 2, 1, 3))


def _members(cx: GradientContext, batch: Dim, indices: Value, dtype: DType) -> Value:
    """1 where a box is in a picture, else 0: `[N, 1, K, 1]`."""
    ones = g.expand_to(cx, cx.constant(1, DType.int64), (batch,))
    numbers = g.unsqueeze(cx, g.sub(cx, cx.emit(CumSum(0), ones), 1), (1, 2, 3))
    return g.mask(cx, "==", numbers, g.unsqueeze(cx, indices, (1,)), dtype)


@dataclass(frozen=True)
class RoiPositions(Primitive):
    """Where `roi_pool` finds each value: positions counted over `[N, H, W]`, int64 `[K, *size, C]`, the first of equal
    values; -1 for a bin without a pixel."""

    size: tuple[int, ...]
    scale: float

    name: ClassVar[str] = "roi_positions"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX MaxRoiPool"
    differentiable: ClassVar[bool] = False

    def infer(self, x: TensorType, boxes: TensorType, indices: TensorType) -> TensorType:
        return TensorType(DType.int64, (boxes.shape[0], *self.size, x.shape[1]))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny, boxes: NDArrayAny, indices: NDArrayAny) -> NDArrayAny:
        found: NDArrayAny = window_positions(wide(x), wide(boxes), indices, self.size, self.scale)
        return found

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, boxes: str, indices: str) -> str:
        """Gathers the windows, all as large as the largest, and takes the first largest value of each."""
        input, dtype = node.inputs[0].type, node.inputs[0].dtype
        rows, row_counts = self._window(cx, dtype, boxes, 0, input.shape[2])  # [K, P, R]
        columns, column_counts = self._window(cx, dtype, boxes, 1, input.shape[3])  # [K, Q, S]
        first = cx.emit("Unsqueeze", cx.emit("Mul", indices, cx.shape([input.shape[2]])), cx.ints([1, 2]))
        lines = cx.emit("Mul", cx.emit("Add", rows, first), cx.shape([input.shape[3]]))
        at = cx.emit("Add", *self._crossed(cx, lines, columns))  # [K, P, Q, R, S]
        counted = cx.emit("And", *self._crossed(cx, row_counts, column_counts))
        window = cx.emit("Mul", *(cx.emit("Shape", at, start=axis, end=axis + 1) for axis in (3, 4)))
        flat = cx.emit("Concat", cx.emit("Shape", at, start=0, end=3), window, axis=0)
        at, counted = (cx.emit("Reshape", name, flat, allowzero=1) for name in (at, counted))
        moved = cx.emit("Transpose", x, perm=[0, 2, 3, 1])
        batch, channels, height, width = input.shape
        lines = emit_reshape(cx, moved, (batch, height, width, channels), (batch * height * width, channels))
        values = cx.emit("Gather", lines, at)
        lowest = cx.scalar(-np.inf, dtype)
        values = cx.emit("Where", cx.emit("Unsqueeze", counted, cx.ints([4])), values, lowest)
        best = cx.emit("ArgMax", values, axis=3, keepdims=0)
        chosen = cx.emit("GatherElements", at, best, axis=3)
        some = cx.emit("Cast", counted, to=cx.onnx_type(DType.int32))
        some = cx.emit("Cast", onnx_reduce(cx, "ReduceMax", some, (3,), True), to=cx.onnx_type(DType.bool))
        return cx.emit("Where", some, chosen, cx.scalar(-1, DType.int64))

    def _crossed(self, cx: Emitter, down: str, across: str) -> tuple[str, str]:
        """`[K, P, R]` and `[K, Q, S]` so that they broadcast to `[K, P, Q, R, S]`."""
        return cx.emit("Unsqueeze", down, cx.ints([2, 4])), cx.emit("Unsqueeze", across, cx.ints([1, 3]))

    def _window(self, cx: Emitter, dtype: DType, boxes: str, axis: int, length: Dim) -> tuple[str, str]:
        """The positions of each bin along an axis, `[K, bins, R]` with R the longest, and which of them are in it."""
        begins, ends = self._bounds(cx, dtype, boxes, axis, length)
        sizes = cx.emit("Reshape", cx.emit("Sub", ends, begins), cx.ints([-1]))
        listed = cx.emit("Concat", sizes, cx.ints([1]), axis=0)
        longest = onnx_reduce(cx, "ReduceMax", listed, (0,), False)
        steps = cx.emit("Range", cx.scalar(0, DType.int64), longest, cx.scalar(1, DType.int64))
        at = cx.emit("Add", begins, steps)
        return cx.emit("Min", at, cx.emit("Sub", cx.shape([length]), cx.ints([1]))), cx.emit("Less", at, ends)

    def _bounds(self, cx: Emitter, dtype: DType, boxes: str, axis: int, length: Dim) -> tuple[str, str]:
        """Where bins begin and end, int64 `[K, bins, 1]`."""
        bins, one = self.size[axis], cx.scalar(1, dtype)
        start, end = (self._rounded(cx, dtype, boxes, column) for column in (1 - axis, 3 - axis))
        extent = cx.emit("Max", cx.emit("Add", cx.emit("Sub", end, start), one), one)
        step = cx.emit("Div", extent, cx.scalar(bins, dtype))
        edges = np.arange(bins + 1).reshape(-1, 1).astype(dtype.numpy)
        begins = cx.emit("Floor", cx.emit("Mul", cx.array(edges[:-1]), step))
        ends = cx.emit("Ceil", cx.emit("Mul", cx.array(edges[1:]), step))
        found = [cx.emit("Cast", cx.emit("Add", e, start), to=cx.onnx_type(DType.int64)) for e in (begins, ends)]
        inside = [cx.emit("Min", cx.emit("Max", f, cx.ints([0])), cx.shape([length])) for f in found]
        return inside[0], inside[1]

    def _rounded(self, cx: Emitter, dtype: DType, boxes: str, column: int) -> str:
        """A column of the boxes on the feature map, `[K, 1, 1]`, halves away from zero (ONNX's Round: to even)."""
        picked = cx.emit("Slice", boxes, cx.ints([column]), cx.ints([column + 1]), cx.ints([1]))
        value = cx.emit("Mul", cx.emit("Unsqueeze", picked, cx.ints([2])), cx.scalar(self.scale, dtype))
        size = cx.emit("Floor", cx.emit("Add", cx.emit("Abs", value), cx.scalar(0.5, dtype)))
        return cx.emit("Mul", size, cx.emit("Sign", value))


def add_at_positions(cx: GradientContext, x: Value, places: Value, dy: Value) -> Value:
    """Zeros like `x` with `dy` `[K, C, …]` added at positions `[K, …, C]` counted over `[N, H, W]`; -1 adds nothing."""
    batch, channels, height, width = x.shape
    rows = (product(places.shape[:-1]), channels)
    grads = g.mul(cx, g.transpose(cx, dy, (0, 2, 3, 1)), g.mask(cx, ">=", places, 0, dy.dtype))
    at = g.reshape(cx, g.where(cx, g.compare(cx, ">=", places, 0), places, 0), rows)
    zeros = g.expand_to(cx, cx.constant(0, x.dtype), (batch * height * width, channels))
    sums = cx.emit(AddAlong(0), zeros, at, g.reshape(cx, grads, rows))
    return g.transpose(cx, g.reshape(cx, sums, (batch, height, width, channels)), (0, 3, 1, 2))
