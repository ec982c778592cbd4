"""Max pooling that keeps positions, and its inverse (SegNet)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import PADDING, PER_AXIS, TENSOR, PaddingValue, Param
from netdsl.ir.dims import Dim, bounds, decide, product, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, LayerContext, OpError, Primitive, ShapeError
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.along import AddAlong, TakeAlong
from netdsl.ops.optional import SIZES_OR_NONE, spatial_dims
from netdsl.ops.pool import WINDOW
from netdsl.ops.pooling import MaxPool
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import axes_of, explicit_pads, pad_spatial, spatial_rank, windows


@dataclass(frozen=True)
class MaxPoolIndices(MaxPool):
    """`max_pool` and where it found each value: the position, counted row by row over the spatial axes of its channel.

    Returns the values and the positions (int64), both `[N, C, …]`. Of equal values the first counts.
    """

    name: ClassVar[str] = "max_pool_indices"
    family: ClassVar[str] = "pooling"
    reference: ClassVar[str] = "Badrinarayanan et al. 2015 (arXiv:1511.00561); ONNX MaxPool"
    signature: ClassVar[tuple[Param, ...]] = WINDOW

    @classmethod
    def window(cls, x: TensorType, *arguments: Any, **more: Any) -> MaxPoolIndices:
        op = super().window(x, *arguments, **more)
        if not op.fits and (op.padding != "same" or any(d > 1 for d in op.dilation)):
            raise OpError(
                f"{cls.name}: this padding with this dilation is not possible where positions are wanted",
                argument="padding",
                help="use less padding, or give the symbols of the input values with --set",
            )
        return op

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:
        values = super().infer(x)
        assert isinstance(values, TensorType)
        return values, values.with_dtype(DType.int64)

    def evaluate(self, x: NDArrayAny) -> tuple[NDArrayAny, ...]:
        values = super().evaluate(x)
        assert isinstance(values, np.ndarray)
        rank = len(self.kernel)
        _, full = self.frame(TensorType(DType.float32, x.shape))
        plane = np.arange(np.prod(x.shape[2:], dtype=np.int64)).reshape(1, 1, *x.shape[2:])
        places: Any = windows(pad_spatial(plane, full, -1), self.kernel, self.stride, self.dilation)
        seen = self.view(wide(x), full, 0)
        places = places[(slice(None), slice(None), *(slice(0, s) for s in seen.shape[2:-rank]))]
        flat: Any = np.broadcast_to(places, seen.shape).reshape(*seen.shape[:-rank], -1)
        best = (seen.reshape(flat.shape) == wide(values)[..., None]) & (flat >= 0)
        return values, np.take_along_axis(flat, best.argmax(axis=-1)[..., None], axis=-1)[..., 0]

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str) -> tuple[str, ...]:
        input = node.inputs[0].type
        attributes = self.onnx(input)
        if self.padding == "same":
            del attributes["dilations"]
        values, places = cx.emit_all("MaxPool", 2, x, **attributes)
        # ONNX counts over the whole tensor; a channel's plane begins at a multiple of its size.
        return values, cx.emit("Mod", places, cx.shape([product(input.shape[2:])]))

    def gradient(self, cx: GradientContext, node: Node, dy: Value, *_: None) -> Sequence[Value | None]:
        (x,) = node.inputs
        rows, places = (_flat(cx, v) for v in (dy, node.outputs[1]))
        zeros = g.expand_to(cx, cx.constant(0, x.dtype), (*x.shape[:2], product(x.shape[2:])))
        return (g.reshape(cx, cx.emit(AddAlong(2), zeros, places, rows), x.shape),)


def _flat(cx: GradientContext, x: Value) -> Value:
    """`[N, C, positions]`."""
    return g.reshape(cx, x, (*x.shape[:2], product(x.shape[2:])))


@dataclass(frozen=True)
class MaxUnpool(Primitive):
    """Puts each value of `x` at its position in `indices` and zeros elsewhere: the inverse of `max_pool_indices`.

    Each spatial size is `(in - 1)*stride + kernel` less the padding, or that of `size`, where pooling has rounded down.
    """

    size: tuple[Dim, ...]

    name: ClassVar[str] = "max_unpool"
    family: ClassVar[str] = "pooling"
    reference: ClassVar[str] = "Zeiler & Fergus 2013 (arXiv:1311.2901); ONNX ScatterElements"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("indices", TENSOR, doc="positions from max_pool_indices"),
        Param("kernel", PER_AXIS),
        Param("stride", PER_AXIS, default_from="kernel"),
        Param("padding", PADDING, 0, doc="the padding of the pool"),
        Param("size", SIZES_OR_NONE, None, doc="the spatial sizes of the result"),
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        indices: Value,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...],
        padding: PaddingValue,
        size: tuple[Dim, ...],
    ) -> Value:
        rank = spatial_rank("max_unpool", x.type)
        kernels, strides = axes_of("max_unpool", kernel, rank, "kernel"), axes_of("max_unpool", stride, rank, "stride")
        if size:
            return cx.emit(cls(spatial_dims("max_unpool", size, rank, "size")), x, indices)
        if padding == "same":
            sizes: tuple[Dim, ...] = tuple(d * s for d, s in zip(x.shape[2:], strides, strict=True))
        else:
            pads = explicit_pads("max_unpool", padding, x.type, kernels, strides, (1,) * rank)
            assert pads != "same"
            sizes = tuple(
                (d - 1) * s + k - sum(p) for d, s, k, p in zip(x.shape[2:], strides, kernels, pads, strict=True)
            )
        return cx.emit(cls(sizes), x, indices)

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        spatial_rank("max_unpool", x)
        if indices.dtype is not DType.int64:
            raise ShapeError(
                f"max_unpool needs the int64 indices of max_pool_indices, found {indices}", argument="indices"
            )
        if indices.rank != x.rank or any(
            decide("==", a, b) is not True for a, b in zip(x.shape, indices.shape, strict=True)
        ):
            raise ShapeError(
                f"max_unpool: values {x} and indices {indices} must have the same shape", argument="indices"
            )
        for size in self.size:
            high = bounds(size)[1]
            if high is not None and high < 1:
                raise OpError(f"max_unpool: a size of {to_text(size)} is not possible", argument="size")
        return x.with_shape((*x.shape[:2], *self.size))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Moves alone."""
        return Cost()

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny, indices: NDArrayAny) -> NDArrayAny:
        sizes: Any = self.size
        flat = np.zeros((*x.shape[:2], int(np.prod(sizes, dtype=np.int64))), x.dtype)
        places: Any = indices.reshape(*x.shape[:2], -1)
        np.put_along_axis(flat, places, x.reshape(*x.shape[:2], -1), axis=2)
        return like(flat.reshape(*x.shape[:2], *sizes), x)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, indices: str) -> str:
        before = node.inputs[0].shape
        lead, area = before[:2], product(self.size)
        rows = (*lead, product(before[2:]))
        values, places = (emit_reshape(cx, name, before, rows) for name in (x, indices))
        zeros = cx.emit("Expand", cx.scalar(0, node.inputs[0].dtype), cx.shape((*lead, area)))
        flat = cx.emit("ScatterElements", zeros, places, values, axis=2)
        return emit_reshape(cx, flat, (*lead, area), (*lead, *self.size))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, indices = node.inputs
        taken = cx.emit(TakeAlong(2), _flat(cx, dy), _flat(cx, indices))
        return g.reshape(cx, taken, x.shape), None
