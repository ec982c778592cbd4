"""Pooling of regions: a fixed number of bins from each box in a feature map, whatever the box's size.

Boxes are `x1, y1, x2, y2` in pixels of the picture; `scale` (a feature map's size over the picture's, 1/16 behind four
halvings) takes them to the feature map. They are taken as given: no gradient passes to them, as in torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, PER_AXIS, TENSOR, Float, Int, Param
from netdsl.ir.dims import Dim, decide, product, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    Primitive,
    ShapeError,
    require_float,
    require_rank,
    same_dtype,
)
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops import roi_gradient
from netdsl.ops.constant import Cast
from netdsl.ops.gather import as_positions
from netdsl.ops.indexing import Slice
from netdsl.ops.optional import OPTIONAL_TENSOR
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.roi_sampling import sampling_weights, window_positions
from netdsl.ops.shape import Reshape, emit_reshape
from netdsl.ops.spatial import axes_of

_X = Param("x", TENSOR)
_BOXES = Param("boxes", TENSOR, doc="`[K, 5]`: the picture's number in the batch, x1, y1, x2, y2; or `[K, 4]`")
_SIZE = Param("size", PER_AXIS, doc="bins per axis")
_SCALE = Param("scale", Float("number above 0", above=0), 1.0, doc="the feature map's size over the picture's")
_BATCH = Param("batch_indices", OPTIONAL_TENSOR, None, doc="the picture's number for boxes `[K, 4]`, integers `[K]`")

WITHOUT_KERNELS = 22  #: from this opset on ONNX Runtime (1.31) has none for RoiAlign and MaxRoiPool
SAMPLES = 2  #: per axis and bin, where costs must guess what `sampling_ratio` leaves to the box


@dataclass(frozen=True)
class _Roi(Primitive):
    """Operands: `x` `[N, C, H, W]`, boxes `[K, 4]`, the pictures' numbers `[K]` (int64)."""

    size: tuple[int, ...]
    scale: float

    family: ClassVar[str] = "detection"

    @classmethod
    def regions(cls, cx: LayerContext, x: Value, boxes: Value, indices: Value | None) -> tuple[Value, Value]:
        """Boxes `[K, 4]` and their pictures' numbers. Raises ShapeError where these are not given, or twice."""
        require_rank(cls.name, x.type, 4, 4)
        _check_boxes(cls.name, boxes.type)
        if boxes.shape[1] == 5:
            if indices is not None:
                raise ShapeError(
                    f"{cls.name}: boxes {boxes.type} of 5 columns have the picture's number in the first",
                    argument="batch_indices",
                    help="leave batch_indices out, or give the last 4 columns: boxes[:, 1:]",
                )
            return _columns(cx, boxes, 1, 5), cx.emit(Cast(DType.int64), _first_column(cx, boxes))
        if indices is not None:
            return boxes, cx.emit(Cast(DType.int64), as_positions(cx, cls.name, "batch_indices", indices))
        if x.shape[0] != 1:
            raise ShapeError(
                f"{cls.name}: boxes {boxes.type} do not say which of the {to_text(x.shape[0])} pictures each is in",
                argument="boxes",
                help="give batch_indices, integers [K], or boxes [K, 5] with the picture's number in column 0",
            )
        return boxes, g.expand_to(cx, cx.constant(0, DType.int64), boxes.shape[:1])

    def infer(self, x: TensorType, boxes: TensorType, indices: TensorType) -> TensorType:
        require_float(self.name, x)
        require_rank(self.name, x, 4, 4)
        same_dtype(self.name, x, boxes)
        same = indices.rank == 1 and decide("==", boxes.shape[0], indices.shape[0])
        if indices.dtype is not DType.int64 or same is not True:
            raise ShapeError(
                f"{self.name} needs one picture's number for each box: boxes {boxes}, batch_indices {indices}",
                argument="batch_indices",
            )
        return x.with_shape((boxes.shape[0], x.shape[1], *self.size))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE


def _check_boxes(op: str, boxes: TensorType) -> None:
    if not boxes.dtype.is_float or boxes.rank != 2 or boxes.shape[1] not in (4, 5):
        raise ShapeError(
            f"{op} needs boxes of floats, [K, 5] or [K, 4], found {boxes}",
            argument="boxes",
            help="columns are x1, y1, x2, y2, with the picture's number in the batch before them or in batch_indices",
        )


def _columns(cx: LayerContext, boxes: Value, start: int, end: int) -> Value:
    return cx.emit(Slice((start,), (end,), (1,), (1,)), boxes)


def _first_column(cx: LayerContext, boxes: Value) -> Value:
    return cx.emit(Reshape((boxes.shape[0],)), _columns(cx, boxes, 0, 1))


@dataclass(frozen=True)
class RoiAlign(_Roi):
    """Averages bilinear samples of the feature map in each bin of each box: `[K, C, *size]`, no coordinate rounded.

    A bin has `sampling_ratio` samples per axis; 0 or -1: as many as it has pixels, rounded up. `aligned` puts pixels'
    centres half a pixel behind their coordinates, as pictures have them; without it, boxes are also never smaller than
    a pixel. A sample more than a pixel outside counts as zero.
    """

    sampling_ratio: int = -1
    aligned: bool = False

    name: ClassVar[str] = "roi_align"
    reference: ClassVar[str] = "He et al. 2017 (arXiv:1703.06870); ONNX RoiAlign"
    signature: ClassVar[tuple[Param, ...]] = (
        _X,
        _BOXES,
        _SIZE,
        _SCALE,
        Param("sampling_ratio", Int("integer of -1 or more", low=-1), -1, doc="samples per axis in a bin"),
        Param("aligned", BOOL, False, doc="shift by half a pixel"),
        _BATCH,
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        boxes: Value,
        size: int | tuple[int, ...],
        scale: float,
        sampling_ratio: int,
        aligned: bool,
        batch_indices: Value | None,
    ) -> Value:
        op = cls(axes_of(cls.name, size, 2, "size"), scale, sampling_ratio, aligned)
        return cx.emit(op, x, *cls.regions(cx, x, boxes, batch_indices))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Per sample 4 products and 4 additions, per bin a division; adaptive ones are taken as 2 per axis."""
        samples = (self.sampling_ratio if self.sampling_ratio > 0 else SAMPLES) ** 2
        return Cost(other=outputs[0].size * (8 * samples + 1))

    def evaluate(self, x: NDArrayAny, boxes: NDArrayAny, indices: NDArrayAny) -> NDArrayAny:
        rows, columns = (self.weights(axis, wide(boxes), x.shape[2 + axis]) for axis in (0, 1))
        pictures: Any = wide(x)[indices.astype(np.int64)]
        return like(np.einsum("kph,kchw,kqw->kcpq", rows, pictures, columns, optimize=True), x)

    def weights(self, axis: int, boxes: Any, length: int) -> Any:
        """What each bin takes of each position of a spatial axis, `[K, bins, length]`."""
        return sampling_weights(
            boxes[:, 1 - axis],
            boxes[:, 3 - axis],
            self.size[axis],
            length,
            self.scale,
            self.sampling_ratio,
            self.aligned,
        )

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, boxes: str, indices: str) -> str:
        if cx.opset >= WITHOUT_KERNELS:
            return self._product(cx, node, x, boxes, indices)
        return cx.emit(
            "RoiAlign",
            x,
            boxes,
            indices,
            output_height=self.size[0],
            output_width=self.size[1],
            spatial_scale=self.scale,
            sampling_ratio=max(self.sampling_ratio, 0),
            coordinate_transformation_mode="half_pixel" if self.aligned else "output_half_pixel",
        )

    def _product(self, cx: Emitter, node: Node, x: str, boxes: str, indices: str) -> str:
        """`rows @ x @ columns.T`: all boxes and pictures in one product, where a box has no rows in other pictures."""
        batch, channels, height, width = node.inputs[0].shape
        count, bins = node.inputs[1].shape[0], self.size[0]
        rows, columns = (self._emit_weights(cx, node, axis, boxes) for axis in (0, 1))
        if batch != 1:
            one = cx.scalar(1, DType.int64)
            numbers = cx.emit("Range", cx.scalar(0, DType.int64), cx.emit("Squeeze", cx.shape([batch])), one)
            member = cx.emit("Equal", cx.emit("Unsqueeze", indices, cx.ints([1])), numbers)
            member = cx.emit("Cast", member, to=cx.onnx_type(node.inputs[0].dtype))
            member = cx.emit("Unsqueeze", member, cx.ints([1, 3]))
            rows = cx.emit("Mul", cx.emit("Unsqueeze", rows, cx.ints([2])), member)  # [K, bins, N, H]
        flat_rows = emit_reshape(cx, rows, (count, bins, batch, height), (count * bins, batch * height))
        turned = cx.emit("Transpose", x, perm=[0, 2, 1, 3])
        lines = emit_reshape(cx, turned, (batch, height, channels, width), (batch * height, channels * width))
        sums = cx.emit("MatMul", flat_rows, lines)
        before = (count * bins, channels * width)
        across = emit_reshape(cx, sums, before, (count, bins, channels, width))
        across = cx.emit("Transpose", across, perm=[0, 2, 1, 3])
        turned_columns = cx.emit("Unsqueeze", cx.emit("Transpose", columns, perm=[0, 2, 1]), cx.ints([1]))
        return cx.emit("MatMul", across, turned_columns)

    def _emit_weights(self, cx: Emitter, node: Node, axis: int, boxes: str) -> str:
        matrix, type = self.matrix(axis, node.inputs[0].shape[2 + axis]), node.inputs[1].type
        made = Node(matrix, (node.inputs[1],), (Value("weights", matrix.infer(type)),), node.path, node.place)
        return matrix.lower(cx, made, boxes)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, boxes, indices = node.inputs
        if not cx.wants(x):
            return None, None, None
        rows, columns = (cx.emit(self.matrix(axis, x.shape[2 + axis]), boxes) for axis in (0, 1))
        return roi_gradient.spread_bins(cx, x, indices, dy, rows, columns), None, None

    def matrix(self, axis: int, length: Dim) -> roi_gradient.RoiMatrix:
        """The operator that makes `weights` in a graph."""
        return roi_gradient.RoiMatrix(axis, self.size[axis], length, self.scale, self.sampling_ratio, self.aligned)


@dataclass(frozen=True)
class RoiPool(_Roi):
    """The largest value in each bin of each box, `[K, C, *size]`; the box and its bins are rounded to whole pixels
    (outwards), and a bin outside of the feature map gives 0.
    """

    name: ClassVar[str] = "roi_pool"
    reference: ClassVar[str] = "Girshick 2015 (arXiv:1504.08083); ONNX MaxRoiPool"
    signature: ClassVar[tuple[Param, ...]] = (_X, _BOXES, _SIZE, _SCALE, _BATCH)

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        boxes: Value,
        size: int | tuple[int, ...],
        scale: float,
        batch_indices: Value | None,
    ) -> Value:
        op = cls(axes_of(cls.name, size, 2, "size"), scale)
        return cx.emit(op, x, *cls.regions(cx, x, boxes, batch_indices))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Comparisons alone, as many as the boxes have pixels: not counted."""
        return Cost()

    def evaluate(self, x: NDArrayAny, boxes: NDArrayAny, indices: NDArrayAny) -> NDArrayAny:
        places = window_positions(wide(x), wide(boxes), indices, self.size, self.scale)
        rows: Any = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
        if not len(rows):
            return np.zeros((len(boxes), x.shape[1], *self.size), x.dtype)
        found = np.take_along_axis(rows, np.maximum(places, 0).reshape(-1, x.shape[1]), 0).reshape(places.shape)
        return np.ascontiguousarray(np.moveaxis(np.where(places >= 0, found, np.zeros((), x.dtype)), -1, 1))

    @runs_in_float32(DType.float16, DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str, boxes: str, indices: str) -> str:
        if cx.opset >= WITHOUT_KERNELS:
            return self._gathered(cx, node, x, boxes, indices)
        numbers = cx.emit("Cast", indices, to=cx.onnx_type(node.inputs[1].dtype))
        rois = cx.emit("Concat", cx.emit("Unsqueeze", numbers, cx.ints([1])), boxes, axis=1)
        return cx.emit("MaxRoiPool", x, rois, pooled_shape=self.size, spatial_scale=self.scale)

    def _gathered(self, cx: Emitter, node: Node, x: str, boxes: str, indices: str) -> str:
        """The values at the positions where they are found."""
        input, finder = node.inputs[0].type, self.positions()
        type = finder.infer(*(v.type for v in node.inputs))
        made = Node(finder, node.inputs, (Value("places", type),), node.path, node.place)
        places = finder.lower(cx, made, x, boxes, indices)
        batch, channels, height, width = input.shape
        moved = cx.emit("Transpose", x, perm=[0, 2, 3, 1])
        rows = emit_reshape(cx, moved, (batch, height, width, channels), (batch * height * width, channels))
        flat = (product(type.shape[:-1]), channels)
        at = cx.emit("Max", emit_reshape(cx, places, type.shape, flat), cx.scalar(0, DType.int64))
        found = emit_reshape(cx, cx.emit("GatherElements", rows, at, axis=0), flat, type.shape)
        empty = cx.emit("Less", places, cx.scalar(0, DType.int64))
        values = cx.emit("Where", empty, cx.scalar(0, input.dtype), found)
        return cx.emit("Transpose", values, perm=[0, 3, 1, 2])

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, boxes, indices = node.inputs
        if not cx.wants(x):
            return None, None, None
        places = cx.emit(self.positions(), x, boxes, indices)
        return roi_gradient.add_at_positions(cx, x, places, dy), None, None

    def positions(self) -> roi_gradient.RoiPositions:
        """The operator that finds where each value came from."""
        return roi_gradient.RoiPositions(self.size, self.scale)
